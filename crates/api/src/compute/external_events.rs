//! What other services tell compute about servers: a volume has grown, a port is plugged.

use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

pub static CREATE: Route = Route::new(
    Method::Post,
    "/v2.1/os-server-external-events",
    "os_compute_api:os-server-external-events:create",
    Rule::Service,
);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsRequest {
    pub events: Vec<NewEvent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    pub name: String,
    pub server_uuid: String,
    #[serde(default)]
    pub status: Option<String>,
    /// What of the server it is about: a port's id, a volume's.
    #[serde(default)]
    pub tag: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Event {
    pub name: String,
    pub server_uuid: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// As an HTTP status, of this event alone.
    pub code: u16,
}

#[derive(Debug, Serialize)]
pub struct Events {
    pub events: Vec<Event>,
}
