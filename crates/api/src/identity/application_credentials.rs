//! Application credentials: a secret of its own for a program, with a part of a user's roles on one project.

use serde::{Deserialize, Serialize};

use super::SelfLink;
use super::roles::Role;
use crate::{Method, Route, Rule};

const ALL: &str = "/v3/users/{user_id}/application_credentials";
const ONE: &str = "/v3/users/{user_id}/application_credentials/{credential_id}";
pub static LIST: Route = Route::new(Method::Get, ALL, "identity:list_application_credentials", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, ALL, "identity:create_application_credential", Rule::Authenticated);
pub static SHOW: Route = Route::new(Method::Get, ONE, "identity:get_application_credential", Rule::Authenticated);
pub static DELETE: Route =
    Route::new(Method::Delete, ONE, "identity:delete_application_credential", Rule::Authenticated);

const RULES: &str = "/v3/users/{user_id}/access_rules";
const RULE: &str = "/v3/users/{user_id}/access_rules/{rule_id}";
pub static LIST_RULES: Route = Route::new(Method::Get, RULES, "identity:list_access_rules", Rule::Authenticated);
pub static SHOW_RULE: Route = Route::new(Method::Get, RULE, "identity:get_access_rule", Rule::Authenticated);
pub static DELETE_RULE: Route = Route::new(Method::Delete, RULE, "identity:delete_access_rule", Rule::Authenticated);

#[derive(Deserialize)]
pub struct ApplicationCredentialRequest {
    pub application_credential: ApplicationCredentialFields,
}

/// Not `Debug`: it holds a secret.
#[derive(Deserialize)]
pub struct ApplicationCredentialFields {
    #[serde(default)]
    pub name: Option<String>,
    /// Made up by us where the caller brings none.
    #[serde(default)]
    pub secret: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub expires_at: Option<String>,
    /// All of the token's roles where absent.
    #[serde(default)]
    pub roles: Option<Vec<RoleRef>>,
    #[serde(default)]
    pub unrestricted: Option<bool>,
    #[serde(default)]
    pub access_rules: Option<Vec<AccessRuleFields>>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RoleRef {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
}

/// A new rule, or by `id` one that the user has.
#[derive(Clone, Debug, Deserialize)]
pub struct AccessRuleFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub service: Option<String>,
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub method: Option<String>,
}

/// Not `Debug`: the reply to a create holds the secret.
#[derive(Serialize, Deserialize)]
pub struct ApplicationCredential {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub user_id: String,
    pub project_id: String,
    /// Always null: there are no credentials for the system.
    pub system: Option<String>,
    pub expires_at: Option<String>,
    pub unrestricted: bool,
    pub roles: Vec<Role>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_rules: Vec<AccessRule>,
    /// Told once, when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    pub links: SelfLink,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessRule {
    pub id: String,
    pub service: String,
    pub path: String,
    pub method: String,
    /// Absent inside an application credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<SelfLink>,
}
