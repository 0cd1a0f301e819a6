//! Tags of servers, from 2.26.

use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

const ALL: &str = "/v2.1/servers/{server_id}/tags";
const ONE: &str = "/v2.1/servers/{server_id}/tags/{tag}";
pub static LIST: Route = Route::new(Method::Get, ALL, "os_compute_api:os-server-tags:index", Rule::Reader).since(2, 26);
pub static REPLACE: Route =
    Route::new(Method::Put, ALL, "os_compute_api:os-server-tags:update_all", Rule::Member).since(2, 26);
pub static CLEAR: Route =
    Route::new(Method::Delete, ALL, "os_compute_api:os-server-tags:delete_all", Rule::Member).since(2, 26);
pub static CHECK: Route = Route::new(Method::Get, ONE, "os_compute_api:os-server-tags:show", Rule::Reader).since(2, 26);
pub static ADD: Route = Route::new(Method::Put, ONE, "os_compute_api:os-server-tags:update", Rule::Member).since(2, 26);
pub static REMOVE: Route =
    Route::new(Method::Delete, ONE, "os_compute_api:os-server-tags:delete", Rule::Member).since(2, 26);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tags {
    pub tags: Vec<String>,
}
