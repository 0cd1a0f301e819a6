//! Removal of disks, and of what it had to leave.
//!
//! A disk with clones goes to Ceph's trash with a mark in its metadata. The trash is shared: other services and
//! operators put images there and mean to have them back, so that the mark, and nothing like a pattern of names, tells which
//! are ours to free. Ceph's own schedule for purging the trash is refused for the same reason.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use umbel_core::Result;
use umbel_driver::Removed;

use crate::errno::{EBUSY, ENOENT, ENOSPC, ENOTEMPTY, Failed};
use crate::ffi::{Access, Image, IoCtx, TrashEntry, Which};
use crate::pool::CephName;

/// Key of the mark in an image's metadata. Keys that begin with `conf_` are Ceph's, all others anybody's.
const MARK: &str = "umbel.removed";

/// Removing may run twice, and may have broken off anywhere the first time.
///
/// librbd opens the image as often as it must, and refuses one that has snapshots, removed ones among them, before it changes
/// anything. So it is asked first: most disks have none.
pub fn remove(ceph: &CephName, pool: &IoCtx, disk: &str) -> Result<Removed> {
    let about = |failed: Failed| failed.about(&ceph.disk(disk));
    match pool.remove(disk) {
        Err(failed) if failed.is(ENOTEMPTY) => {}
        done => return end(pool, disk, done).map_err(about),
    }
    let which = Which::Name(disk);
    let image = match pool.open(which, None, Access::Write) {
        Err(failed) if failed.is(ENOENT) => return absent(pool, disk).map_err(about),
        image => image.map_err(about)?,
    };
    if image.has_clones().map_err(about)? {
        return hide(pool, disk, image).map_err(about);
    }
    match drop_snapshots(pool, which, image) {
        // Somebody has cloned it in between, or removes it too.
        Err(failed) if failed.is(EBUSY) || failed.is(ENOTEMPTY) || failed.is(ENOENT) => {}
        done => done.map_err(about)?,
    }
    let removed = match pool.remove(disk) {
        Err(failed) if failed.is(ENOTEMPTY) => {
            pool.open(which, None, Access::Write).and_then(|image| hide(pool, disk, image))
        }
        done => end(pool, disk, done),
    };
    removed.map_err(about)
}

/// What librbd's answer to a removal means.
fn end(pool: &IoCtx, disk: &str, done: Result<(), Failed>) -> Result<Removed, Failed> {
    match done {
        Ok(()) => Ok(Removed::Gone),
        Err(failed) if failed.is(ENOENT) => absent(pool, disk),
        Err(failed) => Err(failed),
    }
}

/// Its snapshots stay: each is a round of the monitors, and [`purge`] has more time than a request.
fn hide(pool: &IoCtx, disk: &str, image: Image) -> Result<Removed, Failed> {
    // The mark first: what is in the trash without it is never freed. A mark outside the trash means nothing.
    let marked = image.set_metadata(MARK, "1");
    // What is open is in use.
    drop(image);
    let hidden = marked.and_then(|()| pool.trash_move(disk));
    match end(pool, disk, hidden)? {
        Removed::Gone => Ok(Removed::Hidden),
        other => Ok(other),
    }
}

/// Ceph 16 answers a removal that it cannot write down in the trash with "no such image" too, and a disk that is taken for
/// gone is nobody's any more.
fn absent(pool: &IoCtx, disk: &str) -> Result<Removed, Failed> {
    match pool.open(Which::Name(disk), None, Access::Read) {
        Ok(_) => Err(Failed { errno: ENOSPC, call: "rbd_remove, moving the image to the trash" }),
        Err(failed) if failed.is(ENOENT) => Ok(Removed::Absent),
        Err(failed) => Err(failed),
    }
}

fn drop_snapshots(pool: &IoCtx, which: Which<'_>, mut image: Image) -> Result<(), Failed> {
    let snapshots = image.snapshots()?;
    let mut protected = Vec::new();
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.visible) {
        if image.is_protected(&snapshot.name)? {
            protected.push(snapshot.name.as_str());
        }
    }
    if !protected.is_empty() {
        drop(image);
        pool.unprotect(which, &protected)?;
        image = pool.open(which, None, Access::Write)?;
    }
    for snapshot in snapshots {
        let removed = if snapshot.visible {
            image.remove_snapshot(&snapshot.name)
        } else {
            image.remove_snapshot_by_id(snapshot.id)
        };
        match removed {
            Err(failed) if !failed.is(ENOENT) => return Err(failed),
            _ => {}
        }
    }
    Ok(())
}

/// For how long the trash is locked at a time; after a death nobody frees anything for so long.
const LOCKED_FOR: u16 = 15;

/// Longer than the lock of a client that died.
const LOCK_WAIT: Duration = Duration::from_secs(20);

/// Between two looks whether the lock is free.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// How often the lock is renewed.
const RENEWED_EVERY: Duration = Duration::from_secs(4);

/// Names of the disks it has freed. A disk that cannot be freed now is no failure: there is a next time.
///
/// One client frees at a time, in all of the cluster: librbd waits for ever for the lock of an image that another client
/// has just freed (seen with Ceph 16, of two processes that emptied one trash). None are freed while another is at it.
pub fn purge(ceph: &CephName, pool: &IoCtx) -> Result<Vec<String>> {
    if thrown_away(ceph, pool)?.is_empty() {
        return Ok(Vec::new());
    }
    if !lock(ceph, pool) {
        return Ok(Vec::new());
    }
    let (done, is_done) = mpsc::channel::<()>();
    let purged = std::thread::scope(|scope| {
        scope.spawn(move || {
            while is_done.recv_timeout(RENEWED_EVERY) == Err(RecvTimeoutError::Timeout) {
                if let Err(failed) = pool.lock_trash(LOCKED_FOR) {
                    tracing::debug!(pool = %ceph.0, error = %failed, "the trash's lock was not renewed");
                }
            }
        });
        let purged = free_all(ceph, pool);
        drop(done);
        purged
    });
    if let Err(failed) = pool.unlock_trash() {
        tracing::debug!(pool = %ceph.0, error = %failed, "the trash's lock is left to its time");
    }
    purged
}

/// False while another client is at it for long.
fn lock(ceph: &CephName, pool: &IoCtx) -> bool {
    let give_up = Instant::now() + LOCK_WAIT;
    loop {
        match pool.lock_trash(LOCKED_FOR) {
            Err(failed) if failed.is(EBUSY) && Instant::now() >= give_up => return false,
            Err(failed) if failed.is(EBUSY) => std::thread::sleep(LOCK_PAUSE),
            // A full pool, or a user who may not lock: nothing may be left lying for that.
            Err(failed) => {
                tracing::debug!(pool = %ceph.0, error = %failed, "the trash is emptied without a lock");
                return true;
            }
            Ok(()) => return true,
        }
    }
}

/// What users have put into the trash, ours among it.
fn thrown_away(ceph: &CephName, pool: &IoCtx) -> Result<Vec<TrashEntry>> {
    let entries = pool.trash_list().map_err(|failed| failed.about(&format!("The trash of pool '{}'", ceph.0)))?;
    Ok(entries.into_iter().filter(|entry| entry.by_user).collect())
}

fn free_all(ceph: &CephName, pool: &IoCtx) -> Result<Vec<String>> {
    let mut purged = Vec::new();
    // Freeing a clone may free its parent.
    loop {
        let before = purged.len();
        for entry in thrown_away(ceph, pool)? {
            match free(pool, &entry) {
                Ok(true) => purged.push(entry.name),
                Ok(false) => {}
                Err(failed) => {
                    tracing::warn!(disk = entry.name, id = entry.id, pool = %ceph.0, error = %failed,
                        "a removed disk cannot be freed yet");
                }
            }
        }
        if purged.len() == before {
            return Ok(purged);
        }
    }
}

/// Whether the entry can be freed; `None` if it is none of those that [`hide`] has put there.
pub fn is_ours(pool: &IoCtx, entry: &TrashEntry) -> Result<Option<bool>, Failed> {
    let image = pool.open(Which::Id(&entry.id), None, Access::Read)?;
    if image.metadata(MARK)?.is_none() {
        return Ok(None);
    }
    Ok(Some(!image.has_clones()?))
}

/// Whether the entry was ours, and is gone.
fn free(pool: &IoCtx, entry: &TrashEntry) -> Result<bool, Failed> {
    let which = Which::Id(&entry.id);
    let image = match pool.open(which, None, Access::Read) {
        // Another host is faster.
        Err(failed) if failed.is(ENOENT) => return Ok(false),
        image => image?,
    };
    if image.metadata(MARK)?.is_none() || image.has_clones()? {
        return Ok(false);
    }
    let bare = image.snapshots()?.is_empty();
    drop(image);
    if !bare {
        drop_snapshots(pool, which, pool.open(which, None, Access::Write)?)?;
    }
    match pool.trash_remove(&entry.id) {
        Err(failed) if failed.is(ENOENT) => Ok(false),
        done => done.map(|()| true),
    }
}
