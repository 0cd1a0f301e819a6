use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink, nullable};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/credentials", "identity:list_credentials", Rule::Authenticated);
pub static CREATE: Route =
    Route::new(Method::Post, "/v3/credentials", "identity:create_credential", Rule::Authenticated);
pub static SHOW: Route =
    Route::new(Method::Get, "/v3/credentials/{credential_id}", "identity:get_credential", Rule::Authenticated);
pub static UPDATE: Route =
    Route::new(Method::Patch, "/v3/credentials/{credential_id}", "identity:update_credential", Rule::Authenticated);
pub static DELETE: Route =
    Route::new(Method::Delete, "/v3/credentials/{credential_id}", "identity:delete_credential", Rule::Authenticated);

#[derive(Deserialize)]
pub struct CredentialRequest {
    pub credential: CredentialFields,
}

/// Not `Debug`: the blob is a secret.
#[derive(Default, Deserialize)]
pub struct CredentialFields {
    #[serde(default)]
    pub id: Option<String>,
    /// `ec2`, `cert`, `totp` or any other word.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub blob: Option<String>,
    #[serde(default)]
    pub user_id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub project_id: Option<Option<String>>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// Not `Debug`: the blob is a secret.
#[derive(Serialize, Deserialize)]
pub struct Credential {
    pub id: String,
    pub user_id: String,
    pub project_id: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    pub blob: String,
    pub links: SelfLink,
    #[serde(flatten)]
    pub extra: Extra,
}
