use serde::{Deserialize, Serialize};

use super::DiskFormat;
use crate::{Method, Route, Rule};

/// Added in 2.17 in place of `PATCH`ing `locations`. A place in a store is for services only, since it is a way past the
/// API; a URL on the web is not, and for members of the image's project: which of both it is, its body says.
pub static CREATE_LOCATION: Route =
    Route::new(Method::Post, "/v2/images/{image_id}/locations", "add_image_location", Rule::Authenticated);
pub static LIST_LOCATIONS: Route =
    Route::new(Method::Get, "/v2/images/{image_id}/locations", "fetch_image_location", Rule::Service);

/// Where an image's data are: `rbd://<fsid>/<pool>/<image>/<snap>`, or another scheme in the same shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLocation {
    pub url: String,
    #[serde(default)]
    pub metadata: LocationMetadata,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationMetadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Format of the bytes at this place: what is cloned must be `raw`, whatever the image was uploaded as. Other
    /// implementations do not tell; then it is the image's disk format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<DiskFormat>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLocation {
    pub url: String,
    #[serde(default)]
    pub validation_data: Option<ValidationData>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationData {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_hash_algo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_hash_value: Option<String>,
}
