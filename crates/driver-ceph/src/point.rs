//! Making a snapshot that can be used.
//!
//! librbd writes a snapshot down first and makes its object map afterwards. If that is refused, since the pool is full, Ceph 16 says
//! that all is well; if its client is killed in between, nobody ever makes it. Such a snapshot is listed like others, and cannot be
//! opened, read or cloned.

use crate::errno::{EEXIST, ENOENT, ENOSPC, Failed};
use crate::ffi::{Access, Image, IoCtx, Which};

/// One that is there already is as good, if it is.
pub fn make(pool: &IoCtx, disk: &str, image: &Image, snapshot: &str) -> Result<(), Failed> {
    match image.create_snapshot(snapshot) {
        Err(failed) if failed.is(EEXIST) => {
            if is_whole(pool, disk, image, snapshot)? {
                return Ok(());
            }
            image.remove_snapshot(snapshot)?;
            image.create_snapshot(snapshot)?;
        }
        made => made?,
    }
    check(pool, disk, image, snapshot)
}

/// Takes one that was just made away again if it is of no use.
pub fn check(pool: &IoCtx, disk: &str, image: &Image, snapshot: &str) -> Result<(), Failed> {
    if is_whole(pool, disk, image, snapshot)? {
        return Ok(());
    }
    image.remove_snapshot(snapshot)?;
    Err(Failed { errno: ENOSPC, call: "rbd_snap_create, making the object map" })
}

/// Whether the snapshot, which is there, can be used.
///
/// If its object map is there nothing is missing, and to look for that is one request; to open it, with the disk that this is
/// a clone of, is thirty.
pub fn is_whole(pool: &IoCtx, disk: &str, image: &Image, snapshot: &str) -> Result<bool, Failed> {
    let find = || Ok(image.snapshots()?.into_iter().find(|known| known.visible && known.name == snapshot));
    if let Some(known) = find()?
        && pool.has_object(&format!("rbd_object_map.{}.{:016x}", image.id()?, known.id))?
    {
        return Ok(true);
    }
    match pool.open(Which::Name(disk), Some(snapshot), Access::Read) {
        Err(failed) if failed.is(ENOENT) => {
            if find()?.is_some() {
                Ok(false)
            } else {
                Err(failed)
            }
        }
        opened => opened.map(|_| true),
    }
}

/// Clones of it live on. `ENOENT` if there is no such disk; none if there is no such snapshot.
pub fn remove(pool: &IoCtx, disk: &str, snapshot: &str) -> Result<(), Failed> {
    let which = Which::Name(disk);
    let mut image = pool.open(which, None, Access::Write)?;
    let gone = |failed: Failed| if failed.is(ENOENT) { Ok(()) } else { Err(failed) };
    match image.is_protected(snapshot) {
        Ok(false) => {}
        Ok(true) => {
            drop(image);
            pool.unprotect(which, &[snapshot])?;
            image = pool.open(which, None, Access::Write)?;
        }
        Err(failed) => return gone(failed),
    }
    image.remove_snapshot(snapshot).or_else(gone)
}
