use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink, nullable};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/groups", "identity:list_groups", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, "/v3/groups", "identity:create_group", Rule::Authenticated);
pub static SHOW: Route = Route::new(Method::Get, "/v3/groups/{group_id}", "identity:get_group", Rule::Authenticated);
pub static UPDATE: Route =
    Route::new(Method::Patch, "/v3/groups/{group_id}", "identity:update_group", Rule::Authenticated);
pub static DELETE: Route =
    Route::new(Method::Delete, "/v3/groups/{group_id}", "identity:delete_group", Rule::Authenticated);
pub static USERS: Route =
    Route::new(Method::Get, "/v3/groups/{group_id}/users", "identity:list_users_in_group", Rule::Authenticated);

const USER: &str = "/v3/groups/{group_id}/users/{user_id}";
pub static ADD_USER: Route = Route::new(Method::Put, USER, "identity:add_user_to_group", Rule::Authenticated);
pub static HAS_USER: Route = Route::new(Method::Get, USER, "identity:check_user_in_group", Rule::Authenticated);
pub static REMOVE_USER: Route =
    Route::new(Method::Delete, USER, "identity:remove_user_from_group", Rule::Authenticated);

#[derive(Deserialize)]
pub struct GroupRequest {
    pub group: GroupFields,
}

#[derive(Default, Deserialize)]
pub struct GroupFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub domain_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub description: Option<Option<String>>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Group {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub description: String,
    /// Only in the list of a user's groups, and always null there: memberships end by themselves in federations only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership_expires_at: Option<Option<String>>,
    pub links: SelfLink,
    #[serde(flatten)]
    pub extra: Extra,
}
