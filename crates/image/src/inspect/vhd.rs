//! Connectix' and Microsoft's older format, which image services call `vhd`; the layout as Microsoft's "Virtual Hard
//! Disk Image Format Specification" 1.0 gives it. All numbers are big-endian.

use super::{Header, Outcome, be32, be64, refuse};

const FOOTER: usize = 512;
/// Of a disk that grows.
const HEADER: usize = 1024;
const PARENT_ID: std::ops::Range<usize> = 40..56;
const PARENT_LOCATORS: std::ops::Range<usize> = 576..768;

/// Bytes that a block may have. Everybody writes 2 MiB.
const BLOCKS: std::ops::RangeInclusive<u64> = 4096..=1 << 30;

const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;

/// A disk that grows has a copy of its footer at the start.
pub(super) fn dynamic(head: &[u8]) -> Outcome<Header> {
    let (Some(size), Some(kind), Some(next)) = (be64(head, 48), be32(head, 60), be64(head, 16)) else {
        return refuse("The vhd image ends within its header.");
    };
    match kind {
        DYNAMIC => {}
        DIFFERENCING => return refuse("The vhd image depends on a parent image."),
        _ => return refuse("The vhd image is of an unknown kind."),
    }
    let header = usize::try_from(next).ok().and_then(|at| head.get(at..)?.get(..HEADER));
    let Some(header) = header.filter(|header| header.starts_with(b"cxsparse")) else {
        return refuse("The vhd image has no header of its blocks where its footer says.");
    };
    if [PARENT_ID, PARENT_LOCATORS].into_iter().any(|range| header[range].iter().any(|byte| *byte != 0)) {
        return refuse("The vhd image depends on a parent image.");
    }
    let (Some(table), Some(entries), Some(block)) = (be64(header, 16), be32(header, 28), be32(header, 32)) else {
        return refuse("The vhd image ends within its header.");
    };
    let (entries, block) = (u64::from(entries), u64::from(block));
    if !block.is_power_of_two() || !BLOCKS.contains(&block) {
        return refuse("The vhd image has blocks of an unknown size.");
    }
    match table.checked_add(entries * 4) {
        Some(end) if size.div_ceil(block) <= entries => {
            Ok(Header { virtual_size: Some(size), least_length: end.max(next + HEADER as u64), footer: None })
        }
        _ => refuse("The vhd image has a block table that does not fit its virtual size."),
    }
}

/// A fixed disk is its data and then a footer; its size if the end of the data is one.
pub(super) fn fixed(tail: &[u8], length: u64) -> Outcome<Option<u64>> {
    let Some(footer) = tail.len().checked_sub(FOOTER).map(|at| &tail[at..]) else {
        return Ok(None);
    };
    if !footer.starts_with(b"conectix") || be32(footer, 60) != Some(FIXED) {
        return Ok(None);
    }
    match be64(footer, 48) {
        Some(size) if size <= length - FOOTER as u64 => Ok(Some(size)),
        _ => refuse("The vhd image is cut short: it is smaller than its footer says."),
    }
}
