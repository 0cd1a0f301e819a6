//! Connectix' and Microsoft's older format, which image services call `vhd`; the layout as Microsoft's "Virtual Hard
//! Disk Image Format Specification" 1.0 gives it. All numbers are big-endian.

use super::{Header, Outcome, be32, be64, refuse};

const FOOTER: usize = 512;
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
    let blocks = usize::try_from(next).ok().and_then(|at| head.get(at..));
    if !blocks.is_some_and(|blocks| blocks.starts_with(b"cxsparse")) {
        return refuse("The vhd image has no header of its blocks where its footer says.");
    }
    Ok(Header { virtual_size: Some(size), least_length: next + 1024, footer: None })
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
