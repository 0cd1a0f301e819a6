//! As much of qcow2 as the store needs: the header of a fresh overlay, and where data lies in one that QEMU has written.
//! Source of the layout: `docs/interop/qcow2.txt` of QEMU, version 3.
//!
//! A fresh overlay is four clusters of which three pages are not zeros, so it is written here, in well under a
//! millisecond. Refused: `qemu-img create`, which does the same with a process of 10 ms and more for each clone, and
//! `qemu-img` to read ranges, which needs a copy or a pipe for what are two table look-ups.

use crate::DiskFormat;

const MAGIC: u32 = u32::from_be_bytes(*b"QFI\xfb");
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const HEADER: u32 = 104;
const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
/// Ours, and so unknown to QEMU, which keeps unknown extensions as they are. Holds the location a clone was made from.
const EXT_ORIGIN: u32 = u32::from_be_bytes(*b"UMBL");
/// QEMU refuses a first-level table of more than 32 MiB.
const L1_BYTES_MAX: u64 = 32 << 20;
/// Where the size stands in a header.
const SIZE_AT: u64 = 24;

/// How much of a file [`parse`] wants to see: the header with its extensions and names lies within the first cluster,
/// and ours within the first page.
pub(super) const PARSED: usize = 4_096;

/// Sizes are whole sectors; QEMU cuts what is over.
pub(super) const SECTOR: u64 = 512;

/// Largest size of an overlay, in bytes: 2 PiB.
pub(super) const LARGEST: u64 = L1_BYTES_MAX / 8 * (CLUSTER / 8) * CLUSTER;

const DIRTY: u64 = 1 << 0;

/// A fresh overlay without data of its own.
pub(super) struct Overlay<'a> {
    /// In bytes, a multiple of [`SECTOR`], at most [`LARGEST`].
    pub size: u64,
    /// The file below, as seen from the overlay's directory.
    pub backing: &'a str,
    pub format: DiskFormat,
    pub origin: Option<&'a str>,
}

impl Overlay<'_> {
    /// What to write where, and how long the file is. Everything else is zeros.
    pub fn layout(&self) -> (Vec<(u64, Vec<u8>)>, u64) {
        let l1_bytes = (self.size.div_ceil(span(CLUSTER_BITS)) * 8).max(1);
        // Whole clusters, and all of them declared: a disk grows to 4 TiB and more by its size alone.
        let l1_clusters = l1_bytes.div_ceil(CLUSTER);
        let clusters = 3 + l1_clusters;
        let refcounts = (0..clusters).flat_map(|_| 1u16.to_be_bytes()).collect();
        let parts = vec![
            (0, self.header(l1_clusters)),
            // The table of reference counts, with one block of them.
            (CLUSTER, (2 * CLUSTER).to_be_bytes().to_vec()),
            (2 * CLUSTER, refcounts),
        ];
        (parts, clusters * CLUSTER)
    }

    fn header(&self, l1_clusters: u64) -> Vec<u8> {
        let format = match self.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        };
        let mut extensions = Vec::new();
        extension(&mut extensions, EXT_BACKING_FORMAT, format.as_bytes());
        if let Some(origin) = self.origin {
            extension(&mut extensions, EXT_ORIGIN, origin.as_bytes());
        }
        extension(&mut extensions, 0, &[]);

        let mut header = Vec::with_capacity(512);
        let put32 = |header: &mut Vec<u8>, value: u32| header.extend(value.to_be_bytes());
        let put64 = |header: &mut Vec<u8>, value: u64| header.extend(value.to_be_bytes());
        put32(&mut header, MAGIC);
        put32(&mut header, 3);
        put64(&mut header, u64::from(HEADER) + extensions.len() as u64);
        put32(&mut header, self.backing.len() as u32);
        put32(&mut header, CLUSTER_BITS);
        put64(&mut header, self.size);
        put32(&mut header, 0); // no encryption
        put32(&mut header, (l1_clusters * CLUSTER / 8) as u32);
        put64(&mut header, 3 * CLUSTER); // first-level table
        put64(&mut header, CLUSTER); // table of reference counts
        put32(&mut header, 1); // of one cluster
        put32(&mut header, 0); // no internal snapshots
        put64(&mut header, 0);
        put64(&mut header, 0); // features: incompatible, compatible, autoclear
        put64(&mut header, 0);
        put64(&mut header, 0);
        put32(&mut header, 4); // reference counts of 16 bits
        put32(&mut header, HEADER);
        header.extend(extensions);
        header.extend(self.backing.as_bytes());
        header
    }
}

/// The reference counts of an overlay that has the layout of [`Overlay`] and then only clusters that are used once.
pub(super) struct Refcounts {
    /// What to write where.
    pub parts: Vec<(u64, Vec<u8>)>,
    /// Clusters of the file, with those that the counts take.
    pub clusters: u64,
}

impl Refcounts {
    /// `taken`: clusters of the file so far. `None` if there are more than one table can count: 16 TiB.
    pub fn of(taken: u64) -> Option<Self> {
        // Counts of 16 bits.
        const COUNTED: u64 = CLUSTER / 2;
        // The first block is there; each further one is a cluster that is counted itself.
        let mut blocks = 1;
        while (taken + blocks - 1).div_ceil(COUNTED) > blocks {
            blocks += 1;
        }
        if blocks > CLUSTER / 8 {
            return None;
        }
        let clusters = taken + blocks - 1;
        let (mut table, mut parts) = (Vec::new(), Vec::new());
        for block in 0..blocks {
            let offset = if block == 0 { 2 * CLUSTER } else { (taken + block - 1) * CLUSTER };
            table.extend(offset.to_be_bytes());
            let used = (clusters - block * COUNTED).min(COUNTED);
            let mut counts: Vec<u8> = (0..used).flat_map(|_| 1u16.to_be_bytes()).collect();
            counts.resize(CLUSTER as usize, 0);
            parts.push((offset, counts));
        }
        parts.push((CLUSTER, table));
        Some(Refcounts { parts, clusters })
    }
}

fn extension(to: &mut Vec<u8>, kind: u32, data: &[u8]) {
    to.extend(kind.to_be_bytes());
    to.extend((data.len() as u32).to_be_bytes());
    to.extend(data);
    to.resize(to.len().next_multiple_of(8), 0);
}

/// Bytes of a disk that one second-level table maps.
const fn span(cluster_bits: u32) -> u64 {
    1 << (2 * cluster_bits - 3)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub size: u64,
    pub backing: Option<String>,
    pub origin: Option<String>,
    cluster_bits: u32,
    l1_entries: u32,
    l1_offset: u64,
}

/// Reads a header from the beginning of a file, or says what is wrong with it. Refused with the damaged ones are those
/// with features that the store's overlays never have and [`Header::l1_entry_at`] does not know.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, String> {
    let fields = Fields(bytes);
    if fields.u32(0)? != MAGIC || fields.u32(4)? != 3 {
        return Err("not a qcow2 file of version 3".to_owned());
    }
    let cluster_bits = fields.u32(20)?;
    let l1_entries = fields.u32(36)?;
    let header = u64::from(fields.u32(100)?);
    if !(9..=21).contains(&cluster_bits) || u64::from(l1_entries) * 8 > L1_BYTES_MAX || header < u64::from(HEADER) {
        return Err("qcow2 header with values out of range".to_owned());
    }
    let incompatible = fields.u64(72)?;
    if incompatible & !DIRTY != 0 || fields.u32(32)? != 0 {
        return Err(format!("qcow2 features {incompatible:#x} that are damage or were not asked for"));
    }
    let (name_at, name_length) = (fields.u64(8)?, u64::from(fields.u32(16)?));
    let backing = if name_at == 0 { None } else { Some(fields.text(name_at, name_length)?) };
    let mut parsed =
        Header { size: fields.u64(24)?, backing, origin: None, cluster_bits, l1_entries, l1_offset: fields.u64(40)? };
    if u64::from(l1_entries) * span(cluster_bits) < parsed.size {
        return Err("qcow2 tables smaller than its size".to_owned());
    }
    let mut at = header;
    // Without an end mark the extensions end where the backing file's name begins.
    while name_at == 0 || at + 8 <= name_at {
        let (kind, length) = (fields.u32(at)?, u64::from(fields.u32(at + 4)?));
        match kind {
            0 => break,
            EXT_ORIGIN => parsed.origin = Some(fields.text(at + 8, length)?),
            _ => {}
        }
        at += 8 + length.next_multiple_of(8);
    }
    Ok(parsed)
}

impl Header {
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes that one second-level table maps, beginning at multiples of it.
    pub fn span(&self) -> u64 {
        span(self.cluster_bits)
    }

    /// Where in the file the first-level entry for this byte of the disk stands.
    pub fn l1_entry_at(&self, offset: u64) -> u64 {
        self.l1_offset + offset / self.span() * 8
    }

    /// Whether the disk can have this size without other tables.
    pub fn can_be(&self, size: u64) -> bool {
        size.div_ceil(self.span()) <= u64::from(self.l1_entries)
    }

    /// What to write where to make it that size: one field of the first sector, so there is no half of it.
    pub fn resized(size: u64) -> (u64, [u8; 8]) {
        (SIZE_AT, size.to_be_bytes())
    }
}

/// Offset of the second-level table in the file; 0 if there is none.
pub(super) fn l2_offset(l1_entry: u64) -> u64 {
    l1_entry & 0x00ff_ffff_ffff_fe00
}

/// A second-level entry for a cluster of zeros.
pub(super) const ZERO_CLUSTER: u64 = 1;

/// The entry, of the first level or the second, for what is at this offset of the file and used once.
pub(super) fn data_cluster(offset: u64) -> u64 {
    offset | 1 << 63
}

/// What a second-level entry says of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// Not here: ask the file below.
    Below,
    Zeros,
    /// At this offset of the file.
    At(u64),
    /// QEMU writes these when it is told to compress, which nobody does.
    Compressed,
}

pub(super) fn cluster(l2_entry: u64) -> Cluster {
    if l2_entry & (1 << 62) != 0 {
        return Cluster::Compressed;
    }
    if l2_entry & 1 != 0 {
        return Cluster::Zeros;
    }
    match l2_entry & 0x00ff_ffff_ffff_fe00 {
        0 => Cluster::Below,
        offset => Cluster::At(offset),
    }
}

/// Big-endian fields of a header that may be cut short.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes(&self, at: u64, length: u64) -> Result<&[u8], String> {
        let range = usize::try_from(at).ok().zip(usize::try_from(at.saturating_add(length)).ok());
        range.and_then(|(from, to)| self.0.get(from..to)).ok_or_else(|| "qcow2 header cut short".to_owned())
    }

    fn u32(&self, at: u64) -> Result<u32, String> {
        let bytes = self.bytes(at, 4)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn u64(&self, at: u64) -> Result<u64, String> {
        Ok(u64::from(self.u32(at)?) << 32 | u64::from(self.u32(at.saturating_add(4))?))
    }

    fn text(&self, at: u64, length: u64) -> Result<String, String> {
        String::from_utf8(self.bytes(at, length)?.to_vec())
            .map_err(|_| "qcow2 header with a name that is no text".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_page(overlay: &Overlay<'_>) -> Vec<u8> {
        let (parts, _) = overlay.layout();
        let mut page = parts[0].1.clone();
        page.resize(PARSED, 0);
        page
    }

    #[test]
    fn what_is_written_is_read() {
        for size in [0, 512, 1 << 30, 5 << 40, LARGEST] {
            let overlay = Overlay {
                size,
                backing: "../../images/.layers/1.raw",
                format: DiskFormat::Raw,
                origin: Some("local://a/b/c/d"),
            };
            let header = parse(&first_page(&overlay)).unwrap();
            assert_eq!(header.size, size);
            assert_eq!(header.backing.as_deref(), Some(overlay.backing));
            assert_eq!(header.origin.as_deref(), overlay.origin);
            assert!(header.can_be(size) && (size == LARGEST || header.can_be(4 << 40)));
            assert!(!header.can_be(LARGEST + 1));
        }
    }

    #[test]
    fn damage_is_refused() {
        let overlay =
            Overlay { size: 1 << 30, backing: "x", format: DiskFormat::Qcow2, origin: Some("local://a/b/c/d") };
        let good = first_page(&overlay);
        assert!(parse(&good).is_ok());
        // Cut anywhere, it is refused or read, but never trusted past its end.
        for length in 0..200 {
            let _ = parse(&good[..length]);
        }
        for (at, byte) in [(0, 0), (7, 2), (23, 40), (35, 1), (79, 2), (79, 4), (36, 0xff), (12, 0xff), (103, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(parse(&bad).is_err(), "byte {at} = {byte}");
        }
        let mut endless = good;
        endless[104..112].copy_from_slice(&[1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff]);
        // An extension longer than the header leads past the name, where extensions end.
        assert_eq!(parse(&endless).unwrap().origin, None);
    }

    #[test]
    fn every_cluster_is_counted_once() {
        for taken in [4, 5, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 98_303] {
            let counts = Refcounts::of(taken).unwrap();
            let (table, blocks) = counts.parts.split_last().unwrap();
            assert_eq!(table.1.len(), blocks.len() * 8, "{taken}");
            let ones = blocks.iter().flat_map(|(_, bytes)| bytes.chunks(2)).filter(|count| *count == [0, 1]).count();
            assert_eq!((ones as u64, counts.clusters), (counts.clusters, taken + blocks.len() as u64 - 1), "{taken}");
            assert!(blocks.len() as u64 * 32_768 >= counts.clusters, "{taken}");
            assert_eq!(blocks[0].0, 2 * CLUSTER);
            assert!(blocks[1..].iter().all(|(offset, _)| *offset >= taken * CLUSTER), "{taken}");
        }
        assert!(Refcounts::of(1 << 28).is_none());
    }

    #[test]
    fn entries_say_where_data_is() {
        let check = |entry, want| assert_eq!(cluster(entry), want, "{entry:#x}");
        check(0, Cluster::Below);
        check(1, Cluster::Zeros);
        check(0x5_0001, Cluster::Zeros);
        check(1 << 63 | 0x5_0000, Cluster::At(0x5_0000));
        check(1 << 62 | 0x5_0000, Cluster::Compressed);
    }
}
