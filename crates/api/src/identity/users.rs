use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink, nullable};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/users", "identity:list_users", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, "/v3/users", "identity:create_user", Rule::Authenticated);
pub static SHOW: Route = Route::new(Method::Get, "/v3/users/{user_id}", "identity:get_user", Rule::Authenticated);
pub static UPDATE: Route =
    Route::new(Method::Patch, "/v3/users/{user_id}", "identity:update_user", Rule::Authenticated);
pub static DELETE: Route =
    Route::new(Method::Delete, "/v3/users/{user_id}", "identity:delete_user", Rule::Authenticated);
/// Needs no token: the old password is the proof, and whoever must change an expired one cannot get a token.
pub static CHANGE_PASSWORD: Route =
    Route::new(Method::Post, "/v3/users/{user_id}/password", "identity:change_password", Rule::Public);
pub static PROJECTS: Route =
    Route::new(Method::Get, "/v3/users/{user_id}/projects", "identity:list_user_projects", Rule::Authenticated);
pub static GROUPS: Route =
    Route::new(Method::Get, "/v3/users/{user_id}/groups", "identity:list_groups_for_user", Rule::Authenticated);

#[derive(Deserialize)]
pub struct UserRequest {
    pub user: UserFields,
}

/// Not `Debug`: it holds a password.
#[derive(Default, Deserialize)]
pub struct UserFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub domain_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub password: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    pub default_project_id: Option<Option<String>>,
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default)]
    pub options: Option<Extra>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct User {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_project_id: Option<String>,
    pub password_expires_at: Option<String>,
    pub options: Extra,
    pub links: SelfLink,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Deserialize)]
pub struct PasswordRequest {
    pub user: PasswordFields,
}

/// Not `Debug`: it holds passwords.
#[derive(Deserialize)]
pub struct PasswordFields {
    pub original_password: String,
    pub password: String,
}
