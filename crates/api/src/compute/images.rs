//! Images as compute once had them itself: proxies that end with 2.35, those of their metadata with 2.38.

use std::collections::BTreeMap;

use serde::Serialize;

use super::NextLink;
use crate::{Method, Route, Rule};

const fn route(method: Method, path: &'static str, policy: &'static str, last: u16) -> Route {
    let rule = match method {
        Method::Get => Rule::Reader,
        _ => Rule::Member,
    };
    Route::new(method, path, policy, rule).until(2, last)
}

const METADATA: &str = "/v2.1/images/{image_id}/metadata";
const ITEM: &str = "/v2.1/images/{image_id}/metadata/{item}";

pub static LIST: Route = route(Method::Get, "/v2.1/images", "os_compute_api:images:index", 35);
pub static DETAIL: Route = route(Method::Get, "/v2.1/images/detail", "os_compute_api:images:detail", 35);
pub static SHOW: Route = route(Method::Get, "/v2.1/images/{image_id}", "os_compute_api:images:show", 35);
pub static DELETE: Route = route(Method::Delete, "/v2.1/images/{image_id}", "os_compute_api:images:delete", 35);
pub static METADATA_LIST: Route = route(Method::Get, METADATA, "os_compute_api:image-metadata:index", 38);
pub static METADATA_MERGE: Route = route(Method::Post, METADATA, "os_compute_api:image-metadata:create", 38);
pub static METADATA_REPLACE: Route = route(Method::Put, METADATA, "os_compute_api:image-metadata:update_all", 38);
pub static METADATA_SHOW: Route = route(Method::Get, ITEM, "os_compute_api:image-metadata:show", 38);
pub static METADATA_SET: Route = route(Method::Put, ITEM, "os_compute_api:image-metadata:update", 38);
pub static METADATA_DELETE: Route = route(Method::Delete, ITEM, "os_compute_api:image-metadata:delete", 38);

#[derive(Debug, Serialize)]
pub struct Image {
    pub id: String,
    pub name: Option<String>,
    pub links: Vec<Link>,
    #[serde(flatten)]
    pub details: Option<Details>,
}

/// What lists without details do not have.
#[derive(Debug, Serialize)]
pub struct Details {
    /// `ACTIVE`, `SAVING`, `DELETED`, `ERROR`, `UNKNOWN`.
    pub status: &'static str,
    /// Percent, as far as the status tells.
    pub progress: u8,
    /// GiB.
    #[serde(rename = "minDisk")]
    pub min_disk: u64,
    /// MiB.
    #[serde(rename = "minRam")]
    pub min_ram: u64,
    pub created: String,
    pub updated: String,
    pub metadata: BTreeMap<String, String>,
    /// The server that it is an image of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    #[serde(rename = "OS-EXT-IMG-SIZE:size")]
    pub size: u64,
}

#[derive(Debug, Serialize)]
pub struct Server {
    pub id: String,
    pub links: Vec<Link>,
}

#[derive(Debug, Serialize)]
pub struct Link {
    pub rel: &'static str,
    pub href: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub struct Images {
    pub images: Vec<Image>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images_links: Vec<NextLink>,
}

#[derive(Debug, Serialize)]
pub struct OneImage {
    pub image: Image,
}
