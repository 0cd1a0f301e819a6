//! The scheduler's view of a cell, kept in memory.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use umbel_bus::Facts;
use umbel_compute::Cell;
use umbel_compute::model::HostRef;
use umbel_core::{Result, Rng, Timestamp};
use umbel_db::{Db, read};
use umbel_placement::{Host, HostId, Pool, PoolId};
use umbel_scheduler::{Choice, Funnel, HostView, PoolView, Request, Resource, Scheduler};

use crate::hosts::HostsSeen;

/// A host, and a pool on it for every disk.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub host: HostRef,
    pub zone: String,
    pub pools: Vec<(PoolId, String)>,
    pub funnel: Funnel,
    /// Memory of the cell that was free, in MiB: by this cells are compared.
    pub free_memory_mib: u64,
}

/// A host's facts as they are stored: those of the bus, and its pools in the order that it prefers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StoredFacts {
    #[serde(flatten)]
    pub facts: Facts,
    pub pools: Vec<StoredPool>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StoredPool {
    pub name: String,
    /// `scheme://cluster` of its locations.
    pub cluster: String,
}

#[derive(Default)]
pub(crate) struct View {
    hosts: Mutex<Hosts>,
    /// One reads the database, the others wait for it.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Hosts {
    views: Vec<HostView>,
    ids: Vec<HostId>,
    /// For each host, the ids of its pools in the order of its view.
    pools: Vec<Vec<PoolId>>,
    read_at: Option<Instant>,
}

/// How a view is used: the cell's database, and when a host counts as up.
pub(crate) struct Looking<'a> {
    pub db: &'a Db<Cell>,
    pub scheduler: &'a Scheduler,
    pub rng: &'a dyn Rng,
    pub age: Duration,
    /// What this conductor itself has heard; it is written down for many hosts at once, and later.
    pub heard: &'a HostsSeen,
    /// Hosts seen before this moment are down.
    pub seen_since: Timestamp,
}

impl View {
    /// Chooses, and counts the server in. A "no" is only given on a fresh look.
    pub async fn choose(&self, looking: &Looking<'_>, request: &Request) -> Result<Result<Placement, Funnel>> {
        let asked = Instant::now();
        self.refresh(looking, asked.checked_sub(looking.age)).await?;
        if let Ok(placement) = self.try_choose(looking, request) {
            return Ok(Ok(placement));
        }
        self.refresh(looking, Some(asked)).await?;
        Ok(self.try_choose(looking, request))
    }

    fn try_choose(&self, looking: &Looking<'_>, request: &Request) -> Result<Placement, Funnel> {
        let mut hosts = self.hosts.lock();
        let choice = looking.scheduler.choose(&hosts.views, request, looking.rng)?;
        let free_memory_mib = hosts.views.iter().filter(|host| host.up).map(|host| host.memory_mib.free()).sum();
        let placement = hosts.placement(&choice, free_memory_mib);
        hosts.views[choice.host].take(request, &choice.pools);
        Ok(placement)
    }

    /// Counts a server out again.
    pub fn give_back(&self, host: &str, request: &Request, pools: &[String]) {
        let mut hosts = self.hosts.lock();
        if let Some(view) = hosts.views.iter_mut().find(|view| view.name == host) {
            view.give_back(request, pools);
        }
    }

    /// The host just spoke. If it was taken for down, the next choice looks again.
    pub fn heard(&self, host: &str) {
        let mut hosts = self.hosts.lock();
        if hosts.views.iter().any(|view| view.name == host && !view.up) {
            hosts.read_at = None;
        }
    }

    /// The next choice looks at the database first.
    pub fn forget(&self) {
        self.hosts.lock().read_at = None;
    }

    /// Reads the database, unless that was done since `not_before`.
    async fn refresh(&self, looking: &Looking<'_>, not_before: Option<Instant>) -> Result<()> {
        let fresh = || self.hosts.lock().read_at.is_some_and(|at| not_before.is_none_or(|limit| at >= limit));
        if fresh() {
            return Ok(());
        }
        let _turn = self.refreshing.lock().await;
        if fresh() {
            return Ok(());
        }
        let read_at = Instant::now();
        let (hosts, pools) = read!(looking.db, "view hosts", |tx| Ok((
            umbel_placement::hosts(tx).await?,
            umbel_placement::pools(tx).await?
        )))?;
        let is_up = |host: &Host| {
            let heard = looking.heard.seen(&host.name);
            !host.forced_down && heard.max(Some(host.last_seen)) >= Some(looking.seen_since)
        };
        *self.hosts.lock() = Hosts::build(&hosts, &pools, is_up, read_at);
        Ok(())
    }
}

impl Hosts {
    fn build(hosts: &[Host], pools: &[Pool], is_up: impl Fn(&Host) -> bool, read_at: Instant) -> Self {
        let mut built = Hosts { read_at: Some(read_at), ..Hosts::default() };
        for host in hosts {
            // Facts of a newer version are no reason to lose the host.
            let facts: StoredFacts = serde_json::from_str(&host.facts).unwrap_or_default();
            let place = |pool: &Pool| facts.pools.iter().position(|known| known.name == pool.name);
            let mut reached: Vec<&Pool> = pools.iter().filter(|pool| pool.hosts.contains(&host.id)).collect();
            reached.sort_by_key(|pool| place(pool).unwrap_or(usize::MAX));
            built.ids.push(host.id);
            built.pools.push(reached.iter().map(|pool| pool.id).collect());
            built.views.push(HostView {
                id: host.id.to_string(),
                name: host.name.clone(),
                availability_zone: host.zone.clone(),
                enabled: host.disabled.is_none(),
                up: is_up(host),
                vcpus: Resource {
                    total: host.vcpus,
                    reserved: 0,
                    ratio: host.cpu_ratio.as_f64(),
                    used: host.vcpus_used,
                },
                memory_mib: Resource {
                    total: host.memory_mib,
                    reserved: host.memory_reserved_mib,
                    ratio: host.memory_ratio.as_f64(),
                    used: host.memory_mib_used,
                },
                pools: reached
                    .iter()
                    .map(|pool| {
                        let cluster = place(pool).map(|at| facts.pools[at].cluster.clone());
                        pool_view(pool, cluster.unwrap_or_default())
                    })
                    .collect(),
                traits: Vec::new(),
            });
        }
        built
    }

    fn placement(&self, choice: &Choice, free_memory_mib: u64) -> Placement {
        let (view, ids) = (&self.views[choice.host], &self.pools[choice.host]);
        let pool = |name: &String| {
            let at = view.pools.iter().position(|pool| pool.name == *name).unwrap_or_default();
            (ids[at], name.clone())
        };
        Placement {
            host: HostRef { id: self.ids[choice.host], name: view.name.clone() },
            zone: view.availability_zone.clone(),
            pools: choice.pools.iter().map(pool).collect(),
            funnel: choice.funnel.clone(),
            free_memory_mib,
        }
    }
}

fn pool_view(pool: &Pool, cluster: String) -> PoolView {
    PoolView {
        name: pool.name.clone(),
        tier: pool.tier.clone(),
        cluster,
        total: pool.total,
        free: pool.free,
        claimed: pool.used,
        ratio: pool.ratio.as_f64(),
    }
}
