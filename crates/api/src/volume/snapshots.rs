//! Snapshots: what a client sends and sees of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Link, Method, Microversion, Route, Rule, Versioned};

pub static CREATE: Route = Route::new(Method::Post, "/v3/snapshots", "volume:create_snapshot", Rule::Member);
pub static LIST: Route = Route::new(Method::Get, "/v3/snapshots", "volume:get_all_snapshots", Rule::Reader);
pub static DETAIL: Route = Route::new(Method::Get, "/v3/snapshots/detail", "volume:get_all_snapshots", Rule::Reader);
pub static SHOW: Route = Route::new(Method::Get, "/v3/snapshots/{snapshot_id}", "volume:get_snapshot", Rule::Reader);
pub static UPDATE: Route =
    Route::new(Method::Put, "/v3/snapshots/{snapshot_id}", "volume:update_snapshot", Rule::Member);
pub static DELETE: Route =
    Route::new(Method::Delete, "/v3/snapshots/{snapshot_id}", "volume:delete_snapshot", Rule::Member);

/// Of several volumes at one point in time. An extension, by which compute makes images of servers.
pub static TOGETHER: Route =
    Route::new(Method::Post, "/v3/snapshots/together", "volume:create_snapshots_together", Rule::Service);

const METADATA: &str = "/v3/snapshots/{snapshot_id}/metadata";
const METADATA_ITEM: &str = "/v3/snapshots/{snapshot_id}/metadata/{key}";
pub static METADATA_SHOW: Route = Route::new(Method::Get, METADATA, "volume:get_snapshot_metadata", Rule::Reader);
pub static METADATA_ADD: Route = Route::new(Method::Post, METADATA, "volume:update_snapshot_metadata", Rule::Member);
pub static METADATA_SET: Route = Route::new(Method::Put, METADATA, "volume:update_snapshot_metadata", Rule::Member);
pub static ITEM_SHOW: Route = Route::new(Method::Get, METADATA_ITEM, "volume:get_snapshot_metadata", Rule::Reader);
pub static ITEM_SET: Route = Route::new(Method::Put, METADATA_ITEM, "volume:update_snapshot_metadata", Rule::Member);
pub static ITEM_DELETE: Route =
    Route::new(Method::Delete, METADATA_ITEM, "volume:delete_snapshot_metadata", Rule::Member);

#[derive(Deserialize)]
pub struct CreateSnapshot {
    pub snapshot: NewSnapshot,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct NewSnapshot {
    pub volume_id: Option<String>,
    pub name: Option<String>,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub display_description: Option<String>,
    /// A volume that is in use too. From 3.66 on always so.
    pub force: Option<Value>,
    pub metadata: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotTogether {
    /// Whose they are shown as; their projects are their volumes'.
    pub user_id: String,
    pub name: String,
    pub snapshots: Vec<SnapshotOf>,
}

/// A snapshot by an id that its caller has drawn, so that asking again does not make another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotOf {
    pub id: String,
    pub volume_id: String,
}

#[derive(Deserialize)]
pub struct UpdateSnapshot {
    pub snapshot: SnapshotChange,
}

/// A member that is missing stays as it is.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotChange {
    pub name: Option<String>,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub display_description: Option<String>,
}

#[derive(Serialize)]
pub struct OneSnapshot {
    pub snapshot: Snapshot,
}

#[derive(Serialize)]
pub struct Snapshots {
    pub snapshots: Vec<Snapshot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots_links: Option<Vec<Link>>,
    /// Since 3.45, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

#[derive(Serialize)]
pub struct Snapshot {
    pub id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub volume_id: String,
    pub status: &'static str,
    /// GiB.
    pub size: u64,
    pub created_at: String,
    pub updated_at: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// Of details only: `42%`.
    #[serde(rename = "os-extended-snapshot-attributes:progress", skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    #[serde(rename = "os-extended-snapshot-attributes:project_id", skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_snapshot_id: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumes_quota: Option<bool>,
}

impl Versioned for Snapshot {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(3, 14) {
            self.group_snapshot_id = None;
        }
        if !version.at_least(3, 41) {
            self.user_id = None;
        }
        if !version.at_least(3, 65) {
            self.consumes_quota = None;
        }
    }
}

impl Versioned for OneSnapshot {
    fn patch(&mut self, version: Microversion) {
        self.snapshot.patch(version);
    }
}

impl Versioned for Snapshots {
    fn patch(&mut self, version: Microversion) {
        self.snapshots.patch(version);
    }
}
