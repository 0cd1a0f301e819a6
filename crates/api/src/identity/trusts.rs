//! Trusts: a user's roles on one project, lent to another user.

use serde::{Deserialize, Serialize};

use super::application_credentials::RoleRef;
use super::roles::Role;
use super::{CollectionLinks, SelfLink};
use crate::{Method, Route, Rule};

const ALL: &str = "/v3/OS-TRUST/trusts";
const ONE: &str = "/v3/OS-TRUST/trusts/{trust_id}";
pub static LIST: Route = Route::new(Method::Get, ALL, "identity:list_trusts", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, ALL, "identity:create_trust", Rule::Authenticated);
pub static SHOW: Route = Route::new(Method::Get, ONE, "identity:get_trust", Rule::Authenticated);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "identity:delete_trust", Rule::Authenticated);
pub static ROLES: Route = Route::new(
    Method::Get,
    "/v3/OS-TRUST/trusts/{trust_id}/roles",
    "identity:list_roles_for_trust",
    Rule::Authenticated,
);
pub static ROLE: Route = Route::new(
    Method::Get,
    "/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}",
    "identity:get_role_for_trust",
    Rule::Authenticated,
);

#[derive(Deserialize)]
pub struct TrustRequest {
    pub trust: TrustFields,
}

#[derive(Debug, Default, Deserialize)]
pub struct TrustFields {
    #[serde(default)]
    pub trustor_user_id: Option<String>,
    #[serde(default)]
    pub trustee_user_id: Option<String>,
    #[serde(default)]
    pub project_id: Option<String>,
    /// Whether the trustee appears as the trustor, or as itself.
    #[serde(default)]
    pub impersonation: Option<bool>,
    #[serde(default)]
    pub expires_at: Option<String>,
    /// How many tokens can be made of it; any number where absent.
    #[serde(default)]
    pub remaining_uses: Option<i64>,
    #[serde(default)]
    pub roles: Option<Vec<RoleRef>>,
    #[serde(default)]
    pub allow_redelegation: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Trust {
    pub id: String,
    pub trustor_user_id: String,
    pub trustee_user_id: String,
    pub project_id: String,
    pub impersonation: bool,
    pub expires_at: Option<String>,
    pub remaining_uses: Option<i64>,
    /// Always null: what is deleted is gone.
    pub deleted_at: Option<String>,
    pub redelegated_trust_id: Option<String>,
    /// Always 0: a trust cannot be passed on.
    pub redelegation_count: u32,
    pub links: SelfLink,
    /// Absent in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<Role>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles_links: Option<CollectionLinks>,
}
