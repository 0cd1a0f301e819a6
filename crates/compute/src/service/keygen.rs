//! SSH keys: what is one, its fingerprint, and making one. Ed25519 only: it is what OpenSSH makes by default, and RSA
//! would need a prime search that nothing else here needs.
//!
//! Form of the private key: PROTOCOL.key of OpenSSH, without a passphrase.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use ring::signature::{Ed25519KeyPair, KeyPair};
use umbel_core::{Error, Result, Rng};

/// Longer ones are no keys: RSA of 16,384 bits has 2,800 characters.
const LONGEST: usize = 16_384;

/// The fingerprint of a public key as OpenSSH writes it down, MD5 in hexadecimal with colons as compute's API has it;
/// 400 for what is no key.
pub(crate) fn fingerprint(public_key: &str) -> Result<String> {
    let bad = || Error::bad_request("Keypair data is invalid: failed to generate fingerprint");
    let mut words = public_key.split_ascii_whitespace();
    let (Some(kind), Some(encoded), true) = (words.next(), words.next(), public_key.len() <= LONGEST) else {
        return Err(bad());
    };
    let blob = STANDARD.decode(encoded).map_err(|error| bad().because(error))?;
    // The blob begins with its own kind: a key cut short or pasted together is noticed.
    let (length, rest) = blob.split_first_chunk::<4>().ok_or_else(bad)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| bad())?;
    if rest.len() <= length || &rest[..length] != kind.as_bytes() {
        return Err(bad());
    }
    Ok(Md5::digest(&blob).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

/// Not `Debug`: it holds the secret.
pub(crate) struct Generated {
    pub public_key: String,
    pub private_key: String,
}

/// A new key pair; the private half is not kept anywhere.
pub(crate) fn generate(rng: &dyn Rng) -> Result<Generated> {
    const KIND: &[u8] = b"ssh-ed25519";
    const COMMENT: &[u8] = b"Generated-by-Umbel";
    let mut seed = [0; 32];
    rng.fill(&mut seed);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(Error::internal)?;
    let public = pair.public_key().as_ref();

    let mut blob = Vec::new();
    text(&mut blob, KIND);
    text(&mut blob, public);

    let mut secret = Vec::new();
    let mut check = [0; 4];
    rng.fill(&mut check);
    // Twice, so that whoever decrypts sees that it went well.
    secret.extend_from_slice(&check);
    secret.extend_from_slice(&check);
    text(&mut secret, KIND);
    text(&mut secret, public);
    text(&mut secret, &[&seed, public].concat());
    text(&mut secret, COMMENT);
    // Filled to the cipher's block, which for none is 8 bytes, with 1, 2, 3.
    for filler in (1..=8_u8).take((8 - secret.len() % 8) % 8) {
        secret.push(filler);
    }

    let mut file = b"openssh-key-v1\0".to_vec();
    text(&mut file, b"none");
    text(&mut file, b"none");
    text(&mut file, b"");
    file.extend_from_slice(&1_u32.to_be_bytes());
    text(&mut file, &blob);
    text(&mut file, &secret);

    let encoded = STANDARD.encode(file);
    let mut private_key = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for line in encoded.as_bytes().chunks(70) {
        private_key.push_str(&String::from_utf8_lossy(line));
        private_key.push('\n');
    }
    private_key.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    let public_key = format!("ssh-ed25519 {} {}", STANDARD.encode(blob), String::from_utf8_lossy(COMMENT));
    Ok(Generated { public_key, private_key })
}

/// A text in SSH's form: its length, and its bytes.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use umbel_core::SeededRng;

    use super::*;

    #[test]
    fn a_known_key_has_its_fingerprint() {
        // As `ssh-keygen -E md5 -lf` has it.
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIJ/bmjMpKS596Dp1nL62HX3pnTMTo8RuuUD8Tw5DxBO me@host";
        let print = "7a:c2:2b:55:40:09:c9:77:8e:b5:43:62:37:2f:2a:14";
        assert_eq!(fingerprint(key).unwrap(), print);
        assert_eq!(fingerprint(&key.replace(" me@host", "")).unwrap(), print);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "ssh-rsa", "ssh-rsa !!!", "ssh-rsa AAAA", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJ0S", "bad"] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_generated_pair_fits_together() {
        let pair = generate(&SeededRng::new(1)).unwrap();
        fingerprint(&pair.public_key).unwrap();
        let body: String = pair.private_key.lines().filter(|line| !line.starts_with("-----")).collect();
        let file = STANDARD.decode(body).unwrap();
        assert!(file.starts_with(b"openssh-key-v1\0"));
        let blob = STANDARD.decode(pair.public_key.split(' ').nth(1).unwrap()).unwrap();
        assert_eq!(file.windows(blob.len()).filter(|window| *window == blob).count(), 2);
    }
}
