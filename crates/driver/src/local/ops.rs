//! What a pool is asked to do, as functions that block. Each is one change of the store, or two around the long part.

use std::os::unix::fs::{FileExt, MetadataExt};

use umbel_core::{Error, Result};

use super::chain::Chain;
use super::change::{NewLayer, birth, must_be_free};
use super::names::{Layer, encode};
use super::qcow2::{self, Header};
use super::sparse;
use super::store::{Step, Store, failed};
use super::together;
use crate::{DiskFormat, DiskInfo, Location, Removed};

/// Bytes read and written at a time when a disk is flattened.
const COPIED: u64 = 1 << 20;

/// Bytes of data after which a part of the copy ends.
const PART: u64 = 64 << 20;

pub(super) fn stat(store: &Store, pool: &str, disk: &str) -> Result<Option<DiskInfo>> {
    let view = store.view()?;
    let Some(head) = view.find_head(pool, disk)? else {
        return Ok(None);
    };
    let snapshots = view.snapshots(pool, disk)?;
    Ok(Some(DiskInfo { size: view.size(&head)?, parent: view.origin(&head)?, snapshots }))
}

pub(super) fn create(store: &Store, pool: &str, disk: &str, size: u64) -> Result<()> {
    let new = new_disk(store, pool, disk)?;
    finish(store, pool, disk, new, size)
}

/// A layer for a disk that is not there yet.
pub(super) fn new_disk(store: &Store, pool: &str, disk: &str) -> Result<NewLayer> {
    let change = store.change()?;
    must_be_free(&change, pool, disk)?;
    change.new_layer(pool, DiskFormat::Raw, 0)
}

/// Makes the layer, of that size, the disk.
pub(super) fn finish(store: &Store, pool: &str, disk: &str, new: NewLayer, size: u64) -> Result<()> {
    new.set_size(size)?;
    new.sync()?;
    store.change()?.publish(pool, disk, new)
}

/// The disk or snapshot, open.
pub(super) fn open(store: &Store, pool: &str, disk: &str, snapshot: Option<&str>) -> Result<Chain> {
    let view = store.view()?;
    let layer = view.layer(pool, disk, snapshot)?;
    if snapshot.is_none() {
        // QEMU keeps tables of an overlay in memory: what is in the file need not fit together.
        view.must_not_be_written(&layer, disk)?;
    }
    view.chain(&layer)
}

pub(super) fn remove_snapshot(store: &Store, pool: &str, disk: &str, snapshot: &str) -> Result<()> {
    let change = store.change()?;
    change.head(pool, disk)?;
    change.remove_snapshot(pool, disk, snapshot)
}

pub(super) fn rollback(store: &Store, pool: &str, disk: &str, snapshot: &str) -> Result<()> {
    let change = store.change()?;
    let head = change.head(pool, disk)?;
    let layer = change.layer(pool, disk, Some(snapshot))?;
    change.must_not_be_written(&head, disk)?;
    let new = change.overlay(pool, &layer, change.size(&layer)?, None, head.number)?;
    new.sync()?;
    change.set_head(pool, disk, new)?;
    change.free_unless_linked(&change.disk_dir(pool, disk)?, &head);
    Ok(())
}

pub(super) fn clone(store: &Store, parent: &Location, pool: &str, disk: &str, size: u64) -> Result<()> {
    let new = {
        let change = store.change()?;
        let layer = change.layer(&encode(&parent.pool)?, &parent.disk, Some(&parent.snapshot))?;
        must_be_free(&change, pool, disk)?;
        let size = change.size(&layer)?.max(size);
        change.overlay(pool, &layer, size, Some(&parent.to_string()), 0)?
    };
    // Side by side with other clones; the new layer's lock keeps its parent.
    new.sync()?;
    store.change()?.publish(pool, disk, new)
}

pub(super) fn resize(store: &Store, pool: &str, disk: &str, size: u64) -> Result<()> {
    let change = store.change()?;
    let head = change.head(pool, disk)?;
    let now = change.size(&head)?;
    let header = change.header(&head)?;
    let size = if header.is_some() { size.next_multiple_of(qcow2::SECTOR) } else { size };
    if size < now {
        return Err(Error::bad_request(format!("The disk '{disk}' has {now} bytes and cannot shrink.")));
    }
    if size == now {
        return Ok(());
    }
    if together::grow(&change, pool, disk, size)? {
        return Ok(());
    }
    let Some(header) = header else {
        // A guest that nobody can ask sees the old size until it starts again; its writes are where they were.
        return write_to(store, &head, |file| file.set_len(size));
    };
    change.must_not_be_written(&head, disk)?;
    if header.can_be(size) {
        let (at, bytes) = Header::resized(size);
        return write_to(store, &head, |file| file.write_all_at(&bytes, at));
    }
    let new = change.overlay(pool, &head, size, None, head.number)?;
    new.sync()?;
    change.set_head(pool, disk, new)
}

fn write_to(store: &Store, layer: &Layer, work: impl FnOnce(&std::fs::File) -> std::io::Result<()>) -> Result<()> {
    let path = store.layer_path(layer);
    let work = || {
        let file = std::fs::OpenOptions::new().write(true).open(&path)?;
        work(&file)?;
        file.sync_all()
    };
    work().map_err(|error| failed("grow", &path, error))
}

/// A disk that is being flattened. Puts a full copy of what the disk was born with below the layer it was born as, so
/// that layers above it, the disk's snapshots and their clones, need not be touched.
pub(super) struct Flatten {
    born: Layer,
    is_head: bool,
    before: [i128; 4],
    chain: Chain,
    new: NewLayer,
    copied: u64,
}

/// `None` for a disk that stands alone.
pub(super) fn flatten(store: &Store, pool: &str, disk: &str) -> Result<Option<Flatten>> {
    let change = store.change()?;
    let head = change.head(pool, disk)?;
    let Some(Step { layer: born, .. }) = birth(&change, &head)? else {
        return Ok(None);
    };
    let is_head = born == head;
    if is_head {
        change.must_not_be_written(&head, disk)?;
    }
    let (before, chain) = (state(store, &born)?, change.chain(&born)?);
    let new = change.new_layer(pool, DiskFormat::Raw, 0)?;
    Ok(Some(Flatten { born, is_head, before, chain, new, copied: 0 }))
}

impl Flatten {
    /// Bytes of the disk, from its beginning, that are done.
    pub fn copied(&self) -> u64 {
        self.copied
    }

    pub fn is_copied(&self) -> bool {
        self.copied == self.chain.size()
    }

    /// Copies a part, without the store's lock. Parts, because nothing can stop a call once it is begun.
    pub fn copy_part(mut self) -> Result<Self> {
        let (mut buffer, mut moved) = (vec![0; COPIED as usize], 0);
        let read = |error| Error::internal(format!("cannot read what is to be copied: {error}"));
        while moved < PART && !self.is_copied() {
            let at = self.copied;
            let extent = self.chain.extent(at, self.chain.size()).map_err(read)?;
            let mut length = extent.length;
            if extent.source.is_some() {
                length = length.min(COPIED);
                moved += length;
                let bytes = &mut buffer[..length as usize];
                self.chain.read(at, bytes).map_err(read)?;
                sparse::write(bytes, at, |bytes, offset| self.new.write_at(bytes, offset))?;
            }
            self.copied += length;
        }
        Ok(self)
    }

    pub fn finish(self, store: &Store, pool: &str, disk: &str) -> Result<()> {
        let size = self.chain.size();
        self.new.set_size(size)?;
        self.new.sync()?;
        let change = store.change()?;
        let head = change.head(pool, disk)?;
        if birth(&change, &head)?.is_none_or(|again| again.layer != self.born) {
            // Somebody else flattened it, or it was removed and made again.
            return Ok(());
        }
        if self.is_head {
            change.must_not_be_written(&self.born, disk)?;
        }
        if state(store, &self.born)? != self.before {
            return Err(Error::conflict(format!("The disk '{disk}' was used while it was flattened; try again.")));
        }
        change.rebase(&self.born, self.new, size)
    }
}

/// Two equal ones have nothing written between them.
fn state(store: &Store, layer: &Layer) -> Result<[i128; 4]> {
    let path = store.layer_path(layer);
    let meta = std::fs::metadata(&path).map_err(|error| failed("read", &path, error))?;
    Ok([meta.ino().into(), meta.len().into(), meta.mtime().into(), meta.mtime_nsec().into()])
}

pub(super) fn remove(store: &Store, pool: &str, disk: &str) -> Result<Removed> {
    store.change()?.remove(pool, disk)
}
