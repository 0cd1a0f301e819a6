//! Volumes: what a client sends and sees of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Link, Method, Microversion, Route, Rule, Versioned};

pub static CREATE: Route = Route::new(Method::Post, "/v3/volumes", "volume:create", Rule::Member);
pub static LIST: Route = Route::new(Method::Get, "/v3/volumes", "volume:get_all", Rule::Reader);
pub static DETAIL: Route = Route::new(Method::Get, "/v3/volumes/detail", "volume:get_all", Rule::Reader);
pub static SUMMARY: Route = Route::new(Method::Get, "/v3/volumes/summary", "volume:get_all", Rule::Reader).since(3, 12);
pub static SHOW: Route = Route::new(Method::Get, "/v3/volumes/{volume_id}", "volume:get", Rule::Reader);
pub static UPDATE: Route = Route::new(Method::Put, "/v3/volumes/{volume_id}", "volume:update", Rule::Member);
pub static DELETE: Route = Route::new(Method::Delete, "/v3/volumes/{volume_id}", "volume:delete", Rule::Member);

const METADATA: &str = "/v3/volumes/{volume_id}/metadata";
const METADATA_ITEM: &str = "/v3/volumes/{volume_id}/metadata/{key}";
pub static METADATA_SHOW: Route = Route::new(Method::Get, METADATA, "volume:get_volume_metadata", Rule::Reader);
pub static METADATA_ADD: Route = Route::new(Method::Post, METADATA, "volume:create_volume_metadata", Rule::Member);
pub static METADATA_SET: Route = Route::new(Method::Put, METADATA, "volume:update_volume_metadata", Rule::Member);
pub static ITEM_SHOW: Route = Route::new(Method::Get, METADATA_ITEM, "volume:get_volume_metadata", Rule::Reader);
pub static ITEM_SET: Route = Route::new(Method::Put, METADATA_ITEM, "volume:update_volume_metadata", Rule::Member);
pub static ITEM_DELETE: Route =
    Route::new(Method::Delete, METADATA_ITEM, "volume:delete_volume_metadata", Rule::Member);

#[derive(Deserialize)]
pub struct CreateVolume {
    pub volume: NewVolume,
}

/// What is asked for. Sizes come as numbers and as texts.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct NewVolume {
    /// GiB.
    pub size: Option<Value>,
    pub name: Option<String>,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub display_description: Option<String>,
    pub metadata: Option<BTreeMap<String, Value>>,
    #[serde(rename = "imageRef")]
    pub image_ref: Option<String>,
    pub image_id: Option<String>,
    pub snapshot_id: Option<String>,
    pub source_volid: Option<String>,
    /// Since 3.47.
    pub backup_id: Option<String>,
    /// Id or name.
    pub volume_type: Option<String>,
    pub availability_zone: Option<String>,
    /// Since 3.13.
    pub group_id: Option<String>,
    pub consistencygroup_id: Option<String>,
    /// Up to 3.49; from then on the type says.
    pub multiattach: Option<Value>,
}

#[derive(Deserialize)]
pub struct UpdateVolume {
    pub volume: VolumeChange,
}

/// A member that is missing stays as it is.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VolumeChange {
    pub name: Option<String>,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub display_description: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
pub struct OneVolume {
    pub volume: Volume,
}

#[derive(Serialize)]
pub struct Volumes {
    pub volumes: Vec<Volume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes_links: Option<Vec<Link>>,
    /// Since 3.45, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

#[derive(Serialize)]
pub struct BriefVolumes {
    pub volumes: Vec<BriefVolume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes_links: Option<Vec<Link>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

#[derive(Serialize)]
pub struct BriefVolume {
    pub id: String,
    pub name: Option<String>,
    pub links: Vec<Link>,
}

/// A volume as it is shown. A member that is a doubled option can be left out (`None`) or be null (`Some(None)`).
#[derive(Serialize)]
pub struct Volume {
    pub id: String,
    pub status: &'static str,
    /// GiB.
    pub size: u64,
    pub availability_zone: String,
    pub created_at: String,
    pub updated_at: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    /// Its name.
    pub volume_type: Option<String>,
    pub snapshot_id: Option<String>,
    pub source_volid: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub links: Vec<Link>,
    pub user_id: String,
    /// `true` or `false`, as texts.
    pub bootable: &'static str,
    pub encrypted: bool,
    pub replication_status: Option<String>,
    pub consistencygroup_id: Option<String>,
    pub multiattach: bool,
    pub attachments: Vec<Attachment>,
    /// Administrators' alone, but for whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration_status: Option<Option<String>>,
    #[serde(rename = "os-vol-tenant-attr:tenant_id", skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    #[serde(rename = "os-vol-host-attr:host", skip_serializing_if = "Option::is_none")]
    pub host: Option<Option<String>>,
    #[serde(rename = "os-vol-mig-status-attr:migstat", skip_serializing_if = "Option::is_none")]
    pub migstat: Option<Option<String>>,
    #[serde(rename = "os-vol-mig-status-attr:name_id", skip_serializing_if = "Option::is_none")]
    pub name_id: Option<Option<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volume_image_metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_uuid: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_targets: Option<Option<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_type_id: Option<Option<String>>,
    /// Only of encrypted volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumes_quota: Option<bool>,
}

/// A server that has the volume.
#[derive(Serialize)]
pub struct Attachment {
    pub id: String,
    pub attachment_id: String,
    pub volume_id: String,
    pub server_id: Option<String>,
    pub host_name: Option<String>,
    pub device: Option<String>,
    pub attached_at: Option<String>,
}

impl Versioned for Volume {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(3, 13) {
            self.group_id = None;
        }
        if !version.at_least(3, 21) {
            self.provider_id = None;
        }
        if !version.at_least(3, 48) {
            (self.service_uuid, self.shared_targets) = (None, None);
        } else if !version.at_least(3, 69) && self.shared_targets == Some(None) {
            // It could not be unknown before.
            self.shared_targets = Some(Some(false));
        }
        if !version.at_least(3, 61) {
            self.cluster_name = None;
        }
        if !version.at_least(3, 63) {
            self.volume_type_id = None;
        }
        if !version.at_least(3, 64) {
            self.encryption_key_id = None;
        }
        if !version.at_least(3, 65) {
            self.consumes_quota = None;
        }
    }
}

impl Versioned for OneVolume {
    fn patch(&mut self, version: Microversion) {
        self.volume.patch(version);
    }
}

impl Versioned for Volumes {
    fn patch(&mut self, version: Microversion) {
        self.volumes.patch(version);
    }
}

#[derive(Serialize)]
pub struct VolumeSummary {
    #[serde(rename = "volume-summary")]
    pub summary: Summary,
}

#[derive(Serialize)]
pub struct Summary {
    pub total_count: u64,
    /// GiB.
    pub total_size: u64,
    /// Since 3.36: all values of each name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, Vec<String>>>,
}

/// Metadata on their way in and out.
#[derive(Serialize, Deserialize)]
pub struct MetadataBody {
    pub metadata: BTreeMap<String, String>,
}

/// One item.
#[derive(Serialize, Deserialize)]
pub struct MetaBody {
    pub meta: BTreeMap<String, String>,
}
