use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use umbel_core::Id;

use super::{ContainerFormat, DiskFormat, ImageStatus, Visibility};
use crate::{Method, Route, Rule};

pub static CREATE: Route = Route::new(Method::Post, "/v2/images", "add_image", Rule::Member);
pub static LIST: Route = Route::new(Method::Get, "/v2/images", "get_images", Rule::Reader);
pub static SHOW: Route = Route::new(Method::Get, "/v2/images/{image_id}", "get_image", Rule::Reader);
pub static UPDATE: Route = Route::new(Method::Patch, "/v2/images/{image_id}", "modify_image", Rule::Member);
pub static DELETE: Route = Route::new(Method::Delete, "/v2/images/{image_id}", "delete_image", Rule::Member);
/// What a client asks for that has lost the id; there is no image without one.
pub static DELETE_NONE: Route = Route::new(Method::Delete, "/v2/images", "delete_image", Rule::Member);

/// An image as `GET /v2/images/{image_id}` answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub id: Id<Image>,
    pub name: Option<String>,
    pub status: ImageStatus,
    pub visibility: Visibility,
    /// Cannot be deleted until this is taken back.
    pub protected: bool,
    /// Left out of lists that do not ask for it.
    pub os_hidden: bool,
    /// MD5 of the data, hexadecimal.
    pub checksum: Option<String>,
    pub os_hash_algo: Option<String>,
    pub os_hash_value: Option<String>,
    /// Bytes of the data as they were uploaded.
    pub size: Option<u64>,
    /// Bytes of the disk that a guest sees.
    pub virtual_size: Option<u64>,
    pub container_format: Option<ContainerFormat>,
    pub disk_format: Option<DiskFormat>,
    /// GiB a flavor's disk must have.
    pub min_disk: u64,
    /// MiB a flavor's memory must have.
    pub min_ram: u64,
    /// Project; none for an image that an administrator made outside any project.
    pub owner: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(rename = "self", default)]
    pub self_path: String,
    #[serde(default)]
    pub file: String,
    #[serde(default)]
    pub schema: Cow<'static, str>,
    /// Ids of the stores that hold the data, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stores: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_url: Option<String>,
    /// Where the data are, if the service shows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locations: Option<Vec<ShownLocation>>,
    /// Custom properties, which stand beside the attributes above.
    #[serde(flatten, deserialize_with = "texts_only")]
    pub properties: BTreeMap<String, Option<String>>,
}

/// A place as its image shows it; the metadata say in which store it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownLocation {
    pub url: String,
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// A page of images. `next` is there if another page follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageList {
    pub images: Vec<Image>,
    pub first: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    pub schema: Cow<'static, str>,
}

/// Members that other clouds add and that are no text (`locations`) are not custom properties.
fn texts_only<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Option<String>>, D::Error> {
    let all = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
    Ok(all
        .into_iter()
        .filter_map(|(name, value)| match value {
            serde_json::Value::String(text) => Some((name, Some(text))),
            serde_json::Value::Null => Some((name, None)),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_properties_stand_beside_the_attributes() {
        let text = r#"{"id": "6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d", "name": null, "status": "active",
            "visibility": "shared", "protected": false, "os_hidden": false, "checksum": null, "os_hash_algo": null,
            "os_hash_value": null, "size": 5, "virtual_size": null, "container_format": "bare", "disk_format": "raw",
            "min_disk": 0, "min_ram": 0, "owner": "p", "created_at": "x", "updated_at": "x", "tags": ["a"],
            "locations": [], "hw_disk_bus": "scsi", "kernel_id": null}"#;
        let image: Image = serde_json::from_str(text).unwrap();
        assert_eq!(image.properties.get("hw_disk_bus"), Some(&Some("scsi".to_owned())));
        assert_eq!(image.properties.get("kernel_id"), Some(&None));
        assert_eq!(image.properties.len(), 2);
        let written = serde_json::to_value(&image).unwrap();
        assert_eq!(written["hw_disk_bus"], "scsi");
        assert_eq!(written["disk_format"], "raw");
        assert_eq!(serde_json::from_value::<Image>(written).unwrap(), image);
    }
}
