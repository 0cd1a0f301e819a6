//! What differs between points in time of a disk, and what room they take.

use umbel_core::Result;
use umbel_driver::{Extent, Usage, extents};

use crate::errno::{EINVAL, ENOENT, Failed};
use crate::ffi::{Access, Image, IoCtx, Which};
use crate::pool::CephName;

/// Where the object maps tell which objects differ, only those are asked for the bytes. Everything that is stored is told by
/// objects: whoever wants all of it reads all of it.
pub fn diff(ceph: &CephName, pool: &IoCtx, disk: &str, from: Option<&str>, to: Option<&str>) -> Result<Vec<Extent>> {
    let about = |failed: Failed, snapshot: Option<&str>| {
        failed.about(&snapshot.map_or_else(|| ceph.disk(disk), |snapshot| ceph.snapshot(disk, snapshot)))
    };
    let image = pool.open(Which::Name(disk), to, Access::Read).map_err(|failed| about(failed, to))?;
    let size = image.size().map_err(|failed| about(failed, to))?;
    let Some(from) = from else {
        return stored(&image, size).map_err(|failed| about(failed, to));
    };
    let old = pool.open(Which::Name(disk), Some(from), Access::Read).map_err(|failed| about(failed, Some(from)))?;
    let before = old.size().map_err(|failed| about(failed, Some(from)))?;
    let found = match changed(&image, from, size) {
        // The other way round; what was there then is not known to be zeros now.
        Err(failed) if failed.is(EINVAL) && to.is_some() => {
            let reverse = changed(&old, to.unwrap_or_default(), before);
            reverse.map(|found| found.into_iter().map(|extent| Extent { zero: false, ..extent }).collect())
        }
        found => found,
    };
    Ok(extents::with_growth(found.map_err(|failed| about(failed, to))?, before, size))
}

fn stored(image: &Image, size: u64) -> Result<Vec<Extent>, Failed> {
    let whole = image.has_fast_diff()?;
    let mut all = Vec::new();
    for extent in image.diff(None, 0..size, true, whole)? {
        let length = extent.length.min(size.saturating_sub(extent.offset));
        if !extent.zero {
            extents::push(&mut all, Extent { length, ..extent });
        }
    }
    Ok(all)
}

fn changed(image: &Image, from: &str, size: u64) -> Result<Vec<Extent>, Failed> {
    if !image.has_fast_diff()? {
        return image.diff(Some(from), 0..size, true, false);
    }
    let mut objects = Vec::new();
    for extent in image.diff(Some(from), 0..size, true, true)? {
        extents::push(&mut objects, Extent { zero: false, ..extent });
    }
    let mut all = Vec::new();
    for range in objects {
        let end = (range.offset + range.length).min(size);
        all.extend(image.diff(Some(from), range.offset..end.max(range.offset), true, false)?);
    }
    Ok(all)
}

pub fn usage(ceph: &CephName, pool: &IoCtx, disk: &str) -> Result<Usage> {
    let about = |failed: Failed| failed.about(&ceph.disk(disk));
    let head = pool.open(Which::Name(disk), None, Access::Read).map_err(about)?;
    let (mut usage, mut before) = (Usage::default(), None::<String>);
    for snapshot in head.snapshots().map_err(about)?.into_iter().filter(|snapshot| snapshot.visible) {
        let image = match pool.open(Which::Name(disk), Some(&snapshot.name), Access::Read) {
            // Removed meanwhile.
            Err(failed) if failed.is(ENOENT) => continue,
            image => image.map_err(about)?,
        };
        let bytes = beyond(&image, before.as_deref()).map_err(about)?;
        usage.snapshots.push((snapshot.name.clone(), bytes));
        before = Some(snapshot.name);
    }
    usage.head = beyond(&head, before.as_deref()).map_err(about)?;
    Ok(usage)
}

/// Bytes of the objects that the image has beyond those of its snapshot. Whole objects, as `rbd du` counts.
fn beyond(image: &Image, before: Option<&str>) -> Result<u64, Failed> {
    let size = image.size()?;
    let found = image.diff(before, 0..size, false, image.has_fast_diff()?)?;
    Ok(found.iter().filter(|extent| !extent.zero).map(|extent| extent.length).sum())
}
