use serde::{Deserialize, Serialize};
use umbel_core::Id;

use super::Image;
use crate::{Method, Route, Rule};

/// Added in 2.14, with all of this module.
pub static SHOW_CACHE: Route = Route::new(Method::Get, "/v2/cache", "cache_list", Rule::Admin);
pub static CACHE_IMAGE: Route = Route::new(Method::Put, "/v2/cache/{image_id}", "cache_image", Rule::Admin);
pub static UNCACHE_IMAGE: Route = Route::new(Method::Delete, "/v2/cache/{image_id}", "cache_delete", Rule::Admin);
pub static CLEAR_CACHE: Route = Route::new(Method::Delete, "/v2/cache", "cache_delete", Rule::Admin);

/// Of a clearing: `cache`, `queue`, or both if it is absent.
pub const CLEAR_TARGET: &str = "x-image-cache-clear-target";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    pub cached_images: Vec<CachedImage>,
    pub queued_images: Vec<Id<Image>>,
}

/// Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedImage {
    pub image_id: Id<Image>,
    pub hits: u64,
    pub last_accessed: i64,
    pub last_modified: i64,
    /// Bytes.
    pub size: u64,
}
