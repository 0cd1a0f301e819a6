//! QoS specs: limits that types of volumes share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Link, Method, Route, Rule};

const ALL: &str = "/v3/qos-specs";
const ONE: &str = "/v3/qos-specs/{qos_id}";
pub static LIST: Route = Route::new(Method::Get, ALL, "volume_extension:qos_specs_manage:get_all", Rule::Admin);
pub static CREATE: Route = Route::new(Method::Post, ALL, "volume_extension:qos_specs_manage:create", Rule::Admin);
pub static SHOW: Route = Route::new(Method::Get, ONE, "volume_extension:qos_specs_manage:get", Rule::Admin);
pub static UPDATE: Route = Route::new(Method::Put, ONE, "volume_extension:qos_specs_manage:update", Rule::Admin);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "volume_extension:qos_specs_manage:delete", Rule::Admin);
pub static DELETE_KEYS: Route = Route::new(
    Method::Put,
    "/v3/qos-specs/{qos_id}/delete_keys",
    "volume_extension:qos_specs_manage:delete",
    Rule::Admin,
);
pub static ASSOCIATIONS: Route = Route::new(
    Method::Get,
    "/v3/qos-specs/{qos_id}/associations",
    "volume_extension:qos_specs_manage:get_all",
    Rule::Admin,
);

// These three change something and are GET nevertheless, as upstream has them.
pub static ASSOCIATE: Route = Route::new(
    Method::Get,
    "/v3/qos-specs/{qos_id}/associate",
    "volume_extension:qos_specs_manage:update",
    Rule::Admin,
);
pub static DISASSOCIATE: Route = Route::new(
    Method::Get,
    "/v3/qos-specs/{qos_id}/disassociate",
    "volume_extension:qos_specs_manage:update",
    Rule::Admin,
);
pub static DISASSOCIATE_ALL: Route = Route::new(
    Method::Get,
    "/v3/qos-specs/{qos_id}/disassociate_all",
    "volume_extension:qos_specs_manage:update",
    Rule::Admin,
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    /// `name`, `consumer` and the keys, in one object.
    pub qos_specs: BTreeMap<String, Value>,
}

/// Of a request, and of the answer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysBody {
    pub qos_specs: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteKeysRequest {
    pub keys: Vec<String>,
}

#[derive(Serialize)]
pub struct OneQos<'a> {
    pub qos_specs: Qos<'a>,
    pub links: Vec<Link>,
}

#[derive(Serialize)]
pub struct QosList<'a> {
    pub qos_specs: Vec<Qos<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub qos_specs_links: Vec<Link>,
}

#[derive(Serialize)]
pub struct Qos<'a> {
    pub id: String,
    pub name: &'a str,
    /// `front-end`: who attaches the volume keeps the limits. `back-end`: the pool does. `both`.
    pub consumer: &'a str,
    pub specs: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
pub struct Associations {
    pub qos_associations: Vec<Association>,
}

#[derive(Serialize)]
pub struct Association {
    /// Always `volume_type`.
    pub association_type: &'static str,
    pub id: String,
    pub name: String,
}
