use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/services", "identity:list_services", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, "/v3/services", "identity:create_service", Rule::Admin);
pub static SHOW: Route =
    Route::new(Method::Get, "/v3/services/{service_id}", "identity:get_service", Rule::Authenticated);
pub static UPDATE: Route =
    Route::new(Method::Patch, "/v3/services/{service_id}", "identity:update_service", Rule::Admin);
pub static DELETE: Route =
    Route::new(Method::Delete, "/v3/services/{service_id}", "identity:delete_service", Rule::Admin);

#[derive(Deserialize)]
pub struct ServiceRequest {
    pub service: ServiceFields,
}

#[derive(Default, Deserialize)]
pub struct ServiceFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default, rename = "type")]
    pub service_type: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub enabled: Option<bool>,
    /// `description` too.
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Service {
    pub id: String,
    #[serde(rename = "type")]
    pub service_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub enabled: bool,
    pub links: SelfLink,
    #[serde(flatten)]
    pub extra: Extra,
}
