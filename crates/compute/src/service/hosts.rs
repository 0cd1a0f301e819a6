//! Hosts of all cells, for administrators' lists and for the zones that everybody sees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use umbel_bus::Facts;
use umbel_core::{Error, GIB, Result, Timestamp};
use umbel_db::{read, tx};
use umbel_placement::{Host, HostId, Pool, PoolId};

use super::Compute;
use crate::CellHandle;
use crate::model::ServerId;
use crate::store::servers;

/// A host with what it has and runs.
pub(crate) struct HostView {
    pub host: Host,
    pub facts: Facts,
    /// Pools that it reaches.
    pub pools: Vec<Pool>,
    pub servers: u64,
    /// Seen lately, and not declared dead.
    pub up: bool,
}

impl HostView {
    /// GiB in all pools that the host reaches.
    pub fn disk_gib(&self) -> u64 {
        self.pools.iter().map(|pool| pool.total).sum::<u64>() / GIB
    }

    pub fn disk_used_gib(&self) -> u64 {
        self.pools.iter().map(|pool| pool.used).sum::<u64>() / GIB
    }

    pub fn disk_free_gib(&self) -> u64 {
        self.pools.iter().map(|pool| pool.free).sum::<u64>() / GIB
    }
}

/// The number by which upstream's older versions call a service or hypervisor: the first digits of its id.
pub(crate) fn number(id: HostId) -> i64 {
    let bytes = id.uuid().into_bytes();
    i64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & 0x7fff_ffff)
}

impl Compute {
    /// All hosts by name; those of a cell that does not answer are left out.
    pub(crate) async fn hosts(&self) -> Vec<HostView> {
        let now = self.clock.now();
        let cells = self.cells.with_hosts();
        let asked = cells.iter().map(|cell| async {
            let reading = async {
                read!(cell.db, "hosts", |tx| Ok((
                    umbel_placement::hosts(tx).await?,
                    umbel_placement::pools(tx).await?,
                    servers::count_by_host(tx).await?
                )))
            };
            match self.in_time(reading).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(cell = cell.name, cause = error.cause(), "a cell's hosts are left out: {error}");
                    Default::default()
                }
            }
        });
        let mut all = Vec::new();
        for (hosts, pools, counts) in join_all(asked).await {
            for host in hosts {
                let facts = serde_json::from_str(&host.facts).unwrap_or_default();
                let reached = pools.iter().filter(|pool| pool.hosts.contains(&host.id)).cloned().collect();
                let servers = counts.get(&host.name).copied().unwrap_or(0);
                let up = self.is_up(&host, now);
                all.push(HostView { host, facts, pools: reached, servers, up });
            }
        }
        all.sort_by(|a, b| a.host.name.cmp(&b.host.name));
        all
    }

    /// All hosts, each with whether it is up, and nothing of what it has and holds: lists of servers need no more.
    pub(crate) async fn hosts_up(&self) -> Vec<(Host, bool)> {
        let now = self.clock.now();
        let cells = self.cells.with_hosts();
        let asked = cells.iter().map(|cell| async {
            let reading = async { read!(cell.db, "hosts", |tx| umbel_placement::hosts(tx).await) };
            self.in_time(reading).await.unwrap_or_else(|error| {
                tracing::warn!(cell = cell.name, cause = error.cause(), "a cell's hosts are left out: {error}");
                Vec::new()
            })
        });
        let hosts = join_all(asked).await.into_iter().flatten();
        hosts
            .map(|host| {
                let up = self.is_up(&host, now);
                (host, up)
            })
            .collect()
    }

    pub(crate) fn is_up(&self, host: &Host, now: Timestamp) -> bool {
        !host.forced_down && now.since(host.last_seen) <= self.config.service_down()
    }

    /// The pools of these hosts, each once.
    pub(crate) fn distinct_pools(hosts: &[HostView]) -> Vec<&Pool> {
        let mut seen: BTreeSet<PoolId> = BTreeSet::new();
        hosts.iter().flat_map(|host| &host.pools).filter(|pool| seen.insert(pool.id)).collect()
    }

    /// Ids and names of the servers on a host.
    pub(crate) async fn servers_on(&self, hosts: &[HostView]) -> BTreeMap<String, Vec<(ServerId, String)>> {
        let mut by_host: BTreeMap<String, Vec<(ServerId, String)>> = BTreeMap::new();
        for cell in self.cells.with_hosts() {
            for view in hosts {
                let name = &view.host.name;
                let reading = async { read!(cell.db, "servers on host", |tx| servers::on_host(tx, name).await) };
                let found = self.in_time(reading).await.unwrap_or_default();
                let named = found.into_iter().map(|server| (server.id, server.state.name));
                by_host.entry(name.clone()).or_default().extend(named);
            }
        }
        by_host
    }

    /// Changes a host's service: enabled, disabled with a reason, forced down.
    pub(crate) async fn change_host(&self, find: HostFind<'_>, change: &HostChange) -> Result<Host> {
        let now = self.clock.now();
        for cell in self.cells.with_hosts() {
            let changed = self.change_host_in(&cell, &find, change, now).await?;
            if let Some(host) = changed {
                return Ok(host);
            }
        }
        Err(Error::not_found(match find {
            HostFind::Id(id) => format!("Service {id} could not be found."),
            HostFind::Name(name) => format!("Could not find binary nova-compute on host {name}."),
        }))
    }

    async fn change_host_in(
        &self,
        cell: &Arc<CellHandle>,
        find: &HostFind<'_>,
        change: &HostChange,
        now: Timestamp,
    ) -> Result<Option<Host>> {
        tx!(cell.db, "change host", |tx| {
            let host = match find {
                HostFind::Id(id) => umbel_placement::host(tx, *id).await?,
                HostFind::Name(name) => umbel_placement::host_by_name(tx, name).await?,
            };
            let Some(host) = host else {
                return Ok(None);
            };
            match &change.enabled {
                Some(Enabled::Yes) => umbel_placement::enable(tx, host.id, now).await?,
                Some(Enabled::No(reason)) => umbel_placement::disable(tx, host.id, reason, now).await?,
                None => {}
            }
            if let Some(down) = change.forced_down {
                umbel_placement::force_down(tx, host.id, down, now).await?;
            }
            umbel_placement::host(tx, host.id).await
        })
    }

    /// Whether a zone and a host that were asked for are there.
    pub(super) async fn check_place(&self, zone: Option<&str>, host: Option<&str>) -> Result<()> {
        if zone.is_none() && host.is_none() {
            return Ok(());
        }
        let hosts = self.hosts().await;
        if let Some(zone) = zone
            && !hosts.iter().any(|view| view.host.zone == zone && view.host.disabled.is_none())
        {
            return Err(Error::bad_request("The requested availability zone is not available"));
        }
        if let Some(name) = host
            && !hosts.iter().any(|view| view.host.name == name)
        {
            return Err(Error::bad_request(format!("Compute host {name} could not be found.")));
        }
        Ok(())
    }
}

pub(crate) enum HostFind<'a> {
    Id(HostId),
    Name(&'a str),
}

#[derive(Default)]
pub(crate) struct HostChange {
    pub enabled: Option<Enabled>,
    pub forced_down: Option<bool>,
}

pub(crate) enum Enabled {
    Yes,
    /// With the reason; empty for none.
    No(String),
}
