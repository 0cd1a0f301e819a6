//! What keystoneauth, tempest and gophercloud read before their first call. Tempest wants `v2.0` first in the list, and
//! follows each link.

use serde::Serialize;

use crate::{Link, Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/", "compute:versions", Rule::Public);
pub static V20: Route = Route::new(Method::Get, "/v2", "compute:versions", Rule::Public);
pub static V21: Route = Route::new(Method::Get, "/v2.1", "compute:versions", Rule::Public);

#[derive(Serialize)]
pub struct Versions {
    pub versions: Vec<Version>,
}

#[derive(Serialize)]
pub struct OneVersion {
    pub version: Version,
}

#[derive(Serialize)]
pub struct Version {
    pub id: &'static str,
    pub status: &'static str,
    /// Newest microversion; empty before there were any.
    pub version: String,
    pub min_version: String,
    pub updated: &'static str,
    pub links: Vec<Link>,
    /// Only where one version is shown.
    #[serde(rename = "media-types", skip_serializing_if = "Option::is_none")]
    pub media_types: Option<[MediaType; 1]>,
}

#[derive(Serialize)]
pub struct MediaType {
    pub base: &'static str,
    #[serde(rename = "type")]
    pub media_type: &'static str,
}
