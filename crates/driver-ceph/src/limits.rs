//! Limits on a disk's I/O, as entries of its metadata that librbd reads: that of a guest as well, which is told of the change
//! and obeys at once.
//!
//! Upstream's table for this maps the burst of all operations to a key that librbd does not know; these are librbd's own.

use umbel_core::Result;
use umbel_driver::Limits;

use crate::errno::Failed;
use crate::ffi::{Access, Image, IoCtx, Which};
use crate::pool::CephName;

/// What a limit is called, and its burst.
const KEYS: [[&str; 2]; 6] = [
    ["conf_rbd_qos_iops_limit", "conf_rbd_qos_iops_burst"],
    ["conf_rbd_qos_read_iops_limit", "conf_rbd_qos_read_iops_burst"],
    ["conf_rbd_qos_write_iops_limit", "conf_rbd_qos_write_iops_burst"],
    ["conf_rbd_qos_bps_limit", "conf_rbd_qos_bps_burst"],
    ["conf_rbd_qos_read_bps_limit", "conf_rbd_qos_read_bps_burst"],
    ["conf_rbd_qos_write_bps_limit", "conf_rbd_qos_write_bps_burst"],
];

/// In the order of [`KEYS`].
fn values(limits: &Limits) -> [[Option<u64>; 2]; 6] {
    [
        [limits.iops, limits.iops_burst],
        [limits.read_iops, limits.read_iops_burst],
        [limits.write_iops, limits.write_iops_burst],
        [limits.bytes, limits.bytes_burst],
        [limits.read_bytes, limits.read_bytes_burst],
        [limits.write_bytes, limits.write_bytes_burst],
    ]
}

pub fn set(ceph: &CephName, pool: &IoCtx, disk: &str, limits: &Limits) -> Result<()> {
    let image = pool.open(Which::Name(disk), None, Access::Write);
    image.and_then(|image| write(&image, limits)).map_err(|failed| failed.about(&ceph.disk(disk)))
}

fn write(image: &Image, limits: &Limits) -> Result<(), Failed> {
    for (keys, [limit, burst]) in KEYS.iter().zip(values(limits)) {
        let [have_limit, have_burst] = [number(image, keys[0])?, number(image, keys[1])?];
        // At no time is a burst smaller than its limit, which librbd would not take.
        if have_burst.is_some() && have_burst != burst {
            image.remove_metadata(keys[1])?;
        }
        match limit {
            Some(limit) if Some(limit) != have_limit => image.set_metadata(keys[0], &limit.to_string())?,
            None if have_limit.is_some() => image.remove_metadata(keys[0])?,
            _ => {}
        }
        if let Some(burst) = burst.filter(|burst| Some(*burst) != have_burst) {
            image.set_metadata(keys[1], &burst.to_string())?;
        }
    }
    Ok(())
}

pub fn get(ceph: &CephName, pool: &IoCtx, disk: &str) -> Result<Limits> {
    let read = |image: Image| {
        let mut found = [[None; 2]; 6];
        for (keys, values) in KEYS.iter().zip(&mut found) {
            *values = [number(&image, keys[0])?, number(&image, keys[1])?];
        }
        let [iops, read_iops, write_iops, bytes, read_bytes, write_bytes] = found;
        Ok(Limits {
            iops_size: None,
            iops: iops[0],
            iops_burst: iops[1],
            read_iops: read_iops[0],
            read_iops_burst: read_iops[1],
            write_iops: write_iops[0],
            write_iops_burst: write_iops[1],
            bytes: bytes[0],
            bytes_burst: bytes[1],
            read_bytes: read_bytes[0],
            read_bytes_burst: read_bytes[1],
            write_bytes: write_bytes[0],
            write_bytes_burst: write_bytes[1],
        })
    };
    let image = pool.open(Which::Name(disk), None, Access::Read);
    image.and_then(read).map_err(|failed| failed.about(&ceph.disk(disk)))
}

/// 0 is librbd's word for no limit.
fn number(image: &Image, key: &str) -> Result<Option<u64>, Failed> {
    Ok(image.metadata(key)?.and_then(|text| text.parse().ok()).filter(|value| *value > 0))
}
