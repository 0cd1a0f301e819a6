use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

/// For services: what they need to refuse tokens that were taken back.
pub static LIST_EVENTS: Route =
    Route::new(Method::Get, "/v3/OS-REVOKE/events", "identity:list_revoke_events", Rule::Service);

/// One event; a token is refused when it matches every attribute that is there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RevocationEvent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_id: Option<String>,
    /// With `user_id`: a project, a domain or `system`, whichever has this id; ids tell them apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<String>,
    /// Name of a role, where upstream has its id: our tokens carry names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_chain_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_credential_id: Option<String>,
    pub issued_before: String,
    pub revoked_at: String,
    pub expires_at: String,
}
