use serde::{Deserialize, Serialize};

use super::NextLink;
use crate::{Method, Microversion, Route, Rule, Versioned};

const ALL: &str = "/v2.1/os-keypairs";
const ONE: &str = "/v2.1/os-keypairs/{keypair_name}";
pub static LIST: Route = Route::new(Method::Get, ALL, "os_compute_api:os-keypairs:index", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, ALL, "os_compute_api:os-keypairs:create", Rule::Authenticated);
pub static SHOW: Route = Route::new(Method::Get, ONE, "os_compute_api:os-keypairs:show", Rule::Authenticated);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "os_compute_api:os-keypairs:delete", Rule::Authenticated);

/// Not `Debug`: the answer to a create can hold the private key.
#[derive(Serialize)]
pub struct Keypair {
    pub name: String,
    pub public_key: String,
    pub fingerprint: String,
    /// 2.2.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Once, in the answer to a create without a public key, which 2.92 does away with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub row: Option<KeypairRow>,
}

/// What only one key's own page shows.
#[derive(Serialize)]
pub struct KeypairRow {
    pub id: i64,
    pub created_at: String,
    pub updated_at: Option<String>,
    pub deleted: bool,
    pub deleted_at: Option<String>,
}

impl Versioned for Keypair {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(2, 2) {
            self.kind = None;
        }
    }
}

#[derive(Serialize)]
pub struct OneKeypair {
    pub keypair: Keypair,
}

impl Versioned for OneKeypair {
    fn patch(&mut self, version: Microversion) {
        self.keypair.patch(version);
    }
}

#[derive(Serialize)]
pub struct Keypairs {
    pub keypairs: Vec<OneKeypair>,
    /// 2.35.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keypairs_links: Vec<NextLink>,
}

impl Versioned for Keypairs {
    fn patch(&mut self, version: Microversion) {
        self.keypairs.patch(version);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub keypair: NewKeypair,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKeypair {
    pub name: String,
    #[serde(default)]
    pub public_key: Option<String>,
    /// 2.2.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// 2.10, for administrators.
    #[serde(default)]
    pub user_id: Option<String>,
}
