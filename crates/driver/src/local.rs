//! Disks as files: the pools of a cloud that has nothing but a file system.
//!
//! # What is where
//! ```text
//! <root>/id                        the store's id, the cluster in its locations
//! <root>/<pool>/.layers/17.raw     data: written once, or the uppermost layer of a disk
//! <root>/<pool>/.layers/23.qcow2   data above another layer, which its header names
//! <root>/<pool>/<disk>/head        a link to the layer that the disk's guest writes
//! <root>/<pool>/<disk>/@<snap>     a link to a layer that nobody writes any more
//! <root>/<pool>/.hidden/<disk>@0/  a removed disk, kept for its clones
//! <root>/<pool>/.clones/17/vms@23  says where to look whether layer 17 has clones
//! <root>/<pool>/.clones/17/.names  what its disk and snapshot were called, if they were renamed since
//! <root>/<pool>/<disk>/.limits     limits on the disk's I/O, for the hypervisor that opens it
//! ```
//! A written disk is a sparse raw file. A clone is an empty qcow2 overlay over the snapshot's layer. A snapshot takes
//! the name of the layer that was the head, and an empty overlay becomes the head. All facts are in these names and in
//! the headers of the overlays: which disks and snapshots there are, what lies on what, what is a clone of what (a
//! header extension that QEMU keeps for us). Refused: a database or an index file beside the data, which could say
//! something else than the data after a crash.
//!
//! Formats are never guessed from content, which guests write: they are in the names of the layers, in the headers
//! above them, and in [`Attachment`].
//!
//! # Rules for those who use it
//! * A store is one file system; other file systems are other stores. Several processes may use one store.
//! * A guest's QEMU holds its layers open, so a disk in use cannot be read, patched, rolled back or flattened (if
//!   it has no snapshot). Such calls fail with `Conflict`; QEMU's own locks on the file tell. Its snapshots can be read,
//!   cloned and compared: nobody writes them. Removing a disk in use works: its QEMU keeps the files until it ends.
//! * Snapshots and resizing of a disk in use pass through its hypervisor ([`LocalStore::set_live`], [`together`]). In
//!   a process that does not know it, they fail with `Conflict` too, but for growing a raw disk.
//! * [`Pool::attachment`] is asked for at each start of a guest: a raw disk is an overlay after its first snapshot.
//! * Sizes of overlays are whole sectors of 512 bytes; an image of odd length can be cloned, and its clone is rounded up.
//! * Everything that is answered is on the disk, also when the power fails then.

mod chain;
mod change;
mod differ;
mod free;
mod limits;
mod locks;
mod names;
mod ops;
mod patch;
mod qcow2;
mod rename;
mod sparse;
mod store;
mod together;
mod upload;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::Semaphore;
use umbel_core::{Error, Result, Rng};

use self::chain::Chain;
use self::names::HEAD;
use self::store::{Store, failed};
use crate::{
    Attachment, ByteStream, Capacity, ChangeStream, Child, DiskFormat, DiskInfo, Extent, Hidden, Limits, LiveDisks,
    Location, Pool, Progress, Removed, Usage, WriteOptions, check_together,
};

const SCHEME: &str = "local";

/// Calls into the file system at a time. More would only wait for the store's lock, each in a thread of its own.
const TURNS: usize = 16;

/// Bytes read at a time.
const READ: u64 = 1 << 20;

/// A directory of pools, whose disks can be clones of each other's.
pub struct LocalStore {
    inner: Arc<Store>,
    turns: Arc<Semaphore>,
}

impl LocalStore {
    /// Opens the store in this directory, and makes it if there is none. `rng` gives a new store its id.
    pub async fn open(root: &Path, rng: &dyn Rng) -> Result<Arc<LocalStore>> {
        let (root, fresh_id) = (root.to_owned(), rng.uuid().to_string());
        let inner = blocking(move || Store::open(&root, &fresh_id)).await?;
        Ok(Arc::new(LocalStore { inner: Arc::new(inner), turns: Arc::new(Semaphore::new(TURNS)) }))
    }

    /// What stands for the cluster in the locations of this store.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// From now on disks that guests have open are snapshotted and grown through their hypervisor.
    pub fn set_live(&self, live: Arc<dyn LiveDisks>) {
        *self.inner.live.write() = Some(live);
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T> + Send + 'static) -> Result<T> {
        let turn = self.turns.clone().acquire_owned().await.map_err(Error::internal)?;
        let store = self.inner.clone();
        blocking(move || {
            // Held until the work is done, also if nobody waits for it any more.
            let _turn = turn;
            work(&store)
        })
        .await
    }
}

/// Work begun is finished, also if the caller gives up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error).because("file work"))?
}

/// One pool of a [`LocalStore`].
pub struct LocalPool {
    store: Arc<LocalStore>,
    name: String,
    pool: String,
    /// The pool's directory in the root.
    dir: Arc<str>,
}

impl LocalPool {
    /// Opens the pool `pool` of the store, makes it if there is none, and clears away what a crash left half-made.
    /// `name`: as the configuration calls it.
    pub async fn open(store: &Arc<LocalStore>, name: &str, pool: &str) -> Result<LocalPool> {
        let dir: Arc<str> = names::encode(pool)?.into();
        let made = dir.clone();
        store
            .run(move |store| {
                let change = store.change()?;
                change.make_pool(&made)?;
                change.note_clones()?;
                if let Err(error) = change.sweep(&made) {
                    // A damaged disk must not keep the others from work; only room is lost.
                    tracing::warn!(pool = &*made, "leftovers are not swept: {}", error.for_log());
                }
                Ok(())
            })
            .await?;
        Ok(LocalPool { store: store.clone(), name: name.to_owned(), pool: pool.to_owned(), dir })
    }

    /// Runs the work with the pool's directory and the disk's name.
    async fn run<T: Send + 'static>(
        &self,
        disk: &str,
        work: impl FnOnce(&Store, &str, &str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (dir, disk) = (self.dir.clone(), disk.to_owned());
        self.store.run(move |store| work(store, &dir, &disk)).await
    }

    fn reachable(&self, parent: &Location) -> Result<(), String> {
        if parent.scheme != SCHEME {
            let what = format!("The image is not in a local store but at {}://{}.", parent.scheme, parent.cluster);
            return Err(format!("{what} The pool '{}' clones only what is in its own store.", self.name));
        }
        if parent.cluster != self.store.id() {
            let what = format!("The image is in the local store {}", parent.cluster);
            return Err(format!(
                "{what}, the pool '{}' in {}; only a copy crosses stores.",
                self.name,
                self.store.id()
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl Pool for LocalPool {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self, disk: &str, snapshot: &str) -> Location {
        Location {
            scheme: SCHEME.to_owned(),
            cluster: self.store.id().to_owned(),
            pool: self.pool.clone(),
            disk: disk.to_owned(),
            snapshot: snapshot.to_owned(),
        }
    }

    /// Of the file system, which the pool shares with whatever else is there.
    async fn capacity(&self) -> Result<Capacity> {
        self.run("", |store, _, _| {
            let stat = rustix::fs::statvfs(&store.root);
            let stat = stat.map_err(|error| failed("ask for the room in", &store.root, error.into()))?;
            // What only root may use is not free.
            Ok(Capacity { total: stat.f_blocks * stat.f_frsize, free: stat.f_bavail * stat.f_frsize })
        })
        .await
    }

    async fn list(&self) -> Result<Vec<String>> {
        self.run("", |store, pool, _| store.view()?.disks(pool)).await
    }

    async fn stat(&self, disk: &str) -> Result<Option<DiskInfo>> {
        self.run(disk, ops::stat).await
    }

    async fn create(&self, disk: &str, size: u64) -> Result<()> {
        self.run(disk, move |store, pool, disk| ops::create(store, pool, disk, size)).await
    }

    async fn write(&self, disk: &str, data: ByteStream, options: WriteOptions) -> Result<u64> {
        let new = self.run(disk, ops::new_disk).await?;
        let (new, received) = upload::receive(new, data, &options).await?;
        let size = received.max(options.min_size);
        self.run(disk, move |store, pool, disk| ops::finish(store, pool, disk, new, size)).await?;
        Ok(received)
    }

    async fn read(&self, disk: &str, snapshot: Option<&str>, offset: u64, length: u64) -> Result<ByteStream> {
        let snapshot = snapshot.map(str::to_owned);
        let chain = self.run(disk, move |store, pool, disk| ops::open(store, pool, disk, snapshot.as_deref())).await?;
        let end = offset.checked_add(length).filter(|end| *end <= chain.size());
        let end = end.ok_or_else(|| {
            Error::bad_request(format!("{length} bytes from {offset} run past the end of the disk '{disk}'."))
        })?;
        Ok(Box::pin(stream::try_unfold((chain, offset), move |(chain, at)| read_on(chain, at, end))))
    }

    async fn snapshot(&self, disk: &str, snapshot: &str) -> Result<()> {
        self.snapshot_together(&[(disk, snapshot)]).await
    }

    async fn snapshot_size(&self, disk: &str, snapshot: &str) -> Result<u64> {
        let snapshot = snapshot.to_owned();
        let chain = self.run(disk, move |store, pool, disk| ops::open(store, pool, disk, Some(&snapshot))).await?;
        Ok(chain.size())
    }

    async fn remove_snapshot(&self, disk: &str, snapshot: &str) -> Result<()> {
        let snapshot = snapshot.to_owned();
        self.run(disk, move |store, pool, disk| ops::remove_snapshot(store, pool, disk, &snapshot)).await
    }

    async fn rollback(&self, disk: &str, snapshot: &str) -> Result<()> {
        let snapshot = snapshot.to_owned();
        self.run(disk, move |store, pool, disk| ops::rollback(store, pool, disk, &snapshot)).await
    }

    async fn can_clone(&self, parent: &Location) -> Result<(), String> {
        self.reachable(parent)
    }

    async fn clone_disk(&self, parent: &Location, disk: &str, size: u64) -> Result<()> {
        self.reachable(parent).map_err(Error::bad_request)?;
        let parent = parent.clone();
        self.run(disk, move |store, pool, disk| ops::clone(store, &parent, pool, disk, size)).await
    }

    async fn resize(&self, disk: &str, size: u64) -> Result<()> {
        self.run(disk, move |store, pool, disk| ops::resize(store, pool, disk, size)).await
    }

    async fn flatten(&self, disk: &str, progress: Progress) -> Result<()> {
        let Some(mut work) = self.run(disk, ops::flatten).await? else {
            return Ok(());
        };
        while !work.is_copied() {
            work = blocking(move || work.copy_part()).await?;
            progress(work.copied());
        }
        self.run(disk, move |store, pool, disk| work.finish(store, pool, disk)).await
    }

    async fn remove(&self, disk: &str) -> Result<Removed> {
        self.run(disk, ops::remove).await
    }

    async fn purge(&self) -> Result<Vec<String>> {
        self.run("", |store, pool, _| store.change()?.purge(pool)).await
    }

    /// The path is the disk's link, which leads to the right layer whatever happens to the disk; the format is that of
    /// this moment. Of a disk that is not there, the path at which it is missed.
    fn attachment(&self, disk: &str) -> Attachment {
        let store = &self.store.inner;
        // A name that cannot be a disk's has no file either.
        let dir = store.disk_dir(&self.dir, disk).unwrap_or_else(|_| store.pool_dir(&self.dir).join(".none"));
        let path = dir.join(HEAD);
        let format = store.follow(&path).ok().flatten().map_or(DiskFormat::Qcow2, |layer| layer.format);
        Attachment::File { path, format }
    }

    async fn rename(&self, disk: &str, to: &str) -> Result<()> {
        let to = to.to_owned();
        self.run(disk, move |store, pool, disk| rename::rename(store, pool, disk, &to)).await
    }

    async fn rename_snapshot(&self, disk: &str, snapshot: &str, to: &str) -> Result<()> {
        let (snapshot, to) = (snapshot.to_owned(), to.to_owned());
        self.run(disk, move |store, pool, disk| rename::rename_snapshot(store, pool, disk, &snapshot, &to)).await
    }

    async fn snapshot_together(&self, disks: &[(&str, &str)]) -> Result<()> {
        check_together(disks)?;
        let disks: Vec<_> = disks.iter().map(|(disk, snapshot)| ((*disk).to_owned(), (*snapshot).to_owned())).collect();
        self.run("", move |store, pool, _| together::snapshot(store, pool, &disks)).await
    }

    async fn diff(&self, disk: &str, from: Option<&str>, to: Option<&str>) -> Result<Vec<Extent>> {
        let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
        let open = move |store: &Store, pool: &str, disk: &str| {
            differ::open(store, pool, disk, from.as_deref(), to.as_deref())
        };
        let difference = self.run(disk, open).await?;
        blocking(move || difference.extents()).await
    }

    async fn patch(&self, disk: &str, changes: ChangeStream, progress: Progress) -> Result<u64> {
        let begun = self.run(disk, patch::begin).await?;
        let (done, written) = upload::patch(begun, changes, &progress).await?;
        self.run(disk, move |store, pool, disk| done.finish(store, pool, disk)).await?;
        Ok(written)
    }

    async fn children(&self, disk: &str, snapshot: &str) -> Result<Vec<Child>> {
        let snapshot = snapshot.to_owned();
        self.run(disk, move |store, pool, disk| rename::children(store, pool, disk, &snapshot)).await
    }

    async fn usage(&self, disk: &str) -> Result<Usage> {
        self.run(disk, differ::usage).await
    }

    async fn hidden(&self) -> Result<Vec<Hidden>> {
        self.run("", |store, pool, _| rename::hidden(store, pool)).await
    }

    async fn limit(&self, disk: &str, limits: &Limits) -> Result<()> {
        limits.check()?;
        let limits = limits.clone();
        self.run(disk, move |store, pool, disk| limits::set(store, pool, disk, &limits)).await
    }

    async fn limits(&self, disk: &str) -> Result<Limits> {
        self.run(disk, limits::get).await
    }
}

async fn read_on(mut chain: Chain, at: u64, end: u64) -> Result<Option<(Bytes, (Chain, u64))>> {
    if at >= end {
        return Ok(None);
    }
    blocking(move || {
        let mut buffer = vec![0; READ.min(end - at) as usize];
        chain.read(at, &mut buffer).map_err(|error| Error::internal(format!("cannot read a disk at {at}: {error}")))?;
        let next = at + buffer.len() as u64;
        Ok(Some((buffer.into(), (chain, next))))
    })
    .await
}
