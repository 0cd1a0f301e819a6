use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use umbel_core::{Error, Result};
use umbel_driver::Pool;

use super::{BackupTarget, DirectoryTarget, PoolTarget};

/// `[volume.backup]`. With neither a directory nor a pool there are no backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupConfig {
    /// New backups are files below this directory, which the backup service of every host must see.
    pub directory: Option<PathBuf>,
    /// New backups are disks of this pool, if there is no directory. Backups that lie in the one stay readable when the
    /// other is added.
    pub pool: Option<String>,
    /// Snapshots of a volume that are kept for its next increment. With 0 every increment reads the whole volume.
    pub source_snapshots: usize,
    /// Backups and restores that one process copies at a time.
    pub concurrency: usize,
}

impl Default for BackupConfig {
    fn default() -> Self {
        BackupConfig { directory: None, pool: None, source_snapshots: 1, concurrency: 2 }
    }
}

/// The places for backups that are configured.
pub struct Targets {
    by_name: HashMap<String, Arc<dyn BackupTarget>>,
    default: Option<Arc<dyn BackupTarget>>,
}

impl Targets {
    /// `pools`: all that this process can reach. Fails if the configured one is none of them.
    pub fn new(config: &BackupConfig, pools: &[Arc<dyn Pool>]) -> Result<Targets> {
        let mut all: Vec<Arc<dyn BackupTarget>> = Vec::new();
        if let Some(directory) = &config.directory {
            all.push(Arc::new(DirectoryTarget::new(directory)));
        }
        if let Some(name) = &config.pool {
            let pool = pools.iter().find(|pool| pool.name() == name).ok_or_else(|| {
                Error::bad_request(format!("There is no pool '{name}' for backups; name one of the volume pools."))
            })?;
            all.push(Arc::new(PoolTarget::new(pool.clone())));
        }
        let default = all.first().cloned();
        let by_name = all.into_iter().map(|target| (target.name().to_owned(), target)).collect();
        Ok(Targets { by_name, default })
    }

    /// Where new backups go.
    pub fn default_target(&self) -> Result<&Arc<dyn BackupTarget>> {
        // Upstream's answer where no backup service runs.
        self.default.as_ref().ok_or_else(|| Error::unavailable("Service cinder-backup could not be found."))
    }

    /// The place of an existing backup.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn BackupTarget>> {
        self.by_name.get(name).ok_or_else(|| {
            Error::unavailable("The place of this backup is not configured.").because(format!("backup target {name}"))
        })
    }

    /// By the name that exported records have.
    pub fn by_service(&self, service: &str) -> Option<&Arc<dyn BackupTarget>> {
        self.by_name.values().find(|target| target.service() == service)
    }
}
