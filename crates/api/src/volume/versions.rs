//! What keystoneauth, tempest and gophercloud read before their first call.

use serde::Serialize;

use crate::{Link, Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/", "volume:versions", Rule::Public);
pub static V3: Route = Route::new(Method::Get, "/v3/", "volume:versions", Rule::Public);

#[derive(Serialize)]
pub struct Versions {
    pub versions: Vec<Version>,
}

#[derive(Serialize)]
pub struct Version {
    pub id: &'static str,
    pub status: &'static str,
    pub version: String,
    pub min_version: String,
    pub updated: &'static str,
    pub links: Vec<Link>,
    #[serde(rename = "media-types")]
    pub media_types: [MediaType; 1],
}

#[derive(Serialize)]
pub struct MediaType {
    pub base: &'static str,
    #[serde(rename = "type")]
    pub media_type: &'static str,
}
