//! Tokens, and what they allow. A token is verified here, offline, in every role: no service asks identity per request.

mod access;
mod keys;
mod policy;
mod revocation;
mod token;

pub use access::{bears_rules, permits, rules_of};
pub use keys::{PublicKey, SigningKey};
pub use policy::{Visible, authorize, visible};
pub use revocation::{Revocation, RevocationKind, Revocations};
pub use token::{Signer, Verifier};
