use serde::{Deserialize, Serialize};

use crate::{Link, Method, Route, Rule};

pub static LIST_VERSIONS: Route = Route::new(Method::Get, "/", "", Rule::Public);
pub static SHOW_VERSION: Route = Route::new(Method::Get, "/v3", "", Rule::Public);

/// `{"versions": {"values": […]}}`: nested, which only identity does.
#[derive(Debug, Serialize, Deserialize)]
pub struct Versions {
    pub versions: VersionValues,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct VersionValues {
    pub values: Vec<Version>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Version {
    pub id: String,
    pub status: String,
    pub updated: String,
    pub links: Vec<Link>,
    #[serde(rename = "media-types")]
    pub media_types: Vec<MediaType>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct MediaType {
    pub base: String,
    #[serde(rename = "type")]
    pub media_type: String,
}

impl Version {
    /// What v3 says of itself, reached by `root`.
    pub fn v3(root: &str) -> Self {
        Version {
            id: "v3.14".to_owned(),
            status: "stable".to_owned(),
            updated: "2020-04-07T00:00:00Z".to_owned(),
            links: vec![Link::new("self", format!("{root}/v3/"))],
            media_types: vec![MediaType {
                base: "application/json".to_owned(),
                media_type: "application/vnd.openstack.identity-v3+json".to_owned(),
            }],
        }
    }
}
