use std::collections::HashMap;

use serde::Deserialize;
use umbel_core::{Error, Result};
use umbel_driver::Capacity;

/// What `ceph df detail` says of each pool, with quotas taken into account.
pub struct Usage {
    pools: HashMap<String, Capacity>,
}

#[derive(Deserialize)]
struct Df {
    #[serde(default)]
    stats: DfTotals,
    pools: Vec<DfPool>,
}

#[derive(Default, Deserialize)]
struct DfTotals {
    /// 0 while no manager has reported since the monitors started: then nothing is known, rather than nothing free.
    #[serde(default)]
    total_bytes: u64,
}

#[derive(Deserialize)]
struct DfPool {
    name: String,
    stats: DfStats,
}

/// All in bytes as a user counts them, replicas divided out.
#[derive(Deserialize)]
struct DfStats {
    stored: u64,
    /// What fits until the first OSD is full; it knows nothing of quotas.
    max_avail: u64,
    /// 0 for none.
    #[serde(default)]
    quota_bytes: u64,
    #[serde(default)]
    quota_objects: u64,
    #[serde(default)]
    objects: u64,
}

impl Usage {
    pub fn parse(json: &[u8]) -> Result<Usage> {
        let df: Df = serde_json::from_slice(json).map_err(|error| Error::internal(error).because("ceph df"))?;
        if df.stats.total_bytes == 0 {
            return Ok(Usage { pools: HashMap::new() });
        }
        Ok(Usage { pools: df.pools.into_iter().map(|pool| (pool.name, pool.stats.capacity())).collect() })
    }

    /// Nothing if nothing is known of it (yet).
    pub fn pool(&self, name: &str) -> Option<Capacity> {
        self.pools.get(name).copied()
    }
}

impl DfStats {
    fn capacity(&self) -> Capacity {
        let total = self.stored.saturating_add(self.max_avail);
        if self.quota_objects > 0 && self.objects >= self.quota_objects {
            return Capacity { total, free: 0 };
        }
        if self.quota_bytes == 0 {
            return Capacity { total, free: self.max_avail };
        }
        let left = self.quota_bytes.saturating_sub(self.stored);
        Capacity { total: total.min(self.quota_bytes), free: self.max_avail.min(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_bound_what_is_free() {
        let check = |stats: &str, total: u64, free: u64| {
            let json = format!(
                r#"{{"stats": {{"total_bytes": 9}}, "pools": [{{"name": "vms", "id": 3, "stats": {stats}}}]}}"#
            );
            let usage = Usage::parse(json.as_bytes()).unwrap();
            assert_eq!(usage.pool("vms"), Some(Capacity { total, free }), "{stats}");
            assert_eq!(usage.pool("images"), None);
        };
        check(r#"{"stored": 10, "max_avail": 90}"#, 100, 90);
        check(r#"{"stored": 10, "max_avail": 90, "quota_bytes": 0, "quota_objects": 0}"#, 100, 90);
        check(r#"{"stored": 10, "max_avail": 90, "quota_bytes": 50}"#, 50, 40);
        check(r#"{"stored": 60, "max_avail": 90, "quota_bytes": 50}"#, 50, 0);
        check(r#"{"stored": 10, "max_avail": 90, "quota_bytes": 500}"#, 100, 90);
        check(r#"{"stored": 10, "max_avail": 90, "quota_objects": 7, "objects": 7}"#, 100, 0);
        check(r#"{"stored": 10, "max_avail": 90, "quota_objects": 7, "objects": 6}"#, 100, 90);
        assert!(Usage::parse(b"what").is_err());
    }

    #[test]
    fn unknown_is_not_full() {
        let json =
            br#"{"stats": {"total_bytes": 0}, "pools": [{"name": "vms", "stats": {"stored": 0, "max_avail": 0}}]}"#;
        assert_eq!(Usage::parse(json).unwrap().pool("vms"), None);
    }
}
