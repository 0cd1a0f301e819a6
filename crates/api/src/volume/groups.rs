//! Groups of volumes, from 3.13.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Link, Method, Microversion, Route, Rule, Versioned};

const ALL: &str = "/v3/groups";
const ONE: &str = "/v3/groups/{group_id}";

pub static LIST: Route = Route::new(Method::Get, ALL, "group:get_all", Rule::Reader).since(3, 13);
pub static DETAIL: Route = Route::new(Method::Get, "/v3/groups/detail", "group:get_all", Rule::Reader).since(3, 13);
pub static SHOW: Route = Route::new(Method::Get, ONE, "group:get", Rule::Reader).since(3, 13);
pub static CREATE: Route = Route::new(Method::Post, ALL, "group:create", Rule::Member).since(3, 13);
pub static UPDATE: Route = Route::new(Method::Put, ONE, "group:update", Rule::Member).since(3, 13);
/// `create-from-src`.
pub static CREATE_FROM: Route =
    Route::new(Method::Post, "/v3/groups/action", "group:create", Rule::Member).since(3, 14);
/// `delete`, `reset_status` (3.20, for administrators) and those of replication (3.38).
pub static ACTION: Route =
    Route::new(Method::Post, "/v3/groups/{group_id}/action", "group:delete", Rule::Member).since(3, 13);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub group: NewGroup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    pub name: Option<String>,
    pub description: Option<String>,
    /// Id or name.
    pub group_type: String,
    /// Ids or names.
    pub volume_types: Vec<String>,
    pub availability_zone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateFromRequest {
    #[serde(rename = "create-from-src")]
    pub create: NewGroupFrom,
}

/// One of the two sources.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroupFrom {
    pub name: Option<String>,
    pub description: Option<String>,
    pub source_group_id: Option<String>,
    pub group_snapshot_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    pub group: GroupChange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupChange {
    pub name: Option<String>,
    pub description: Option<String>,
    /// Ids, with commas between them.
    pub add_volumes: Option<String>,
    pub remove_volumes: Option<String>,
}

/// One member says what is to be done.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    pub delete: Option<DeleteGroup>,
    pub reset_status: Option<ResetStatus>,
    pub enable_replication: Option<Value>,
    pub disable_replication: Option<Value>,
    pub failover_replication: Option<Value>,
    pub list_replication_targets: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteGroup {
    #[serde(rename = "delete-volumes")]
    pub delete_volumes: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetStatus {
    pub status: String,
}

#[derive(Serialize)]
pub struct OneGroup {
    pub group: Group,
}

#[derive(Serialize)]
pub struct Groups {
    pub groups: Vec<Group>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_links: Vec<Link>,
}

#[derive(Serialize)]
pub struct Group {
    pub id: String,
    pub name: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub detail: Option<GroupDetail>,
}

/// What lists without details leave out.
#[derive(Serialize)]
pub struct GroupDetail {
    pub status: &'static str,
    pub availability_zone: String,
    pub created_at: String,
    pub description: Option<String>,
    /// Id.
    pub group_type: String,
    /// Ids.
    pub volume_types: Vec<String>,
    /// 3.14.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub source: Option<GroupSource>,
    /// 3.25, if asked for: ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<String>>,
    /// 3.38.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_status: Option<&'static str>,
    /// 3.58, for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

#[derive(Serialize)]
pub struct GroupSource {
    pub group_snapshot_id: Option<String>,
    pub source_group_id: Option<String>,
}

impl Versioned for Group {
    fn patch(&mut self, version: Microversion) {
        let Some(detail) = &mut self.detail else {
            return;
        };
        if !version.at_least(3, 14) {
            detail.source = None;
        }
        if !version.at_least(3, 25) {
            detail.volumes = None;
        }
        if !version.at_least(3, 38) {
            detail.replication_status = None;
        }
        if !version.at_least(3, 58) {
            detail.project_id = None;
        }
    }
}

impl Versioned for OneGroup {
    fn patch(&mut self, version: Microversion) {
        self.group.patch(version);
    }
}

impl Versioned for Groups {
    fn patch(&mut self, version: Microversion) {
        self.groups.patch(version);
    }
}
