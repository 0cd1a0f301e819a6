use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use umbel_core::{Clock, Error, Principal, Result, Timestamp};

use crate::{PublicKey, Revocations, SigningKey};

/// JOSE header; the algorithm is fixed, so that no token can choose another (`none`, or a public key as a secret).
#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

const ALGORITHM: &str = "EdDSA";

/// Longer ones are not looked at: a token of ours has 500 to 1,500 bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Tokens that were verified lately, so that a client's next hundred requests cost a look-up each.
const CACHED_TOKENS: usize = 4096;

/// Makes tokens: a JSON Web Signature over the whole [`Principal`], so that whoever has the public key needs nothing
/// else to know user, scope and roles. The form upstream calls a JWS token, with more in it.
pub struct Signer {
    key: SigningKey,
}

impl Signer {
    pub fn new(key: SigningKey) -> Self {
        Signer { key }
    }

    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    pub fn sign(&self, principal: &Principal) -> Result<String> {
        let header = Header { alg: ALGORITHM.to_owned(), kid: self.key.id().to_owned() };
        let header = serde_json::to_vec(&header).map_err(Error::internal)?;
        let claims = serde_json::to_vec(principal).map_err(Error::internal)?;
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.sign(token.as_bytes());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

/// Verifies tokens without asking anyone: signature, expiry, revocations.
pub struct Verifier {
    keys: RwLock<Vec<PublicKey>>,
    revocations: Arc<Revocations>,
    clock: Arc<dyn Clock>,
    cache: RwLock<HashMap<[u8; 32], Arc<Principal>>>,
}

impl Verifier {
    pub fn new(keys: Vec<PublicKey>, revocations: Arc<Revocations>, clock: Arc<dyn Clock>) -> Self {
        Verifier { keys: RwLock::new(keys), revocations, clock, cache: RwLock::default() }
    }

    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Replaces the keys, as identity rotates them.
    pub fn set_keys(&self, keys: Vec<PublicKey>) {
        *self.keys.write() = keys;
        self.cache.write().clear();
    }

    pub fn verify(&self, token: &str) -> Result<Arc<Principal>> {
        let principal = self.verify_expired(token)?;
        if principal.expires_at <= self.clock.now() {
            return Err(invalid().because("the token has expired"));
        }
        Ok(principal)
    }

    /// As [`Verifier::verify`], but an expired token is good: for `allow_expired`, whose window the caller checks.
    pub fn verify_expired(&self, token: &str) -> Result<Arc<Principal>> {
        if token.len() > MAX_TOKEN {
            return Err(invalid().because("the token is too long"));
        }
        let digest = digest(token);
        let cached = self.cache.read().get(&digest).cloned();
        let principal = match cached {
            Some(principal) => principal,
            None => {
                let principal = Arc::new(self.open(token)?);
                self.remember(digest, principal.clone());
                principal
            }
        };
        match self.revocations.covers(&principal) {
            true => Err(invalid().because("the token was revoked")),
            false => Ok(principal),
        }
    }

    fn open(&self, token: &str) -> Result<Principal> {
        let (message, signature) = token.rsplit_once('.').ok_or_else(invalid)?;
        let (header, claims) = message.split_once('.').ok_or_else(invalid)?;
        let header: Header = part(header)?;
        if header.alg != ALGORITHM {
            return Err(invalid().because("another algorithm"));
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|error| invalid().because(error))?;
        let known =
            self.keys.read().iter().any(|key| key.id() == header.kid && key.verify(message.as_bytes(), &signature));
        if !known {
            return Err(invalid().because("no key of ours made the signature"));
        }
        part(claims)
    }

    fn remember(&self, digest: [u8; 32], principal: Arc<Principal>) {
        let mut cache = self.cache.write();
        if cache.len() >= CACHED_TOKENS {
            let now: Timestamp = self.clock.now();
            cache.retain(|_, principal| principal.expires_at > now);
            if cache.len() >= CACHED_TOKENS {
                cache.clear();
            }
        }
        cache.insert(digest, principal);
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| invalid().because(error))?;
    serde_json::from_slice(&bytes).map_err(|error| invalid().because(error))
}

fn digest(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
    out
}

fn invalid() -> Error {
    Error::unauthorized("The request you have made requires authentication.")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use umbel_core::{ManualClock, Scope, SeededRng};

    use super::*;
    use crate::Revocation;

    fn principal(clock: &dyn Clock) -> Principal {
        Principal {
            user_id: "u".into(),
            user_name: "user".into(),
            user_domain_id: "default".into(),
            user_domain_name: "Default".into(),
            scope: Scope::System,
            roles: vec!["reader".into()],
            audit_ids: vec!["audit".into()],
            methods: vec!["password".into()],
            issued_at: clock.now(),
            expires_at: clock.now().plus(Duration::from_secs(60)),
            application_credential: None,
        }
    }

    fn pair(seed: u64) -> (Signer, Arc<ManualClock>, Verifier) {
        let key = SigningKey::from_seed(&SigningKey::generate(&SeededRng::new(seed))).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_000)));
        let signer = Signer::new(key);
        let verifier = Verifier::new(vec![signer.public()], Arc::default(), clock.clone());
        (signer, clock, verifier)
    }

    #[test]
    fn a_token_holds_until_it_expires() {
        let (signer, clock, verifier) = pair(1);
        let token = signer.sign(&principal(&*clock)).unwrap();
        assert_eq!(*verifier.verify(&token).unwrap(), principal(&*clock));
        clock.advance(Duration::from_secs(60));
        assert!(verifier.verify(&token).is_err());
        assert!(verifier.verify_expired(&token).is_ok());
    }

    #[test]
    fn changed_and_foreign_tokens_are_refused() {
        let (signer, clock, verifier) = pair(1);
        let (foreign, _, _) = pair(2);
        let token = signer.sign(&principal(&*clock)).unwrap();
        let mut claims = principal(&*clock);
        claims.roles = vec!["admin".into()];
        let forged = foreign.sign(&claims).unwrap();
        let (head, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let spliced = format!("{head}.{}.{signature}", forged.split('.').nth(1).unwrap());
        let none =
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":""}"#), rest.split('.').next().unwrap());
        for bad in [forged.as_str(), &spliced, &none, "", "a.b.c", "x"] {
            assert!(verifier.verify(bad).is_err(), "{bad}");
        }
        assert!(verifier.verify(&token).is_ok());
    }

    #[test]
    fn a_revoked_token_is_refused_though_it_was_cached() {
        let (signer, clock, verifier) = pair(1);
        let token = signer.sign(&principal(&*clock)).unwrap();
        assert!(verifier.verify(&token).is_ok());
        let now = clock.now();
        verifier.revocations().add(Revocation::token("audit", now.plus(Duration::from_secs(60))));
        assert!(verifier.verify(&token).is_err());
    }
}
