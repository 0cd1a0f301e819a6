use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink, nullable};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/endpoints", "identity:list_endpoints", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, "/v3/endpoints", "identity:create_endpoint", Rule::Admin);
pub static SHOW: Route =
    Route::new(Method::Get, "/v3/endpoints/{endpoint_id}", "identity:get_endpoint", Rule::Authenticated);
pub static UPDATE: Route =
    Route::new(Method::Patch, "/v3/endpoints/{endpoint_id}", "identity:update_endpoint", Rule::Admin);
pub static DELETE: Route =
    Route::new(Method::Delete, "/v3/endpoints/{endpoint_id}", "identity:delete_endpoint", Rule::Admin);

#[derive(Deserialize)]
pub struct EndpointRequest {
    pub endpoint: EndpointFields,
}

#[derive(Default, Deserialize)]
pub struct EndpointFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub interface: Option<String>,
    #[serde(default)]
    pub service_id: Option<String>,
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default, deserialize_with = "nullable")]
    pub region_id: Option<Option<String>>,
    /// The older name of `region_id`; makes the region where there is none.
    #[serde(default, deserialize_with = "nullable")]
    pub region: Option<Option<String>>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: String,
    pub interface: String,
    pub region_id: Option<String>,
    pub region: Option<String>,
    pub service_id: String,
    pub url: String,
    pub enabled: bool,
    pub links: SelfLink,
    #[serde(flatten)]
    pub extra: Extra,
}
