use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

/// Where randomness comes from. Injected, so that a test can fix it.
pub trait Rng: Send + Sync {
    fn fill(&self, bytes: &mut [u8]);

    fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A number in `0..bound`; 0 where `bound` is 0.
    fn below(&self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        // The bias of a plain remainder is below bound / 2^64.
        (u64::from_le_bytes(bytes) % (bound.max(1) as u64)) as usize
    }
}

/// The operating system's cryptographic source.
pub struct SystemRng(SystemRandom);

impl SystemRng {
    pub fn new() -> Self {
        SystemRng(SystemRandom::new())
    }
}

impl Default for SystemRng {
    fn default() -> Self {
        Self::new()
    }
}

impl Rng for SystemRng {
    fn fill(&self, bytes: &mut [u8]) {
        if self.0.fill(bytes).is_err() {
            // Without a source of randomness no token and no id is safe to make.
            std::process::abort();
        }
    }
}

/// A fixed sequence for tests and simulation. Not secret.
pub struct SeededRng(AtomicU64);

impl SeededRng {
    pub fn new(seed: u64) -> Self {
        SeededRng(AtomicU64::new(seed))
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            // splitmix64: passes the usual tests and needs one word of state.
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}
