use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::hmac;
use umbel_core::{Clock, Rng, Timestamp};

/// Logins that were good lately. The key of an entry is an HMAC over user, stored hash and password: a changed
/// password is another hash, so its old entry can never be found again.
pub(super) struct Cache {
    key: hmac::Key,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    size: usize,
    until: Mutex<HashMap<[u8; 32], Timestamp>>,
}

impl Cache {
    /// A `ttl` or `size` of zero remembers nothing.
    pub fn new(rng: &dyn Rng, clock: Arc<dyn Clock>, ttl: Duration, size: usize) -> Self {
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        Cache { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), clock, ttl, size, until: Mutex::default() }
    }

    pub fn knows(&self, owner: &str, stored: &str, password: &str) -> bool {
        if self.off() {
            return false;
        }
        let entry = self.entry(owner, stored, password);
        self.until.lock().get(&entry).is_some_and(|until| *until > self.clock.now())
    }

    pub fn remember(&self, owner: &str, stored: &str, password: &str) {
        if self.off() {
            return;
        }
        let (entry, now) = (self.entry(owner, stored, password), self.clock.now());
        let mut until = self.until.lock();
        if until.len() >= self.size {
            until.retain(|_, until| *until > now);
        }
        if until.len() >= self.size {
            // Full of live ones: more users log in than it was made for, and starting anew costs each one check.
            until.clear();
        }
        until.insert(entry, now.plus(self.ttl));
    }

    fn off(&self) -> bool {
        self.ttl.is_zero() || self.size == 0
    }

    fn entry(&self, owner: &str, stored: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [owner, stored, password] {
            // Lengths, so that no two different triples give the same bytes.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}
