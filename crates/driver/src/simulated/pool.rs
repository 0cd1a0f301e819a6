use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use umbel_core::{Error, GIB, Kind, Result};

use super::disks::{Data, PoolState};
use super::{Operation, Simulation};
use crate::{
    Attachment, ByteStream, Capacity, ChangeStream, Child, DiskInfo, Extent, Hidden, Limits, Location, Pool, Progress,
    Removed, Usage, WriteOptions, check_together,
};

const SCHEME: &str = "simulated";
const CLUSTER: &str = "simulation";

/// `write` tells its progress this often.
const PROGRESS: u64 = 4 << 20;

/// A pool of disks in memory that holds the bytes written to it, sparsely.
pub struct SimulatedPool {
    world: Arc<Simulation>,
    name: String,
}

impl SimulatedPool {
    /// The world's pool of that name; a new, empty one of 100 TiB if there is none.
    pub fn new(world: &Arc<Simulation>, name: &str) -> Self {
        Self::with_capacity(world, name, 100 * 1_024 * GIB)
    }

    /// `total`: bytes that the pool holds before a write fails for want of room. Not changed if there is such a pool.
    pub fn with_capacity(world: &Arc<Simulation>, name: &str, total: u64) -> Self {
        world.pools.lock().ensure(name, total);
        SimulatedPool { world: world.clone(), name: name.to_owned() }
    }

    /// Writes into a disk as a guest that has it attached would. Never delayed and never failed by the simulation.
    pub fn guest_writes(&self, disk: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        self.with(|pool| {
            let data = &mut pool.disk_mut(disk)?.data;
            if offset.saturating_add(bytes.len() as u64) > data.size {
                return Err(past_the_end(disk));
            }
            data.put(offset, bytes);
            Ok(())
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut PoolState) -> Result<T>) -> Result<T> {
        let mut pools = self.world.pools.lock();
        work(pools.pool(&self.name)?)
    }

    async fn perform<T>(&self, op: Operation, disk: &str, work: impl FnOnce(&mut PoolState) -> Result<T>) -> Result<T> {
        self.world.perform(op, disk, || self.with(work)).await
    }

    fn reachable(&self, parent: &Location) -> Result<(), String> {
        if parent.scheme == SCHEME && parent.cluster == CLUSTER {
            return Ok(());
        }
        Err(format!("The image is at {parent}, and the pool '{}' clones only what the simulation holds.", self.name))
    }
}

#[async_trait]
impl Pool for SimulatedPool {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self, disk: &str, snapshot: &str) -> Location {
        Location {
            scheme: SCHEME.to_owned(),
            cluster: CLUSTER.to_owned(),
            pool: self.name.clone(),
            disk: disk.to_owned(),
            snapshot: snapshot.to_owned(),
        }
    }

    async fn capacity(&self) -> Result<Capacity> {
        self.perform(Operation::Query, "", |pool| Ok(Capacity { total: pool.total, free: pool.free() })).await
    }

    async fn list(&self) -> Result<Vec<String>> {
        self.perform(Operation::Query, "", |pool| Ok(pool.disks.keys().cloned().collect())).await
    }

    async fn stat(&self, disk: &str) -> Result<Option<DiskInfo>> {
        self.perform(Operation::Query, disk, |pool| {
            Ok(pool.disks.get(disk).map(|disk| DiskInfo {
                size: disk.data.size,
                parent: disk.parent.as_ref().map(|parent| parent.location.clone()),
                snapshots: disk.snapshots.iter().map(|snapshot| snapshot.name.clone()).collect(),
            }))
        })
        .await
    }

    async fn create(&self, disk: &str, size: u64) -> Result<()> {
        let data = Data::blank(size);
        self.world.perform(Operation::Create, disk, || self.world.pools.lock().add(&self.name, disk, data, None)).await
    }

    async fn write(&self, disk: &str, mut stream: ByteStream, options: WriteOptions) -> Result<u64> {
        self.with(|pool| pool.must_be_free(disk))?;
        let (mut data, mut received, mut told) = (Data::default(), 0, 0);
        while let Some(bytes) = stream.next().await {
            let bytes = bytes?;
            data.put(received, &bytes);
            received += bytes.len() as u64;
            if let Some(size) = options.size.filter(|size| received > *size) {
                return Err(Error::bad_request(format!("More bytes came than the {size} announced.")));
            }
            if data.stored() > self.with(|pool| Ok(pool.free()))? {
                return Err(Error::new(Kind::NoSpace, format!("The pool '{}' is full.", self.name)));
            }
            if received - told >= PROGRESS {
                told = received;
                (options.progress)(received);
            }
        }
        if let Some(size) = options.size.filter(|size| *size != received) {
            return Err(Error::bad_request(format!("{received} bytes came of the {size} announced.")));
        }
        data.size = received.max(options.min_size);
        self.world
            .perform(Operation::Write, disk, || self.world.pools.lock().add(&self.name, disk, data, None))
            .await?;
        Ok(received)
    }

    async fn read(&self, disk: &str, snapshot: Option<&str>, offset: u64, length: u64) -> Result<ByteStream> {
        let data = self.perform(Operation::Read, disk, |pool| Ok(pool.data(disk, snapshot)?.clone())).await?;
        let end = offset.checked_add(length).filter(|end| *end <= data.size).ok_or_else(|| past_the_end(disk))?;
        let pieces = stream::unfold(offset, move |at| {
            let piece = (at < end).then(|| data.piece(at, end));
            async move { piece.map(|piece| (Ok(piece.clone()), at + piece.len() as u64)) }
        });
        Ok(Box::pin(pieces))
    }

    async fn snapshot(&self, disk: &str, snapshot: &str) -> Result<()> {
        self.snapshot_together(&[(disk, snapshot)]).await
    }

    async fn snapshot_size(&self, disk: &str, snapshot: &str) -> Result<u64> {
        self.perform(Operation::Query, disk, |pool| Ok(pool.data(disk, Some(snapshot))?.size)).await
    }

    async fn remove_snapshot(&self, disk: &str, snapshot: &str) -> Result<()> {
        self.perform(Operation::RemoveSnapshot, disk, |pool| {
            pool.disk_mut(disk)?.snapshots.retain(|known| known.name != snapshot);
            Ok(())
        })
        .await
    }

    async fn rollback(&self, disk: &str, snapshot: &str) -> Result<()> {
        self.perform(Operation::Rollback, disk, |pool| {
            let data = pool.data(disk, Some(snapshot))?.clone();
            pool.disk_mut(disk)?.data = data;
            Ok(())
        })
        .await
    }

    async fn can_clone(&self, parent: &Location) -> Result<(), String> {
        self.reachable(parent)
    }

    async fn clone_disk(&self, parent: &Location, disk: &str, size: u64) -> Result<()> {
        self.reachable(parent).map_err(Error::bad_request)?;
        let clone = || self.world.pools.lock().clone_disk(parent, &self.name, disk, size);
        self.world.perform(Operation::Clone, disk, clone).await
    }

    async fn resize(&self, disk: &str, size: u64) -> Result<()> {
        self.perform(Operation::Resize, disk, |pool| {
            let data = &mut pool.disk_mut(disk)?.data;
            if size < data.size {
                return Err(Error::bad_request(format!("'{disk}' has {} bytes and cannot shrink.", data.size)));
            }
            data.size = size;
            Ok(())
        })
        .await
    }

    async fn flatten(&self, disk: &str, progress: Progress) -> Result<()> {
        let flatten = || self.world.pools.lock().flatten(&self.name, disk);
        if let Some(copied) = self.world.perform(Operation::Flatten, disk, flatten).await? {
            progress(copied);
        }
        Ok(())
    }

    async fn remove(&self, disk: &str) -> Result<Removed> {
        self.world.perform(Operation::Remove, disk, || self.world.pools.lock().remove(&self.name, disk)).await
    }

    async fn purge(&self) -> Result<Vec<String>> {
        self.world.perform(Operation::Purge, "", || self.world.pools.lock().purge(&self.name)).await
    }

    fn attachment(&self, disk: &str) -> Attachment {
        Attachment::Simulated { pool: self.name.clone(), disk: disk.to_owned() }
    }

    async fn rename(&self, disk: &str, to: &str) -> Result<()> {
        self.world.perform(Operation::Rename, disk, || self.world.pools.lock().rename(&self.name, disk, to)).await
    }

    async fn rename_snapshot(&self, disk: &str, snapshot: &str, to: &str) -> Result<()> {
        let rename = || self.world.pools.lock().rename_snapshot(&self.name, disk, snapshot, to);
        self.world.perform(Operation::Rename, disk, rename).await
    }

    async fn snapshot_together(&self, disks: &[(&str, &str)]) -> Result<()> {
        check_together(disks)?;
        let subject = disks.first().map_or("", |(disk, _)| disk);
        let snapshot = || self.world.pools.lock().snapshot(&self.name, disks);
        self.world.perform(Operation::Snapshot, subject, snapshot).await
    }

    async fn diff(&self, disk: &str, from: Option<&str>, to: Option<&str>) -> Result<Vec<Extent>> {
        self.perform(Operation::Query, disk, |pool| {
            let from = from.map(|from| pool.data(disk, Some(from))).transpose()?;
            Ok(pool.data(disk, to)?.diff(from))
        })
        .await
    }

    async fn patch(&self, disk: &str, mut changes: ChangeStream, progress: Progress) -> Result<u64> {
        let size = self.perform(Operation::Patch, disk, |pool| Ok(pool.disk(disk)?.data.size)).await?;
        let (mut written, mut told, mut end) = (0, 0, 0);
        while let Some(change) = changes.next().await {
            let change = change?;
            end = change.check(end, size)?;
            if let crate::Change::Data { bytes, .. } = &change {
                written += bytes.len() as u64;
            }
            self.with(|pool| {
                pool.disk_mut(disk)?.data.apply(&change);
                Ok(())
            })?;
            if written - told >= PROGRESS {
                told = written;
                progress(written);
            }
        }
        Ok(written)
    }

    async fn children(&self, disk: &str, snapshot: &str) -> Result<Vec<Child>> {
        let children = || self.world.pools.lock().children(&self.name, disk, snapshot);
        self.world.perform(Operation::Query, disk, children).await
    }

    async fn usage(&self, disk: &str) -> Result<Usage> {
        self.perform(Operation::Query, disk, |pool| Ok(pool.disk(disk)?.usage())).await
    }

    async fn hidden(&self) -> Result<Vec<Hidden>> {
        self.world.perform(Operation::Query, "", || self.world.pools.lock().hidden(&self.name)).await
    }

    async fn limit(&self, disk: &str, limits: &Limits) -> Result<()> {
        limits.check()?;
        self.perform(Operation::Limit, disk, |pool| {
            pool.disk_mut(disk)?.limits = limits.clone();
            Ok(())
        })
        .await
    }

    async fn limits(&self, disk: &str) -> Result<Limits> {
        // Of no time and without faults: agents ask all the time.
        self.with(|pool| Ok(pool.disk(disk)?.limits.clone()))
    }
}

fn past_the_end(disk: &str) -> Error {
    Error::bad_request(format!("The range runs past the end of the disk '{disk}'."))
}
