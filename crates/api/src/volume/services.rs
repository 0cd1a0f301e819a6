//! The daemons of volume, as upstream's operators know them: a scheduler, one `cinder-volume` per backend, a backup
//! service. Also `os-hosts`, their older form.

use serde::{Deserialize, Serialize};

use crate::{Method, Microversion, Route, Rule, Versioned};

const UPDATE_POLICY: &str = "volume_extension:services:update";
pub static LIST: Route = Route::new(Method::Get, "/v3/os-services", "volume_extension:services:index", Rule::Admin);
pub static ENABLE: Route = Route::new(Method::Put, "/v3/os-services/enable", UPDATE_POLICY, Rule::Admin);
pub static DISABLE: Route = Route::new(Method::Put, "/v3/os-services/disable", UPDATE_POLICY, Rule::Admin);
pub static DISABLE_LOG_REASON: Route =
    Route::new(Method::Put, "/v3/os-services/disable-log-reason", UPDATE_POLICY, Rule::Admin);
pub static FREEZE: Route = Route::new(Method::Put, "/v3/os-services/freeze", "volume:freeze_host", Rule::Admin);
pub static THAW: Route = Route::new(Method::Put, "/v3/os-services/thaw", "volume:thaw_host", Rule::Admin);
pub static FAILOVER_HOST: Route =
    Route::new(Method::Put, "/v3/os-services/failover_host", "volume:failover_host", Rule::Admin);
pub static FAILOVER: Route =
    Route::new(Method::Put, "/v3/os-services/failover", "volume:failover_host", Rule::Admin).since(3, 26);
pub static SET_LOG: Route = Route::new(Method::Put, "/v3/os-services/set-log", UPDATE_POLICY, Rule::Admin).since(3, 32);
pub static GET_LOG: Route = Route::new(Method::Put, "/v3/os-services/get-log", UPDATE_POLICY, Rule::Admin).since(3, 32);

pub static HOSTS_LIST: Route = Route::new(Method::Get, "/v3/os-hosts", "volume_extension:hosts", Rule::Admin);
pub static HOSTS_SHOW: Route = Route::new(Method::Get, "/v3/os-hosts/{host}", "volume_extension:hosts", Rule::Admin);
pub static HOSTS_UPDATE: Route = Route::new(Method::Put, "/v3/os-hosts/{host}", "volume_extension:hosts", Rule::Admin);

#[derive(Serialize)]
pub struct Services {
    pub services: Vec<Service>,
}

impl Versioned for Services {
    fn patch(&mut self, version: Microversion) {
        self.services.patch(version);
    }
}

#[derive(Serialize)]
pub struct Service {
    pub binary: String,
    pub host: String,
    pub zone: String,
    /// `enabled` or `disabled`.
    pub status: &'static str,
    /// `up` or `down`.
    pub state: &'static str,
    pub updated_at: Option<String>,
    pub disabled_reason: Option<String>,
    /// 3.7; we have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Option<String>>,
    #[serde(flatten)]
    pub volume: Option<VolumePart>,
}

/// Only of `cinder-volume`.
#[derive(Serialize)]
pub struct VolumePart {
    pub replication_status: &'static str,
    pub active_backend_id: Option<String>,
    pub frozen: bool,
    /// 3.49: `up` or `down`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_state: Option<&'static str>,
}

impl Versioned for Service {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(3, 7) {
            self.cluster = None;
        }
        if let (Some(volume), false) = (&mut self.volume, version.at_least(3, 49)) {
            volume.backend_state = None;
        }
    }
}

/// Upstream's body of enable, disable and disable-log-reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub host: Option<String>,
    pub binary: Option<String>,
    /// The old name of `binary`.
    pub service: Option<String>,
    pub cluster: Option<String>,
    pub disabled_reason: Option<serde_json::Value>,
}

#[derive(Serialize)]
pub struct Changed {
    pub host: String,
    pub service: String,
    pub binary: String,
    pub status: &'static str,
    pub disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<Option<String>>,
}

/// Of freeze, thaw and failover.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostChange {
    pub host: Option<String>,
    pub cluster: Option<String>,
    pub backend_id: Option<String>,
}

/// Of set-log and get-log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    pub binary: Option<String>,
    pub server: Option<String>,
    pub prefix: Option<String>,
    pub level: Option<String>,
}

#[derive(Serialize)]
pub struct LogLevels {
    pub log_levels: Vec<LogLevel>,
}

#[derive(Serialize)]
pub struct LogLevel {
    pub host: String,
    pub binary: String,
    /// By the logger's name.
    pub levels: std::collections::BTreeMap<String, String>,
}

#[derive(Serialize)]
pub struct Hosts {
    pub hosts: Vec<Host>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Host {
    #[serde(rename = "host_name")]
    pub name: String,
    pub service: String,
    pub zone: String,
    /// `available` or `unavailable`.
    pub service_status: &'static str,
    /// `enabled` or `disabled`.
    pub service_state: &'static str,
    pub last_update: Option<String>,
}

#[derive(Serialize)]
pub struct HostDetail {
    pub host: Vec<HostResource>,
}

#[derive(Serialize)]
pub struct HostResource {
    pub resource: HostUse,
}

/// All numbers are texts.
#[derive(Serialize)]
pub struct HostUse {
    pub host: String,
    /// A project's id, or `(total)`.
    pub project: String,
    pub volume_count: String,
    pub total_volume_gb: String,
    pub snapshot_count: String,
    pub total_snapshot_gb: String,
}
