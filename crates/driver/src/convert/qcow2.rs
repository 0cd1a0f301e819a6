//! QEMU's copy-on-write format; the layout as QEMU's docs/interop/qcow2.txt gives it. All numbers are big-endian.

use bytes::Bytes;
use umbel_core::Result;

use super::source::{Input, be32, be64};
use super::{Codec, Piece, What, zeros};

const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_ENTRIES: u64 = 1 << 4;
/// Dirty (its reference counts, of which we read none), corrupt, and the two above. Not the external data file.
const KNOWN: u64 = 0b1_1011;

/// Bits of an entry that are a place in the image.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// Ranges of a cluster that an extended entry tells apart.
const SUBCLUSTERS: u64 = 32;

pub struct Map {
    cluster_bits: u32,
    extended: bool,
    codec: Codec,
    first: u64,
    entries: u64,
    /// The second table read last, and which it is.
    second: Option<(u64, Bytes)>,
}

/// The disk's size, and its map.
pub async fn open(input: &mut Input) -> Result<(u64, Map)> {
    let header = input.table(0, 112.min(input.size())).await?;
    let (version, cluster_bits) = (be32(&header, 4), be32(&header, 20));
    if !header.starts_with(b"QFI\xfb") || !matches!(version, 2 | 3) || header.len() < 72 {
        return Err(input.bad("has no header of version 2 or 3"));
    }
    if be64(&header, 8) != 0 {
        return Err(input.bad("has a backing file"));
    }
    if be32(&header, 32) != 0 {
        return Err(input.bad("is encrypted"));
    }
    let features = if version >= 3 { be64(&header, 72) } else { 0 };
    if features & !KNOWN != 0 {
        return Err(input.bad("has an external data file, or features that are not known"));
    }
    let codec = match features & COMPRESSION_TYPE {
        0 => Codec::Deflate,
        _ => match header.get(104) {
            Some(0) => Codec::Deflate,
            Some(1) => Codec::Zstd,
            _ => return Err(input.bad("is compressed by a method that is not known")),
        },
    };
    let extended = features & EXTENDED_ENTRIES != 0;
    if !(9..=21).contains(&cluster_bits) || (extended && cluster_bits < 14) {
        return Err(input.bad("has a cluster size out of range"));
    }
    let map = Map {
        cluster_bits,
        extended,
        codec,
        first: be64(&header, 40),
        entries: be32(&header, 36).into(),
        second: None,
    };
    let size = be64(&header, 24);
    match size.div_ceil(map.per_table()) <= map.entries {
        true => Ok((size, map)),
        false => Err(input.bad("has tables that do not fit its virtual size")),
    }
}

impl Map {
    pub async fn piece(&mut self, input: &mut Input, at: u64) -> Result<Piece> {
        let (cluster, per_table) = (1 << self.cluster_bits, self.per_table());
        let number = at / per_table;
        if self.second.as_ref().is_none_or(|(known, _)| *known != number) {
            let place = input.be64(self.first.saturating_add(number * 8)).await? & OFFSET;
            if place == 0 {
                return Ok(zeros(per_table - at % per_table));
            }
            if !place.is_multiple_of(cluster) {
                return Err(input.bad("has a table that lies askew"));
            }
            self.second = Some((number, input.table(place, cluster).await?));
        }
        let Some((_, table)) = &self.second else {
            return Err(input.bad("maps nothing"));
        };
        let inside = at % cluster;
        let index = ((at % per_table) / cluster) as usize;
        let entry = be64(table, index * self.entry());
        if entry & COMPRESSED != 0 {
            return self.compressed(input, entry, inside);
        }
        if entry & OFFSET & (cluster - 1) != 0 {
            return Err(input.bad("has a cluster that lies askew"));
        }
        if self.extended {
            return Ok(subclusters(entry & OFFSET, be64(table, index * self.entry() + 8), inside, cluster));
        }
        let length = cluster - inside;
        match entry & OFFSET {
            0 => Ok(zeros(length)),
            _ if entry & ZERO != 0 => Ok(zeros(length)),
            place => Ok(Piece { length, what: What::At(place + inside) }),
        }
    }

    /// Compressed clusters are whole, and pieces begin where clusters do.
    fn compressed(&self, input: &Input, entry: u64, inside: u64) -> Result<Piece> {
        if inside != 0 {
            return Err(input.bad("has a compressed cluster in pieces"));
        }
        let bits = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << bits) - 1);
        let sectors = ((entry & (COMPRESSED - 1)) >> bits) + 1;
        let length = sectors * 512 - offset % 512;
        Ok(Piece { length: 1 << self.cluster_bits, what: What::Packed { offset, length, codec: self.codec } })
    }

    /// Bytes of an entry of a second table.
    fn entry(&self) -> usize {
        if self.extended { 16 } else { 8 }
    }

    /// Bytes of the disk that one second table maps.
    fn per_table(&self) -> u64 {
        (1 << self.cluster_bits) / self.entry() as u64 * (1 << self.cluster_bits)
    }
}

/// As far as the subclusters are of one kind.
fn subclusters(place: u64, bitmap: u64, inside: u64, cluster: u64) -> Piece {
    let size = cluster / SUBCLUSTERS;
    let has_data = |number: u64| bitmap >> number & 1 == 1 && bitmap >> (number + 32) & 1 == 0 && place != 0;
    let first = inside / size;
    let data = has_data(first);
    let end = (first..SUBCLUSTERS).find(|number| has_data(*number) != data).unwrap_or(SUBCLUSTERS);
    let length = end * size - inside;
    match data {
        true => Piece { length, what: What::At(place + inside) },
        false => zeros(length),
    }
}
