//! What the pools of a world hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use umbel_core::{Error, Result};

use crate::{Change, Child, Extent, Hidden, Limits, Location, Removed, Usage, extents};

/// Bytes are kept in blocks of this size, those that are not zeros. The block of most file systems.
const BLOCK: u64 = 4_096;

static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// All pools of a world. One lock over them: clones cross pools, and no operation holds it for long.
#[derive(Default)]
pub(super) struct Pools {
    by_name: HashMap<String, PoolState>,
    next_serial: u64,
    /// By serial number of the parent. Hidden clones count.
    clones: HashMap<u64, usize>,
}

pub(super) struct PoolState {
    pub total: u64,
    pub disks: HashMap<String, Disk>,
    pub hidden: Vec<(String, Disk)>,
}

pub(super) struct Disk {
    /// Tells a disk from others that had or will have its name.
    serial: u64,
    pub data: Data,
    pub snapshots: Vec<Snapshot>,
    pub parent: Option<Parent>,
    pub limits: Limits,
}

pub(super) struct Snapshot {
    serial: u64,
    pub name: String,
    pub data: Data,
}

pub(super) struct Parent {
    pub location: Location,
    disk: u64,
    snapshot: u64,
    /// What was inherited.
    data: Data,
}

/// Content at one point in time. Clones and snapshots share the blocks until somebody writes.
#[derive(Clone, Default)]
pub(super) struct Data {
    pub size: u64,
    blocks: Arc<BTreeMap<u64, Bytes>>,
}

impl Pools {
    /// A new, empty pool of that name, if there is none.
    pub fn ensure(&mut self, name: &str, total: u64) {
        let new = || PoolState { total, disks: HashMap::new(), hidden: Vec::new() };
        self.by_name.entry(name.to_owned()).or_insert_with(new);
    }

    pub fn pool(&mut self, name: &str) -> Result<&mut PoolState> {
        self.by_name.get_mut(name).ok_or_else(|| Error::not_found(format!("There is no pool '{name}'.")))
    }

    pub fn add(&mut self, pool: &str, name: &str, data: Data, parent: Option<Parent>) -> Result<()> {
        self.pool(pool)?.must_be_free(name)?;
        if let Some(parent) = &parent {
            *self.clones.entry(parent.disk).or_default() += 1;
        }
        let disk = Disk { serial: self.serial(), data, snapshots: Vec::new(), parent, limits: Limits::default() };
        self.pool(pool)?.disks.insert(name.to_owned(), disk);
        Ok(())
    }

    fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    pub fn clone_disk(&mut self, location: &Location, pool: &str, disk: &str, size: u64) -> Result<()> {
        let from = self.pool(&location.pool)?.disk(&location.disk)?;
        let snapshot = from.snapshot(&location.disk, &location.snapshot)?;
        let inherited = snapshot.data.clone();
        let parent = Parent {
            location: location.clone(),
            disk: from.serial,
            snapshot: snapshot.serial,
            data: inherited.clone(),
        };
        let data = Data { size: inherited.size.max(size), ..inherited };
        self.add(pool, disk, data, Some(parent))
    }

    /// The bytes of the one become those of the other, which keeps its size.
    pub fn copy(&mut self, (pool, disk): (&str, &str), (to_pool, to_disk): (&str, &str)) -> Result<()> {
        let data = self.pool(pool)?.disk(disk)?.data.clone();
        let to = self.pool(to_pool)?.disk_mut(to_disk)?;
        if to.data.size < data.size {
            return Err(Error::bad_request(format!("The disk '{to_disk}' is smaller than '{disk}'.")));
        }
        to.data = Data { size: to.data.size, ..data };
        Ok(())
    }

    /// Under the world's lock, so nobody writes meanwhile.
    pub fn snapshot(&mut self, pool: &str, disks: &[(&str, &str)]) -> Result<()> {
        let mut there = 0;
        for (disk, snapshot) in disks {
            there += usize::from(self.pool(pool)?.disk(disk)?.find_snapshot(snapshot).is_some());
        }
        if there == disks.len() {
            return Ok(());
        }
        for (name, snapshot) in disks {
            let serial = self.serial();
            let disk = self.pool(pool)?.disk_mut(name)?;
            disk.snapshots.retain(|known| known.name != *snapshot);
            disk.snapshots.push(Snapshot { serial, name: (*snapshot).to_owned(), data: disk.data.clone() });
        }
        Ok(())
    }

    pub fn remove(&mut self, pool: &str, name: &str) -> Result<Removed> {
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

    pub fn purge(&mut self, pool: &str) -> Result<Vec<String>> {
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

    /// Bytes that were inherited, if it was a clone.
    pub fn flatten(&mut self, pool: &str, disk: &str) -> Result<Option<u64>> {
        let parent = self.pool(pool)?.disk_mut(disk)?.parent.take();
        self.forget_clone(parent.as_ref());
        Ok(parent.map(|parent| parent.data.size))
    }

    fn forget_clone(&mut self, parent: Option<&Parent>) {
        let Some(parent) = parent else { return };
        if let Some(count) = self.clones.get_mut(&parent.disk) {
            *count -= 1;
            if *count == 0 {
                self.clones.remove(&parent.disk);
            }
        }
    }

    pub fn rename(&mut self, pool: &str, disk: &str, to: &str) -> Result<()> {
        let state = self.pool(pool)?;
        if !state.disks.contains_key(disk) {
            // If the new one is there, this was done before.
            return state.disk(to).map(drop).map_err(|_| missing(disk));
        }
        if disk == to {
            return Ok(());
        }
        state.must_be_free(to)?;
        if let Some(found) = state.disks.remove(disk) {
            let serial = found.serial;
            state.disks.insert(to.to_owned(), found);
            self.each_clone(|parent| {
                if parent.disk == serial {
                    to.clone_into(&mut parent.location.disk);
                }
            });
        }
        Ok(())
    }

    pub fn rename_snapshot(&mut self, pool: &str, disk: &str, snapshot: &str, to: &str) -> Result<()> {
        let found = self.pool(pool)?.disk_mut(disk)?;
        let done = found.find_snapshot(to).is_some();
        let Some(at) = found.find_snapshot(snapshot) else {
            return found.snapshot(disk, if done { to } else { snapshot }).map(drop);
        };
        if snapshot == to {
            return Ok(());
        }
        if done {
            return Err(Error::conflict(format!("The disk '{disk}' has a snapshot '{to}' already.")));
        }
        to.clone_into(&mut found.snapshots[at].name);
        let serial = found.snapshots[at].serial;
        self.each_clone(|parent| {
            if parent.snapshot == serial {
                to.clone_into(&mut parent.location.snapshot);
            }
        });
        Ok(())
    }

    fn each_clone(&mut self, mut work: impl FnMut(&mut Parent)) {
        for pool in self.by_name.values_mut() {
            let disks = pool.disks.values_mut().chain(pool.hidden.iter_mut().map(|(_, disk)| disk));
            disks.filter_map(|disk| disk.parent.as_mut()).for_each(&mut work);
        }
    }

    pub fn children(&mut self, pool: &str, disk: &str, snapshot: &str) -> Result<Vec<Child>> {
        let serial = self.pool(pool)?.disk(disk)?.snapshot(disk, snapshot)?.serial;
        let is_child = |disk: &Disk| disk.parent.as_ref().is_some_and(|parent| parent.snapshot == serial);
        let mut children = Vec::new();
        for (pool, state) in &self.by_name {
            let seen = state.disks.iter().map(|(name, disk)| (name, disk, false));
            let all = seen.chain(state.hidden.iter().map(|(name, disk)| (name, disk, true)));
            let found = all.filter(|(_, disk, _)| is_child(disk));
            children.extend(found.map(|(name, _, hidden)| Child { pool: pool.clone(), disk: name.clone(), hidden }));
        }
        Ok(children)
    }

    pub fn hidden(&mut self, pool: &str) -> Result<Vec<Hidden>> {
        let mut hidden = Vec::new();
        for (name, disk) in &self.pool(pool)?.hidden {
            hidden.push((name.clone(), disk.serial));
        }
        let hidden = hidden.into_iter().map(|(disk, serial)| Hidden {
            disk,
            id: format!("{serial:x}"),
            free: !self.clones.contains_key(&serial),
        });
        Ok(hidden.collect())
    }
}

impl PoolState {
    pub fn must_be_free(&self, disk: &str) -> Result<()> {
        if self.disks.contains_key(disk) {
            return Err(Error::conflict(format!("There is a disk '{disk}' already.")));
        }
        Ok(())
    }

    pub fn disk(&self, disk: &str) -> Result<&Disk> {
        self.disks.get(disk).ok_or_else(|| missing(disk))
    }

    pub fn disk_mut(&mut self, disk: &str) -> Result<&mut Disk> {
        self.disks.get_mut(disk).ok_or_else(|| missing(disk))
    }

    pub fn data(&self, disk: &str, snapshot: Option<&str>) -> Result<&Data> {
        let found = self.disk(disk)?;
        match snapshot {
            Some(snapshot) => Ok(&found.snapshot(disk, snapshot)?.data),
            None => Ok(&found.data),
        }
    }

    /// What clones share with their parents counts for the parents.
    pub fn free(&self) -> u64 {
        let disks = self.disks.values().chain(self.hidden.iter().map(|(_, disk)| disk));
        let used: u64 = disks.filter(|disk| disk.parent.is_none()).map(|disk| disk.data.stored()).sum();
        self.total.saturating_sub(used)
    }
}

impl Disk {
    fn find_snapshot(&self, snapshot: &str) -> Option<usize> {
        self.snapshots.iter().position(|known| known.name == snapshot)
    }

    fn snapshot(&self, disk: &str, snapshot: &str) -> Result<&Snapshot> {
        let missing = || Error::not_found(format!("The disk '{disk}' has no snapshot '{snapshot}'."));
        self.find_snapshot(snapshot).map(|at| &self.snapshots[at]).ok_or_else(missing)
    }

    pub fn usage(&self) -> Usage {
        let nothing = Data::default();
        let mut before = self.parent.as_ref().map_or(&nothing, |parent| &parent.data);
        let mut usage = Usage::default();
        for snapshot in &self.snapshots {
            usage.snapshots.push((snapshot.name.clone(), snapshot.data.stored_beyond(before)));
            before = &snapshot.data;
        }
        usage.head = self.data.stored_beyond(before);
        usage
    }
}

impl Data {
    pub fn blank(size: u64) -> Self {
        Data { size, ..Data::default() }
    }

    pub fn stored(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK
    }

    fn stored_beyond(&self, before: &Data) -> u64 {
        let new = self.blocks.iter().filter(|(at, block)| before.blocks.get(at) != Some(block));
        new.count() as u64 * BLOCK
    }

    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
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

    pub fn apply(&mut self, change: &Change) {
        let range = change.range();
        match change {
            Change::Data { offset, bytes } => self.put(*offset, bytes),
            Change::Zero { .. } => {
                // Only what is stored need be looked at: the range may be as long as a disk.
                let (first, last) = (range.start / BLOCK, range.end.div_ceil(BLOCK));
                let stored: Vec<u64> = self.blocks.range(first..last).map(|(at, _)| *at).collect();
                for at in stored {
                    let (start, end) = (range.start.max(at * BLOCK), range.end.min((at + 1) * BLOCK));
                    self.put(start, &ZEROS[..(end - start) as usize]);
                }
            }
        }
    }

    /// The bytes from `at` to the end of its block, or to `end`.
    pub fn piece(&self, at: u64, end: u64) -> Bytes {
        let start = at % BLOCK;
        let length = (BLOCK - start).min(end - at);
        let range = start as usize..(start + length) as usize;
        match self.blocks.get(&(at / BLOCK)) {
            Some(block) => block.slice(range),
            None => Bytes::from_static(&ZEROS).slice(range),
        }
    }

    /// Where it differs from an earlier or later one, or from zeros.
    pub fn diff(&self, from: Option<&Data>) -> Vec<Extent> {
        let nothing = Data { size: self.size, ..Data::default() };
        let from = from.unwrap_or(&nothing);
        let all: BTreeSet<_> = self.blocks.keys().chain(from.blocks.keys()).collect();
        let mut extents = Vec::new();
        for at in all.into_iter().filter(|at| self.blocks.get(at) != from.blocks.get(at)) {
            let zero = !self.blocks.contains_key(at);
            extents::push(&mut extents, Extent { offset: at * BLOCK, length: BLOCK, zero });
        }
        extents::with_growth(extents, from.size, self.size)
    }
}

fn missing(disk: &str) -> Error {
    Error::not_found(format!("There is no disk '{disk}'."))
}
