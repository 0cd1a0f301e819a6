use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Name of a role, lower case as policy compares it.
pub type RoleName = String;

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Scope {
    Unscoped,
    Project { id: String, name: String, domain_id: String, domain_name: String },
    Domain { id: String, name: String },
    System,
}

/// Marker of a system scope in wire formats (`"system": {"all": true}`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemScope {
    pub all: bool,
}

/// Who asks, as a verified token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    pub user_id: String,
    pub user_name: String,
    pub user_domain_id: String,
    pub user_domain_name: String,
    pub scope: Scope,
    pub roles: Vec<RoleName>,
    /// First the token's own audit id, then that of the chain it came from.
    pub audit_ids: Vec<String>,
    pub methods: Vec<String>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Set for a token made from an application credential; such a token may not make further credentials unless
    /// the credential is `unrestricted`.
    pub application_credential: Option<AppCredential>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppCredential {
    pub id: String,
    pub unrestricted: bool,
    /// Set where it is no application credential but a trust, by which one user lends roles to another: as restricted,
    /// and revoked by its id in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// The requests that the token is good for; any without rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_rules: Vec<AccessRule>,
}

/// One kind of request that a token may be used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRule {
    /// Type in the catalog: `compute`.
    pub service: String,
    /// As HTTP writes it.
    pub method: String,
    /// `*` or `{name}` stands for text without a slash, `**` for any.
    pub path: String,
}

/// Who lends to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    pub trustor_user_id: String,
    pub trustee_user_id: String,
    /// Whether the token's user is the trustor; the trustee otherwise.
    pub impersonation: bool,
}

impl Principal {
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|have| have.eq_ignore_ascii_case(role))
    }

    /// `admin` in any scope is a cloud administrator, as every upstream service's default policy has it.
    pub fn is_admin(&self) -> bool {
        self.has_role("admin")
    }

    pub fn project_id(&self) -> Option<&str> {
        match &self.scope {
            Scope::Project { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// For whom a service works after a request has ended: in its stead goes the service's own token, with these two names
/// beside it. Nobody's token is kept for that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalf {
    pub user_id: String,
    pub project_id: String,
}

impl OnBehalf {
    /// Headers that say it, beside an `X-Service-Token` and without an `X-Auth-Token`.
    pub const PROJECT: &'static str = "x-umbel-project-id";
    pub const USER: &'static str = "x-umbel-user-id";

    /// Whoever asks, in the project of its token.
    pub fn of(ctx: &Ctx) -> Self {
        let text = |id: Option<&str>| id.unwrap_or_default().to_owned();
        OnBehalf { user_id: text(ctx.user_id()), project_id: text(ctx.project_id()) }
    }
}

/// Travels with a request through every layer, and with the work that a request leaves behind.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// `req-<uuid>`, as answered in `x-openstack-request-id`.
    pub request_id: Arc<str>,
    /// Absent on routes that need no token.
    pub principal: Option<Arc<Principal>>,
    /// The token as it came, for calls to other services on the caller's behalf.
    pub token: Option<Arc<str>>,
    /// The service that calls on the caller's behalf (`X-Service-Token`).
    pub service: Option<Arc<Principal>>,
}

impl Ctx {
    pub fn anonymous(request_id: impl Into<Arc<str>>) -> Self {
        Ctx { request_id: request_id.into(), principal: None, token: None, service: None }
    }

    pub fn is_admin(&self) -> bool {
        self.principal.as_ref().is_some_and(|p| p.is_admin())
    }

    /// Whether one of our own services asks, for itself or for a user.
    pub fn is_service(&self) -> bool {
        [&self.principal, &self.service].into_iter().flatten().any(|p| p.has_role("service"))
    }

    pub fn project_id(&self) -> Option<&str> {
        self.principal.as_ref().and_then(|p| p.project_id())
    }

    pub fn user_id(&self) -> Option<&str> {
        self.principal.as_ref().map(|p| p.user_id.as_str())
    }
}
