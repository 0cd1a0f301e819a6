//! Other names for disks and snapshots, who is a clone of whom, and what is out of sight.

use umbel_core::Result;
use umbel_driver::{Child, Hidden};

use crate::errno::{EEXIST, ENOENT, Failed};
use crate::ffi::{Access, CloneImage, IoCtx, Which};
use crate::pool::CephName;
use crate::remove;

pub fn rename(ceph: &CephName, pool: &IoCtx, disk: &str, to: &str) -> Result<()> {
    let about = |failed: Failed| failed.about(&ceph.disk(disk));
    if disk == to {
        return pool.open(Which::Name(disk), None, Access::Read).map(drop).map_err(about);
    }
    match pool.rename(disk, to) {
        Ok(()) => Ok(()),
        // If the new one is there, this was done before.
        Err(failed) if failed.is(ENOENT) => {
            pool.open(Which::Name(to), None, Access::Read).map(drop).map_err(|_| about(failed))
        }
        Err(failed) if failed.is(EEXIST) => resume(pool, disk, to).map_err(about)?.ok_or_else(|| {
            let failed = Failed { errno: EEXIST, call: "rbd_rename" };
            failed.about(&ceph.disk(to))
        }),
        Err(failed) => Err(about(failed)),
    }
}

/// Ends a renaming that broke off. An image's name is an object that holds the image's id, and an entry in the pool's directory;
/// librbd makes the new object, changes the entry, and removes the old object. Broken off between, both names open the
/// image, and librbd takes the new one for another image. `None` if it is another.
fn resume(pool: &IoCtx, disk: &str, to: &str) -> Result<Option<()>, Failed> {
    let id = |name: &str| match pool.open(Which::Name(name), None, Access::Read) {
        Err(failed) if failed.is(ENOENT) => Ok(None),
        image => image?.id().map(Some),
    };
    let have = id(disk)?;
    if have.is_none() || id(to)? != have {
        return Ok(None);
    }
    let renamed = pool.list()?.iter().any(|name| name == to);
    pool.remove_object(&format!("rbd_id.{}", if renamed { disk } else { to }))?;
    if !renamed {
        pool.rename(disk, to)?;
    }
    Ok(Some(()))
}

pub fn rename_snapshot(ceph: &CephName, pool: &IoCtx, disk: &str, snapshot: &str, to: &str) -> Result<()> {
    let image = pool.open(Which::Name(disk), None, Access::Write).map_err(|failed| failed.about(&ceph.disk(disk)))?;
    let about = |failed: Failed| failed.about(&ceph.snapshot(disk, snapshot));
    // Asked first: librbd answers differently from release to release.
    let names: Vec<_> = image.snapshots().map_err(about)?.into_iter().filter(|known| known.visible).collect();
    let has = |name: &str| names.iter().any(|known| known.name == name);
    match (has(snapshot), has(to)) {
        (true, true) if snapshot == to => Ok(()),
        (true, true) => Err(Failed { errno: EEXIST, call: "rbd_snap_rename" }.about(&ceph.snapshot(disk, to))),
        (true, false) => image.rename_snapshot(snapshot, to).map_err(about),
        (false, true) => Ok(()),
        (false, false) => Err(about(Failed { errno: ENOENT, call: "rbd_snap_rename" })),
    }
}

pub fn children(ceph: &CephName, pool: &IoCtx, disk: &str, snapshot: &str) -> Result<Vec<Child>> {
    let image = pool.open(Which::Name(disk), Some(snapshot), Access::Read);
    let clones =
        image.and_then(|image| image.clones()).map_err(|failed| failed.about(&ceph.snapshot(disk, snapshot)))?;
    let child = |clone: CloneImage| Child { pool: clone.pool, disk: clone.image, hidden: clone.in_trash };
    Ok(clones.into_iter().map(child).collect())
}

/// Of the trash, only what [`remove::remove`] has put there.
pub fn hidden(ceph: &CephName, pool: &IoCtx) -> Result<Vec<Hidden>> {
    let about = |failed: Failed| failed.about(&format!("The trash of pool '{}'", ceph.0));
    let mut hidden = Vec::new();
    for entry in pool.trash_list().map_err(about)?.into_iter().filter(|entry| entry.by_user) {
        match remove::is_ours(pool, &entry) {
            Ok(Some(free)) => hidden.push(Hidden { disk: entry.name, id: entry.id, free }),
            Ok(None) => {}
            // Purged meanwhile.
            Err(failed) if failed.is(ENOENT) => {}
            Err(failed) => return Err(about(failed)),
        }
    }
    Ok(hidden)
}
