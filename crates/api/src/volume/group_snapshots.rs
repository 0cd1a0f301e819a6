//! Snapshots of all volumes of a group at one point in time, from 3.14.

use serde::{Deserialize, Serialize};

use super::groups::ResetStatus;
use crate::{Link, Method, Microversion, Route, Rule, Versioned};

const ALL: &str = "/v3/group_snapshots";
const ONE: &str = "/v3/group_snapshots/{group_snapshot_id}";

pub static LIST: Route = Route::new(Method::Get, ALL, "group:get_all_group_snapshots", Rule::Reader).since(3, 14);
pub static DETAIL: Route =
    Route::new(Method::Get, "/v3/group_snapshots/detail", "group:get_all_group_snapshots", Rule::Reader).since(3, 14);
pub static SHOW: Route = Route::new(Method::Get, ONE, "group:get_group_snapshot", Rule::Reader).since(3, 14);
pub static CREATE: Route = Route::new(Method::Post, ALL, "group:create_group_snapshot", Rule::Member).since(3, 14);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "group:delete_group_snapshot", Rule::Member).since(3, 14);
/// `reset_status`.
pub static ACTION: Route = Route::new(
    Method::Post,
    "/v3/group_snapshots/{group_snapshot_id}/action",
    "group:reset_group_snapshot_status",
    Rule::Admin,
)
.since(3, 19);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub group_snapshot: NewGroupSnapshot,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroupSnapshot {
    pub group_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    pub reset_status: ResetStatus,
}

#[derive(Serialize)]
pub struct OneGroupSnapshot {
    pub group_snapshot: GroupSnapshot,
}

#[derive(Serialize)]
pub struct GroupSnapshots {
    pub group_snapshots: Vec<GroupSnapshot>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_snapshot_links: Vec<Link>,
}

#[derive(Serialize)]
pub struct GroupSnapshot {
    pub id: String,
    pub name: Option<String>,
    /// Not in lists without details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_type_id: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub detail: Option<GroupSnapshotDetail>,
}

#[derive(Serialize)]
pub struct GroupSnapshotDetail {
    pub group_id: String,
    pub status: &'static str,
    pub created_at: String,
    pub description: Option<String>,
    /// 3.58, for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

impl Versioned for GroupSnapshot {
    fn patch(&mut self, version: Microversion) {
        if let Some(detail) = &mut self.detail
            && !version.at_least(3, 58)
        {
            detail.project_id = None;
        }
    }
}

impl Versioned for OneGroupSnapshot {
    fn patch(&mut self, version: Microversion) {
        self.group_snapshot.patch(version);
    }
}

impl Versioned for GroupSnapshots {
    fn patch(&mut self, version: Microversion) {
        self.group_snapshots.patch(version);
    }
}
