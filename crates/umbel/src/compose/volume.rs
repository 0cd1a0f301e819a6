//! The volume service over the configured pools.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use umbel_core::Result;
use umbel_driver::Pool;
use umbel_volume::{Backend, Connection, Volumes, VolumesParts};

use super::fence::Alone;
use super::{Behind, Parts, Storage, migrated};
use crate::config::{Config, PoolDriver};
use crate::neighbours::Neighbours;

/// None where no pool is for volumes.
pub(super) async fn volume(
    parts: &Parts<'_>,
    storage: &Storage,
    behind: &mut Vec<Behind>,
) -> Result<Option<Arc<Volumes>>> {
    let names = parts.config.volume_pools();
    if names.is_empty() {
        return Ok(None);
    }
    let backend = |(number, name): (usize, &String)| storage.backend(parts.config, name, number == 0);
    let neighbours = Arc::new(Neighbours::new(parts.login.clone()));
    let mut config = parts.config.volume.options.clone();
    config.backup.directory = backups(parts);
    let alone = Alone::hold(parts.config, ("volume", &parts.config.database.volume), &names)?;
    let volumes = Volumes::new(VolumesParts {
        db: migrated(parts.config, &parts.config.database.volume, "volume").await?,
        backends: names.iter().enumerate().map(backend).collect::<Result<_>>()?,
        images: neighbours.clone(),
        servers: neighbours,
        clock: parts.clock.clone(),
        rng: parts.rng.clone(),
        config,
        process: Some(storage.process(&names)?),
    })?;
    if parts.config.database.volume.is_none() {
        // As with the conductor's flows.
        volumes.take_over().await?;
    }
    let kept = volumes.clone();
    behind.push(Behind::new(move |mut stop| async move {
        let _alone = alone;
        kept.run_background(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await;
    }));
    Ok(Some(volumes))
}

/// The directory of backups: below the state if nothing else is configured, and none where they go to a pool alone.
pub(super) fn backups(parts: &Parts<'_>) -> Option<PathBuf> {
    let config = &parts.config.volume.options.backup;
    let otherwise = || config.pool.is_none().then(|| parts.state.join("backups"));
    config.directory.clone().or_else(otherwise)
}

impl Storage {
    /// A pool as a place for volumes, with what other clients of its cluster must know.
    fn backend(&self, config: &Config, name: &str, default: bool) -> Result<Backend> {
        let pool = self.pool(name)?;
        let driver = self.pools.iter().find(|one| one.pool.name() == name).map(|one| one.driver.clone());
        let configured = config.effective_pools().into_iter().find(|one| one.name == name).map(|one| one.driver);
        let connection = match configured {
            Some(PoolDriver::Rbd { conf, user, .. }) => connection(&conf, &user, &*pool),
            _ => Connection::default(),
        };
        Ok(Backend { name: name.to_owned(), pool, driver: driver.unwrap_or_default(), default, connection })
    }
}

/// What `connection_info` tells of a cluster. The monitors are those of its ceph.conf.
fn connection(conf: &Path, user: &str, pool: &dyn Pool) -> Connection {
    let text = std::fs::read_to_string(conf).unwrap_or_default();
    let value = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let same = |name: &str| name.trim().replace([' ', '-'], "_") == key;
        lines.into_iter().find(|(name, _)| same(name)).map(|(_, value)| value.trim().to_owned())
    };
    let monitors = value("mon_host").unwrap_or_default();
    let (hosts, ports) = monitors_of(&monitors);
    Connection {
        hosts,
        ports,
        cluster_name: "ceph".to_owned(),
        auth_username: user.to_owned(),
        fsid: pool.location("x", "x").cluster,
    }
}

/// Addresses and ports of `mon host`: `10.0.0.1`, `10.0.0.1:6789`, `[v2:10.0.0.1:3300,v1:10.0.0.1:6789]`. Of a monitor
/// with both protocols the older one's port, which clients that read these understand.
fn monitors_of(text: &str) -> (Vec<String>, Vec<String>) {
    let mut found: Vec<(String, String)> = Vec::new();
    for word in text.split([',', ' ', '[', ']']).filter(|word| !word.is_empty() && !word.starts_with("v2:")) {
        let word = word.trim_start_matches("v1:");
        let (host, port) = word.rsplit_once(':').unwrap_or((word, "6789"));
        found.push((host.to_owned(), port.split('/').next().unwrap_or(port).to_owned()));
    }
    found.into_iter().unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_are_read_in_every_form() {
        let check = |text: &str, want: &[(&str, &str)]| {
            let (hosts, ports) = monitors_of(text);
            let found: Vec<(&str, &str)> = hosts.iter().zip(&ports).map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(found, want, "{text}");
        };
        check("10.0.0.1", &[("10.0.0.1", "6789")]);
        check("10.0.0.1:6790, 10.0.0.2", &[("10.0.0.1", "6790"), ("10.0.0.2", "6789")]);
        check("[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]", &[("10.0.0.1", "6789")]);
        check("", &[]);
    }
}
