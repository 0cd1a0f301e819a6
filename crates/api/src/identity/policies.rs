//! Policy documents: kept for other software, never evaluated here. Deprecated upstream, still in its smoke tests.

use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/policies", "identity:list_policies", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, "/v3/policies", "identity:create_policy", Rule::Admin);
pub static SHOW: Route =
    Route::new(Method::Get, "/v3/policies/{policy_id}", "identity:get_policy", Rule::Authenticated);
pub static UPDATE: Route = Route::new(Method::Patch, "/v3/policies/{policy_id}", "identity:update_policy", Rule::Admin);
pub static DELETE: Route =
    Route::new(Method::Delete, "/v3/policies/{policy_id}", "identity:delete_policy", Rule::Admin);

#[derive(Deserialize)]
pub struct PolicyRequest {
    pub policy: PolicyFields,
}

#[derive(Default, Deserialize)]
pub struct PolicyFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default, rename = "type")]
    pub media_type: Option<String>,
    #[serde(default)]
    pub blob: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Policy {
    pub id: String,
    #[serde(rename = "type")]
    pub media_type: String,
    pub blob: String,
    pub links: SelfLink,
    #[serde(flatten)]
    pub extra: Extra,
}
