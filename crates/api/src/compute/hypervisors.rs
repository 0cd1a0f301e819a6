use serde::Serialize;
use serde_json::Value;

use super::NextLink;
use super::services::ServiceId;
use crate::{Method, Microversion, Route, Rule, Versioned};

pub static LIST: Route =
    Route::new(Method::Get, "/v2.1/os-hypervisors", "os_compute_api:os-hypervisors:list", Rule::Admin);
pub static DETAIL: Route =
    Route::new(Method::Get, "/v2.1/os-hypervisors/detail", "os_compute_api:os-hypervisors:list-detail", Rule::Admin);
pub static STATISTICS: Route =
    Route::new(Method::Get, "/v2.1/os-hypervisors/statistics", "os_compute_api:os-hypervisors:statistics", Rule::Admin)
        .until(2, 87);
pub static SHOW: Route =
    Route::new(Method::Get, "/v2.1/os-hypervisors/{hypervisor_id}", "os_compute_api:os-hypervisors:show", Rule::Admin);

#[derive(Serialize)]
pub struct Hypervisors {
    pub hypervisors: Vec<Hypervisor>,
    /// 2.33.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hypervisors_links: Vec<NextLink>,
}

impl Versioned for Hypervisors {
    fn patch(&mut self, version: Microversion) {
        self.hypervisors.patch(version);
    }
}

#[derive(Serialize)]
pub struct OneHypervisor {
    pub hypervisor: Hypervisor,
}

impl Versioned for OneHypervisor {
    fn patch(&mut self, version: Microversion) {
        self.hypervisor.patch(version);
    }
}

#[derive(Serialize)]
pub struct Hypervisor {
    pub id: ServiceId,
    pub hypervisor_hostname: String,
    pub state: &'static str,
    pub status: &'static str,
    /// 2.53, where `with_servers` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<ServerOnHost>>,
    /// Not in the short list.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

#[derive(Serialize)]
pub struct ServerOnHost {
    pub name: String,
    pub uuid: String,
}

#[derive(Serialize)]
pub struct Detail {
    pub host_ip: String,
    pub hypervisor_type: String,
    pub hypervisor_version: u64,
    pub service: HostService,
    /// 2.88.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<Option<String>>,
    /// Up to 2.87.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Up to 2.87: a text with JSON in it, from 2.28 the JSON itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_info: Option<Value>,
}

#[derive(Serialize)]
pub struct HostService {
    pub id: ServiceId,
    pub host: String,
    pub disabled_reason: Option<String>,
}

/// Of one host, or of all of them together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    pub vcpus: u64,
    pub vcpus_used: u64,
    /// MiB.
    pub memory_mb: u64,
    pub memory_mb_used: u64,
    pub free_ram_mb: i64,
    /// GiB.
    pub local_gb: u64,
    pub local_gb_used: u64,
    pub free_disk_gb: i64,
    pub disk_available_least: i64,
    pub running_vms: u64,
    pub current_workload: u64,
}

impl Versioned for Hypervisor {
    fn patch(&mut self, version: Microversion) {
        self.id.patch(version);
        let Some(detail) = &mut self.detail else {
            return;
        };
        detail.service.id.patch(version);
        if version.at_least(2, 88) {
            detail.usage = None;
            detail.cpu_info = None;
            return;
        }
        detail.uptime = None;
        if !version.at_least(2, 28) {
            detail.cpu_info = detail.cpu_info.take().map(|info| Value::String(info.to_string()));
        }
    }
}

#[derive(Serialize)]
pub struct StatisticsBody {
    pub hypervisor_statistics: Statistics,
}

#[derive(Serialize)]
pub struct Statistics {
    pub count: u64,
    #[serde(flatten)]
    pub usage: Usage,
}
