//! The daemons of compute, as upstream's operators know them: one `nova-compute` per host.

use serde::{Deserialize, Serialize};

use crate::{Method, Microversion, Route, Rule, Versioned};

const ALL: &str = "/v2.1/os-services";
const ONE: &str = "/v2.1/os-services/{service_id}";
pub static LIST: Route = Route::new(Method::Get, ALL, "os_compute_api:os-services:list", Rule::Admin);
/// By the service's id, from 2.53.
pub static UPDATE: Route = Route::new(Method::Put, ONE, "os_compute_api:os-services:update", Rule::Admin);

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
pub struct OneService {
    pub service: Service,
}

impl Versioned for OneService {
    fn patch(&mut self, version: Microversion) {
        self.service.patch(version);
    }
}

#[derive(Serialize)]
pub struct Service {
    pub id: ServiceId,
    pub binary: &'static str,
    pub host: String,
    pub zone: String,
    /// `enabled` or `disabled`.
    pub status: &'static str,
    /// `up` or `down`.
    pub state: &'static str,
    pub updated_at: Option<String>,
    pub disabled_reason: Option<String>,
    /// 2.11.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_down: Option<bool>,
}

/// A number up to 2.52, a UUID from 2.53.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum ServiceId {
    Number(i64),
    Uuid(String),
    #[serde(skip)]
    Both(i64, String),
}

impl ServiceId {
    pub fn patch(&mut self, version: Microversion) {
        if let ServiceId::Both(number, uuid) = self {
            *self = match version.at_least(2, 53) {
                true => ServiceId::Uuid(std::mem::take(uuid)),
                false => ServiceId::Number(*number),
            };
        }
    }
}

impl Versioned for Service {
    fn patch(&mut self, version: Microversion) {
        self.id.patch(version);
        if !version.at_least(2, 11) {
            self.forced_down = None;
        }
    }
}

/// From 2.53.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceChange {
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub disabled_reason: Option<String>,
    #[serde(default)]
    pub forced_down: Option<bool>,
}

/// Up to 2.52: `PUT /os-services/enable`, `disable`, `disable-log-reason`, `force-down`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldServiceChange {
    pub host: String,
    pub binary: String,
    #[serde(default)]
    pub disabled_reason: Option<String>,
    #[serde(default)]
    pub forced_down: Option<bool>,
}

#[derive(Serialize)]
pub struct OldServiceAnswer {
    pub service: OldService,
}

#[derive(Serialize)]
pub struct OldService {
    pub host: String,
    pub binary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_down: Option<bool>,
}
