//! VirtualBox's format, version 1.1; the fields as VirtualBox's VDICore.h names them. All numbers are little-endian.

use super::{Header, Outcome, le32, le64, refuse};

/// The one size of blocks that writers use and that QEMU reads.
const BLOCK: u64 = 1 << 20;
const SECTOR: u32 = 512;

pub(super) fn read(head: &[u8]) -> Outcome<Header> {
    let (Some(version), Some(kind), Some(map), Some(data), Some(sector), Some(size)) = (
        le32(head, 0x44),
        le32(head, 0x4c),
        le32(head, 0x154),
        le32(head, 0x158),
        le32(head, 0x168),
        le64(head, 0x170),
    ) else {
        return refuse("The vdi image ends within its header.");
    };
    if version >> 16 != 1 {
        return refuse("The vdi image has an unknown version.");
    }
    // 1 grows, 2 is fixed; the others are undo and difference images, which need a parent.
    let (link, parent) = (head.get(0x1a8..0x1b8), head.get(0x1b8..0x1c8));
    let alone = [link, parent].into_iter().all(|uuid| uuid.is_some_and(|uuid| uuid.iter().all(|byte| *byte == 0)));
    if !matches!(kind, 1 | 2) || !alone {
        return refuse("The vdi image depends on a parent image.");
    }
    let (Some(block), Some(extra), Some(blocks)) = (le32(head, 0x178), le32(head, 0x17c), le32(head, 0x180)) else {
        return refuse("The vdi image ends within its header.");
    };
    if u64::from(block) != BLOCK || extra != 0 || sector != SECTOR {
        return refuse("The vdi image has blocks or sectors of an unknown size.");
    }
    if size.div_ceil(BLOCK) > blocks.into() || u64::from(map) + u64::from(blocks) * 4 > data.into() {
        return refuse("The vdi image has a block map that does not fit its virtual size.");
    }
    Ok(Header { virtual_size: Some(size), least_length: data.into(), footer: None })
}
