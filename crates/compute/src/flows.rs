//! What compute's API hands to the conductors' flows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::ServerId;

/// Kind of the flow that finds a new server its cell and host and brings it up. Its row is in `Db<Api>`, its id the
/// server's.
pub const SERVER_CREATE: &str = "server_create";

/// The step that it starts with.
pub const SERVER_CREATE_FIRST: &str = "choose_cell";

/// How long a create may take in all, as the flow's row is written.
pub const SERVER_CREATE_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// What the flow starts from; everything else about the server is in its build request. The flow's own state has this
/// member and defaults for its others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerCreate {
    pub server_id: ServerId,
}
