use serde::Serialize;

use crate::{Method, Microversion, Route, Rule, Versioned};

pub static SHOW: Route = Route::new(Method::Get, "/v2.1/limits", "os_compute_api:limits", Rule::Reader);

#[derive(Serialize)]
pub struct LimitsBody {
    pub limits: Limits,
}

#[derive(Serialize)]
pub struct Limits {
    /// None: requests are not limited in their rate.
    pub rate: [(); 0],
    pub absolute: Absolute,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Absolute {
    pub max_total_instances: i64,
    pub max_total_cores: i64,
    #[serde(rename = "maxTotalRAMSize")]
    pub max_total_ram_size: i64,
    pub max_total_keypairs: i64,
    pub max_server_meta: i64,
    pub max_server_groups: i64,
    pub max_server_group_members: i64,
    pub total_instances_used: u64,
    pub total_cores_used: u64,
    #[serde(rename = "totalRAMUsed")]
    pub total_ram_used: u64,
    pub total_server_groups_used: u64,
    /// Up to 2.38.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_image_meta: Option<i64>,
    /// Up to 2.56.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// Up to 2.35.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Personality {
    pub max_personality: i64,
    pub max_personality_size: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    pub max_security_groups: i64,
    pub max_security_group_rules: i64,
    pub max_total_floating_ips: i64,
    pub total_floating_ips_used: u64,
    pub total_security_groups_used: u64,
}

impl Versioned for LimitsBody {
    fn patch(&mut self, version: Microversion) {
        let absolute = &mut self.limits.absolute;
        if version.at_least(2, 36) {
            absolute.network = None;
        }
        if version.at_least(2, 39) {
            absolute.max_image_meta = None;
        }
        if version.at_least(2, 57) {
            absolute.personality = None;
        }
    }
}
