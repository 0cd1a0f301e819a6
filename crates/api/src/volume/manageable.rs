//! Disks and snapshots that are in a pool and not in the service's books: to see them, and to take them over. The `os-`
//! paths are the same before 3.8.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Method, Route, Rule};

const VOLUMES: &str = "/v3/manageable_volumes";
const SNAPSHOTS: &str = "/v3/manageable_snapshots";
const OLD_VOLUMES: &str = "/v3/os-volume-manage";
const OLD_SNAPSHOTS: &str = "/v3/os-snapshot-manage";
const MANAGE: &str = "volume_extension:volume_manage";
const LIST: &str = "volume_extension:list_manageable";
const SNAPSHOT_MANAGE: &str = "snapshot_extension:snapshot_manage";
const SNAPSHOT_LIST: &str = "snapshot_extension:list_manageable";

pub static VOLUMES_LIST: Route = Route::new(Method::Get, VOLUMES, LIST, Rule::Admin).since(3, 8);
pub static VOLUMES_DETAIL: Route =
    Route::new(Method::Get, "/v3/manageable_volumes/detail", LIST, Rule::Admin).since(3, 8);
pub static VOLUMES_MANAGE: Route = Route::new(Method::Post, VOLUMES, MANAGE, Rule::Admin).since(3, 8);
pub static OLD_VOLUMES_LIST: Route = Route::new(Method::Get, OLD_VOLUMES, LIST, Rule::Admin);
pub static OLD_VOLUMES_DETAIL: Route = Route::new(Method::Get, "/v3/os-volume-manage/detail", LIST, Rule::Admin);
pub static OLD_VOLUMES_MANAGE: Route = Route::new(Method::Post, OLD_VOLUMES, MANAGE, Rule::Admin);

pub static SNAPSHOTS_LIST: Route = Route::new(Method::Get, SNAPSHOTS, SNAPSHOT_LIST, Rule::Admin).since(3, 8);
pub static SNAPSHOTS_DETAIL: Route =
    Route::new(Method::Get, "/v3/manageable_snapshots/detail", SNAPSHOT_LIST, Rule::Admin).since(3, 8);
pub static SNAPSHOTS_MANAGE: Route = Route::new(Method::Post, SNAPSHOTS, SNAPSHOT_MANAGE, Rule::Admin).since(3, 8);
pub static OLD_SNAPSHOTS_LIST: Route = Route::new(Method::Get, OLD_SNAPSHOTS, SNAPSHOT_LIST, Rule::Admin);
pub static OLD_SNAPSHOTS_DETAIL: Route =
    Route::new(Method::Get, "/v3/os-snapshot-manage/detail", SNAPSHOT_LIST, Rule::Admin);
pub static OLD_SNAPSHOTS_MANAGE: Route = Route::new(Method::Post, OLD_SNAPSHOTS, SNAPSHOT_MANAGE, Rule::Admin);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManageVolume {
    pub volume: ManagedVolume,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedVolume {
    /// `host@pool#pool`.
    #[serde(default)]
    pub host: Option<String>,
    /// 3.16; no service here is in a cluster.
    #[serde(default)]
    pub cluster: Option<String>,
    /// `{"source-name": …}`.
    #[serde(rename = "ref")]
    pub reference: Value,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub volume_type: Option<String>,
    #[serde(default)]
    pub availability_zone: Option<String>,
    #[serde(default)]
    pub bootable: Option<Value>,
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManageSnapshot {
    pub snapshot: ManagedSnapshot,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedSnapshot {
    pub volume_id: String,
    #[serde(rename = "ref")]
    pub reference: Value,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Serialize)]
pub struct ManageableVolumes {
    #[serde(rename = "manageable-volumes")]
    pub volumes: Vec<Manageable>,
}

#[derive(Serialize)]
pub struct ManageableSnapshots {
    #[serde(rename = "manageable-snapshots")]
    pub snapshots: Vec<Manageable>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manageable {
    pub reference: Reference,
    /// GiB, rounded up.
    pub size: u64,
    pub safe_to_manage: bool,
    /// Of a snapshot: its disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_reference: Option<Reference>,
    #[serde(flatten)]
    pub detail: Option<ManageableDetail>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManageableDetail {
    pub reason_not_safe: Option<String>,
    /// The volume or snapshot that has it.
    pub cinder_id: Option<String>,
    pub extra_info: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Reference {
    #[serde(rename = "source-name")]
    pub source_name: String,
}

/// The name in a `ref`: upstream's driver for Ceph takes `source-name` and nothing else.
pub fn source_name(reference: &Value) -> Option<&str> {
    match reference {
        Value::Object(members) => name_in(members),
        _ => None,
    }
}

fn name_in(members: &Map<String, Value>) -> Option<&str> {
    members.get("source-name")?.as_str().filter(|name| !name.is_empty())
}
