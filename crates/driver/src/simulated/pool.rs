use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use umbel_core::{Error, GIB, Kind, Result};

use super::{Operation, Simulation};
use crate::{Attachment, ByteStream, Capacity, DiskInfo, Location, Pool, Removed, WriteOptions};

const SCHEME: &str = "simulated";
const CLUSTER: &str = "simulation";

/// Bytes are kept in blocks of this size, those that are not zeros. The block of most file systems.
const BLOCK: u64 = 4_096;

static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// `write` tells its progress this often.
const PROGRESS: u64 = 4 << 20;

/// All pools of a world. One lock over them: clones cross pools, and no operation holds it for long.
#[derive(Default)]
pub(super) struct Pools {
    by_name: HashMap<String, PoolState>,
    next_serial: u64,
    /// By serial number of the parent. Hidden clones count.
    clones: HashMap<u64, usize>,
}

struct PoolState {
    total: u64,
    disks: HashMap<String, Disk>,
    hidden: Vec<(String, Disk)>,
}

struct Disk {
    /// Tells a disk from others that had or will have its name.
    serial: u64,
    data: Data,
    snapshots: Vec<(String, Data)>,
    parent: Option<Parent>,
}

struct Parent {
    location: Location,
    serial: u64,
}

/// Content at one point in time. Clones and snapshots share the blocks until somebody writes.
#[derive(Clone, Default)]
struct Data {
    size: u64,
    blocks: Arc<BTreeMap<u64, Bytes>>,
}

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
        let new = || PoolState { total, disks: HashMap::new(), hidden: Vec::new() };
        world.pools.lock().by_name.entry(name.to_owned()).or_insert_with(new);
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
                snapshots: disk.snapshots.iter().map(|(name, _)| name.clone()).collect(),
            }))
        })
        .await
    }

    async fn create(&self, disk: &str, size: u64) -> Result<()> {
        let data = Data { size, ..Data::default() };
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
        self.perform(Operation::Snapshot, disk, |pool| {
            let disk = pool.disk_mut(disk)?;
            if !disk.snapshots.iter().any(|(name, _)| name == snapshot) {
                disk.snapshots.push((snapshot.to_owned(), disk.data.clone()));
            }
            Ok(())
        })
        .await
    }

    async fn remove_snapshot(&self, disk: &str, snapshot: &str) -> Result<()> {
        self.perform(Operation::RemoveSnapshot, disk, |pool| {
            pool.disk_mut(disk)?.snapshots.retain(|(name, _)| name != snapshot);
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
        self.world
            .perform(Operation::Clone, disk, || {
                let mut pools = self.world.pools.lock();
                let from = pools.pool(&parent.pool)?;
                let mut data = from.data(&parent.disk, Some(&parent.snapshot))?.clone();
                data.size = data.size.max(size);
                let parent = Parent { location: parent.clone(), serial: from.disk_mut(&parent.disk)?.serial };
                pools.add(&self.name, disk, data, Some(parent))
            })
            .await
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

    async fn flatten(&self, disk: &str) -> Result<()> {
        self.world
            .perform(Operation::Flatten, disk, || {
                let mut pools = self.world.pools.lock();
                let parent = pools.pool(&self.name)?.disk_mut(disk)?.parent.take();
                pools.forget_clone(parent.as_ref());
                Ok(())
            })
            .await
    }

    async fn remove(&self, disk: &str) -> Result<Removed> {
        self.world.perform(Operation::Remove, disk, || self.world.pools.lock().remove(&self.name, disk)).await
    }

    async fn purge(&self) -> Result<Vec<String>> {
        self.world.perform(Operation::Purge, "", || self.world.pools.lock().purge(&self.name)).await
    }

    fn attachment(&self, _disk: &str) -> Attachment {
        Attachment::Simulated
    }
}

impl Pools {
    fn pool(&mut self, name: &str) -> Result<&mut PoolState> {
        self.by_name.get_mut(name).ok_or_else(|| Error::not_found(format!("There is no pool '{name}'.")))
    }

    fn add(&mut self, pool: &str, name: &str, data: Data, parent: Option<Parent>) -> Result<()> {
        self.pool(pool)?.must_be_free(name)?;
        if let Some(parent) = &parent {
            *self.clones.entry(parent.serial).or_default() += 1;
        }
        self.next_serial += 1;
        let disk = Disk { serial: self.next_serial, data, snapshots: Vec::new(), parent };
        self.pool(pool)?.disks.insert(name.to_owned(), disk);
        Ok(())
    }

    fn remove(&mut self, pool: &str, name: &str) -> Result<Removed> {
        let Some(disk) = self.pool(pool)?.disks.remove(name) else {
            return Ok(Removed::Absent);
        };
        if self.clones.contains_key(&disk.serial) {
            self.pool(pool)?.hidden.push((name.to_owned(), disk));
            return Ok(Removed::Hidden);
        }
        self.forget_clone(disk.parent.as_ref());
        Ok(Removed::Gone)
    }

    fn purge(&mut self, pool: &str) -> Result<Vec<String>> {
        let mut purged = Vec::new();
        // Freeing a clone may free its parent.
        loop {
            let hidden = std::mem::take(&mut self.pool(pool)?.hidden);
            let (kept, free): (Vec<_>, Vec<_>) =
                hidden.into_iter().partition(|(_, disk)| self.clones.contains_key(&disk.serial));
            self.pool(pool)?.hidden = kept;
            if free.is_empty() {
                return Ok(purged);
            }
            for (name, disk) in free {
                self.forget_clone(disk.parent.as_ref());
                purged.push(name);
            }
        }
    }

    fn forget_clone(&mut self, parent: Option<&Parent>) {
        let Some(parent) = parent else { return };
        if let Some(count) = self.clones.get_mut(&parent.serial) {
            *count -= 1;
            if *count == 0 {
                self.clones.remove(&parent.serial);
            }
        }
    }
}

impl PoolState {
    fn must_be_free(&self, disk: &str) -> Result<()> {
        if self.disks.contains_key(disk) {
            return Err(Error::conflict(format!("There is a disk '{disk}' already.")));
        }
        Ok(())
    }

    fn disk_mut(&mut self, disk: &str) -> Result<&mut Disk> {
        self.disks.get_mut(disk).ok_or_else(|| Error::not_found(format!("There is no disk '{disk}'.")))
    }

    fn data(&self, disk: &str, snapshot: Option<&str>) -> Result<&Data> {
        let found = self.disks.get(disk).ok_or_else(|| Error::not_found(format!("There is no disk '{disk}'.")))?;
        let Some(snapshot) = snapshot else {
            return Ok(&found.data);
        };
        let found = found.snapshots.iter().find(|(name, _)| name == snapshot).map(|(_, data)| data);
        found.ok_or_else(|| Error::not_found(format!("The disk '{disk}' has no snapshot '{snapshot}'.")))
    }

    /// What clones share with their parents counts for the parents.
    fn free(&self) -> u64 {
        let disks = self.disks.values().chain(self.hidden.iter().map(|(_, disk)| disk));
        let used: u64 = disks.filter(|disk| disk.parent.is_none()).map(|disk| disk.data.stored()).sum();
        self.total.saturating_sub(used)
    }
}

impl Data {
    fn stored(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let blocks = Arc::make_mut(&mut self.blocks);
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let start = (at % BLOCK) as usize;
            let (now, later) = rest.split_at(rest.len().min(BLOCK as usize - start));
            let mut block = blocks.get(&(at / BLOCK)).map_or_else(|| vec![0; BLOCK as usize], |block| block.to_vec());
            block[start..start + now.len()].copy_from_slice(now);
            if block == ZEROS {
                blocks.remove(&(at / BLOCK));
            } else {
                blocks.insert(at / BLOCK, block.into());
            }
            at += now.len() as u64;
            rest = later;
        }
    }

    /// The bytes from `at` to the end of its block, or to `end`.
    fn piece(&self, at: u64, end: u64) -> Bytes {
        let start = at % BLOCK;
        let length = (BLOCK - start).min(end - at);
        let range = start as usize..(start + length) as usize;
        match self.blocks.get(&(at / BLOCK)) {
            Some(block) => block.slice(range),
            None => Bytes::from_static(&ZEROS).slice(range),
        }
    }
}

fn past_the_end(disk: &str) -> Error {
    Error::bad_request(format!("The range runs past the end of the disk '{disk}'."))
}
