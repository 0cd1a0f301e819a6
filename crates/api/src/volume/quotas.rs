//! Quotas of projects, the default class, and `limits`, which shows a project its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Method, Route, Rule};

const ONE: &str = "/v3/os-quota-sets/{project_id}";
/// With `usage=True` also what is used.
pub static SHOW: Route = Route::new(Method::Get, ONE, "volume_extension:quotas:show", Rule::Reader);
pub static DEFAULTS: Route =
    Route::new(Method::Get, "/v3/os-quota-sets/{project_id}/defaults", "volume_extension:quotas:show", Rule::Reader);
pub static UPDATE: Route = Route::new(Method::Put, ONE, "volume_extension:quotas:update", Rule::Admin);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "volume_extension:quotas:delete", Rule::Admin);

const CLASS: &str = "/v3/os-quota-class-sets/{class}";
pub static CLASS_SHOW: Route = Route::new(Method::Get, CLASS, "volume_extension:quota_classes:get", Rule::Admin);
pub static CLASS_UPDATE: Route = Route::new(Method::Put, CLASS, "volume_extension:quota_classes:update", Rule::Admin);

pub static LIMITS: Route = Route::new(Method::Get, "/v3/limits", "limits_extension:used_limits", Rule::Reader);

/// What can be limited, with upstream's defaults; -1 is no limit. Beside these, each type of volume has `volumes_<type>`,
/// `gigabytes_<type>` and `snapshots_<type>`, without limits unless somebody sets one.
pub static RESOURCES: &[(&str, i64)] = &[
    ("volumes", 10),
    ("per_volume_gigabytes", -1),
    ("snapshots", 10),
    ("gigabytes", 1000),
    ("backups", 10),
    ("backup_gigabytes", 1000),
    ("groups", 10),
];

/// Resources that each type has of its own.
pub static PER_TYPE: &[&str] = &["volumes", "gigabytes", "snapshots"];

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

/// `T` is a limit or a [`Detail`].
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
    /// Not in the answer to a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(flatten)]
    pub limits: BTreeMap<String, T>,
}

#[derive(Serialize)]
pub struct Detail {
    pub limit: i64,
    pub in_use: u64,
    /// Always 0: what is asked for counts at once.
    pub reserved: u64,
}

#[derive(Serialize)]
pub struct LimitsBody {
    pub limits: Limits,
}

#[derive(Serialize)]
pub struct Limits {
    /// Always empty: a rate limit belongs before the service.
    pub rate: [(); 0],
    pub absolute: Absolute,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Absolute {
    pub max_total_volumes: i64,
    pub max_total_volume_gigabytes: i64,
    pub max_total_snapshots: i64,
    pub max_total_backups: i64,
    pub max_total_backup_gigabytes: i64,
    pub total_volumes_used: u64,
    pub total_gigabytes_used: u64,
    pub total_snapshots_used: u64,
    pub total_backups_used: u64,
    pub total_backup_gigabytes_used: u64,
}
