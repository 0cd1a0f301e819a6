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
mod names;
mod rows;
mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Mutex, watch};
use umbel_core::Result;
use umbel_driver::Pool;

pub use api::service;

use crate::config::Config;
use crate::roles::Roles;
use rows::{Aliases, Sources};

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct AuditConfig {
    /// Between two comparisons that nobody asked for; 0 for none.
    pub hours: u64,
    /// What differs is looked at again after so many seconds, and counts if it differs still.
    pub grace_seconds: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        AuditConfig { hours: 24, grace_seconds: 5 }
    }
}

/// After the start, so that restarts more often than `hours` do not mean that nobody ever looks.
const FIRST: Duration = Duration::from_secs(600);

/// The pools and databases of this process, side by side.
pub struct StorageAudit {
    pools: Vec<Arc<dyn Pool>>,
    sources: Sources,
    config: AuditConfig,
    /// One comparison at a time: each asks for every disk of every pool.
    turn: Mutex<()>,
}

impl StorageAudit {
    /// None where no database knows anything of a pool that is here. The databases are at their newest version by now.
    pub async fn open(config: &Config, roles: &Roles, pools: Vec<Arc<dyn Pool>>) -> Result<Option<Arc<StorageAudit>>> {
        if pools.is_empty() {
            return Ok(None);
        }
        let sources = Sources::open(config, roles).await?;
        if sources.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(StorageAudit { pools, sources, config: config.audit.clone(), turn: Mutex::new(()) })))
    }

    /// Compares from time to time and tells the log, until `stop`.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        if self.config.hours == 0 {
            let _ = stop.wait_for(|stop| *stop).await;
            return;
        }
        let period = Duration::from_secs(self.config.hours.saturating_mul(3600));
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
                tracing::info!(disks = audit.disks, foreign = audit.foreign.len(), "pools and databases agree");
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
