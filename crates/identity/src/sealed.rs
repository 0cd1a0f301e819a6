//! Secrets of users that the service must be able to read again (EC2 secrets, TOTP seeds): sealed in the database with
//! AES-256-GCM, bound to their row. Without a key they are stored as they came; a key given later seals what is
//! written from then on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use umbel_core::{Error, Result, Rng};

use crate::CredentialKey;

pub(crate) struct Sealer {
    key: Option<LessSafeKey>,
}

const SEALED: &str = "sealed:";
const PLAIN: &str = "plain:";

impl Sealer {
    pub fn new(key: Option<&CredentialKey>) -> Result<Self> {
        let key = key.map(|key| UnboundKey::new(&AES_256_GCM, &key.0).map(LessSafeKey::new)).transpose();
        let key = key.map_err(|error| Error::internal(error).because("reading the credential key"))?;
        Ok(Sealer { key })
    }

    /// The text as it is stored in the row `id`.
    pub fn seal(&self, rng: &dyn Rng, id: &str, text: &str) -> Result<String> {
        let Some(key) = &self.key else {
            return Ok(format!("{PLAIN}{text}"));
        };
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut bytes = text.as_bytes().to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id.as_bytes()), &mut bytes)
            .map_err(|error| Error::internal(error).because("sealing a credential"))?;
        let whole: Vec<u8> = nonce.into_iter().chain(bytes).collect();
        Ok(format!("{SEALED}{}", STANDARD_NO_PAD.encode(whole)))
    }

    pub fn open(&self, id: &str, stored: &str) -> Result<String> {
        if let Some(text) = stored.strip_prefix(PLAIN) {
            return Ok(text.to_owned());
        }
        let failed = |cause: &str| Error::internal(cause).because(format!("opening credential {id}"));
        let encoded = stored.strip_prefix(SEALED).ok_or_else(|| failed("an unknown form"))?;
        let key = self.key.as_ref().ok_or_else(|| failed("it is sealed, and no credential key is configured"))?;
        let mut whole = STANDARD_NO_PAD.decode(encoded).map_err(|_| failed("not base64"))?;
        if whole.len() < NONCE_LEN {
            return Err(failed("too short"));
        }
        let (nonce, bytes) = whole.split_at_mut(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed("a bad nonce"))?;
        let text = key
            .open_in_place(nonce, Aad::from(id.as_bytes()), bytes)
            .map_err(|_| failed("another key sealed it, or it was changed"))?;
        String::from_utf8(text.to_vec()).map_err(|_| failed("not text"))
    }
}

#[cfg(test)]
mod tests {
    use umbel_core::SeededRng;

    use super::*;

    #[test]
    fn sealed_text_opens_in_its_own_row_only() {
        let rng = SeededRng::new(1);
        let sealer = Sealer::new(Some(&CredentialKey([7; 32]))).unwrap();
        let stored = sealer.seal(&rng, "one", "secret").unwrap();
        assert!(!stored.contains("secret"));
        assert_eq!(sealer.open("one", &stored).unwrap(), "secret");
        assert!(sealer.open("two", &stored).is_err());
        assert!(Sealer::new(None).unwrap().open("one", &stored).is_err());
        let plain = Sealer::new(None).unwrap().seal(&rng, "one", "secret").unwrap();
        assert_eq!(sealer.open("one", &plain).unwrap(), "secret");
    }
}
