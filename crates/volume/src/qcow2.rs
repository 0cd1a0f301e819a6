//! Writes a disk as a qcow2 image, in one pass and without a scratch file.
//!
//! What a pool stores of a disk is known before the first byte is read, so all tables can be laid out first: header,
//! reference counts, level 1, level 2, and then the data in the order of the disk. The stream's length is known too, which
//! lets the receiver refuse a broken upload. (Refused: `qemu-img convert`, which needs a file of the image's size and a
//! package on every host of the service; and compression, which would make the length unknown.)
//!
//! The format is version 3 as QEMU's documentation has it, with clusters of 64 KiB and counts of 16 bits.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use umbel_core::Result;
use umbel_driver::{ByteStream, Extent, Pool};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;

/// Entries of 8 bytes in a cluster: of a level 2 table, and of the table of blocks of counts.
const ENTRIES: u64 = CLUSTER / 8;

/// Counts in a block.
const COUNTS: u64 = CLUSTER / 2;

/// Clusters of a disk that one level 2 table maps.
const MAPPED: u64 = ENTRIES;

/// "Used once": such a cluster may be written in place.
const COPIED: u64 = 1 << 63;

/// Where everything stands in the image. All numbers are clusters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Of the disk, in bytes.
    size: u64,
    /// Clusters of the disk that are stored, ascending, not touching.
    runs: Vec<Range<u64>>,
    /// Level 2 tables that are needed, by their number, ascending.
    tables: Vec<u64>,
    count_table: u64,
    count_blocks: u64,
    level1: u64,
    data: u64,
}

impl Layout {
    /// Of a disk of `size` bytes of which the extents are stored; those that are zero are left out.
    pub(crate) fn new(size: u64, extents: &[Extent]) -> Layout {
        let runs = runs(size, extents);
        let mut tables: Vec<u64> = Vec::new();
        for run in &runs {
            let first = run.start / MAPPED;
            let next = tables.last().map_or(first, |last| first.max(last + 1));
            tables.extend(next..=(run.end - 1) / MAPPED);
        }
        let level1 = size.div_ceil(CLUSTER * MAPPED).div_ceil(ENTRIES).max(1);
        let data = runs.iter().map(|run| run.end - run.start).sum();
        let mut layout = Layout { size, runs, tables, count_table: 1, count_blocks: 1, level1, data };
        // The counts count themselves: grow them until they suffice.
        loop {
            let blocks = layout.clusters().div_ceil(COUNTS);
            let table = blocks.div_ceil(ENTRIES);
            if (blocks, table) == (layout.count_blocks, layout.count_table) {
                return layout;
            }
            (layout.count_blocks, layout.count_table) = (blocks, table);
        }
    }

    fn clusters(&self) -> u64 {
        self.first_data() + self.data
    }

    fn first_table(&self) -> u64 {
        1 + self.count_table + self.count_blocks + self.level1
    }

    fn first_data(&self) -> u64 {
        self.first_table() + self.tables.len() as u64
    }

    /// Bytes of the image.
    pub(crate) fn length(&self) -> u64 {
        self.clusters() * CLUSTER
    }

    fn header(&self) -> Bytes {
        let mut header = vec![0; CLUSTER as usize];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"QFI\xfb");
        put(4, &3u32.to_be_bytes());
        put(20, &CLUSTER_BITS.to_be_bytes());
        put(24, &self.size.to_be_bytes());
        put(36, &(self.size.div_ceil(CLUSTER * MAPPED) as u32).to_be_bytes());
        put(40, &((1 + self.count_table + self.count_blocks) * CLUSTER).to_be_bytes());
        put(48, &CLUSTER.to_be_bytes());
        put(56, &(self.count_table as u32).to_be_bytes());
        // Counts of 2 to the 4th bits, and the header's own length.
        put(96, &4u32.to_be_bytes());
        put(100, &104u32.to_be_bytes());
        header.into()
    }

    /// A cluster of the table of blocks of counts.
    fn count_table_cluster(&self, number: u64) -> Bytes {
        let first = 1 + self.count_table;
        entries(number, |entry| (entry < self.count_blocks).then(|| (first + entry) * CLUSTER))
    }

    fn count_block(&self, number: u64) -> Bytes {
        let used = self.clusters().saturating_sub(number * COUNTS).min(COUNTS) as usize;
        let mut block = 1u16.to_be_bytes().repeat(used);
        block.resize(CLUSTER as usize, 0);
        block.into()
    }

    fn level1_cluster(&self, number: u64) -> Bytes {
        entries(number, |entry| {
            let table = self.tables.binary_search(&entry).ok()?;
            Some(((self.first_table() + table as u64) * CLUSTER) | COPIED)
        })
    }

    fn level2_table(&self, table: u64) -> Bytes {
        let mut before = self.first_data();
        let mut cursor = self.runs.iter().peekable();
        entries(table, |entry| {
            // Entries come in ascending order, so the runs are walked once.
            while let Some(run) = cursor.peek().filter(|run| run.end <= entry) {
                before += run.end - run.start;
                cursor.next();
            }
            let run = cursor.peek().filter(|run| run.start <= entry)?;
            Some(((before + entry - run.start) * CLUSTER) | COPIED)
        })
    }

    /// What stands before the data, cluster by cluster.
    fn tables(self: &Arc<Self>) -> impl Iterator<Item = Bytes> + Send + use<> {
        let layout = Arc::clone(self);
        let (count_table, count_blocks) = (layout.count_table, layout.count_blocks);
        let level1 = 1 + count_table + count_blocks;
        (0..layout.first_data()).map(move |cluster| {
            if cluster == 0 {
                layout.header()
            } else if cluster <= count_table {
                layout.count_table_cluster(cluster - 1)
            } else if cluster < level1 {
                layout.count_block(cluster - 1 - count_table)
            } else if cluster < layout.first_table() {
                layout.level1_cluster(cluster - level1)
            } else {
                layout.level2_table(layout.tables[(cluster - layout.first_table()) as usize])
            }
        })
    }

    /// The image of what the pool has at the disk's snapshot.
    pub(crate) fn stream(self, pool: Arc<dyn Pool>, disk: &str, snapshot: &str) -> ByteStream {
        let layout = Arc::new(self);
        let tables = stream::iter(layout.tables().map(Ok));
        let size = layout.size;
        // A disk that ends within a cluster is filled up with zeros.
        let ragged = layout.runs.last().map_or(0, |run| (run.end * CLUSTER).saturating_sub(size));
        let reads: Vec<Range<u64>> =
            layout.runs.iter().map(|run| run.start * CLUSTER..(run.end * CLUSTER).min(size)).collect();
        let (disk, snapshot) = (disk.to_owned(), snapshot.to_owned());
        let data = stream::iter(reads.into_iter().map(Ok)).and_then(move |range: Range<u64>| {
            let (pool, disk, snapshot) = (pool.clone(), disk.clone(), snapshot.clone());
            async move { pool.read(&disk, Some(&snapshot), range.start, range.end - range.start).await }
        });
        let rest = stream::iter((ragged > 0).then(|| Ok(Bytes::from(vec![0; ragged as usize]))));
        tables.chain(data.try_flatten()).chain(rest).map(|chunk: Result<Bytes>| chunk).boxed()
    }
}

/// A cluster of entries of 8 bytes, of which this is the `number`th.
fn entries(number: u64, mut entry: impl FnMut(u64) -> Option<u64>) -> Bytes {
    let mut cluster = Vec::with_capacity(CLUSTER as usize);
    for index in number * ENTRIES..(number + 1) * ENTRIES {
        cluster.extend_from_slice(&entry(index).unwrap_or(0).to_be_bytes());
    }
    cluster.into()
}

/// The extents that hold data, widened to whole clusters.
fn runs(size: u64, extents: &[Extent]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for extent in extents.iter().filter(|extent| !extent.zero && extent.length > 0) {
        let end = (extent.offset + extent.length).min(size);
        if extent.offset >= end {
            continue;
        }
        let run = extent.offset / CLUSTER..end.div_ceil(CLUSTER);
        match runs.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => runs.push(run),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn data(offset: u64, length: u64) -> Extent {
        Extent { offset, length, zero: false }
    }

    #[test]
    fn extents_become_whole_clusters() {
        let check = |extents: &[Extent], expected: &[(u64, u64)]| {
            let found: Vec<(u64, u64)> = runs(GIB, extents).into_iter().map(|run| (run.start, run.end)).collect();
            assert_eq!(found, expected);
        };
        check(&[], &[]);
        check(&[data(0, 1)], &[(0, 1)]);
        check(&[data(CLUSTER - 1, 2)], &[(0, 2)]);
        check(&[data(0, CLUSTER), data(CLUSTER, 1)], &[(0, 2)]);
        check(&[data(10, 10), data(30, 10), data(5 * CLUSTER, 1)], &[(0, 1), (5, 6)]);
        check(&[Extent { zero: true, ..data(0, GIB) }], &[]);
        check(&[data(GIB, CLUSTER), data(2 * GIB, 1)], &[]);
    }

    #[test]
    fn the_counts_count_themselves() {
        let check = |size: u64, extents: &[Extent]| {
            let layout = Layout::new(size, extents);
            assert!(layout.count_blocks * COUNTS >= layout.clusters(), "{layout:?}");
            assert!(layout.count_table * ENTRIES >= layout.count_blocks, "{layout:?}");
        };
        check(0, &[]);
        check(GIB, &[]);
        check(GIB, &[data(0, GIB)]);
        // Just what a block of counts holds, and one more.
        for clusters in COUNTS - 10..COUNTS + 2 {
            check(8 * GIB, &[data(0, clusters * CLUSTER)]);
        }
        check(1 << 44, &[data(0, 1 << 44)]);
    }

    #[test]
    fn each_entry_points_at_its_data() {
        let layout = Layout::new(2 * GIB, &[data(CLUSTER, CLUSTER), data(GIB + CLUSTER, 2 * CLUSTER)]);
        assert_eq!(layout.tables, [0, 2]);
        let entry = |table: u64, index: usize| {
            let bytes = layout.level2_table(table);
            u64::from_be_bytes(bytes[index * 8..index * 8 + 8].try_into().unwrap())
        };
        let first = layout.first_data();
        assert_eq!(entry(0, 0), 0);
        assert_eq!(entry(0, 1), (first * CLUSTER) | COPIED);
        assert_eq!(entry(2, 0), 0);
        assert_eq!(entry(2, 1), ((first + 1) * CLUSTER) | COPIED);
        assert_eq!(entry(2, 2), ((first + 2) * CLUSTER) | COPIED);
        assert_eq!(entry(2, 3), 0);
    }
}
