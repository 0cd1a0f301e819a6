use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a resource may be promised beyond what is there, in thousandths, so that the comparison is exact and the
/// same in three databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ratio(pub u64);

impl Ratio {
    /// Upstream's default for processors.
    pub const CPU: Ratio = Ratio(4_000);
    /// Upstream's default for memory: what is not there is not promised.
    pub const MEMORY: Ratio = Ratio(1_000);
    /// Disks are thin in every pool of ours: upstream's default over-subscription of thin volume back ends.
    pub const THIN_DISK: Ratio = Ratio(20_000);

    /// What may be promised of `total`.
    pub const fn of(self, total: u64) -> u64 {
        // Totals in bytes times thousandths pass 64 bits.
        let promised = total as u128 * self.0 as u128 / 1_000;
        if promised > u64::MAX as u128 { u64::MAX } else { promised as u64 }
    }

    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_f64())
    }
}
