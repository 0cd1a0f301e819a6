//! Volumes and snapshots as compute once had them itself: proxies that end with 2.35.

use serde::Serialize;
use serde_json::Value;

use crate::{Method, Route, Rule};

const fn route(method: Method, path: &'static str, policy: &'static str) -> Route {
    let rule = match method {
        Method::Get => Rule::Reader,
        _ => Rule::Member,
    };
    Route::new(method, path, policy, rule).until(2, 35)
}

pub static LIST: Route = route(Method::Get, "/v2.1/os-volumes", "os_compute_api:os-volumes:list");
pub static DETAIL: Route = route(Method::Get, "/v2.1/os-volumes/detail", "os_compute_api:os-volumes:detail");
pub static CREATE: Route = route(Method::Post, "/v2.1/os-volumes", "os_compute_api:os-volumes:create");
pub static SHOW: Route = route(Method::Get, "/v2.1/os-volumes/{volume_id}", "os_compute_api:os-volumes:show");
pub static DELETE: Route = route(Method::Delete, "/v2.1/os-volumes/{volume_id}", "os_compute_api:os-volumes:delete");
pub static SNAPSHOTS: Route = route(Method::Get, "/v2.1/os-snapshots", "os_compute_api:os-volumes:snapshots:list");
pub static SNAPSHOTS_DETAIL: Route =
    route(Method::Get, "/v2.1/os-snapshots/detail", "os_compute_api:os-volumes:snapshots:detail");
pub static CREATE_SNAPSHOT: Route =
    route(Method::Post, "/v2.1/os-snapshots", "os_compute_api:os-volumes:snapshots:create");
pub static SHOW_SNAPSHOT: Route =
    route(Method::Get, "/v2.1/os-snapshots/{snapshot_id}", "os_compute_api:os-volumes:snapshots:show");
pub static DELETE_SNAPSHOT: Route =
    route(Method::Delete, "/v2.1/os-snapshots/{snapshot_id}", "os_compute_api:os-volumes:snapshots:delete");
/// Another name of `POST /servers`, of the times when a server from a volume was something else.
pub static BOOT: Route =
    Route::new(Method::Post, "/v2.1/os-volumes_boot", "os_compute_api:servers:create", Rule::Member);

/// A volume in compute's old words.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub id: Value,
    pub status: Value,
    pub size: Value,
    pub availability_zone: Value,
    pub created_at: Value,
    pub attachments: Vec<VolumeAttachment>,
    pub display_name: Value,
    pub display_description: Value,
    pub volume_type: Value,
    pub snapshot_id: Value,
    pub metadata: Value,
}

/// One server that has it; a volume without one has an empty object in its list, as ever.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeAttachment {
    #[serde(skip_serializing_if = "Value::is_null")]
    pub id: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub volume_id: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub server_id: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub device: Value,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub id: Value,
    pub volume_id: Value,
    pub status: Value,
    pub size: Value,
    pub created_at: Value,
    pub display_name: Value,
    pub display_description: Value,
}
