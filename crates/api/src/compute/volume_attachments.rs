//! The volumes of a server.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Method, Microversion, Route, Rule, Versioned};

const ALL: &str = "/v2.1/servers/{server_id}/os-volume_attachments";
const ONE: &str = "/v2.1/servers/{server_id}/os-volume_attachments/{volume_id}";
pub static LIST: Route = Route::new(Method::Get, ALL, "os_compute_api:os-volumes-attachments:index", Rule::Reader);
pub static CREATE: Route = Route::new(Method::Post, ALL, "os_compute_api:os-volumes-attachments:create", Rule::Member);
pub static SHOW: Route = Route::new(Method::Get, ONE, "os_compute_api:os-volumes-attachments:show", Rule::Reader);
/// Whether the volume goes with the server (2.85); another volume in its place, for administrators.
pub static UPDATE: Route = Route::new(Method::Put, ONE, "os_compute_api:os-volumes-attachments:update", Rule::Member);
pub static DELETE: Route =
    Route::new(Method::Delete, ONE, "os_compute_api:os-volumes-attachments:delete", Rule::Member);

/// Policy of a `PUT` that names another volume.
pub const SWAP_POLICY: &str = "os_compute_api:os-volumes-attachments:swap";

#[derive(Debug, Serialize)]
pub struct Attachment {
    /// The volume's id once more; up to 2.88.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "serverId")]
    pub server_id: String,
    #[serde(rename = "volumeId")]
    pub volume_id: String,
    pub device: String,
    /// 2.70.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Option<String>>,
    /// 2.79.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
    /// 2.89: of the volume service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment_id: Option<Option<String>>,
    /// 2.89.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bdm_uuid: Option<String>,
}

impl Versioned for Attachment {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(2, 70) {
            self.tag = None;
        }
        if !version.at_least(2, 79) {
            self.delete_on_termination = None;
        }
        match version.at_least(2, 89) {
            true => self.id = None,
            false => (self.attachment_id, self.bdm_uuid) = (None, None),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct OneAttachment {
    #[serde(rename = "volumeAttachment")]
    pub attachment: Attachment,
}

impl Versioned for OneAttachment {
    fn patch(&mut self, version: Microversion) {
        self.attachment.patch(version);
    }
}

#[derive(Debug, Serialize)]
pub struct Attachments {
    #[serde(rename = "volumeAttachments")]
    pub attachments: Vec<Attachment>,
}

impl Versioned for Attachments {
    fn patch(&mut self, version: Microversion) {
        self.attachments.patch(version);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    #[serde(rename = "volumeAttachment")]
    pub attachment: NewAttachment,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAttachment {
    #[serde(rename = "volumeId")]
    pub volume_id: String,
    /// Taken and not heeded: the guest's kernel names its disks.
    #[serde(default)]
    pub device: Option<String>,
    /// 2.49.
    #[serde(default)]
    pub tag: Option<String>,
    /// 2.79.
    #[serde(default)]
    pub delete_on_termination: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    #[serde(rename = "volumeAttachment")]
    pub attachment: AttachmentChange,
}

/// From 2.85 on it may repeat what the attachment is, and must not contradict it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentChange {
    #[serde(rename = "volumeId")]
    pub volume_id: String,
    #[serde(default)]
    pub id: Option<String>,
    #[serde(rename = "serverId", default)]
    pub server_id: Option<String>,
    #[serde(default)]
    pub device: Option<String>,
    #[serde(default)]
    pub tag: Option<String>,
    #[serde(default)]
    pub delete_on_termination: Option<Value>,
}

impl AttachmentChange {
    /// The member that only 2.85 knows.
    pub fn newest(&self) -> Option<&'static str> {
        let members = [
            ("id", self.id.is_some()),
            ("serverId", self.server_id.is_some()),
            ("device", self.device.is_some()),
            ("tag", self.tag.is_some()),
            ("delete_on_termination", self.delete_on_termination.is_some()),
        ];
        members.into_iter().find(|(_, there)| *there).map(|(name, _)| name)
    }
}
