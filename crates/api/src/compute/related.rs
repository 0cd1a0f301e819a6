//! What hangs on a server and belongs to the network service: addresses, interfaces, security groups. Empty until it is
//! there.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::{Method, Route, Rule};

pub static IPS: Route =
    Route::new(Method::Get, "/v2.1/servers/{server_id}/ips", "os_compute_api:ips:index", Rule::Reader);
pub static IPS_OF: Route =
    Route::new(Method::Get, "/v2.1/servers/{server_id}/ips/{network}", "os_compute_api:ips:show", Rule::Reader);
pub static INTERFACES: Route = Route::new(
    Method::Get,
    "/v2.1/servers/{server_id}/os-interface",
    "os_compute_api:os-attach-interfaces:list",
    Rule::Reader,
);
pub static SECURITY_GROUPS: Route = Route::new(
    Method::Get,
    "/v2.1/servers/{server_id}/os-security-groups",
    "os_compute_api:os-security-groups:list",
    Rule::Reader,
);
pub static DIAGNOSTICS: Route = Route::new(
    Method::Get,
    "/v2.1/servers/{server_id}/diagnostics",
    "os_compute_api:os-server-diagnostics",
    Rule::Admin,
);

#[derive(Default, Serialize)]
pub struct Addresses {
    pub addresses: BTreeMap<String, Vec<Value>>,
}

#[derive(Default, Serialize)]
pub struct Interfaces {
    #[serde(rename = "interfaceAttachments")]
    pub interface_attachments: Vec<Value>,
}

#[derive(Default, Serialize)]
pub struct SecurityGroups {
    pub security_groups: Vec<Value>,
}

/// From 2.48; what is not measured is null.
#[derive(Serialize)]
pub struct Diagnostics {
    pub state: &'static str,
    /// The reference knows five drivers, ours is the nearest to this one: QEMU, with or without KVM.
    pub driver: &'static str,
    pub hypervisor: Option<String>,
    pub hypervisor_os: Option<String>,
    /// Seconds.
    pub uptime: Option<u64>,
    pub config_drive: bool,
    pub num_cpus: u32,
    pub num_nics: u32,
    pub num_disks: u32,
    pub memory_details: MemoryDetails,
    pub cpu_details: Vec<Value>,
    pub nic_details: Vec<Value>,
    pub disk_details: Vec<Value>,
}

/// MiB.
#[derive(Serialize)]
pub struct MemoryDetails {
    pub maximum: Option<u64>,
    pub used: Option<u64>,
}
