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
pub fn is_whole(pool: &IoCtx, disk: &str, image: &Image, snapshot: &str) -> Result<bool, Failed> {
    match pool.open(Which::Name(disk), Some(snapshot), Access::Read) {
        Err(failed) if failed.is(ENOENT) => {
            let known = image.snapshots()?;
            let listed = known.iter().any(|known| known.visible && known.name == snapshot);
            if listed { Ok(false) } else { Err(failed) }
        }
        opened => opened.map(|_| true),
    }
}
