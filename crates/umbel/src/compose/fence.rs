//! What keeps two processes with one role from each other's disks.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use umbel_core::{Error, Kind, Result};
use umbel_driver::Pool;
use umbel_workflow::{Fence, Process};

use super::Storage;
use crate::config::{Config, PoolDriver};

/// Shuts processes out of the pools that a service works on.
struct Pools(Vec<Arc<dyn Pool>>);

#[async_trait]
impl Fence for Pools {
    async fn shut_out(&self, process: &str) -> Result<()> {
        for pool in &self.0 {
            pool.shut_out(process).await?;
        }
        Ok(())
    }
}

impl Storage {
    /// This process, for a service that works on these pools.
    pub(super) fn process<'a>(&self, pools: impl IntoIterator<Item = &'a String>) -> Result<Process> {
        let pools = pools.into_iter().map(|pool| self.pool(pool)).collect::<Result<_>>()?;
        Ok(Process { name: self.process.clone(), fence: Arc::new(Pools(pools)) })
    }
}

/// Held for as long as a service works: on one database, one process with a role changes a directory of local pools. Nothing
/// could shut another one out, and two of them could not stand for each other's machine. Clouds with databases of their own
/// may share a directory, as they may share a pool in Ceph.
#[derive(Debug)]
pub(super) struct Alone(#[expect(dead_code, reason = "files are locked while they are open")] Vec<File>);

impl Alone {
    /// `database`: its URL, where it is on a server. A file has one process anyway.
    pub fn hold<'a>(
        config: &Config,
        (role, database): (&str, &Option<String>),
        pools: impl IntoIterator<Item = &'a String>,
    ) -> Result<Alone> {
        let Some(database) = database.as_deref().filter(|url| !url.starts_with("sqlite:")) else {
            return Ok(Alone(Vec::new()));
        };
        let names: Vec<_> = pools.into_iter().collect();
        let mut roots: Vec<PathBuf> = Vec::new();
        for pool in config.effective_pools().into_iter().filter(|pool| names.contains(&&pool.name)) {
            if let PoolDriver::Local { path } = pool.driver {
                roots.push(path.unwrap_or_else(|| config.dir.join("pools")));
            }
        }
        roots.sort();
        roots.dedup();
        roots.into_iter().map(|root| lock(&root, role, database)).collect::<Result<_>>().map(Alone)
    }
}

fn lock(root: &Path, role: &str, database: &str) -> Result<File> {
    // Host, port and name; no password.
    let place = database.rsplit(['@']).next().unwrap_or_default();
    let place: String = place.chars().map(|one| if one.is_ascii_alphanumeric() { one } else { '_' }).collect();
    let path = root.join(format!(".{role}.{place}.lock"));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Error::new(Kind::Unavailable, format!("{} cannot be used: {error}.", path.display())))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let root = root.display();
        Error::conflict(format!(
            "Another umbel with the role {role} on this database uses the local pools in {root}. Stop it, or give this one \
             pools of its own."
        ))
    })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_of_a_cloud_with_a_role_has_a_directory_of_pools() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { dir: dir.path().to_owned(), ..Config::default() };
        std::fs::create_dir_all(dir.path().join("pools")).unwrap();
        let pools = ["images".to_owned(), "volumes".to_owned()];
        let (ours, theirs) =
            ["postgres://u:p@db/volume", "postgres://u:p@db/other"].map(|url| Some(url.to_owned())).into();
        let first = Alone::hold(&config, ("volume", &ours), &pools).unwrap();
        let refused = Alone::hold(&config, ("volume", &ours), &pools[1..]).unwrap_err();
        assert!(refused.message().contains("role volume"), "{refused}");
        Alone::hold(&config, ("image", &ours), &pools).unwrap();
        Alone::hold(&config, ("volume", &theirs), &pools).unwrap();
        Alone::hold(&config, ("volume", &None), &pools).unwrap();
        drop(first);
        Alone::hold(&config, ("volume", &ours), &pools).unwrap();
    }
}
