use serde::{Deserialize, Serialize};

use crate::{HostView, Request};

/// How much each property counts. Positive prefers hosts that have more of it (spreads), negative those that have less
/// (stacks), 0 ignores it. Each property is first scaled to 0..1 over the hosts that are left, as compute upstream does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Weights {
    pub ram: f64,
    pub cpu: f64,
    pub disk: f64,
    /// Disks that could be cloned where the host would put them.
    pub clone: f64,
}

impl Default for Weights {
    /// A clone beats any free room: it is the difference between milliseconds and a copy of the image.
    fn default() -> Self {
        Weights { ram: 1.0, cpu: 1.0, disk: 1.0, clone: 100.0 }
    }
}

const PROPERTIES: usize = 4;

impl Weights {
    fn multipliers(&self) -> [f64; PROPERTIES] {
        [self.ram, self.cpu, self.disk, self.clone]
    }

    /// Fills in the weight of every candidate: (weight, index of the host).
    pub(crate) fn weigh(&self, hosts: &[HostView], request: &Request, candidates: &mut [(f64, u32)]) {
        let multipliers = self.multipliers();
        let mut ranges = [(f64::INFINITY, f64::NEG_INFINITY); PROPERTIES];
        for (_, at) in candidates.iter() {
            for (range, value) in ranges.iter_mut().zip(self.measure(&hosts[*at as usize], request)) {
                *range = (range.0.min(value), range.1.max(value));
            }
        }
        for (weight, at) in candidates.iter_mut() {
            let values = self.measure(&hosts[*at as usize], request);
            *weight = 0.0;
            for ((value, (low, high)), multiplier) in values.into_iter().zip(ranges).zip(multipliers) {
                if high > low {
                    *weight += multiplier * (value - low) / (high - low);
                }
            }
        }
    }

    /// The properties of a host, 0 for those that do not count.
    fn measure(&self, host: &HostView, request: &Request) -> [f64; PROPERTIES] {
        let room = || host.pools.iter().map(|pool| pool.room()).fold(0.0, |sum, room| sum + room as f64);
        let (mut free, mut clones) = (0.0, 0.0);
        if self.disk != 0.0 {
            free = room();
        }
        if self.clone != 0.0 && request.disks.iter().any(|disk| !disk.near.is_empty()) {
            host.place(&request.disks, |disk, pool| {
                clones += f64::from(u8::from(request.disks[disk].is_near(&host.pools[pool])));
            });
        }
        [host.memory_mib.free() as f64, host.vcpus.free() as f64, free, clones]
    }
}
