use serde::{Deserialize, Serialize};

/// A countable resource of a host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub total: u64,
    /// Kept for the host itself.
    pub reserved: u64,
    /// How often a unit is given out; 16.0 for processors by compute's default.
    pub ratio: f64,
    pub used: u64,
}

/// A pool as one host sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    pub name: String,
    pub tier: String,
    /// `scheme://cluster` of its locations: images there can be cloned into it. Empty if unknown.
    pub cluster: String,
    /// Bytes.
    pub total: u64,
    /// Bytes that are not written yet, as the pool itself reports.
    pub free: u64,
    /// Bytes promised to disks, written or not.
    pub claimed: u64,
    /// How often a byte is promised: disks are thin, and most never fill.
    pub ratio: f64,
}

/// What the scheduler knows of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    pub id: String,
    pub name: String,
    pub availability_zone: String,
    /// Not switched off by an operator.
    pub enabled: bool,
    /// Heard of lately.
    pub up: bool,
    pub vcpus: Resource,
    pub memory_mib: Resource,
    /// In the order of preference.
    pub pools: Vec<PoolView>,
    pub traits: Vec<String>,
}

/// A disk that needs a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRequest {
    pub bytes: u64,
    /// Only this pool.
    pub pool: Option<String>,
    /// Only pools of this tier.
    pub tier: Option<String>,
    /// `scheme://cluster` of the places that it could be cloned from. Pools there are preferred.
    pub near: Vec<String>,
}

/// What a server needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub vcpus: u64,
    pub memory_mib: u64,
    pub disks: Vec<DiskRequest>,
    pub availability_zone: Option<String>,
    /// If not empty, one of these hosts, by name: a forced host, the hosts of a `same_host` hint.
    pub only: Vec<String>,
    /// None of these hosts: a `different_host` hint.
    pub different: Vec<String>,
    /// None of these hosts: they were tried and failed.
    pub tried: Vec<String>,
    pub required_traits: Vec<String>,
    pub forbidden_traits: Vec<String>,
}

impl Resource {
    pub fn new(total: u64, ratio: f64) -> Self {
        Resource { total, reserved: 0, ratio, used: 0 }
    }

    pub fn capacity(&self) -> u64 {
        times(self.total.saturating_sub(self.reserved), self.ratio)
    }

    pub fn free(&self) -> u64 {
        self.capacity().saturating_sub(self.used)
    }

    /// Whether `more` fits. One server never gets more than the host really has, whatever the ratio.
    pub fn fits(&self, more: u64) -> bool {
        more <= self.free() && more <= self.total
    }
}

impl PoolView {
    /// Bytes that can still be promised: neither more than the ratio allows, nor more than that of what is really free.
    pub fn room(&self) -> u64 {
        times(self.total, self.ratio).saturating_sub(self.claimed).min(times(self.free, self.ratio))
    }
}

fn times(amount: u64, ratio: f64) -> u64 {
    // `as` saturates, and takes NaN for 0.
    (amount as f64 * ratio) as u64
}

impl DiskRequest {
    pub(crate) fn may_be_in(&self, pool: &PoolView) -> bool {
        self.pool.as_ref().is_none_or(|name| *name == pool.name)
            && self.tier.as_ref().is_none_or(|tier| *tier == pool.tier)
    }

    pub(crate) fn is_near(&self, pool: &PoolView) -> bool {
        self.near.contains(&pool.cluster)
    }
}

impl HostView {
    /// The index in `pools` for every disk of the request, or `None` if they do not all fit. Calls `put(disk, pool)` for
    /// each and allocates nothing: this runs once for every host of every request.
    pub(crate) fn place(&self, disks: &[DiskRequest], mut put: impl FnMut(usize, usize)) -> Option<()> {
        if let [disk] = disks {
            put(0, self.pool_for(disk, |_| 0)?);
            return Some(());
        }
        // Of a pool with a higher index the sums are not tracked: hosts have a handful of pools.
        let mut taken = [0_u64; 16];
        for (at, disk) in disks.iter().enumerate() {
            let pool = self.pool_for(disk, |pool| taken.get(pool).copied().unwrap_or(u64::MAX))?;
            if let Some(taken) = taken.get_mut(pool) {
                *taken = taken.saturating_add(disk.bytes);
            }
            put(at, pool);
        }
        Some(())
    }

    /// The first pool that could be cloned into, else the first, that has room beside what is `taken` already.
    fn pool_for(&self, disk: &DiskRequest, taken: impl Fn(usize) -> u64) -> Option<usize> {
        let fits = |(at, pool): &(usize, &PoolView)| {
            disk.may_be_in(pool) && disk.bytes.saturating_add(taken(*at)) <= pool.room()
        };
        let mut fitting = self.pools.iter().enumerate().filter(fits);
        let first = fitting.next()?;
        if disk.near.is_empty() || disk.is_near(first.1) {
            return Some(first.0);
        }
        Some(fitting.find(|(_, pool)| disk.is_near(pool)).unwrap_or(first).0)
    }

    /// Counts a server in, so that the next choice from the same views sees it. `pools`: names, one for each disk.
    pub fn take(&mut self, request: &Request, pools: &[String]) {
        self.vcpus.used += request.vcpus;
        self.memory_mib.used += request.memory_mib;
        for (disk, name) in request.disks.iter().zip(pools) {
            if let Some(pool) = self.pools.iter_mut().find(|pool| pool.name == *name) {
                pool.claimed += disk.bytes;
            }
        }
    }

    /// The reverse of [`HostView::take`].
    pub fn give_back(&mut self, request: &Request, pools: &[String]) {
        self.vcpus.used = self.vcpus.used.saturating_sub(request.vcpus);
        self.memory_mib.used = self.memory_mib.used.saturating_sub(request.memory_mib);
        for (disk, name) in request.disks.iter().zip(pools) {
            if let Some(pool) = self.pools.iter_mut().find(|pool| pool.name == *name) {
                pool.claimed = pool.claimed.saturating_sub(disk.bytes);
            }
        }
    }
}
