//! Connectix' and Microsoft's older format; the layout as Microsoft's "Virtual Hard Disk Image Format Specification" 1.0
//! gives it. All numbers are big-endian.
//!
//! The size is the footer's current size. Virtual PC itself went by the disk's geometry, which may be some sectors less;
//! what is between is zeros.

use bytes::Bytes;
use umbel_core::Result;

use super::source::{Input, be32, be64};
use super::{Piece, What, zeros};

const SECTOR: u64 = 512;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;

const NO_BLOCK: u32 = u32::MAX;

pub enum Map {
    /// The disk, and then a footer.
    Fixed,
    Dynamic {
        table: u64,
        block: u64,
        bitmap: u64,
    },
}

/// The disk's size, and its map.
pub async fn open(input: &mut Input) -> Result<(u64, Map)> {
    let Some(end) = input.size().checked_sub(SECTOR) else {
        return Err(input.bad("ends within its header"));
    };
    let head = input.table(0, SECTOR).await?;
    if head.starts_with(b"conectix") && be32(&head, 60) != FIXED {
        return dynamic(input, &head).await;
    }
    let footer = input.table(end, SECTOR).await?;
    let size = be64(&footer, 48);
    match footer.starts_with(b"conectix") && be32(&footer, 60) == FIXED && size <= end {
        true => Ok((size, Map::Fixed)),
        false => Err(input.bad("has no valid footer")),
    }
}

async fn dynamic(input: &mut Input, footer: &Bytes) -> Result<(u64, Map)> {
    if be32(footer, 60) != DYNAMIC {
        return Err(input.bad("depends on a parent image"));
    }
    let header = input.table(be64(footer, 16), 1024).await?;
    let (table, entries, block) = (be64(&header, 16), be32(&header, 28), u64::from(be32(&header, 32)));
    if !header.starts_with(b"cxsparse") || !block.is_power_of_two() || !(4096..=1 << 30).contains(&block) {
        return Err(input.bad("has no valid header of its blocks"));
    }
    let size = be64(footer, 48);
    if size.div_ceil(block) > entries.into() {
        return Err(input.bad("has a block table that does not fit its virtual size"));
    }
    // Before each block, a bit for each of its sectors, in whole sectors.
    let bitmap = (block / SECTOR / 8).next_multiple_of(SECTOR);
    Ok((size, Map::Dynamic { table, block, bitmap }))
}

impl Map {
    pub async fn piece(&mut self, input: &mut Input, at: u64) -> Result<Piece> {
        let Map::Dynamic { table, block, bitmap } = self else {
            return Ok(Piece { length: input.size() - at, what: What::At(at) });
        };
        let inside = at % *block;
        let length = *block - inside;
        match input.be32(table.saturating_add(at / *block * 4)).await? {
            NO_BLOCK => Ok(zeros(length)),
            sector => Ok(Piece { length, what: What::At(u64::from(sector) * SECTOR + *bitmap + inside) }),
        }
    }
}
