//! VMware's format; the layout as VMware's "Virtual Disk Format 5.0" gives it. All numbers are little-endian.
//!
//! Of a sparse extent only the tables are followed. Its descriptor, which is text that names files, is not read here.

use bytes::Bytes;
use umbel_core::Result;

use super::source::{Input, le16, le32, le64};
use super::{Codec, MAX_PACKED, Piece, What, zeros};

const SECTOR: u64 = 512;

/// Flags of the header.
const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;

const DEFLATE: u16 = 1;

/// The directory's place is told by a footer.
const AT_END: u64 = u64::MAX;

/// Before each compressed grain: its place in the disk, and its length.
const MARKER: u64 = 12;

pub struct Map {
    flags: u32,
    /// Bytes of a grain.
    grain: u64,
    /// Grains in a table.
    entries: u64,
    directory: u64,
    /// The table read last, and which it is.
    table: Option<(u64, Bytes)>,
}

/// The disk's size, and its map.
pub async fn open(input: &mut Input) -> Result<(u64, Map)> {
    let mut header = header(input, 0).await?;
    if le64(&header, 56) == AT_END {
        // Marker, footer, end marker.
        let Some(footer) = input.size().checked_sub(2 * SECTOR) else {
            return Err(input.bad("has no footer"));
        };
        let size = le64(&header, 12);
        header = self::header(input, footer).await?;
        if le64(&header, 12) != size || le64(&header, 56) == AT_END {
            return Err(input.bad("has a footer that contradicts its header"));
        }
    }
    let (flags, grain, entries) = (le32(&header, 8), le64(&header, 20), le32(&header, 44));
    if !grain.is_power_of_two() || !(8..=MAX_PACKED / SECTOR).contains(&grain) {
        return Err(input.bad("has a grain size out of range"));
    }
    if !(1..=512).contains(&entries) {
        return Err(input.bad("has a table size out of range"));
    }
    if flags & COMPRESSED != 0 && (flags & MARKERS == 0 || le16(&header, 77) != DEFLATE) {
        return Err(input.bad("is compressed by a method that is not known"));
    }
    let (size, directory) = (le64(&header, 12).checked_mul(SECTOR), le64(&header, 56).checked_mul(SECTOR));
    let (Some(size @ 1..), Some(directory)) = (size, directory) else {
        return Err(input.bad("has no valid capacity or directory"));
    };
    Ok((size, Map { flags, grain: grain * SECTOR, entries: entries.into(), directory, table: None }))
}

async fn header(input: &mut Input, at: u64) -> Result<Bytes> {
    let header = input.table(at, SECTOR).await?;
    match header.starts_with(b"KDMV") && (1..=3).contains(&le32(&header, 4)) {
        true => Ok(header),
        false => Err(input.bad("has no sparse header of a known version")),
    }
}

impl Map {
    pub async fn piece(&mut self, input: &mut Input, at: u64) -> Result<Piece> {
        let per_table = self.grain * self.entries;
        let number = at / per_table;
        if self.table.as_ref().is_none_or(|(known, _)| *known != number) {
            let place = input.le32(self.directory.saturating_add(number * 4)).await?;
            if place == 0 {
                return Ok(zeros(per_table - at % per_table));
            }
            self.table = Some((number, input.table(u64::from(place) * SECTOR, self.entries * 4).await?));
        }
        let inside = at % self.grain;
        let index = (at % per_table / self.grain) as usize;
        let entry = self.table.as_ref().map_or(0, |(_, table)| le32(table, index * 4));
        let length = self.grain - inside;
        let place = u64::from(entry) * SECTOR;
        match entry {
            0 => Ok(zeros(length)),
            1 if self.flags & ZERO_GRAINS != 0 => Ok(zeros(length)),
            _ if self.flags & COMPRESSED == 0 => Ok(Piece { length, what: What::At(place + inside) }),
            _ => {
                let marker = input.table(place, MARKER).await?;
                let packed = u64::from(le32(&marker, 8));
                if inside != 0 || le64(&marker, 0).checked_mul(SECTOR) != Some(at) || packed == 0 {
                    return Err(input.bad("has a compressed grain that is not where its table says"));
                }
                Ok(Piece { length, what: What::Packed { offset: place + MARKER, length: packed, codec: Codec::Zlib } })
            }
        }
    }
}
