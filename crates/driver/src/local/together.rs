//! Snapshots, of one disk or of several at one point in time, and of disks that guests have open.
//!
//! # A disk that a guest has open
//! Its file is the guest's: the guest has to go over to the overlay that becomes the disk's head, and then the file is
//! a snapshot that nobody writes any more ([`LiveDisks::switch`]). In this order, so that the work may end anywhere:
//!
//! 1. Empty overlays are written and synced, one above each head.
//! 2. Each overlay becomes its disk's head. A guest that starts from here on gets the overlay, which shows what the file
//!    below it holds.
//! 3. Guests that run go over, all at once.
//! 4. What was the head is named as the snapshot.
//!
//! Ends it after 2, a guest writes into the layer *below* a head that is empty: QEMU's lock tells ([`View::written`]).
//! The next snapshot or growth takes the overlay away again, and until then the disk counts as in use. Ends it after 3, the
//! disk is one layer deeper. Nowhere does a guest write into a layer that no link leads to, which the next sweep would
//! take from under it, and nowhere does a snapshot name what is written. Refused: to let the guest go over first and
//! link the overlay then.
//!
//! The store is locked meanwhile, so everybody else waits for the guests, as long as their hypervisor lets them take.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use umbel_core::Result;

use super::change::NewLayer;
use super::names::{Layer, snapshot_link};
use super::store::{Change, Store, View, in_use, sync_dir};
use crate::LiveDisks;

/// A disk that takes part.
struct Part {
    disk: String,
    snapshot: String,
    /// Its head as it was, which becomes the snapshot.
    head: Layer,
    /// What becomes its head.
    overlay: Layer,
    /// A guest has the head open.
    live: bool,
}

pub(super) fn snapshot(store: &Store, pool: &str, disks: &[(String, String)]) -> Result<()> {
    let change = store.change()?;
    let mut there = Vec::new();
    for (disk, snapshot) in disks {
        change.head(pool, disk)?;
        if change.follow(&change.disk_dir(pool, disk)?.join(snapshot_link(snapshot)?))?.is_some() {
            there.push((disk, snapshot));
        }
    }
    if there.len() == disks.len() {
        return Ok(());
    }
    // A call that broke off has named some; they are of another point in time.
    for (disk, snapshot) in there {
        change.remove_snapshot(pool, disk, snapshot)?;
    }
    let live = change.live();
    let mut parts = Vec::with_capacity(disks.len());
    for (disk, snapshot) in disks {
        parts.push(prepare(&change, pool, (disk, snapshot), live.as_deref())?);
    }
    let parts = set_heads(&change, pool, parts)?;
    if let Some(live) = live
        && parts.iter().any(|part| part.live)
    {
        let moves: Vec<(PathBuf, PathBuf)> = parts
            .iter()
            .filter(|part| part.live)
            .map(|part| (change.layer_path(&part.head), change.layer_path(&part.overlay)))
            .collect();
        wait(live.switch(&moves)).inspect_err(|_| go_back(&change, pool, &parts))?;
    }
    for part in &parts {
        change.set_snapshot(pool, &part.disk, &part.snapshot, &part.head)?;
    }
    Ok(())
}

/// Up to here nothing is changed, and what was written goes when it is dropped.
fn prepare(
    change: &Change<'_>,
    pool: &str,
    (disk, snapshot): (&str, &str),
    live: Option<&dyn LiveDisks>,
) -> Result<(Part, NewLayer)> {
    let (head, written) = match live {
        Some(_) => change.settled(pool, disk)?,
        None => {
            let head = change.head(pool, disk)?;
            change.must_not_be_written(&head, disk)?;
            (head, false)
        }
    };
    // What somebody else writes into, by hand perhaps, cannot be moved.
    if let Some(live) = live
        && written
        && !wait(live.is_live(&change.layer_path(&head)))?
    {
        return Err(in_use(disk));
    }
    let new = change.overlay(pool, &head, change.size(&head)?, None, head.number)?;
    new.sync()?;
    let (disk, snapshot) = (disk.to_owned(), snapshot.to_owned());
    Ok((Part { disk, snapshot, head, overlay: new.layer.clone(), live: written }, new))
}

fn set_heads(change: &Change<'_>, pool: &str, prepared: Vec<(Part, NewLayer)>) -> Result<Vec<Part>> {
    let mut parts = Vec::with_capacity(prepared.len());
    for (part, new) in prepared {
        if let Err(error) = change.set_head(pool, &part.disk, new) {
            go_back(change, pool, &parts);
            return Err(error);
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Takes back the heads of guests that did not go over. That of a disk that is not open stays: a guest may be about to open
/// it, and the overlay shows the same bytes.
fn go_back(change: &Change<'_>, pool: &str, parts: &[Part]) {
    for part in parts.iter().filter(|part| part.live) {
        if let Err(error) = change.settled(pool, &part.disk) {
            tracing::error!(disk = part.disk, "a disk has a head that its guest does not have: {}", error.for_log());
        }
    }
}

/// Grows a disk through the guest that has it open. False: none has, or nobody can be asked.
pub(super) fn grow(change: &Change<'_>, pool: &str, disk: &str, size: u64) -> Result<bool> {
    let Some(live) = change.live() else {
        return Ok(false);
    };
    let (head, written) = change.settled(pool, disk)?;
    let path = change.layer_path(&head);
    if !written || !wait(live.is_live(&path))? {
        return Ok(false);
    }
    wait(live.grow(&path, size))?;
    Ok(true)
}

/// For the threads of [`super::blocking`], which are the runtime's.
fn wait<T>(work: impl Future<Output = T>) -> T {
    Handle::current().block_on(work)
}

impl Change<'_> {
    /// The layer that the next writes of a disk go to, and whether a guest has it open now. A head that no guest has gone
    /// over to is taken back.
    fn settled(&self, pool: &str, disk: &str) -> Result<(Layer, bool)> {
        let head = self.head(pool, disk)?;
        match self.written(&head)? {
            None => Ok((head, false)),
            Some(written) if written == head => Ok((head, true)),
            Some(written) => {
                let dir = self.disk_dir(pool, disk)?;
                if self.links(&dir)?.iter().any(|(_, layer)| *layer == written) {
                    // Never made by us: somebody opened a snapshot for writing.
                    return Err(in_use(disk));
                }
                self.point_head(pool, disk, &written)?;
                sync_dir(&dir)?;
                self.free_unless_linked(&dir, &head);
                Ok((written, true))
            }
        }
    }
}

impl View<'_> {
    fn live(&self) -> Option<Arc<dyn LiveDisks>> {
        self.store.live.read().clone()
    }
}
