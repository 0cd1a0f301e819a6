//! The volume service: Cinder's API v3 over pools.
//!
//! Layers: `api` turns requests into calls, `service` holds the rules, `store` the rows, `flows` what takes longer than
//! a request. The data plane runs here too: a backend is a pool, and any process that reaches the pool does any work.
//! (Refused: a process for each backend that alone may touch it, as upstream has it. It needs a message queue, and its
//! death leaves volumes in `creating` until somebody resets them.)
//!
//! * A volume is the disk `volume-<id>` in its backend's pool, a snapshot is `snapshot-<id>` of that disk.
//! * A change that users see is a row and a flow, written in one transaction. A process that dies leaves the flow to
//!   the next.
//! * Quotas are what is there: the sums over the rows, taken in the transaction that adds one. There is no table of
//!   reservations that could go wrong.
//! * Deletion is at once: the row is out of sight and out of the quota before the data are gone. Clones of what was
//!   deleted live on; nothing is copied to delete.

mod access;
mod api;
pub mod backup;
mod blocks;
mod config;
mod flows;
mod listing;
pub mod model;
mod qcow2;
mod service;
pub mod store;

use std::sync::Arc;

use tokio::sync::Semaphore;
use umbel_core::{Clock, Error, Result, Rng};
use umbel_db::Db;
use umbel_driver::Pool;
use umbel_workflow::{Nudge, Process};

use crate::backup::Targets;

pub use access::{ImageAccess, ServerAccess};
pub use api::service;
pub use config::Config;
pub use store::Volume;

/// A pool as a place for volumes.
pub struct Backend {
    /// The pool's name. It stands in the database: a backend that has volumes keeps it.
    pub name: String,
    pub pool: Arc<dyn Pool>,
    /// `rbd`, `local` or `simulated`: what `connection_info` says.
    pub driver: String,
    /// Where volumes go if their type does not say.
    pub default: bool,
    pub connection: Connection,
}

/// What a client of the cluster needs to know to reach it; empty where there is no cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    pub hosts: Vec<String>,
    pub ports: Vec<String>,
    pub cluster_name: String,
    pub auth_username: String,
    pub fsid: String,
}

/// What a [`Volumes`] is made of.
pub struct VolumesParts {
    pub db: Db<Volume>,
    pub backends: Vec<Backend>,
    pub images: Arc<dyn ImageAccess>,
    pub servers: Arc<dyn ServerAccess>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub config: Config,
    /// Where other processes may take this one's flows over; none: the flows of one that is gone are taken over as they are.
    pub process: Option<Process>,
}

/// The service's state.
pub struct Volumes {
    pub(crate) db: Db<Volume>,
    pub(crate) backends: Vec<Backend>,
    pub(crate) images: Arc<dyn ImageAccess>,
    pub(crate) servers: Arc<dyn ServerAccess>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) config: Config,
    pub(crate) copying: Semaphore,
    pub(crate) flattening: Semaphore,
    pub(crate) backups: Targets,
    pub(crate) backup_turns: Semaphore,
    pub(crate) nudge: Nudge,
    pub(crate) process: Option<Process>,
}

impl Volumes {
    /// The first backend is the default if none says so.
    ///
    /// # Errors
    /// `BadRequest` for no backends, two of one name, a name that host strings cannot hold, or several defaults.
    pub fn new(parts: VolumesParts) -> Result<Arc<Self>> {
        let VolumesParts { db, backends, images, servers, clock, rng, config, process } = parts;
        let distinct: std::collections::BTreeSet<&str> = backends.iter().map(|one| one.name.as_str()).collect();
        let valid = |one: &Backend| !one.name.is_empty() && one.name.len() <= 64 && !one.name.contains(['@', '#']);
        if backends.is_empty() || distinct.len() != backends.len() || !backends.iter().all(valid) {
            return Err(Error::bad_request("The volume service needs backends with distinct names without @ and #."));
        }
        if backends.iter().filter(|one| one.default).count() > 1 {
            return Err(Error::bad_request("Only one volume backend can be the default."));
        }
        let pools: Vec<_> = backends.iter().map(|one| one.pool.clone()).collect();
        let backups = Targets::new(&config.backup, &pools)?;
        Ok(Arc::new(Volumes {
            backups,
            backup_turns: Semaphore::new(config.backup.concurrency.max(1)),
            copying: Semaphore::new(config.copy_concurrency.max(1)),
            flattening: Semaphore::new(config.flatten_concurrency.max(1)),
            nudge: Nudge::default(),
            db,
            backends,
            images,
            servers,
            clock,
            rng,
            config,
            process,
        }))
    }

    /// The backend of this name, which a volume's row has.
    ///
    /// # Errors
    /// `Unavailable`: the configuration does not have it any more.
    pub fn backend(&self, name: &str) -> Result<&Backend> {
        let found = self.backends.iter().find(|backend| backend.name == name);
        found.ok_or_else(|| Error::unavailable(format!("The storage backend '{name}' is not configured.")))
    }

    pub fn default_backend(&self) -> &Backend {
        self.backends.iter().find(|backend| backend.default).unwrap_or(&self.backends[0])
    }

    /// `umbel@volumes#volumes`.
    pub fn host_string(&self, backend: &str) -> String {
        format!("{}@{backend}#{backend}", self.config.host)
    }
}
