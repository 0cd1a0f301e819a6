//! Microsoft's newer format; the layout as MS-VHDX gives it. All numbers are little-endian.
//!
//! An image with entries in its log was not closed, and its tables are not what they will be once the log is replayed;
//! it is refused, as `qemu-img` refuses to read it without writing.

use umbel_core::Result;

use super::source::{Input, le16, le32, le64};
use super::{Piece, What, zeros};

/// Both copies of the header, of which the valid one with the higher number counts.
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const HEADER: u64 = 4096;
const LOG_ID: std::ops::Range<usize> = 48..64;

/// Both copies of the table of regions.
const REGIONS: u64 = 192 << 10;
const REGIONS_LENGTH: u64 = 64 << 10;
const ENTRY: usize = 32;

/// Identifiers as they stand in the file: the first three groups are little-endian.
const BLOCK_TABLE: u128 = 0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08;
const METADATA: u128 = 0x8b7c_a206_4790_4b9a_b8fe_575f_050f_886e;
const FILE_PARAMETERS: u128 = 0xcaa1_6737_fa36_4d43_b3b6_33f0_aa44_e76b;
const VIRTUAL_SIZE: u128 = 0x2fa5_4224_cd1b_4876_b211_5dbe_d83b_f4b8;
const LOGICAL_SECTOR: u128 = 0x8141_bf1d_a96f_4709_ba47_f233_a8fa_ab5f;
const PARENT: u128 = 0xa8d3_5f2d_b30b_454d_abf7_d3d8_4834_ab0c;

/// States of a block.
const PRESENT: u64 = 6;
const PARTLY_PRESENT: u64 = 7;

/// The sectors that one block of sector bitmaps speaks of.
const SECTORS_PER_BITMAP: u64 = 1 << 23;

pub struct Map {
    table: u64,
    block: u64,
    /// Blocks between two entries for bitmaps, of which only differencing images have any.
    chunk: u64,
}

/// The disk's size, and its map.
pub async fn open(input: &mut Input) -> Result<(u64, Map)> {
    if !input.table(0, 8).await?.starts_with(b"vhdxfile") {
        return Err(input.bad("has no signature"));
    }
    check_log(input).await?;
    let (mut table, mut metadata) = (None, None);
    let regions = input.table(REGIONS, REGIONS_LENGTH).await?;
    if !regions.starts_with(b"regi") {
        return Err(input.bad("has no region table"));
    }
    for entry in regions[16..].chunks_exact(ENTRY).take(le32(&regions, 8) as usize) {
        let place = (le64(entry, 16), u64::from(le32(entry, 24)));
        match id(entry) {
            BLOCK_TABLE if table.is_none() => table = Some(place),
            METADATA if metadata.is_none() => metadata = Some(place),
            BLOCK_TABLE | METADATA => return Err(input.bad("has a region twice")),
            _ if le32(entry, 28) & 1 != 0 => return Err(input.bad("has a region that is required and not known")),
            _ => {}
        }
    }
    let (Some((table, table_length)), Some((metadata, _))) = (table, metadata) else {
        return Err(input.bad("lacks a region"));
    };
    let (size, block, sector) = parameters(input, metadata).await?;
    let chunk = SECTORS_PER_BITMAP * sector / block;
    let blocks = size.div_ceil(block);
    if blocks.saturating_add(blocks / chunk).saturating_mul(8) > table_length {
        return Err(input.bad("has a block table that does not fit its virtual size"));
    }
    Ok((size, Map { table, block, chunk }))
}

async fn check_log(input: &mut Input) -> Result<()> {
    let (mut newest, mut log) = (None, false);
    for place in HEADERS {
        let header = input.table(place, HEADER).await?;
        let mut blank = header.to_vec();
        blank[4..8].fill(0);
        let valid = header.starts_with(b"head") && le32(&header, 4) == crc32c(&blank);
        if valid && newest < Some(le64(&header, 8)) {
            newest = Some(le64(&header, 8));
            log = header[LOG_ID].iter().any(|byte| *byte != 0);
        }
    }
    match newest {
        Some(_) if !log => Ok(()),
        Some(_) => Err(input.bad("was not closed: its log has to be replayed")),
        None => Err(input.bad("has no valid header")),
    }
}

/// Bytes of the disk, of its blocks, and of its sectors.
async fn parameters(input: &mut Input, region: u64) -> Result<(u64, u64, u64)> {
    let head = input.table(region, REGIONS_LENGTH).await?;
    if !head.starts_with(b"metadata") {
        return Err(input.bad("has no metadata table"));
    }
    let (mut size, mut parameters, mut sector) = (0, 0, 0);
    for entry in head[ENTRY..].chunks_exact(ENTRY).take(le16(&head, 10).into()) {
        let place = region.saturating_add(le32(entry, 16).into());
        match id(entry) {
            PARENT => return Err(input.bad("depends on a parent image")),
            VIRTUAL_SIZE => size = input.le64(place).await?,
            FILE_PARAMETERS => parameters = input.le64(place).await?,
            LOGICAL_SECTOR => sector = u64::from(input.le32(place).await?),
            _ => {}
        }
    }
    if parameters >> 32 & 2 != 0 {
        return Err(input.bad("depends on a parent image"));
    }
    let block = parameters & u64::from(u32::MAX);
    if !block.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block) || !matches!(sector, 512 | 4096) {
        return Err(input.bad("has blocks or sectors of an unknown size"));
    }
    Ok((size, block, sector))
}

impl Map {
    pub async fn piece(&mut self, input: &mut Input, at: u64) -> Result<Piece> {
        let (number, inside) = (at / self.block, at % self.block);
        let index = number + number / self.chunk;
        let entry = input.le64(self.table.saturating_add(index * 8)).await?;
        let length = self.block - inside;
        match entry & 7 {
            PRESENT => Ok(Piece { length, what: What::At((entry & !0xf_ffff).saturating_add(inside)) }),
            PARTLY_PRESENT => Err(input.bad("depends on a parent image")),
            _ => Ok(zeros(length)),
        }
    }
}

/// In the order in which identifiers are written.
fn id(entry: &[u8]) -> u128 {
    let groups = u128::from(le32(entry, 0)) << 96 | u128::from(le16(entry, 4)) << 80 | u128::from(le16(entry, 6)) << 64;
    groups | u128::from(le64(entry, 8).swap_bytes())
}

/// CRC-32 with Castagnoli's polynomial, bit by bit: two pages are all it is used for.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
