//! Backups, and the records by which another cloud can take them over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Link, Method, Microversion, Route, Rule, Versioned};

const ALL: &str = "/v3/backups";
const ONE: &str = "/v3/backups/{backup_id}";

pub static LIST: Route = Route::new(Method::Get, ALL, "backup:get_all", Rule::Reader);
pub static DETAIL: Route = Route::new(Method::Get, "/v3/backups/detail", "backup:get_all", Rule::Reader);
pub static SHOW: Route = Route::new(Method::Get, ONE, "backup:get", Rule::Reader);
pub static CREATE: Route = Route::new(Method::Post, ALL, "backup:create", Rule::Member);
pub static UPDATE: Route = Route::new(Method::Put, ONE, "backup:update", Rule::Member).since(3, 9);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "backup:delete", Rule::Member);
pub static RESTORE: Route = Route::new(Method::Post, "/v3/backups/{backup_id}/restore", "backup:restore", Rule::Member);
/// `os-reset_status` and `os-force_delete`.
pub static ACTION: Route = Route::new(
    Method::Post,
    "/v3/backups/{backup_id}/action",
    "volume_extension:backup_admin_actions:reset_status",
    Rule::Admin,
);
pub static EXPORT: Route =
    Route::new(Method::Get, "/v3/backups/{backup_id}/export_record", "backup:export-import", Rule::Admin);
pub static IMPORT: Route = Route::new(Method::Post, "/v3/backups/import_record", "backup:backup-import", Rule::Admin);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub backup: NewBackup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    pub volume_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    /// Kept and shown, and not used otherwise.
    pub container: Option<String>,
    pub incremental: Option<Value>,
    pub force: Option<Value>,
    pub snapshot_id: Option<String>,
    /// 3.43.
    pub metadata: Option<BTreeMap<String, String>>,
    /// 3.51.
    pub availability_zone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    pub backup: Option<BackupChange>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupChange {
    pub name: Option<String>,
    pub description: Option<String>,
    /// 3.43.
    pub metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    pub restore: Option<Restore>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restore {
    pub volume_id: Option<String>,
    pub name: Option<String>,
}

#[derive(Serialize)]
pub struct RestoreAnswer {
    pub restore: Restoring,
}

#[derive(Serialize)]
pub struct Restoring {
    pub backup_id: String,
    pub volume_id: String,
    pub volume_name: String,
}

/// The request of an import and the answer to an export.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordBody {
    #[serde(rename = "backup-record")]
    pub record: Record,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub backup_service: String,
    /// JSON, in base64.
    pub backup_url: String,
}

#[derive(Serialize)]
pub struct OneBackup {
    pub backup: Backup,
}

#[derive(Serialize)]
pub struct Backups {
    pub backups: Vec<Backup>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backups_links: Vec<Link>,
    /// 3.45, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

#[derive(Serialize)]
pub struct Backup {
    pub id: String,
    pub name: Option<String>,
    pub links: Vec<Link>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub detail: Option<BackupDetail>,
}

/// What lists without details leave out.
#[derive(Serialize)]
pub struct BackupDetail {
    pub status: &'static str,
    /// GiB, of the volume.
    pub size: u64,
    /// Chunks that are stored; grows while the backup is made.
    pub object_count: u64,
    pub availability_zone: Option<String>,
    pub container: Option<String>,
    pub created_at: String,
    pub updated_at: Option<String>,
    pub description: Option<String>,
    pub fail_reason: Option<String>,
    pub volume_id: String,
    pub is_incremental: bool,
    pub has_dependent_backups: bool,
    pub snapshot_id: Option<String>,
    pub data_timestamp: String,
    /// 3.43.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// 3.18, for administrators.
    #[serde(rename = "os-backup-project-attr:project_id", skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// 3.56, for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

impl Versioned for Backup {
    fn patch(&mut self, version: Microversion) {
        let Some(detail) = &mut self.detail else {
            return;
        };
        if !version.at_least(3, 18) {
            detail.project_id = None;
        }
        if !version.at_least(3, 43) {
            detail.metadata = None;
        }
        if !version.at_least(3, 56) {
            detail.user_id = None;
        }
    }
}

impl Versioned for OneBackup {
    fn patch(&mut self, version: Microversion) {
        self.backup.patch(version);
    }
}

impl Versioned for Backups {
    fn patch(&mut self, version: Microversion) {
        self.backups.patch(version);
        if !version.at_least(3, 45) {
            self.count = None;
        }
    }
}
