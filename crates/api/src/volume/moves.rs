//! Actions of a volume that move it or its bytes: to hosts in the old way, to images, to other types and pools.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Microversion, Versioned};

/// `os-attach`. One of `instance_uuid` and `host_name` is needed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    #[serde(default)]
    pub instance_uuid: Option<String>,
    #[serde(default)]
    pub host_name: Option<String>,
    pub mountpoint: String,
    /// `rw` or `ro`.
    #[serde(default)]
    pub mode: Option<String>,
}

/// `os-detach`; its arguments may be null.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    #[serde(default)]
    pub attachment_id: Option<String>,
}

/// `os-force_detach`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceDetach {
    #[serde(default)]
    pub attachment_id: Option<String>,
    #[serde(default)]
    pub connector: Option<Value>,
}

/// `os-initialize_connection` and `os-terminate_connection`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// An object; a text or null as well where nothing is read out of it.
    pub connector: Value,
}

/// Answer to `os-initialize_connection`.
#[derive(Serialize)]
pub struct Connected {
    pub connection_info: ConnectionInfo,
}

/// In two layers, unlike that of an attachment.
#[derive(Serialize)]
pub struct ConnectionInfo {
    pub driver_volume_type: String,
    pub data: Map<String, Value>,
    pub enforce_multipath: bool,
}

/// `os-volume_upload_image`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadImage {
    pub image_name: String,
    #[serde(default)]
    pub force: Option<Value>,
    #[serde(default)]
    pub disk_format: Option<String>,
    #[serde(default)]
    pub container_format: Option<String>,
    /// 3.1.
    #[serde(default)]
    pub visibility: Option<String>,
    /// 3.1.
    #[serde(default)]
    pub protected: Option<Value>,
}

#[derive(Serialize)]
pub struct Uploaded {
    #[serde(rename = "os-volume_upload_image")]
    pub upload: Upload,
}

#[derive(Serialize)]
pub struct Upload {
    /// The volume's.
    pub id: String,
    pub updated_at: Option<String>,
    pub status: &'static str,
    pub display_description: Option<String>,
    /// GiB.
    pub size: u64,
    /// The type as a whole, as old clients know it.
    pub volume_type: Option<Value>,
    pub image_id: String,
    pub container_format: String,
    pub disk_format: String,
    pub image_name: String,
    /// 3.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<String>,
    /// 3.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
}

impl Versioned for Uploaded {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(3, 1) {
            self.upload.visibility = None;
            self.upload.protected = None;
        }
    }
}

/// `os-retype`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retype {
    pub new_type: String,
    /// `never`, which is what null means too, or `on-demand`.
    #[serde(default)]
    pub migration_policy: Option<String>,
}

/// `os-migrate_volume`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// `host@pool#pool`.
    #[serde(default)]
    pub host: Option<String>,
    /// 3.16.
    #[serde(default)]
    pub cluster: Option<String>,
    #[serde(default)]
    pub force_host_copy: Option<Value>,
    #[serde(default)]
    pub lock_volume: Option<Value>,
}

/// `os-migrate_volume_completion`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateCompletion {
    pub new_volume: String,
    #[serde(default)]
    pub error: Option<Value>,
}

#[derive(Serialize)]
pub struct MigrateCompleted {
    pub save_volume_id: String,
}

/// `os-reimage`, 3.68.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reimage {
    pub image_id: String,
    #[serde(default)]
    pub reimage_reserved: Option<Value>,
}

/// A boolean as the API takes it: also as a text or a number. `None` for what is none.
pub fn flag(value: &Value) -> Option<bool> {
    let text = match value {
        Value::Bool(flag) => return Some(*flag),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => return None,
    };
    match text.as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flags_are_read_in_all_their_spellings() {
        let check = |value: Value, meant: Option<bool>| assert_eq!(flag(&value), meant, "{value}");
        check(json!(true), Some(true));
        check(json!("True"), Some(true));
        check(json!(" yes "), Some(true));
        check(json!(1), Some(true));
        check(json!("0"), Some(false));
        check(json!("off"), Some(false));
        check(json!("perhaps"), None);
        check(json!(2), None);
        check(Value::Null, None);
    }
}
