//! `umbel storage`: what pools have against what databases know, and who descends from whom.
//!
//! Both run in the process that has pools and databases open, behind a small API below `/storage`, and the command asks
//! them there. A command that opened the pools itself was refused: a second store over the same directory would not see
//! the locks of the first, and a second client of a Ceph cluster takes its predecessor of the same directory for dead.
//!
//! [`names`] says whose a disk is, [`rows`] reads the databases, [`compare`] compares, [`audit`] asks the pools and mends,
//! [`tree`] follows clones, [`draw`] and [`command`] are the other end.

mod api;
mod audit;
pub mod command;
mod compare;
mod draw;
mod last;
mod names;
mod progress;
mod rows;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Mutex, watch};
use umbel_core::{Clock, Result};
use umbel_driver::Pool;
use umbel_volume::backup::DirectoryTarget;

pub use api::service;

use crate::config::Config;
use crate::roles::Roles;
use last::Last;
use rows::{Aliases, Sources};

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct AuditConfig {
    /// Between two comparisons that nobody asked for; 0 for none.
    pub hours: f64,
    /// What differs is looked at again after so many seconds, and counts if it differs still.
    pub grace_seconds: u64,
    /// A removed disk whose last clone is gone counts if it is there after so many seconds: the services' own sweeps,
    /// each 15 seconds if nothing else is configured, take it before.
    pub hidden_seconds: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        AuditConfig { hours: 24.0, grace_seconds: 5, hidden_seconds: 30 }
    }
}

impl AuditConfig {
    /// None: only when asked. What is no time at all counts as never.
    fn period(&self) -> Option<Duration> {
        let period = Duration::try_from_secs_f64(self.hours * 3600.0).ok()?;
        (!period.is_zero()).then(|| period.max(SHORTEST))
    }
}

/// Between two comparisons, however short a time is configured.
const SHORTEST: Duration = Duration::from_secs(1);

/// After the start, so that restarts more often than `hours` do not mean that nobody ever looks.
const FIRST: Duration = Duration::from_secs(600);

/// What is compared with the databases.
pub struct AuditParts<'a> {
    pub pools: Vec<Arc<dyn Pool>>,
    /// The directory of backups, if there is one.
    pub backups: Option<&'a Path>,
    pub clock: Arc<dyn Clock>,
}

/// The pools and databases of this process, side by side.
pub struct StorageAudit {
    pools: Vec<Arc<dyn Pool>>,
    /// Where backups are files.
    backups: Option<DirectoryTarget>,
    sources: Sources,
    config: AuditConfig,
    /// What the last comparison has found.
    last: Last,
    /// One comparison at a time: each asks for every disk of every pool.
    turn: Mutex<()>,
}

impl StorageAudit {
    /// None where no database knows anything of a pool that is here. The databases are at their newest version by now.
    pub async fn open(config: &Config, roles: &Roles, parts: AuditParts<'_>) -> Result<Option<Arc<StorageAudit>>> {
        let AuditParts { pools, backups, clock } = parts;
        if pools.is_empty() {
            return Ok(None);
        }
        let sources = Sources::open(config, roles).await?;
        if sources.is_empty() {
            return Ok(None);
        }
        let backups = backups.filter(|_| sources.has_volumes()).map(DirectoryTarget::new);
        let (config, last) = (config.audit.clone(), Last::new(clock));
        Ok(Some(Arc::new(StorageAudit { pools, backups, sources, config, last, turn: Mutex::new(()) })))
    }

    /// What the last comparison has found, in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.last.metrics()
    }

    /// Compares from time to time and tells the log, until `stop`.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let Some(period) = self.config.period() else {
            let _ = stop.wait_for(|stop| *stop).await;
            return;
        };
        let mut pause = period.min(FIRST);
        while tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_err() {
            tokio::select! {
                () = self.tell() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            pause = period;
        }
    }

    async fn tell(&self) {
        match self.audit().await {
            Ok(audit) if audit.findings.is_empty() => {
                tracing::info!(
                    disks = audit.disks,
                    foreign = audit.foreign.len(),
                    unmanaged = audit.unmanaged.len(),
                    "pools and databases agree"
                );
            }
            Ok(audit) => {
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                audit.findings.iter().for_each(|found| *counts.entry(found.kind.name()).or_default() += 1);
                tracing::warn!(
                    disks = audit.disks,
                    findings = audit.findings.len(),
                    ?counts,
                    "pools and databases differ: `umbel storage audit` says where"
                );
            }
            Err(error) => tracing::warn!(cause = error.cause(), "pools and databases were not compared: {error}"),
        }
    }

    /// The name that stands for each pool. Of a cluster that was never reached nothing is known.
    fn aliases(&self) -> Aliases {
        let mut first: BTreeMap<(String, String, String), String> = BTreeMap::new();
        let mut names = BTreeMap::new();
        for pool in &self.pools {
            let at = pool.location("disk", "snapshot");
            let name = pool.name().to_owned();
            let stands = match at.cluster.is_empty() {
                true => name.clone(),
                false => first.entry((at.scheme, at.cluster, at.pool)).or_insert_with(|| name.clone()).clone(),
            };
            names.insert(name, stands);
        }
        Aliases(names)
    }

    fn pool(&self, name: &str) -> Option<&Arc<dyn Pool>> {
        self.pools.iter().find(|pool| pool.name() == name)
    }
}
