//! Hashes that a Keystone made, in the forms its `password_hash_algorithm` can take: `bcrypt` (its default),
//! `bcrypt_sha256`, `scrypt` and `pbkdf2_sha512`.
//!
//! bcrypt looks at 72 bytes. Keystone cuts a longer password there before it hashes; so do we before we verify, or
//! those users could not log in. `$2x$` marks hashes of a broken implementation and is refused.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::{hmac, pbkdf2};

use super::same;

const BCRYPT_BYTES: usize = 72;

/// A stored hash may not make a check cost more than this: 2^20 x 8 x 128 bytes are 1 GiB.
const MAX_SCRYPT_LOG_N: u8 = 20;

pub(super) fn verify(stored: &str, password: &[u8]) -> bool {
    let kind = stored.strip_prefix('$').and_then(|rest| rest.split('$').next());
    match kind {
        Some("2a" | "2b" | "2y") => bcrypt_fits(stored, password),
        Some("bcrypt-sha256") => bcrypt_sha256_fits(stored, password).unwrap_or(false),
        Some("scrypt") => scrypt_fits(stored, password).unwrap_or(false),
        Some("pbkdf2-sha512") => pbkdf2_fits(stored, password).unwrap_or(false),
        _ => false,
    }
}

fn bcrypt_fits(stored: &str, password: &[u8]) -> bool {
    let cut = &password[..password.len().min(BCRYPT_BYTES)];
    bcrypt::verify(cut, stored).unwrap_or(false)
}

/// `$bcrypt-sha256$v=2,t=2b,r=12$<salt>$<digest>`: bcrypt of the base64 of an HMAC whose key is the salt's text.
fn bcrypt_sha256_fits(stored: &str, password: &[u8]) -> Option<bool> {
    let fields: Vec<&str> = stored.strip_prefix("$bcrypt-sha256$")?.split('$').collect();
    let [params, salt, digest] = fields[..] else {
        return None;
    };
    let param = |name: &str| params.split(',').find_map(|param| param.strip_prefix(name)?.strip_prefix('='));
    if param("v")? != "2" {
        return None;
    }
    let (ident, rounds) = (param("t")?, param("r")?.parse::<u8>().ok()?);
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
    let inner = STANDARD.encode(hmac::sign(&key, password));
    bcrypt::verify(inner, &format!("${ident}${rounds:02}${salt}{digest}")).ok()
}

/// `$scrypt$ln=16,r=8,p=1$<salt>$<digest>`.
fn scrypt_fits(stored: &str, password: &[u8]) -> Option<bool> {
    let fields: Vec<&str> = stored.strip_prefix("$scrypt$")?.split('$').collect();
    let [params, salt, want] = fields[..] else {
        return None;
    };
    let param = |name: &str| params.split(',').find_map(|param| param.strip_prefix(name)?.strip_prefix('='));
    let log_n: u8 = param("ln")?.parse().ok()?;
    if log_n > MAX_SCRYPT_LOG_N {
        return None;
    }
    let params = scrypt::Params::new(log_n, param("r")?.parse().ok()?, param("p")?.parse().ok()?).ok()?;
    let (salt, want) = (adapted(salt)?, adapted(want)?);
    let mut got = vec![0; want.len()];
    scrypt::scrypt(password, &salt, &params, &mut got).ok()?;
    Some(same(&got, &want))
}

/// `$pbkdf2-sha512$25000$<salt>$<digest>`.
fn pbkdf2_fits(stored: &str, password: &[u8]) -> Option<bool> {
    let fields: Vec<&str> = stored.strip_prefix("$pbkdf2-sha512$")?.split('$').collect();
    let [rounds, salt, want] = fields[..] else {
        return None;
    };
    let rounds = NonZeroU32::new(rounds.parse().ok()?)?;
    Some(pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, rounds, &adapted(salt)?, password, &adapted(want)?).is_ok())
}

/// Base64 as the older Keystones' library writes it: `.` for `+`, no padding.
fn adapted(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.replace('.', "+")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_a_real_keystone_fit() {
        let long = "0123456789".repeat(10);
        let check = |stored: &str, password: &str, fits: bool| {
            assert_eq!(verify(stored, password.as_bytes()), fits, "{stored} {password}");
        };
        check("$2b$04$xh16DpgvBzPmh/BDq3ICJeS41gjoF2.Dqcf0HsFIPW6WmY1fvF5tK", "secret", true);
        check("$2b$04$xh16DpgvBzPmh/BDq3ICJeS41gjoF2.Dqcf0HsFIPW6WmY1fvF5tK", "Secret", false);
        check("$2a$04$vubDcAwP4dA4hxaI6bhC6eec2dvog5h6WyzkUgKbX74s0qzESCyEe", "secret", true);
        check("$2y$04$amIKd03vceE5k.jZnAPEieD5LxE8Ufkss3y.6d4baGi8OkX9nYa2S", "secret", true);
        check("$2b$04$5sXg8jMxudAI.Cd25Y0HSOqK52MMn.FwgVOdgOYa8MLTpFIbRmWFu", "pässwörd✓", true);
        let cut = "$2b$04$KHGDonfa22X0d9IyN3ptK.3H3/RuqdhrVCvhVQl2B5ZcH.8p8ht62";
        check(cut, &long, true);
        check(cut, &long[..72], true);
        check(cut, &long[..71], false);
        let sha256 = "$bcrypt-sha256$v=2,t=2b,r=4$kzjKW.mWT1S1X8L1LJgnQO$lheyAJYQka6n8bXA6Bq2gVJdrvJj8KW";
        check(sha256, "secret", true);
        check(sha256, "Secret", false);
        let sha256 = "$bcrypt-sha256$v=2,t=2b,r=4$lr7STJ6m396YYE2.wwfvX.$rlNoUxNTM56F98vdCGoeBFPSxx/nNOW";
        check(sha256, &long, true);
        check(sha256, &long[..99], false);
        let scrypt = "$scrypt$ln=4,r=8,p=1$l8APSS1MzeA7Haai33VVig$6ORD0Nr1YrdVViwozIwGLEQKQqu0onjJPOZeDYjpGXg";
        check(scrypt, "secret", true);
        check(scrypt, "Secret", false);
        check(&scrypt.replace("ln=4", "ln=40"), "secret", false);
        let pbkdf2 = "$pbkdf2-sha512$1000$ia1sZJepauJ/TSTRremfiA$\
            XarxTWXilyNwDD7P3DjIh8xg50QUbiiuGRpj53o8tHZEuAYx4seF2vCYSo1l1y/kj4hpsgjlBXRJMT1X0YQO9Q";
        check(pbkdf2, "secret", true);
        check(pbkdf2, "Secret", false);
        check("$2x$04$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui", "", false);
        check("$1$abc$def", "", false);
    }
}
