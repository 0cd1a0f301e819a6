//! Tokens: <https://docs.openstack.org/api-ref/identity/v3/#authentication-and-token-management>.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use umbel_core::SystemScope;

use super::application_credentials::AccessRule;
use super::{Named, SelfLink};
use crate::{Method, Route, Rule};

pub static CREATE_TOKEN: Route = Route::new(Method::Post, "/v3/auth/tokens", "", Rule::Public);
pub static SHOW_TOKEN: Route =
    Route::new(Method::Get, "/v3/auth/tokens", "identity:validate_token", Rule::Authenticated);
pub static DELETE_TOKEN: Route =
    Route::new(Method::Delete, "/v3/auth/tokens", "identity:revoke_token", Rule::Authenticated);
pub static CATALOG: Route =
    Route::new(Method::Get, "/v3/auth/catalog", "identity:get_auth_catalog", Rule::Authenticated);
pub static PROJECTS: Route =
    Route::new(Method::Get, "/v3/auth/projects", "identity:get_auth_projects", Rule::Authenticated);
pub static DOMAINS: Route =
    Route::new(Method::Get, "/v3/auth/domains", "identity:get_auth_domains", Rule::Authenticated);
pub static SYSTEM: Route = Route::new(Method::Get, "/v3/auth/system", "identity:get_auth_system", Rule::Authenticated);

/// Where a token travels in requests and replies about it.
pub const SUBJECT_TOKEN: &str = "x-subject-token";

#[derive(Deserialize)]
pub struct AuthRequest {
    pub auth: Auth,
}

#[derive(Deserialize)]
pub struct Auth {
    pub identity: Methods,
    #[serde(default)]
    pub scope: Option<ScopeField>,
}

/// What proves who asks. Not `Debug`: it holds secrets.
#[derive(Deserialize)]
pub struct Methods {
    pub methods: Vec<String>,
    #[serde(default)]
    pub password: Option<PasswordMethod>,
    #[serde(default)]
    pub token: Option<TokenMethod>,
    #[serde(default)]
    pub application_credential: Option<ApplicationCredentialMethod>,
}

#[derive(Deserialize)]
pub struct PasswordMethod {
    pub user: PasswordUser,
}

#[derive(Deserialize)]
pub struct PasswordUser {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub domain: Option<DomainRef>,
    #[serde(default)]
    pub password: Option<String>,
}

#[derive(Deserialize)]
pub struct TokenMethod {
    pub id: String,
}

#[derive(Deserialize)]
pub struct ApplicationCredentialMethod {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub user: Option<UserRef>,
    pub secret: String,
}

#[derive(Deserialize)]
pub struct UserRef {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub domain: Option<DomainRef>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct DomainRef {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ProjectRef {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub domain: Option<DomainRef>,
}

/// `"scope": "unscoped"` is as good as `"scope": {"unscoped": {}}`.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum ScopeField {
    Word(String),
    Object(Box<ScopeObject>),
}

#[derive(Deserialize)]
pub struct ScopeObject {
    #[serde(default)]
    pub project: Option<ProjectRef>,
    #[serde(default)]
    pub domain: Option<DomainRef>,
    /// Any object means the system: there is only one.
    #[serde(default)]
    pub system: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    pub unscoped: Option<serde_json::Value>,
    #[serde(default, rename = "OS-TRUST:trust")]
    pub trust: Option<TrustRef>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct TrustRef {
    #[serde(default)]
    pub id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TokenReply {
    pub token: Token,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Token {
    pub methods: Vec<String>,
    pub user: TokenUser,
    pub audit_ids: Vec<String>,
    pub expires_at: String,
    pub issued_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<TokenProject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_domain: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemScope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<Named>>,
    /// A list of [`CatalogService`], as text: it is the same for everyone and is written once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Arc<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_credential: Option<TokenApplicationCredential>,
    #[serde(default, rename = "OS-TRUST:trust", skip_serializing_if = "Option::is_none")]
    pub trust: Option<TokenTrust>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TokenTrust {
    pub id: String,
    pub trustor_user: UserId,
    pub trustee_user: UserId,
    pub impersonation: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct UserId {
    pub id: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TokenUser {
    pub domain: Named,
    pub id: String,
    pub name: String,
    pub password_expires_at: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TokenProject {
    pub domain: Named,
    pub id: String,
    pub name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TokenApplicationCredential {
    pub id: String,
    pub name: String,
    pub restricted: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_rules: Vec<AccessRule>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CatalogService {
    pub endpoints: Vec<CatalogEndpoint>,
    pub id: String,
    #[serde(rename = "type")]
    pub service_type: String,
    pub name: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CatalogEndpoint {
    pub id: String,
    pub interface: String,
    pub region_id: Option<String>,
    pub url: String,
    /// As `region_id`; from before regions had rows of their own.
    pub region: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct CatalogReply {
    pub catalog: Arc<RawValue>,
    pub links: SelfLink,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SystemReply {
    /// One entry where the caller has a role on the system, else none.
    pub system: Vec<SystemScope>,
    pub links: SelfLink,
}
