//! What a request about servers may say. Unknown members are refused, as are those of a later version
//! ([`NewServer::newest`]): a client that misspells learns of it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::Microversion;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub server: NewServer,
    #[serde(rename = "os:scheduler_hints", alias = "OS-SCH-HNT:scheduler_hints", default)]
    pub scheduler_hints: serde_json::Map<String, Value>,
}

/// Not `Debug`: it can hold a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewServer {
    pub name: String,
    #[serde(rename = "imageRef", default)]
    pub image_ref: Option<Value>,
    /// A text, or a number as old clients send it.
    #[serde(rename = "flavorRef")]
    pub flavor_ref: Value,
    #[serde(rename = "adminPass", default)]
    pub admin_pass: Option<String>,
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub networks: Option<Value>,
    #[serde(rename = "OS-DCF:diskConfig", default)]
    pub disk_config: Option<String>,
    #[serde(rename = "accessIPv4", default)]
    pub access_ip_v4: Option<String>,
    #[serde(rename = "accessIPv6", default)]
    pub access_ip_v6: Option<String>,
    /// Up to 2.56.
    #[serde(default)]
    pub personality: Option<Vec<Value>>,
    #[serde(default)]
    pub key_name: Option<String>,
    #[serde(default)]
    pub availability_zone: Option<String>,
    #[serde(default)]
    pub block_device_mapping: Option<Vec<Value>>,
    #[serde(default)]
    pub block_device_mapping_v2: Option<Vec<BlockDevice>>,
    #[serde(default)]
    pub config_drive: Option<Value>,
    #[serde(default)]
    pub min_count: Option<Value>,
    #[serde(default)]
    pub max_count: Option<Value>,
    #[serde(default)]
    pub return_reservation_id: Option<Value>,
    #[serde(default)]
    pub security_groups: Option<Vec<GroupRef>>,
    #[serde(default)]
    pub user_data: Option<String>,
    /// 2.19.
    #[serde(default)]
    pub description: Option<String>,
    /// 2.52.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// 2.63.
    #[serde(default)]
    pub trusted_image_certificates: Option<Vec<String>>,
    /// 2.74, for administrators.
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub hypervisor_hostname: Option<String>,
    /// 2.90.
    #[serde(default)]
    pub hostname: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRef {
    pub name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockDevice {
    #[serde(default)]
    pub uuid: Option<String>,
    #[serde(default)]
    pub source_type: Option<String>,
    #[serde(default)]
    pub destination_type: Option<String>,
    #[serde(default)]
    pub boot_index: Option<Value>,
    #[serde(default)]
    pub delete_on_termination: Option<Value>,
    #[serde(default)]
    pub volume_size: Option<Value>,
    #[serde(default)]
    pub device_name: Option<String>,
    #[serde(default)]
    pub device_type: Option<String>,
    #[serde(default)]
    pub disk_bus: Option<String>,
    #[serde(default)]
    pub guest_format: Option<String>,
    #[serde(default)]
    pub no_device: Option<Value>,
    #[serde(default)]
    pub volume_type: Option<String>,
    #[serde(default)]
    pub tag: Option<String>,
    // Of the first version; taken and not heeded, as upstream does.
    #[serde(default)]
    pub virtual_name: Option<Value>,
    #[serde(default)]
    pub volume_id: Option<Value>,
    #[serde(default)]
    pub snapshot_id: Option<Value>,
    #[serde(default)]
    pub image_id: Option<Value>,
}

impl NewServer {
    /// The members that the request has and only a later version knows.
    pub fn newest(&self, version: Microversion) -> Option<&'static str> {
        let since = [
            ("description", self.description.is_some(), 19),
            ("tags", self.tags.is_some(), 52),
            ("trusted_image_certificates", self.trusted_image_certificates.is_some(), 63),
            ("host", self.host.is_some(), 74),
            ("hypervisor_hostname", self.hypervisor_hostname.is_some(), 74),
            ("hostname", self.hostname.is_some(), 90),
        ];
        let early = since.into_iter().find(|(_, there, minor)| *there && !version.at_least(2, *minor));
        let late = self.personality.is_some() && version.at_least(2, 57);
        early.map(|(name, ..)| name).or(late.then_some("personality"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    pub server: ServerChange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerChange {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(rename = "OS-DCF:diskConfig", default)]
    pub disk_config: Option<String>,
    #[serde(rename = "accessIPv4", default)]
    pub access_ip_v4: Option<String>,
    #[serde(rename = "accessIPv6", default)]
    pub access_ip_v6: Option<String>,
    /// 2.19; null takes it away.
    #[serde(default, deserialize_with = "given")]
    pub description: Option<Option<String>>,
    /// 2.90.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// Tells a null apart from a member that is not there.
pub(crate) fn given<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
