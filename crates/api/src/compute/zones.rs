use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(
    Method::Get,
    "/v2.1/os-availability-zone",
    "os_compute_api:os-availability-zone:list",
    Rule::Authenticated,
);
pub static DETAIL: Route = Route::new(
    Method::Get,
    "/v2.1/os-availability-zone/detail",
    "os_compute_api:os-availability-zone:detail",
    Rule::Admin,
);

#[derive(Serialize)]
pub struct Zones {
    #[serde(rename = "availabilityZoneInfo")]
    pub zones: Vec<Zone>,
}

#[derive(Serialize)]
pub struct Zone {
    #[serde(rename = "zoneName")]
    pub name: String,
    #[serde(rename = "zoneState")]
    pub state: ZoneState,
    /// Host to service to its state; null but in the detailed list.
    pub hosts: Option<BTreeMap<String, BTreeMap<&'static str, ZoneService>>>,
}

#[derive(Serialize)]
pub struct ZoneState {
    pub available: bool,
}

#[derive(Serialize)]
pub struct ZoneService {
    pub available: bool,
    pub active: bool,
    pub updated_at: String,
}
