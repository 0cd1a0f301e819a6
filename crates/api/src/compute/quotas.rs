//! Quotas of projects, and the default class. Which resources a version shows is in [`RESOURCES`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Method, Microversion, Route, Rule};

const ONE: &str = "/v2.1/os-quota-sets/{project_id}";
pub static SHOW: Route = Route::new(Method::Get, ONE, "os_compute_api:os-quota-sets:show", Rule::Reader);
pub static DEFAULTS: Route = Route::new(
    Method::Get,
    "/v2.1/os-quota-sets/{project_id}/defaults",
    "os_compute_api:os-quota-sets:defaults",
    Rule::Authenticated,
);
pub static DETAIL: Route = Route::new(
    Method::Get,
    "/v2.1/os-quota-sets/{project_id}/detail",
    "os_compute_api:os-quota-sets:detail",
    Rule::Reader,
);
pub static UPDATE: Route = Route::new(Method::Put, ONE, "os_compute_api:os-quota-sets:update", Rule::Admin);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "os_compute_api:os-quota-sets:delete", Rule::Admin);

const CLASS: &str = "/v2.1/os-quota-class-sets/{class}";
pub static CLASS_SHOW: Route = Route::new(Method::Get, CLASS, "os_compute_api:os-quota-class-sets:show", Rule::Admin);
pub static CLASS_UPDATE: Route =
    Route::new(Method::Put, CLASS, "os_compute_api:os-quota-class-sets:update", Rule::Admin);

/// A resource that can be limited.
#[derive(Debug)]
pub struct Resource {
    pub name: &'static str,
    /// Upstream's default.
    pub default: i64,
    /// The last minor version that shows it.
    pub until: u16,
    /// The first minor version whose quota *class* shows it.
    pub class_since: u16,
}

const ALWAYS: u16 = u16::MAX;

const fn resource(name: &'static str, default: i64) -> Resource {
    Resource { name, default, until: ALWAYS, class_since: 1 }
}

pub static RESOURCES: &[Resource] = &[
    resource("instances", 10),
    resource("cores", 20),
    resource("ram", 51_200),
    resource("metadata_items", 128),
    resource("key_pairs", 100),
    Resource { name: "server_groups", default: 10, until: ALWAYS, class_since: 50 },
    Resource { name: "server_group_members", default: 10, until: ALWAYS, class_since: 50 },
    Resource { name: "injected_files", default: 5, until: 56, class_since: 1 },
    Resource { name: "injected_file_content_bytes", default: 10_240, until: 56, class_since: 1 },
    Resource { name: "injected_file_path_bytes", default: 255, until: 56, class_since: 1 },
    Resource { name: "fixed_ips", default: -1, until: 35, class_since: 1 },
    Resource { name: "floating_ips", default: -1, until: 35, class_since: 1 },
    Resource { name: "security_groups", default: -1, until: 35, class_since: 1 },
    Resource { name: "security_group_rules", default: -1, until: 35, class_since: 1 },
];

/// Quota classes went on showing the network's resources until 2.49.
const CLASS_NETWORK_UNTIL: u16 = 49;

pub fn resources(version: Microversion) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(move |resource| version.minor <= resource.until)
}

pub fn class_resources(version: Microversion) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(move |resource| {
        let until = if resource.until == 35 { CLASS_NETWORK_UNTIL } else { resource.until };
        resource.class_since <= version.minor && version.minor <= until
    })
}

#[derive(Serialize)]
pub struct QuotaSetBody<T> {
    pub quota_set: QuotaSet<T>,
}

#[derive(Serialize)]
pub struct QuotaClassBody {
    pub quota_class_set: QuotaSet<i64>,
}

#[derive(Serialize)]
pub struct QuotaSet<T> {
    /// Not in the answer to an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(flatten)]
    pub limits: BTreeMap<&'static str, T>,
}

#[derive(Serialize)]
pub struct Detail {
    pub limit: i64,
    pub in_use: u64,
    /// Always 0: nothing is reserved, the servers themselves are counted.
    pub reserved: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    pub quota_set: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassUpdateRequest {
    pub quota_class_set: BTreeMap<String, Value>,
}
