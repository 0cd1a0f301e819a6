//! Volumes for servers: who has a volume reserved or open, and how a host reaches it. From 3.27 on; what came before are
//! the volume's actions (`os-attach` and the like).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Method, Route, Rule};

const ALL: &str = "/v3/attachments";
const ONE: &str = "/v3/attachments/{attachment_id}";

pub static LIST: Route = Route::new(Method::Get, ALL, "volume:attachment_list", Rule::Reader).since(3, 27);
pub static DETAIL: Route =
    Route::new(Method::Get, "/v3/attachments/detail", "volume:attachment_list", Rule::Reader).since(3, 27);
pub static SHOW: Route = Route::new(Method::Get, ONE, "volume:attachment_show", Rule::Reader).since(3, 27);
pub static CREATE: Route = Route::new(Method::Post, ALL, "volume:attachment_create", Rule::Member).since(3, 27);
pub static UPDATE: Route = Route::new(Method::Put, ONE, "volume:attachment_update", Rule::Member).since(3, 27);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "volume:attachment_delete", Rule::Member).since(3, 27);
/// `os-complete`.
pub static ACTION: Route =
    Route::new(Method::Post, "/v3/attachments/{attachment_id}/action", "volume:attachment_complete", Rule::Member)
        .since(3, 44);

/// Policy of a second attachment of a bootable volume.
pub const MULTIATTACH_BOOTABLE_POLICY: &str = "volume:multiattach_bootable_volume";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub attachment: NewAttachment,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAttachment {
    pub volume_uuid: String,
    #[serde(default)]
    pub instance_uuid: Option<String>,
    /// What a host says of itself; without it the volume is only reserved.
    #[serde(default)]
    pub connector: Option<Connector>,
    /// 3.54: `rw` or `ro`.
    #[serde(default)]
    pub mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    pub attachment: AttachmentChange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentChange {
    pub connector: Connector,
}

/// What a host says of itself. Its keys are the drivers' business; these are kept.
pub type Connector = Map<String, Value>;

#[derive(Serialize)]
pub struct OneAttachment {
    pub attachment: Attachment,
}

#[derive(Serialize)]
pub struct Attachments {
    pub attachments: Vec<Attachment>,
}

#[derive(Debug, Serialize)]
pub struct Attachment {
    pub id: String,
    /// `reserved`, `attaching`, `attached`.
    pub status: String,
    /// The server.
    pub instance: Option<String>,
    pub volume_id: String,
    #[serde(flatten)]
    pub detail: Option<AttachmentDetail>,
}

#[derive(Debug, Serialize)]
pub struct AttachmentDetail {
    /// A time, or an empty text.
    pub attached_at: String,
    pub detached_at: String,
    /// `rw`, `ro`, or `null` as a text where nobody has said.
    pub attach_mode: String,
    /// In one layer: `driver_volume_type` beside what the driver says. Empty before a host is named.
    pub connection_info: Map<String, Value>,
}
