use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

const ALL: &str = "/v2.1/servers/{server_id}/metadata";
const ONE: &str = "/v2.1/servers/{server_id}/metadata/{item}";
pub static LIST: Route = Route::new(Method::Get, ALL, "os_compute_api:server-metadata:index", Rule::Reader);
pub static MERGE: Route = Route::new(Method::Post, ALL, "os_compute_api:server-metadata:create", Rule::Member);
pub static REPLACE: Route = Route::new(Method::Put, ALL, "os_compute_api:server-metadata:update_all", Rule::Member);
pub static SHOW: Route = Route::new(Method::Get, ONE, "os_compute_api:server-metadata:show", Rule::Reader);
pub static SET: Route = Route::new(Method::Put, ONE, "os_compute_api:server-metadata:update", Rule::Member);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "os_compute_api:server-metadata:delete", Rule::Member);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    pub metadata: BTreeMap<String, String>,
}

/// One item, by its name.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    pub meta: BTreeMap<String, String>,
}
