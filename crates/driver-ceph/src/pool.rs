use std::sync::Arc;

use async_trait::async_trait;
use umbel_core::{Error, Kind, Result};
use umbel_driver::{
    Attachment, ByteStream, Capacity, ChangeStream, Child, DiskInfo, Extent, Hidden, Limits, Location, Pool, Progress,
    Removed, Usage, WriteOptions, check_together,
};

use crate::cluster::CephCluster;
use crate::errno::{ENOENT, ENOSPC, Failed};
use crate::ffi::{Access, Connection, Image, IoCtx, Parent, Which};
use crate::{differ, limits, make, names, patch, point, remove, together, transfer};

const SCHEME: &str = "rbd";

/// A pool of a Ceph cluster.
pub struct CephPool {
    name: String,
    cluster: Arc<CephCluster>,
    ceph: CephName,
}

/// A pool as Ceph calls it; makes the sentences of errors.
#[derive(Clone)]
pub(crate) struct CephName(pub Arc<str>);

impl CephName {
    pub fn disk(&self, disk: &str) -> String {
        format!("Disk '{disk}' of pool '{}'", self.0)
    }

    pub fn snapshot(&self, disk: &str, snapshot: &str) -> String {
        format!("Snapshot '{snapshot}' of disk '{disk}' of pool '{}'", self.0)
    }

    /// Bytes that may be written to the pool; nothing if that is not known, and `NoSpace` if there are none.
    pub async fn room(&self, cluster: &CephCluster, disk: &str) -> Result<Option<u64>> {
        let free = match cluster.capacity(&self.0).await {
            Ok(capacity) => capacity.map(|capacity| capacity.free),
            // Monitors that are busy electing are no reason not to try: what is to be done needs them rarely, and waits longer.
            Err(error) if error.is(Kind::Timeout) => None,
            Err(error) => return Err(error),
        };
        match free {
            Some(0) => Err(self.full(disk)),
            free => Ok(free),
        }
    }

    /// In the words of Ceph's own refusal.
    pub fn full(&self, disk: &str) -> Error {
        Failed { errno: ENOSPC, call: "ceph df" }.about(&self.disk(disk))
    }

    /// A missing pool is a mistake in a configuration: it must not look like a missing disk.
    pub fn open(&self, connection: &Arc<Connection>) -> Result<IoCtx> {
        connection.pool(&self.0).map_err(|failed| {
            let subject = format!("Pool '{}'", self.0);
            if failed.is(ENOENT) {
                return Error::unavailable(format!("{subject} is not in the storage cluster.")).because(failed);
            }
            failed.about(&subject)
        })
    }
}

impl CephPool {
    /// `name` is what the configuration and the scheduler call it, `ceph_pool` its name in the cluster. Sends nothing.
    pub fn new(cluster: Arc<CephCluster>, name: impl Into<String>, ceph_pool: impl Into<Arc<str>>) -> Self {
        CephPool { name: name.into(), cluster, ceph: CephName(ceph_pool.into()) }
    }

    pub fn cluster(&self) -> &Arc<CephCluster> {
        &self.cluster
    }

    pub fn ceph_pool(&self) -> &str {
        &self.ceph.0
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CephName, &IoCtx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let ceph = self.ceph.clone();
        self.cluster.run(move |connection| work(&ceph, &ceph.open(connection)?)).await
    }

    async fn run_long<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CephName, &IoCtx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let ceph = self.ceph.clone();
        self.cluster.run_long(move |connection| work(&ceph, &ceph.open(connection)?)).await
    }

    /// Why a parent is out of reach of clones, without looking whether it is there.
    async fn reach(&self, parent: &Location) -> Result<Result<(), String>> {
        if parent.scheme != SCHEME {
            return Ok(Err(format!(
                "The image is kept in '{}' storage, and pool '{}' is in a Ceph cluster.",
                parent.scheme, self.name
            )));
        }
        let fsid = self.cluster.fsid().await?;
        if parent.cluster != fsid {
            return Ok(Err(format!(
                "The image is in the Ceph cluster {}, and pool '{}' is in the cluster {fsid}.",
                parent.cluster, self.name
            )));
        }
        Ok(Ok(()))
    }
}

#[async_trait]
impl Pool for CephPool {
    fn name(&self) -> &str {
        &self.name
    }

    /// The cluster's fsid is known once it has been connected to, or from its configuration file. Failing both it is
    /// empty, and such a location can be neither cloned from nor written and read again.
    fn location(&self, disk: &str, snapshot: &str) -> Location {
        Location {
            scheme: SCHEME.to_owned(),
            cluster: self.cluster.known_fsid().unwrap_or_default(),
            pool: self.ceph.0.to_string(),
            disk: disk.to_owned(),
            snapshot: snapshot.to_owned(),
        }
    }

    async fn capacity(&self) -> Result<Capacity> {
        self.cluster.capacity(&self.ceph.0).await?.ok_or_else(|| {
            Error::unavailable(format!("The capacity of pool '{}' is not known.", self.name))
                .because(format!("ceph df has no figures for pool {}", self.ceph.0))
        })
    }

    async fn list(&self) -> Result<Vec<String>> {
        self.run(|ceph, pool| pool.list().map_err(|failed| failed.about(&format!("Pool '{}'", ceph.0)))).await
    }

    async fn stat(&self, disk: &str) -> Result<Option<DiskInfo>> {
        let (ceph, disk) = (self.ceph.clone(), disk.to_owned());
        let look = move |connection: &Arc<Connection>| {
            let pool = ceph.open(connection)?;
            let about = |failed: Failed| failed.about(&ceph.disk(&disk));
            let image = match pool.open(Which::Name(&disk), None, Access::Read) {
                Err(failed) if failed.is(ENOENT) => return Ok(None),
                image => image.map_err(about)?,
            };
            let parent = image.parent().map_err(about)?.map(|parent| place(connection, parent)).transpose()?;
            let snapshots = image.snapshots().map_err(about)?.into_iter().filter(|snapshot| snapshot.visible);
            let snapshots = snapshots.map(|snapshot| snapshot.name).collect();
            Ok(Some(DiskInfo { size: image.size().map_err(about)?, parent, snapshots }))
        };
        self.cluster.run(look).await
    }

    async fn create(&self, disk: &str, size: u64) -> Result<()> {
        check_name(disk)?;
        self.ceph.room(&self.cluster, disk).await?;
        let disk = disk.to_owned();
        self.run(move |ceph, pool| make::create(pool, &disk, size).map_err(|failed| failed.about(&ceph.disk(&disk))))
            .await
    }

    async fn write(&self, disk: &str, data: ByteStream, options: WriteOptions) -> Result<u64> {
        check_name(disk)?;
        transfer::write(&self.cluster, &self.ceph, disk, data, options).await
    }

    async fn read(&self, disk: &str, snapshot: Option<&str>, offset: u64, length: u64) -> Result<ByteStream> {
        transfer::read(&self.cluster, &self.ceph, disk, snapshot, offset..offset.saturating_add(length)).await
    }

    async fn snapshot(&self, disk: &str, snapshot: &str) -> Result<()> {
        check_name(snapshot)?;
        let (disk, snapshot) = (disk.to_owned(), snapshot.to_owned());
        self.run(move |ceph, pool| {
            let image = pool.open(Which::Name(&disk), None, Access::Write).map_err(|f| f.about(&ceph.disk(&disk)))?;
            point::make(pool, &disk, &image, &snapshot).map_err(|failed| failed.about(&ceph.snapshot(&disk, &snapshot)))
        })
        .await
    }

    async fn snapshot_size(&self, disk: &str, snapshot: &str) -> Result<u64> {
        transfer::size_at(&self.cluster, &self.ceph, disk, snapshot).await
    }

    async fn remove_snapshot(&self, disk: &str, snapshot: &str) -> Result<()> {
        let (disk, snapshot) = (disk.to_owned(), snapshot.to_owned());
        self.run(move |ceph, pool| {
            point::remove(pool, &disk, &snapshot).map_err(|failed| {
                let subject = if failed.is(ENOENT) { ceph.disk(&disk) } else { ceph.snapshot(&disk, &snapshot) };
                failed.about(&subject)
            })
        })
        .await
    }

    async fn rollback(&self, disk: &str, snapshot: &str) -> Result<()> {
        let snapshot = snapshot.to_owned();
        self.run_long(with(disk, move |ceph, disk, image| {
            image.rollback(&snapshot).map_err(|failed| failed.about(&ceph.snapshot(disk, &snapshot)))
        }))
        .await
    }

    async fn can_clone(&self, parent: &Location) -> Result<(), String> {
        let unreachable = |error: Error| format!("Pool '{}' cannot clone: {}", self.name, error.message());
        self.reach(parent).await.map_err(unreachable)??;
        let (ceph, parent) = (CephName(parent.pool.as_str().into()), parent.clone());
        let look = move |connection: &Arc<Connection>| {
            let pool = ceph.open(connection)?;
            let open = pool.open(Which::Name(&parent.disk), Some(&parent.snapshot), Access::Read);
            open.map(drop).map_err(|failed| failed.about(&ceph.snapshot(&parent.disk, &parent.snapshot)))
        };
        self.cluster.run(look).await.map_err(unreachable)
    }

    async fn clone_disk(&self, parent: &Location, disk: &str, size: u64) -> Result<()> {
        check_name(disk)?;
        self.reach(parent).await?.map_err(Error::bad_request)?;
        self.ceph.room(&self.cluster, disk).await?;
        let (ceph, parent, disk) = (self.ceph.clone(), parent.clone(), disk.to_owned());
        self.cluster.run(move |connection| clone(connection, &ceph, &parent, &disk, size)).await
    }

    async fn resize(&self, disk: &str, size: u64) -> Result<()> {
        self.run(with(disk, move |ceph, disk, image| {
            let about = |failed: Failed| failed.about(&ceph.disk(disk));
            let have = image.size().map_err(about)?;
            if size < have {
                let why = format!("{} has {have} bytes and cannot shrink to {size}.", ceph.disk(disk));
                return Err(Error::bad_request(why));
            }
            if size > have { image.resize(size, false).map_err(about) } else { Ok(()) }
        }))
        .await
    }

    async fn flatten(&self, disk: &str, progress: Progress) -> Result<()> {
        self.run_long(with(disk, move |ceph, disk, image| {
            let about = |failed: Failed| failed.about(&ceph.disk(disk));
            if image.parent().map_err(about)?.is_none() {
                return Ok(());
            }
            let size = image.size().map_err(about)?;
            let told =
                |done: u64, all: u64| progress((u128::from(size) * u128::from(done) / u128::from(all.max(1))) as u64);
            image.flatten(&told).map_err(about)
        }))
        .await
    }

    /// [`Kind::Busy`](umbel_core::Kind::Busy) while a guest, or what the cluster still takes for one (30 s after a
    /// hypervisor was killed), has the disk open.
    async fn remove(&self, disk: &str) -> Result<Removed> {
        let disk = disk.to_owned();
        self.run_long(move |ceph, pool| remove::remove(ceph, pool, &disk)).await
    }

    /// Frees only what [`Pool::remove`] has hidden: whatever else is in the pool's trash is left to whoever put it there.
    async fn purge(&self) -> Result<Vec<String>> {
        let Some(turn) = self.cluster.turn_to_purge().await else {
            return Ok(Vec::new());
        };
        // Kept by the work itself, which goes on when nobody waits for it any more.
        self.run_long(move |ceph, pool| {
            let _turn = turn;
            remove::purge(ceph, pool)
        })
        .await
    }

    fn attachment(&self, disk: &str) -> Attachment {
        let config = self.cluster.config();
        Attachment::Rbd {
            pool: self.ceph.0.to_string(),
            image: disk.to_owned(),
            user: config.user.clone(),
            conf: config.conf.clone(),
        }
    }

    async fn rename(&self, disk: &str, to: &str) -> Result<()> {
        check_name(to)?;
        let (disk, to) = (disk.to_owned(), to.to_owned());
        self.run(move |ceph, pool| names::rename(ceph, pool, &disk, &to)).await
    }

    async fn rename_snapshot(&self, disk: &str, snapshot: &str, to: &str) -> Result<()> {
        check_name(to)?;
        let (disk, snapshot, to) = (disk.to_owned(), snapshot.to_owned(), to.to_owned());
        self.run(move |ceph, pool| names::rename_snapshot(ceph, pool, &disk, &snapshot, &to)).await
    }

    async fn snapshot_together(&self, disks: &[(&str, &str)]) -> Result<()> {
        check_together(disks)?;
        if let [(disk, snapshot)] = disks {
            return self.snapshot(disk, snapshot).await;
        }
        disks.iter().try_for_each(|(_, snapshot)| check_name(snapshot))?;
        let disks: Vec<_> = disks.iter().map(|(disk, snapshot)| ((*disk).to_owned(), (*snapshot).to_owned())).collect();
        self.run_long(move |ceph, pool| together::snapshot(ceph, pool, &disks)).await
    }

    async fn diff(&self, disk: &str, from: Option<&str>, to: Option<&str>) -> Result<Vec<Extent>> {
        let (disk, from, to) = (disk.to_owned(), from.map(str::to_owned), to.map(str::to_owned));
        self.run_long(move |ceph, pool| differ::diff(ceph, pool, &disk, from.as_deref(), to.as_deref())).await
    }

    async fn patch(&self, disk: &str, changes: ChangeStream, progress: Progress) -> Result<u64> {
        patch::patch(&self.cluster, &self.ceph, disk, changes, &progress).await
    }

    async fn children(&self, disk: &str, snapshot: &str) -> Result<Vec<Child>> {
        let (disk, snapshot) = (disk.to_owned(), snapshot.to_owned());
        self.run(move |ceph, pool| names::children(ceph, pool, &disk, &snapshot)).await
    }

    /// Whole objects, so that a byte counts as 4 MiB.
    async fn usage(&self, disk: &str) -> Result<Usage> {
        let disk = disk.to_owned();
        self.run_long(move |ceph, pool| differ::usage(ceph, pool, &disk)).await
    }

    async fn hidden(&self) -> Result<Vec<Hidden>> {
        self.run_long(names::hidden).await
    }

    async fn limit(&self, disk: &str, limits: &Limits) -> Result<()> {
        limits.check()?;
        let (disk, limits) = (disk.to_owned(), limits.clone());
        self.run(move |ceph, pool| limits::set(ceph, pool, &disk, &limits)).await
    }

    async fn limits(&self, disk: &str) -> Result<Limits> {
        let disk = disk.to_owned();
        self.run(move |ceph, pool| limits::get(ceph, pool, &disk)).await
    }

    async fn shut_out(&self, process: &str) -> Result<()> {
        self.cluster.shut_out(&self.ceph, process).await
    }
}

/// Runs `work` with the disk open for writing.
fn with<T, F>(disk: &str, work: F) -> impl FnOnce(&CephName, &IoCtx) -> Result<T> + use<T, F>
where
    F: FnOnce(&CephName, &str, &Image) -> Result<T>,
{
    let disk = disk.to_owned();
    move |ceph, pool| {
        let image = pool.open(Which::Name(&disk), None, Access::Write).map_err(|f| f.about(&ceph.disk(&disk)))?;
        work(ceph, &disk, &image)
    }
}

fn clone(connection: &Arc<Connection>, ceph: &CephName, parent: &Location, disk: &str, size: u64) -> Result<()> {
    let from = CephName(parent.pool.as_str().into());
    let (from_pool, pool) = (from.open(connection)?, ceph.open(connection)?);
    make::clone(&from_pool, (&parent.disk, &parent.snapshot), &pool, disk).map_err(|failed| {
        // What is missing can only be the parent, and whatever else goes wrong concerns the clone.
        let missing = failed.is(ENOENT).then(|| from.snapshot(&parent.disk, &parent.snapshot));
        failed.about(&missing.unwrap_or_else(|| ceph.disk(disk)))
    })?;
    if size == 0 {
        return Ok(());
    }
    let grown = pool.open(Which::Name(disk), None, Access::Write).and_then(|image| {
        // librbd has no clone of another size. A caller that crashed in between meets a clone that is too small.
        if image.size()? < size { image.resize(size, false) } else { Ok(()) }
    });
    grown.map_err(|failed| {
        if let Err(left) = pool.remove(disk) {
            tracing::error!(disk, pool = %ceph.0, error = %left, "a clone that could not be grown is left behind");
        }
        failed.about(&ceph.disk(disk))
    })
}

/// Where a parent is. Of a snapshot that was removed, under the name that it had.
fn place(connection: &Arc<Connection>, parent: Parent) -> Result<Location> {
    let ceph = CephName(parent.pool.as_str().into());
    let mut snapshot = parent.snapshot;
    if parent.snapshot_in_trash {
        let named = ceph.open(connection)?.open(Which::Id(&parent.image_id), None, Access::Read);
        let named = named.and_then(|image| image.name_before_removal(parent.snapshot_id));
        snapshot = named.map_err(|failed| failed.about(&ceph.snapshot(&parent.image, &snapshot)))?;
    }
    Ok(Location {
        scheme: SCHEME.to_owned(),
        cluster: connection.fsid().to_owned(),
        pool: parent.pool,
        disk: parent.image,
        snapshot,
    })
}

/// librbd takes any bytes for a name; what names are taken apart at, here and in every tool, is refused.
fn check_name(name: &str) -> Result<()> {
    let good = !name.is_empty() && name.len() <= 200 && !name.contains(['/', '@', '\0']);
    good.then_some(()).ok_or_else(|| Error::bad_request(format!("'{name}' cannot be the name of a disk or snapshot.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_tools_would_take_apart_are_refused() {
        for good in ["a", "0f6f_disk", "volume-1", "ä b%c", &"x".repeat(200)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "a@b", "a\0b", &"x".repeat(201)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
