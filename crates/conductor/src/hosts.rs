//! What agents report of their hosts. A heartbeat costs nothing in the database: that a host is alive is written for
//! many hosts at once, and what it has only when that changed.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use umbel_bus::{Facts, HostReport, Observed, PoolReport};
use umbel_compute::model::ServerId;
use umbel_compute::store::servers;
use umbel_core::{Id, Result, Timestamp};
use umbel_db::{read, tx};
use umbel_placement::{HostUpdate, PoolUpdate};

use crate::CellConductor;
use crate::view::{StoredFacts, StoredPool};

/// Changes of a pool's free room below this part of its size are not worth a write.
const NOTABLE: u64 = 100;

#[derive(Default)]
pub(crate) struct HostsSeen {
    known: Mutex<HashMap<String, Known>>,
    /// Alive since the last time that was written.
    beats: Mutex<BTreeSet<String>>,
}

struct Known {
    zone: String,
    facts: Facts,
    pools: Vec<PoolReport>,
    seen: Timestamp,
}

impl HostsSeen {
    /// Notes the heartbeat; whether what the host has is as it was.
    fn beat(&self, report: &HostReport, now: Timestamp) -> bool {
        let mut known = self.known.lock();
        let Some(before) = known.get_mut(&report.host) else {
            return false;
        };
        before.seen = now;
        let same = before.zone == report.availability_zone
            && before.facts == report.facts
            && before.pools.len() == report.pools.len()
            && before.pools.iter().zip(&report.pools).all(|(before, now)| is_much_the_same(before, now));
        if same {
            self.beats.lock().insert(report.host.clone());
        }
        same
    }

    fn store(&self, report: &HostReport, now: Timestamp) {
        let known = Known {
            zone: report.availability_zone.clone(),
            facts: report.facts.clone(),
            pools: report.pools.clone(),
            seen: now,
        };
        self.known.lock().insert(report.host.clone(), known);
    }

    /// When this conductor last heard of the host.
    pub fn seen(&self, host: &str) -> Option<Timestamp> {
        self.known.lock().get(host).map(|known| known.seen)
    }

    /// Names of the pools that the host reported.
    pub fn pools(&self, host: &str) -> Vec<String> {
        let known = self.known.lock();
        known.get(host).map_or_else(Vec::new, |known| known.pools.iter().map(|pool| pool.name.clone()).collect())
    }

    pub fn heard_since(&self, moment: Timestamp) -> usize {
        self.known.lock().values().filter(|known| known.seen >= moment).count()
    }
}

fn is_much_the_same(before: &PoolReport, now: &PoolReport) -> bool {
    let moved = before.free.abs_diff(now.free);
    let rest = PoolReport { free: before.free, ..now.clone() };
    // A pool that fills up matters at once, however large it is.
    *before == rest && moved <= before.total / NOTABLE && (now.free == 0) == (before.free == 0)
}

impl CellConductor {
    /// Hosts that are alive, as far as this conductor has heard.
    pub fn hosts_up(&self) -> usize {
        self.hosts.heard_since(self.seen_since())
    }

    /// Whether the host was heard of lately, here or by another conductor.
    pub(crate) async fn is_up(&self, host: &str) -> Result<bool> {
        let since = self.seen_since();
        if self.hosts.seen(host).is_some_and(|seen| seen >= since) {
            return Ok(true);
        }
        let row = read!(self.cell.db, "look at a host", |tx| umbel_placement::host_by_name(tx, host).await)?;
        Ok(row.is_some_and(|row| !row.forced_down && row.last_seen >= since))
    }

    pub(crate) async fn take_report(&self, report: HostReport) -> Result<()> {
        let now = self.clock.now();
        if !self.hosts.beat(&report, now) {
            self.store_host(&report, now).await?;
            self.hosts.store(&report, now);
            self.view.forget();
        }
        self.view.heard(&report.host);
        self.take_guests(&report.host, report.guests).await
    }

    async fn store_host(&self, report: &HostReport, now: Timestamp) -> Result<()> {
        let pools = report.pools.iter();
        let facts = StoredFacts {
            facts: report.facts.clone(),
            pools: pools.map(|pool| StoredPool { name: pool.name.clone(), cluster: pool.cluster.clone() }).collect(),
        };
        let facts = serde_json::to_string(&facts).map_err(umbel_core::Error::internal)?;
        let ratios = &self.config.ratios;
        let reserved = self.config.reserved_memory_mib.min(report.facts.memory_mib / 2);
        tx!(self.cell.db, "store host", |tx| {
            let update = HostUpdate {
                name: &report.host,
                zone: &report.availability_zone,
                facts: &facts,
                vcpus: report.facts.vcpus.into(),
                memory_mib: report.facts.memory_mib,
                memory_reserved_mib: reserved,
                cpu_ratio: ratios.cpu,
                memory_ratio: ratios.memory,
                now,
            };
            let host = umbel_placement::upsert_host(tx, Id::random(&*self.rng), &update).await?;
            for pool in &report.pools {
                let update = PoolUpdate {
                    name: &pool.name,
                    host: host.id,
                    shared: pool.shared,
                    driver: &pool.driver,
                    tier: &pool.tier,
                    total: pool.total,
                    free: pool.free,
                    ratio: ratios.disk,
                    now,
                };
                umbel_placement::upsert_pool(tx, Id::random(&*self.rng), &update).await?;
            }
            let reached: Vec<&str> = report.pools.iter().map(|pool| pool.name.as_str()).collect();
            umbel_placement::keep_pools(tx, host.id, &reached).await
        })
    }

    /// Writes down which hosts were alive since the last time.
    pub(crate) async fn store_beats(&self) -> Result<()> {
        let names: Vec<String> = std::mem::take(&mut *self.hosts.beats.lock()).into_iter().collect();
        let now = self.clock.now();
        for names in names.chunks(500) {
            tx!(self.cell.db, "hosts are alive", |tx| umbel_placement::seen(tx, names, now).await.map(drop))?;
        }
        Ok(())
    }

    /// The guests of a heartbeat: nearly always all of them are as they were.
    async fn take_guests(&self, host: &str, guests: Vec<Observed>) -> Result<()> {
        let now = self.clock.now();
        let news: Vec<Observed> = guests.into_iter().filter(|guest| !self.told.is_known(host, guest, now)).collect();
        if news.is_empty() {
            return Ok(());
        }
        let ids: Vec<ServerId> = news.iter().map(|guest| Id::from_uuid(guest.server_id)).collect();
        let rows = read!(self.cell.db, "compare guests", |tx| servers::get_many(tx, &ids).await)?;
        for guest in news {
            let row = rows.iter().find(|row| row.id.uuid() == guest.server_id);
            match row {
                Some(row) if self.says_something(row, host, &guest) => self.take_observed(host, guest).await?,
                Some(_) => self.told.remember(host, &guest, now),
                None => {
                    tracing::warn!(host, server = %guest.server_id, "a guest that this cell does not know");
                    self.told.remember(host, &guest, now);
                }
            }
        }
        Ok(())
    }
}
