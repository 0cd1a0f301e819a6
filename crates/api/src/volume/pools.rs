//! What the scheduler knows of backends: pools, capabilities, availability zones.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::{Method, Route, Rule};

pub static GET_POOLS: Route = Route::new(
    Method::Get,
    "/v3/scheduler-stats/get_pools",
    "scheduler_extension:scheduler_stats:get_pools",
    Rule::Admin,
);
/// By host (`<host>`, `<host>@<backend>` or `<host>@<backend>#<pool>`).
pub static CAPABILITIES: Route =
    Route::new(Method::Get, "/v3/capabilities/{host}", "volume_extension:capabilities", Rule::Admin);
pub static ZONES: Route =
    Route::new(Method::Get, "/v3/os-availability-zone", "volume:availability_zone_list", Rule::Reader);

#[derive(Serialize)]
pub struct Pools {
    pub pools: Vec<Pool>,
}

#[derive(Serialize)]
pub struct Pool {
    /// `<host>@<backend>#<pool>`.
    pub name: String,
    /// With `detail=True`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<BTreeMap<&'static str, Value>>,
}

#[derive(Serialize)]
pub struct Capabilities {
    pub namespace: String,
    pub vendor_name: String,
    pub volume_backend_name: String,
    pub pool_name: Option<String>,
    pub driver_version: String,
    pub storage_protocol: String,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub visibility: Option<String>,
    pub replication_targets: Vec<String>,
    pub properties: BTreeMap<&'static str, Property>,
}

/// A capability that a type may ask for.
#[derive(Serialize)]
pub struct Property {
    pub title: &'static str,
    pub description: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Zones {
    pub availability_zone_info: Vec<Zone>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Zone {
    pub zone_name: String,
    pub zone_state: ZoneState,
}

#[derive(Serialize)]
pub struct ZoneState {
    pub available: bool,
}
