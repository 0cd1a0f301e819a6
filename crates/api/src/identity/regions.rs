use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink, nullable};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/regions", "identity:list_regions", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, "/v3/regions", "identity:create_region", Rule::Admin);
pub static SHOW: Route = Route::new(Method::Get, "/v3/regions/{region_id}", "identity:get_region", Rule::Authenticated);
pub static PUT: Route = Route::new(Method::Put, "/v3/regions/{region_id}", "identity:create_region", Rule::Admin);
pub static UPDATE: Route = Route::new(Method::Patch, "/v3/regions/{region_id}", "identity:update_region", Rule::Admin);
pub static DELETE: Route = Route::new(Method::Delete, "/v3/regions/{region_id}", "identity:delete_region", Rule::Admin);

#[derive(Deserialize)]
pub struct RegionRequest {
    pub region: RegionFields,
}

#[derive(Default, Deserialize)]
pub struct RegionFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub description: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    pub parent_region_id: Option<Option<String>>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Region {
    pub id: String,
    pub description: String,
    pub parent_region_id: Option<String>,
    pub links: SelfLink,
    #[serde(flatten)]
    pub extra: Extra,
}
