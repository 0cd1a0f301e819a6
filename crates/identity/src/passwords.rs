//! Passwords: how they are kept, checked, and how their checks share the machine.
//!
//! **Argon2id, 19 MiB, 2 passes, 1 lane** (OWASP's first choice of 2023 for it, and the library's own default): 19 ms
//! on the machine this was measured on, against 310 ms for the bcrypt of cost 12 that Keystone makes. Memory is what an
//! attacker's hardware is short of, so 19 MiB buys more than bcrypt's 4 KiB at a sixteenth of the time; more passes or
//! more memory would make logins the cloud's bottleneck, which is the pain this service exists to end.
//!
//! **Bounded.** A check runs on a blocking thread and holds one of as many permits as there are cores: more at once
//! would not be faster, and memory stays below cores x 19 MiB however many clients come. Who finds a long line is
//! answered 503 rather than kept waiting.
//!
//! **Foreign hashes** of a Keystone whose users were brought over ([`foreign`]) are verified, and replaced by ours at
//! the first login, which is the only moment the password is known.
//!
//! **No oracle.** Without a user, or for one without a password, a check of the same cost is made and fails. A user
//! with a foreign hash costs what that hash costs, until the first login.
//!
//! **Cache** ([`cache`]): the outcome "this password fits this hash" is remembered for a short time, so that a client
//! that logs in for each call (scripts, CI jobs, the `openstack` command) pays for one check and not for all. The trade:
//! for that time the process holds, per remembered login, an HMAC under a key that it made at its start and tells
//! nobody. Whoever can read this process's memory can guess against it faster than against argon2; but reads signing
//! keys and passwords on their way through as well. Wrong passwords are never remembered, so guessing always costs in
//! full. `Config::password_cache_ttl` of zero turns it off.

mod cache;
mod foreign;

use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::Semaphore;
use umbel_core::{Clock, Error, Kind, Result, Rng};

use cache::Cache;

/// Bytes of a password that are looked at, as Keystone's `max_password_length`; longer ones are refused where they are
/// set, and never fit.
pub(crate) const MAX_PASSWORD: usize = 4096;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT: usize = 16;
const OUTPUT: usize = 32;

/// How many may wait for each check that runs: at 19 ms each, the last of them for about a second.
const WAITING_PER_CORE: usize = 64;

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fits,
    /// Fits, but the hash is of another kind or strength than we make today.
    FitsOld,
    Wrong,
}

pub(crate) struct Passwords {
    rng: Arc<dyn Rng>,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    cache: Cache,
    /// A hash of nothing anyone knows, for checks that must fail.
    decoy: String,
}

impl Passwords {
    pub fn new(rng: Arc<dyn Rng>, clock: Arc<dyn Clock>, cache_ttl: Duration, cache_size: usize) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let mut unknown = [0; 32];
        rng.fill(&mut unknown);
        let decoy = argon2id(&*rng, &unknown)?;
        Ok(Passwords {
            cache: Cache::new(&*rng, clock, cache_ttl, cache_size),
            rng,
            running: Arc::new(Semaphore::new(cores)),
            waiting: Arc::new(Semaphore::new(cores * WAITING_PER_CORE)),
            decoy,
        })
    }

    /// A new hash, as a PHC string.
    pub async fn hash(&self, password: &str) -> Result<String> {
        let (rng, password) = (self.rng.clone(), password.to_owned());
        self.in_turn(move || argon2id(&*rng, password.as_bytes())).await?
    }

    /// Checks a password of `owner` (a user, for the cache) against the stored hash; against the decoy where there is
    /// none.
    pub async fn verify(&self, owner: &str, stored: Option<&str>, password: &str) -> Result<Verdict> {
        if let Some(stored) = stored
            && self.cache.knows(owner, stored, password)
        {
            return Ok(Verdict::Fits);
        }
        let (hash, text) = (stored.unwrap_or(&self.decoy).to_owned(), password.to_owned());
        let verdict = self.in_turn(move || check(&hash, text.as_bytes())).await?;
        match (stored, verdict) {
            (None, _) => Ok(Verdict::Wrong),
            (Some(stored), Verdict::Fits) => {
                self.cache.remember(owner, stored, password);
                Ok(Verdict::Fits)
            }
            (Some(_), other) => Ok(other),
        }
    }

    /// Runs costly work on a blocking thread when its turn comes.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = || Error::new(Kind::Busy, "Too many logins are waiting; try again.");
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        // Owned by the thread: a client that goes away frees its place, not the core that still works for it.
        let turn = self.running.clone().acquire_owned().await.map_err(|_| busy())?;
        let job = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        job.await.map_err(|error| Error::internal(error).because("hashing a password"))
    }
}

/// For secrets with as much randomness as the hash has bits, which no guessing reaches: those we make ourselves. One
/// pass of SHA-256, so that programs' logins cost next to nothing.
pub(crate) fn hash_random_secret(secret: &str) -> String {
    format!("{RANDOM_SECRET}{}", STANDARD_NO_PAD.encode(sha256(secret.as_bytes())))
}

const RANDOM_SECRET: &str = "$sha256$";

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    out
}

fn argon2id(rng: &dyn Rng, password: &[u8]) -> Result<String> {
    let mut salt = [0; SALT];
    rng.fill(&mut salt);
    let mut out = [0; OUTPUT];
    argon2(MEMORY_KIB, PASSES, LANES, password, &salt, &mut out)?;
    let (salt, out) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(out));
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${out}"))
}

fn argon2(memory: u32, passes: u32, lanes: u32, password: &[u8], salt: &[u8], out: &mut [u8]) -> Result<()> {
    let failed = |error: argon2::Error| Error::internal(error).because("hashing a password");
    let params = Params::new(memory, passes, lanes, Some(out.len())).map_err(failed)?;
    let mut blocks = returned_memory(params.block_count());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, out, &mut blocks)
        .map_err(failed)
}

/// Memory that the system gets back when it is dropped. What is smaller than 32 MiB the C library may keep, for each of
/// the runtime's blocking threads: after a few hundred logins that was 480 MB. The part above `blocks` is never touched
/// and so never there.
fn returned_memory(blocks: usize) -> Vec<Block> {
    const ALWAYS_RETURNED: usize = 33 << 20;
    let mut memory = Vec::with_capacity(blocks.max(ALWAYS_RETURNED / Block::SIZE));
    memory.resize(blocks, Block::new());
    memory
}

fn check(stored: &str, password: &[u8]) -> Verdict {
    if password.len() > MAX_PASSWORD {
        return Verdict::Wrong;
    }
    if let Some(encoded) = stored.strip_prefix(RANDOM_SECRET) {
        let fits = STANDARD_NO_PAD.decode(encoded).is_ok_and(|want| same(&want, &sha256(password)));
        return if fits { Verdict::Fits } else { Verdict::Wrong };
    }
    if stored.starts_with("$argon2id$") {
        return check_argon2id(stored, password).unwrap_or(Verdict::Wrong);
    }
    match foreign::verify(stored, password) {
        true => Verdict::FitsOld,
        false => Verdict::Wrong,
    }
}

/// None for a hash that is not well formed.
fn check_argon2id(stored: &str, password: &[u8]) -> Option<Verdict> {
    let fields: Vec<&str> = stored.strip_prefix("$argon2id$v=19$")?.split('$').collect();
    let [params, salt, want] = fields[..] else {
        return None;
    };
    let (mut memory, mut passes, mut lanes) = (0, 0, 0);
    for param in params.split(',') {
        match param.split_once('=')? {
            ("m", value) => memory = value.parse().ok()?,
            ("t", value) => passes = value.parse().ok()?,
            ("p", value) => lanes = value.parse().ok()?,
            _ => return None,
        }
    }
    let (salt, want) = (STANDARD_NO_PAD.decode(salt).ok()?, STANDARD_NO_PAD.decode(want).ok()?);
    let mut got = vec![0; want.len()];
    argon2(memory, passes, lanes, password, &salt, &mut got).ok()?;
    if !same(&got, &want) {
        return Some(Verdict::Wrong);
    }
    let today = (memory, passes, lanes, want.len()) == (MEMORY_KIB, PASSES, LANES, OUTPUT);
    Some(if today { Verdict::Fits } else { Verdict::FitsOld })
}

/// In a time that does not tell where two digests differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (x, y)| std::hint::black_box(differ | (x ^ y)));
    a.len() == b.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use umbel_core::{ManualClock, SeededRng, Timestamp};

    use super::*;

    fn passwords(ttl: Duration) -> (Passwords, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_000)));
        let passwords = Passwords::new(Arc::new(SeededRng::new(1)), clock.clone(), ttl, 16).unwrap();
        (passwords, clock)
    }

    #[test]
    fn a_known_argon2id_hash_fits() {
        // By the reference implementation, as Python's argon2-cffi packs it.
        let stored = "$argon2id$v=19$m=64,t=3,p=4$NmFiqI4lkRE27MnVuLJ4EQ$kWFB5ysCk8nc7FGLXTcSr4DsEWK8kLP+";
        assert_eq!(check(stored, b"password"), Verdict::FitsOld);
        assert_eq!(check(stored, b"passwore"), Verdict::Wrong);
        for bad in ["", "$argon2id$", "$argon2id$v=19$m=1,t=1,p=1$$", "$argon2id$v=19$m=x$a$b", "plain", "$2b$", "$7$"]
        {
            assert_eq!(check(bad, b"password"), Verdict::Wrong, "{bad}");
        }
    }

    #[tokio::test]
    async fn our_own_hashes_fit_and_are_salted() {
        let (passwords, _) = passwords(Duration::ZERO);
        let (one, two) = (passwords.hash("secret").await.unwrap(), passwords.hash("secret").await.unwrap());
        assert_ne!(one, two);
        assert_eq!(passwords.verify("u", Some(&one), "secret").await.unwrap(), Verdict::Fits);
        assert_eq!(passwords.verify("u", Some(&one), "Secret").await.unwrap(), Verdict::Wrong);
        assert_eq!(passwords.verify("u", None, "secret").await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn the_cache_forgets_with_time_and_with_the_hash() {
        let (passwords, clock) = passwords(Duration::from_secs(60));
        let stored = passwords.hash("secret").await.unwrap();
        assert_eq!(passwords.verify("u", Some(&stored), "secret").await.unwrap(), Verdict::Fits);
        assert!(passwords.cache.knows("u", &stored, "secret"));
        assert!(!passwords.cache.knows("v", &stored, "secret"), "another user");
        assert!(!passwords.cache.knows("u", "another hash", "secret"));
        assert!(!passwords.cache.knows("u", &stored, "Secret"));
        clock.advance(Duration::from_secs(60));
        assert!(!passwords.cache.knows("u", &stored, "secret"));
    }

    #[test]
    fn a_random_secret_fits() {
        let stored = hash_random_secret("abc");
        assert_eq!(check(&stored, b"abc"), Verdict::Fits);
        assert_eq!(check(&stored, b"abd"), Verdict::Wrong);
    }
}
