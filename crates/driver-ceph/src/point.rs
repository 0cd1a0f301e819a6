//! Making a snapshot that can be used.

use crate::errno::{EEXIST, ENOENT, ENOSPC, Failed};
use crate::ffi::{Access, Image, IoCtx, Which};

/// One that is there already is as good.
pub fn make(pool: &IoCtx, disk: &str, image: &Image, snapshot: &str) -> Result<(), Failed> {
    match image.create_snapshot(snapshot) {
        Err(failed) if !failed.is(EEXIST) => Err(failed),
        _ => check(pool, disk, image, snapshot),
    }
}

/// Ceph 16 makes a snapshot in a full pool, which refuses the object map that belongs to it; says that all is well; and
/// cannot open it, ever. Such a one is taken away again.
pub fn check(pool: &IoCtx, disk: &str, image: &Image, snapshot: &str) -> Result<(), Failed> {
    match pool.open(Which::Name(disk), Some(snapshot), Access::Read) {
        Err(failed) if failed.is(ENOENT) => {
            let known = image.snapshots()?;
            if !known.iter().any(|known| known.visible && known.name == snapshot) {
                return Err(failed);
            }
            image.remove_snapshot(snapshot)?;
            Err(Failed { errno: ENOSPC, call: "rbd_snap_create, making the object map" })
        }
        opened => opened.map(drop),
    }
}
