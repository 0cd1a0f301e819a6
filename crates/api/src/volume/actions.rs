use crate::{Method, Route, Rule};

/// Each action has a policy of its own, which is asked where the action is done.
pub static VOLUME_ACTION: Route =
    Route::new(Method::Post, "/v3/volumes/{volume_id}/action", "volume:action", Rule::Authenticated);
pub static SNAPSHOT_ACTION: Route =
    Route::new(Method::Post, "/v3/snapshots/{snapshot_id}/action", "volume:snapshot_action", Rule::Authenticated);
