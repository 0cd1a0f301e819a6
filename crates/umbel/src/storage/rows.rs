//! What the databases say of disks. The audit has connections of its own, few and only read from, so that it cannot keep
//! requests waiting; the rows are read through the services' own store functions.

use std::collections::BTreeMap;

use umbel_api::storage::{BACKUPS, Owner};
use umbel_compute::{Api, Cell};
use umbel_core::{Error, Result};
use umbel_db::{Db, Schema, Tx, read};
use umbel_image::Image;
use umbel_volume::Volume;
use umbel_volume::store::audit::KnownBackup;

use super::compare::Known;
use super::names::{self, Noun};
use crate::cli::Role;
use crate::config::Config;
use crate::roles::Roles;

/// Reads of one schema follow each other.
const CONNECTIONS: u32 = 1;

/// The databases of the roles in this process.
pub struct Sources {
    pub(super) image: Option<Db<Image>>,
    pub(super) volume: Option<Db<Volume>>,
    api: Option<Db<Api>>,
    cells: Vec<Db<Cell>>,
    /// The host whose own pools are reached from here; simulated ones are `<host>-<number>`.
    host: Option<String>,
}

/// Pools of several names that are one and the same in Ceph: each name with the one that stands for all.
pub struct Aliases(pub BTreeMap<String, String>);

impl Aliases {
    pub fn of<'a>(&'a self, pool: &'a str) -> &'a str {
        self.0.get(pool).map_or(pool, String::as_str)
    }
}

impl Sources {
    pub async fn open(config: &Config, roles: &Roles) -> Result<Sources> {
        let database = &config.database;
        let compute = roles.has(Role::Compute) || roles.has(Role::Conductor);
        // Without a pool for volumes the service is not there, and its database neither.
        let volumes = roles.has(Role::Volume) && !config.volume_pools().is_empty();
        let mut cells = Vec::new();
        for (name, configured) in database.cells.iter().filter(|_| compute) {
            cells.push(open(config, true, configured, name).await?);
        }
        Ok(Sources {
            image: open(config, roles.has(Role::Image), &database.image, "image").await?,
            volume: open(config, volumes, &database.volume, "volume").await?,
            api: open(config, compute, &database.api, "api").await?,
            cells: cells.into_iter().flatten().collect(),
            host: roles.has(Role::Agent).then(|| host_name(config)),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.nouns().is_empty()
    }

    pub fn has_volumes(&self) -> bool {
        self.volume.is_some()
    }

    fn nouns(&self) -> Vec<Noun> {
        let image = self.image.as_ref().map(|_| Noun::Image);
        let volume = self.volume.as_ref().map(|_| Noun::Volume);
        let server = self.cells.first().map(|_| Noun::Server);
        [image, volume, server].into_iter().flatten().collect()
    }

    /// All disks that rows know, and what workflows work on.
    pub async fn known(&self, pools: &Aliases) -> Result<Known> {
        let mut known = Known { nouns: self.nouns().into_iter().collect(), ..Known::default() };
        if let Some(db) = &self.image {
            let (disks, flows) = read!(db, "audit images", |tx| {
                let disks = umbel_image::store::audit::disks(tx).await?;
                Ok((disks, busy(tx).await?))
            })?;
            known.busy.extend(flows);
            for disk in disks {
                let owner = owner(Noun::Image, disk.image, disk.name);
                let row = known.add(pools.of(&disk.store), &disk.disk, owner, disk.expected);
                // Whether it has the snapshot depends on its format and on what has been done with it.
                row.snapshots.insert(umbel_image::SNAPSHOT.to_owned(), false);
            }
        }
        if let Some(db) = &self.api {
            known.busy.extend(read!(db, "audit flows", |tx| busy(tx).await)?);
        }
        for db in &self.cells {
            let (disks, flows) = read!(db, "audit servers", |tx| {
                let disks = umbel_compute::store::audit::disks(tx).await?;
                Ok((disks, busy(tx).await?))
            })?;
            known.busy.extend(flows);
            for disk in disks {
                let here = disk.host.as_deref().is_none_or(|host| self.reaches(host));
                let owner = owner(Noun::Server, disk.server, disk.name);
                known.add(pools.of(&disk.pool), &disk.disk, owner, disk.expected && here);
            }
        }
        if let Some(db) = &self.volume {
            volumes(db, pools, &mut known).await?;
        }
        Ok(known)
    }

    /// Whether a host's own pools are those of this process.
    fn reaches(&self, host: &str) -> bool {
        let Some(own) = &self.host else { return false };
        let number = host.strip_prefix(own.as_str()).and_then(|rest| rest.strip_prefix('-'));
        host == own || number.is_some_and(|number| number.parse::<u32>().is_ok())
    }

    /// Things of these nouns with this id or name.
    pub async fn find(&self, nouns: &[Noun], text: &str) -> Result<Vec<Owner>> {
        let mut found = Vec::new();
        if let Some(db) = self.image.as_ref().filter(|_| nouns.contains(&Noun::Image)) {
            let images = read!(db, "find images", |tx| umbel_image::store::audit::find(tx, text).await)?;
            found.extend(images.into_iter().map(|(id, name)| owner(Noun::Image, id, name)));
        }
        for db in self.cells.iter().filter(|_| nouns.contains(&Noun::Server)) {
            let servers = read!(db, "find servers", |tx| umbel_compute::store::audit::find(tx, text).await)?;
            found.extend(servers.into_iter().map(|(id, name)| owner(Noun::Server, id, name)));
        }
        if let Some(db) = self.volume.as_ref().filter(|_| nouns.contains(&Noun::Volume)) {
            let volumes = read!(db, "find volumes", |tx| umbel_volume::store::audit::find(tx, text).await)?;
            found.extend(volumes.into_iter().map(|(id, name)| owner(Noun::Volume, id, name)));
        }
        Ok(found)
    }

    /// Ids of the volumes that a server has: its disks that are not its own.
    pub async fn volumes_of(&self, server: &str) -> Result<Vec<String>> {
        let mut volumes = Vec::new();
        let Ok(id) = server.parse() else { return Ok(volumes) };
        for db in &self.cells {
            volumes.extend(read!(db, "find volumes of a server", |tx| {
                umbel_compute::store::audit::volumes(tx, id).await
            })?);
        }
        Ok(volumes)
    }
}

async fn volumes(db: &Db<Volume>, pools: &Aliases, known: &mut Known) -> Result<()> {
    let (disks, backups, unmanaged, flows) = read!(db, "audit volumes", |tx| {
        let disks = umbel_volume::store::audit::disks(tx).await?;
        let backups = umbel_volume::store::audit::backups(tx).await?;
        let unmanaged = umbel_volume::store::unmanaged::list(tx).await?;
        Ok((disks, backups, unmanaged, busy(tx).await?))
    })?;
    known.busy.extend(flows);
    let unmanaged =
        unmanaged.into_iter().map(|one| ((pools.of(&one.backend).to_owned(), one.disk, one.snapshot), one.at));
    known.unmanaged.extend(unmanaged);
    let mut places: BTreeMap<String, (String, String)> = BTreeMap::new();
    for disk in disks {
        let owner = owner(Noun::Volume, &disk.id, disk.name);
        let pool = pools.of(&disk.backend);
        places.insert(disk.id, (pool.to_owned(), disk.disk.clone()));
        match disk.snapshot {
            None => drop(known.add(pool, &disk.disk, owner, disk.expected)),
            Some(name) => {
                known.add(pool, &disk.disk, owner, false).snapshots.insert(name, disk.expected);
            }
        }
    }
    backups.iter().for_each(|backup| add_backup(backup, pools, &places, known));
    // A directory keeps of an increment what has changed: it is nothing without the data before it. That data's own row
    // comes first, as the one to be named.
    for backup in backups.iter().filter(|backup| backup.expected && !backup.target.starts_with(IN_POOL)) {
        let owner = backup_owner(backup);
        if let Some(data) = &backup.parent {
            known.add(BACKUPS, data, owner, true);
        }
    }
    Ok(())
}

/// Before the pool's name, where a backup is in one.
const IN_POOL: &str = "pool:";

/// A backup's data, and the snapshot of its volume that the next increment is compared with.
fn add_backup(backup: &KnownBackup, pools: &Aliases, places: &BTreeMap<String, (String, String)>, known: &mut Known) {
    let owner = backup_owner(backup);
    if let Some((volume, name)) = &backup.source
        && let Some((pool, disk)) = places.get(volume)
    {
        // It is the volume's too, and may be gone: the increment is then made by reading.
        known.add(pool, disk, owner.clone(), false).snapshots.entry(name.clone()).or_insert(false);
    }
    match backup.target.strip_prefix(IN_POOL) {
        Some(pool) => {
            let disk = format!("volume-{}.backup.{}", backup.volume, backup.base);
            let row = known.add(pools.of(pool), &disk, owner, backup.expected);
            row.snapshots.insert(format!("backup.{}", backup.data), backup.expected);
        }
        None => drop(known.add(BACKUPS, &backup.data, owner, backup.expected)),
    }
}

fn backup_owner(backup: &KnownBackup) -> Owner {
    Owner { kind: "backup".to_owned(), id: backup.id.clone(), name: backup.name.clone() }
}

fn owner(noun: Noun, id: impl ToString, name: String) -> Owner {
    Owner { kind: noun.name().to_owned(), id: id.to_string(), name }
}

/// Everything that a flow names: what is in its hands, for as long as it runs.
async fn busy<S: Schema>(tx: &mut Tx<S>) -> Result<Vec<uuid::Uuid>> {
    let flows = umbel_workflow::under_way(tx).await?;
    Ok(flows.iter().flat_map(|(id, state)| [names::uuids(id), names::uuids(state)]).flatten().collect())
}

async fn open<S: Schema>(
    config: &Config,
    wanted: bool,
    configured: &Option<String>,
    name: &str,
) -> Result<Option<Db<S>>> {
    match wanted {
        true => {
            let opened = Db::open(&config.database_url(configured, name), CONNECTIONS).await;
            opened.map(Some).map_err(|error: Error| error.because("for the audit"))
        }
        false => Ok(None),
    }
}

/// As agents of this process call their host.
fn host_name(config: &Config) -> String {
    let own = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    config.agent.host.clone().unwrap_or_else(own)
}
