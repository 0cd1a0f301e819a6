use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink, nullable};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/roles", "identity:list_roles", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, "/v3/roles", "identity:create_role", Rule::Admin);
pub static SHOW: Route = Route::new(Method::Get, "/v3/roles/{role_id}", "identity:get_role", Rule::Authenticated);
pub static UPDATE: Route = Route::new(Method::Patch, "/v3/roles/{role_id}", "identity:update_role", Rule::Admin);
pub static DELETE: Route = Route::new(Method::Delete, "/v3/roles/{role_id}", "identity:delete_role", Rule::Admin);

pub static LIST_IMPLIED: Route =
    Route::new(Method::Get, "/v3/roles/{role_id}/implies", "identity:list_implied_roles", Rule::Authenticated);
const IMPLIED: &str = "/v3/roles/{role_id}/implies/{implied_id}";
pub static SHOW_IMPLIED: Route = Route::new(Method::Get, IMPLIED, "identity:get_implied_role", Rule::Authenticated);
pub static CHECK_IMPLIED: Route = Route::new(Method::Head, IMPLIED, "identity:check_implied_role", Rule::Authenticated);
pub static CREATE_IMPLIED: Route = Route::new(Method::Put, IMPLIED, "identity:create_implied_role", Rule::Admin);
pub static DELETE_IMPLIED: Route = Route::new(Method::Delete, IMPLIED, "identity:delete_implied_role", Rule::Admin);
pub static LIST_INFERENCES: Route =
    Route::new(Method::Get, "/v3/role_inferences", "identity:list_role_inference_rules", Rule::Authenticated);

#[derive(Deserialize)]
pub struct RoleRequest {
    pub role: RoleFields,
}

#[derive(Default, Deserialize)]
pub struct RoleFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    /// A role of a domain: never in a token itself, only what it implies.
    #[serde(default, deserialize_with = "nullable")]
    pub domain_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    pub description: Option<Option<String>>,
    #[serde(default)]
    pub options: Option<Extra>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Role {
    pub id: String,
    pub name: String,
    pub domain_id: Option<String>,
    pub description: Option<String>,
    pub options: Extra,
    /// Absent inside an application credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<SelfLink>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// A role as inference rules name it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InferenceRole {
    pub id: String,
    pub links: SelfLink,
    pub name: String,
}

/// One prior role with one implied role, or with a list of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Inference<T> {
    pub prior_role: InferenceRole,
    pub implies: T,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct InferenceReply<T> {
    pub role_inference: Inference<T>,
    pub links: SelfLink,
}
