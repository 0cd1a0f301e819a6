//! Writes a disk as a VDI, VHD or VMDK image, as [`crate::qcow2`] writes qcow2: in one pass, without a scratch file, and
//! of a length that is known before the first byte.
//!
//! All three are a header, a table of blocks, and the blocks that are not zeros, in the disk's order. What is beyond the
//! disk's end in its last block is zeros.
//!
//! * VDI: VirtualBox's, dynamic, version 1.1.
//! * VHD: Microsoft's older format, dynamic, "Virtual Hard Disk Image Format Specification" 1.0. Up to 2040 GiB.
//! * VMDK: VMware's monolithicSparse, "Virtual Disk Format 5.0", without the second directory. Up to 2 TiB of data.
//!
//! VHDX is not written: it needs a log, regions and checksums of all of them, and who reads it reads VHD too.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use umbel_core::{Error, MIB, Result};
use umbel_driver::{ByteStream, Extent, Pool};

const SECTOR: u64 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vdi,
    Vhd,
    Vmdk,
}

impl Kind {
    fn block(self) -> u64 {
        match self {
            Kind::Vdi => MIB,
            Kind::Vhd => 2 * MIB,
            Kind::Vmdk => GRAIN,
        }
    }
}

/// What stands where.
pub(crate) struct Blocks {
    kind: Kind,
    /// Of the disk, in bytes.
    size: u64,
    /// The image's UUID; most formats want one.
    id: u128,
    /// Blocks that are stored, ascending, not touching.
    runs: Vec<Range<u64>>,
}

impl Blocks {
    /// Of a disk of `size` bytes of which the extents are stored. `BadRequest` for one too large for the format.
    pub(crate) fn new(kind: Kind, size: u64, extents: &[Extent], id: u128) -> Result<Blocks> {
        let blocks = Blocks { kind, size, id, runs: runs(kind.block(), size, extents) };
        let (most, name) = match kind {
            Kind::Vdi => (u64::from(u32::MAX - 2) * MIB, "VDI"),
            Kind::Vhd => (2040 << 30, "VHD"),
            // Places are counted in sectors, in 32 bits.
            Kind::Vmdk => (u64::from(u32::MAX) * SECTOR - (1 << 30), "VMDK"),
        };
        match size > most {
            true => Err(Error::bad_request(format!("A disk of {size} bytes is too large for {name}: {most} at most."))),
            false => Ok(blocks),
        }
    }

    fn stored(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Blocks of the disk, stored or not.
    fn all(&self) -> u64 {
        self.size.div_ceil(self.kind.block())
    }

    /// Stored blocks with their place among the stored.
    fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().flat_map(Clone::clone).zip(0..)
    }

    fn head(&self) -> Vec<Bytes> {
        match self.kind {
            Kind::Vdi => self.vdi(),
            Kind::Vhd => self.vhd(),
            Kind::Vmdk => self.vmdk(),
        }
    }

    /// What stands before each block.
    fn before(&self) -> Bytes {
        match self.kind {
            // A bit for each sector: all are there.
            Kind::Vhd => vec![0xff; SECTOR as usize].into(),
            _ => Bytes::new(),
        }
    }

    fn tail(&self) -> Bytes {
        match self.kind {
            Kind::Vhd => self.footer(),
            _ => Bytes::new(),
        }
    }

    /// The image's bytes and their number.
    pub(crate) fn stream(self, pool: Arc<dyn Pool>, disk: &str, snapshot: &str) -> (u64, ByteStream) {
        let (block, size) = (self.kind.block(), self.size);
        let (head, before, tail) = (self.head(), self.before(), self.tail());
        let each = before.len() as u64 + block;
        let length = head.iter().map(|part| part.len() as u64).sum::<u64>() + self.stored() * each + tail.len() as u64;
        // Without anything between them, blocks are read run by run.
        let reads: Vec<Range<u64>> = match before.is_empty() {
            true => self.runs.iter().map(|run| run.start * block..run.end * block).collect(),
            false => self.places().map(|(number, _)| number * block..(number + 1) * block).collect(),
        };
        let (disk, snapshot) = (disk.to_owned(), snapshot.to_owned());
        let data = stream::iter(reads.into_iter().map(Ok)).and_then(move |range: Range<u64>| {
            let (pool, disk, snapshot, before) = (pool.clone(), disk.clone(), snapshot.clone(), before.clone());
            async move {
                let end = range.end.min(size);
                let bytes = pool.read(&disk, Some(&snapshot), range.start, end - range.start).await?;
                let first = stream::iter((!before.is_empty()).then_some(Ok(before)));
                let ragged = (range.end > end).then(|| Ok(Bytes::from(vec![0; (range.end - end) as usize])));
                Ok(first.chain(bytes).chain(stream::iter(ragged)))
            }
        });
        let head = stream::iter(head.into_iter().map(Ok));
        let tail = stream::iter((!tail.is_empty()).then_some(Ok(tail)));
        (length, head.chain(data.try_flatten()).chain(tail).boxed())
    }

    fn vdi(&self) -> Vec<Bytes> {
        let map = 4 * self.all();
        let data = (SECTOR + map).next_multiple_of(MIB);
        let mut header = Page::new(SECTOR);
        header.put(0, b"<<< Oracle VM VirtualBox Disk Image >>>\n");
        header.le32(0x40, 0xbeda_107f);
        header.le32(0x44, 0x0001_0001);
        header.le32(0x48, 0x190);
        // Dynamic.
        header.le32(0x4c, 1);
        header.le32(0x154, SECTOR as u32);
        header.le32(0x158, data as u32);
        header.le32(0x168, SECTOR as u32);
        header.le64(0x170, self.size);
        header.le32(0x178, MIB as u32);
        header.le32(0x180, self.all() as u32);
        header.le32(0x184, self.stored() as u32);
        header.put(0x188, &self.id.to_be_bytes());
        let mut table = Page::new(data - SECTOR);
        table.0[..map as usize].fill(0xff);
        for (number, place) in self.places() {
            table.le32(number as usize * 4, place as u32);
        }
        vec![header.done(), table.done()]
    }

    fn vhd(&self) -> Vec<Bytes> {
        const HEADERS: u64 = 3 * SECTOR;
        let map = (4 * self.all()).next_multiple_of(SECTOR).max(SECTOR);
        let mut header = Page::new(2 * SECTOR);
        header.put(0, b"cxsparse");
        header.be64(8, u64::MAX);
        header.be64(16, HEADERS);
        header.be32(24, 0x0001_0000);
        header.be32(28, self.all() as u32);
        header.be32(32, self.kind.block() as u32);
        header.checksum(36);
        let mut table = Page::new(map);
        table.0.fill(0xff);
        let each = 1 + self.kind.block() / SECTOR;
        for (number, place) in self.places() {
            table.be32(number as usize * 4, ((HEADERS + map) / SECTOR + place * each) as u32);
        }
        vec![self.footer(), header.done(), table.done()]
    }

    /// Of a VHD, where it stands first and last.
    fn footer(&self) -> Bytes {
        let mut footer = Page::new(SECTOR);
        footer.put(0, b"conectix");
        footer.be32(8, 2);
        footer.be32(12, 0x0001_0000);
        footer.be64(16, SECTOR);
        // By others, QEMU goes by the geometry, which is not all of the disk.
        footer.put(28, b"win ");
        footer.be32(32, 0x0006_0001);
        footer.put(36, b"Wi2k");
        footer.be64(40, self.size);
        footer.be64(48, self.size);
        let (cylinders, heads, sectors) = geometry(self.size / SECTOR);
        footer.put(56, &cylinders.to_be_bytes());
        footer.put(58, &[heads, sectors]);
        // Dynamic.
        footer.be32(60, 3);
        footer.put(68, &self.id.to_be_bytes());
        footer.checksum(64);
        footer.done()
    }

    fn vmdk(&self) -> Vec<Bytes> {
        let sectors = self.size.div_ceil(SECTOR);
        let tables: Vec<u64> = {
            let mut tables: Vec<u64> = self.places().map(|(number, _)| number / ENTRIES).collect();
            tables.dedup();
            tables
        };
        let directory = DESCRIPTOR + 1;
        let directory_sectors = (self.all().div_ceil(ENTRIES) * 4).div_ceil(SECTOR).max(1);
        let first_table = directory + directory_sectors;
        let first_grain = (first_table + tables.len() as u64 * TABLE).next_multiple_of(GRAIN / SECTOR);
        let mut header = Page::new(SECTOR);
        header.put(0, b"KDMV");
        header.le32(4, 1);
        // Line ends can be looked at.
        header.le32(8, 1);
        header.le64(12, sectors);
        header.le64(20, GRAIN / SECTOR);
        header.le64(28, 1);
        header.le64(36, DESCRIPTOR);
        header.le32(44, ENTRIES as u32);
        header.le64(56, directory);
        header.le64(64, first_grain);
        header.put(73, b"\n \r\n");
        let mut descriptor = Page::new(DESCRIPTOR * SECTOR);
        descriptor.put(0, self.descriptor(sectors).as_bytes());
        let mut pages = Page::new((first_grain - directory) * SECTOR);
        for (table, number) in tables.iter().zip(0..) {
            pages.le32(*table as usize * 4, (first_table + number * TABLE) as u32);
        }
        let entries = ((first_table - directory) * SECTOR) as usize;
        let mut table = 0;
        for (number, place) in self.places() {
            while tables[table] != number / ENTRIES {
                table += 1;
            }
            let at = entries + table * (TABLE * SECTOR) as usize + (number % ENTRIES) as usize * 4;
            pages.le32(at, (first_grain + place * (GRAIN / SECTOR)) as u32);
        }
        vec![header.done(), descriptor.done(), pages.done()]
    }

    fn descriptor(&self, sectors: u64) -> String {
        let (cylinders, heads, of_track) = (sectors.div_ceil(16 * 63).min(16_383), 16, 63);
        format!(
            "# Disk DescriptorFile\nversion=1\nCID={:08x}\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\n\
             # Extent description\nRW {sectors} SPARSE \"volume.vmdk\"\n\n# The Disk Data Base\n#DDB\n\n\
             ddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"{cylinders}\"\nddb.geometry.heads = \"{heads}\"\n\
             ddb.geometry.sectors = \"{of_track}\"\nddb.adapterType = \"ide\"\n",
            // All ones would say that there is no parent to compare with.
            (self.id >> 96) as u32 & 0x7fff_ffff
        )
    }
}

/// Of a VMDK: bytes of a block, places in a table, sectors of a table and of the descriptor.
const GRAIN: u64 = 64 << 10;
const ENTRIES: u64 = 512;
const TABLE: u64 = ENTRIES * 4 / SECTOR;
const DESCRIPTOR: u64 = 20;

/// Cylinders, heads and sectors of a track, as the VHD specification's appendix computes them.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let total = sectors.min(65_535 * 16 * 255);
    let fits = |heads: u64, of_track: u64| total / of_track < heads * 1_024;
    let few = (total / 17).div_ceil(1_024).max(4);
    let (heads, of_track) = if total >= 65_535 * 16 * 63 {
        (16, 255)
    } else if few <= 16 && fits(few, 17) {
        (few, 17)
    } else if fits(16, 31) {
        (16, 31)
    } else {
        (16, 63)
    };
    let cylinders = (total / of_track / heads).min(65_535);
    (cylinders as u16, heads as u8, of_track as u8)
}

/// Some sectors to be filled.
struct Page(Vec<u8>);

impl Page {
    fn new(bytes: u64) -> Page {
        Page(vec![0; bytes as usize])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn le32(&mut self, at: usize, number: u32) {
        self.put(at, &number.to_le_bytes());
    }

    fn le64(&mut self, at: usize, number: u64) {
        self.put(at, &number.to_le_bytes());
    }

    fn be32(&mut self, at: usize, number: u32) {
        self.put(at, &number.to_be_bytes());
    }

    fn be64(&mut self, at: usize, number: u64) {
        self.put(at, &number.to_be_bytes());
    }

    /// The one's complement of the sum of all bytes, where there was nothing before.
    fn checksum(&mut self, at: usize) {
        let sum = self.0.iter().fold(0u32, |sum, byte| sum.wrapping_add((*byte).into()));
        self.be32(at, !sum);
    }

    fn done(self) -> Bytes {
        self.0.into()
    }
}

/// The extents that hold data, widened to whole blocks.
fn runs(block: u64, size: u64, extents: &[Extent]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for extent in extents.iter().filter(|extent| !extent.zero && extent.length > 0) {
        let end = (extent.offset + extent.length).min(size);
        if extent.offset >= end {
            continue;
        }
        let run = extent.offset / block..end.div_ceil(block);
        match runs.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => runs.push(run),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use umbel_driver::convert::{Converter, DiskSource, ImageFormat};
    use umbel_driver::{Change, Mode, SimulatedPool, Simulation, WriteOptions, no_progress};

    use super::*;

    const SIZE: u64 = 37 * MIB + 512;

    /// A disk with data here and there, up to its ragged end.
    async fn disk(pool: &SimulatedPool) -> Vec<u8> {
        pool.create("disk", SIZE).await.unwrap();
        let noise = |at: u64, length: usize| -> (u64, Vec<u8>) {
            (at, (0..length).map(|index| (index as u64 * 31 + at / 512) as u8 | 1).collect())
        };
        let written =
            [noise(0, 4096), noise(3 * MIB + 512, 70_000), noise(33 * MIB, 3 * MIB as usize), noise(SIZE - 512, 512)];
        let mut whole = vec![0; SIZE as usize];
        for (at, bytes) in &written {
            whole[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
        }
        let changes = written.map(|(offset, bytes)| Ok(Change::Data { offset, bytes: bytes.into() }));
        pool.patch("disk", Box::pin(stream::iter(changes)), no_progress()).await.unwrap();
        pool.snapshot("disk", "snap").await.unwrap();
        whole
    }

    /// What our own readers make of what we write. They were held against QEMU's writers.
    #[tokio::test]
    async fn what_is_written_can_be_read() {
        for (kind, format) in
            [(Kind::Vdi, ImageFormat::Vdi), (Kind::Vhd, ImageFormat::Vhd), (Kind::Vmdk, ImageFormat::Vmdk)]
        {
            let pool = Arc::new(SimulatedPool::new(&Simulation::new(Mode::default()), "p"));
            let whole = disk(&pool).await;
            let stored = pool.diff("disk", None, Some("snap")).await.unwrap();
            let blocks = Blocks::new(kind, SIZE, &stored, 7).unwrap();
            let (length, data) = blocks.stream(pool.clone(), "disk", "snap");
            // Too many bytes are refused as well as too few.
            let options = WriteOptions { size: Some(length), ..WriteOptions::default() };
            assert_eq!(pool.write("image", data, options).await.unwrap(), length, "{kind:?}");
            let source = DiskSource { pool: pool.clone(), disk: "image".into(), snapshot: None, size: length };
            let read = Converter::open(format, Arc::new(source)).await.unwrap();
            assert_eq!(read.virtual_size(), SIZE, "{kind:?}");
            let bytes: Vec<Bytes> = read.into_bytes().try_collect().await.unwrap();
            assert!(bytes.concat() == whole, "{kind:?}: other bytes");
        }
    }

    #[test]
    fn an_empty_disk_is_an_image_too() {
        for kind in [Kind::Vdi, Kind::Vhd, Kind::Vmdk] {
            let blocks = Blocks::new(kind, 1 << 30, &[], 7).unwrap();
            let head: usize = blocks.head().iter().map(Bytes::len).sum();
            assert!(head as u64 <= 2 * MIB && blocks.stored() == 0, "{kind:?}: {head}");
        }
        assert!(Blocks::new(Kind::Vhd, 3 << 40, &[], 0).is_err());
    }

    #[test]
    fn geometries_are_those_of_the_specification() {
        let check = |bytes: u64, want: (u16, u8, u8)| assert_eq!(geometry(bytes / SECTOR), want, "{bytes}");
        check(1 << 30, (2_080, 16, 63));
        check(3 << 40, (65_535, 16, 255));
        check(4 * MIB, (120, 4, 17));
    }
}
