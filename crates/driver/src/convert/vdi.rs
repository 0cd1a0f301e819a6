//! VirtualBox's format, version 1.1; the fields as VirtualBox's VDICore.h names them. All numbers are little-endian.

use umbel_core::Result;

use super::source::{Input, le32, le64};
use super::{Piece, What, zeros};

/// The one size that writers use and that QEMU reads.
const BLOCK: u64 = 1 << 20;

/// From here on, an entry of the block map is no number: the block is not allocated, or discarded.
const NO_BLOCK: u32 = 0xffff_fffe;

pub struct Map {
    blocks: u64,
    table: u64,
    data: u64,
}

/// The disk's size, and its map.
pub async fn open(input: &mut Input) -> Result<(u64, Map)> {
    let header = input.table(0, 512).await?;
    if le32(&header, 0x40) != 0xbeda_107f || le32(&header, 0x44) >> 16 != 1 {
        return Err(input.bad("has no header of a known version"));
    }
    let alone = header[0x1a8..0x1c8].iter().all(|byte| *byte == 0);
    if !matches!(le32(&header, 0x4c), 1 | 2) || !alone {
        return Err(input.bad("depends on a parent image"));
    }
    if u64::from(le32(&header, 0x178)) != BLOCK || le32(&header, 0x17c) != 0 {
        return Err(input.bad("has blocks of an unknown size"));
    }
    let (size, blocks) = (le64(&header, 0x170), u64::from(le32(&header, 0x180)));
    if size.div_ceil(BLOCK) > blocks {
        return Err(input.bad("has a block map that does not fit its virtual size"));
    }
    Ok((size, Map { blocks, table: le32(&header, 0x154).into(), data: le32(&header, 0x158).into() }))
}

impl Map {
    pub async fn piece(&mut self, input: &mut Input, at: u64) -> Result<Piece> {
        let inside = at % BLOCK;
        let length = BLOCK - inside;
        match input.le32(self.table + at / BLOCK * 4).await? {
            NO_BLOCK.. => Ok(zeros(length)),
            block if u64::from(block) < self.blocks => {
                Ok(Piece { length, what: What::At(self.data + u64::from(block) * BLOCK + inside) })
            }
            _ => Err(input.bad("has a block out of range")),
        }
    }
}
