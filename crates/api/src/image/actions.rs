use crate::{Method, Route, Rule};

pub static DEACTIVATE: Route =
    Route::new(Method::Post, "/v2/images/{image_id}/actions/deactivate", "deactivate", Rule::Member);
pub static REACTIVATE: Route =
    Route::new(Method::Post, "/v2/images/{image_id}/actions/reactivate", "reactivate", Rule::Member);
