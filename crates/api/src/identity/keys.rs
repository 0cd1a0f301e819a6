//! The public halves of the keys that sign tokens, as upstream's retired `OS-SIMPLE-CERT` gave them for its PKI tokens:
//! whoever has them tells a good token from a forged one without asking identity.

use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

/// Public keys are no secret: no token needed, which a service that starts has none of yet.
pub static LIST: Route = Route::new(Method::Get, "/v3/OS-TOKEN/keys", "identity:list_token_keys", Rule::Public);

/// A JSON Web Key Set (RFC 7517), newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeySet {
    pub keys: Vec<Key>,
}

/// An Ed25519 key (RFC 8037). Keys of other types are to be passed over.
#[derive(Debug, Serialize, Deserialize)]
pub struct Key {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// As a token's header names it.
    pub kid: String,
    /// 32 bytes, base64url without padding.
    pub x: String,
}
