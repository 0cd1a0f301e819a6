//! Headers written by hand: what writers of images do not make.

use async_trait::async_trait;

use super::*;

const CLUSTER: usize = 1 << 16;

struct Memory(Vec<u8>);

#[async_trait]
impl Source for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, offset: u64, length: u64) -> Result<Bytes> {
        let (start, end) = (offset as usize, (offset + length) as usize);
        Ok(Bytes::copy_from_slice(&self.0[start..end]))
    }
}

/// Bytes to be filled in at offsets.
struct Disk(Vec<u8>);

impl Disk {
    fn of(length: usize) -> Self {
        Disk(vec![0; length])
    }

    fn at(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn be32(self, offset: usize, value: u32) -> Self {
        self.at(offset, &value.to_be_bytes())
    }

    fn be64(self, offset: usize, value: u64) -> Self {
        self.at(offset, &value.to_be_bytes())
    }
}

/// Version 3: a header, a first table, a second table, and one cluster of data.
fn qcow2(clusters: u64) -> Disk {
    let entries = (clusters as u32).div_ceil(CLUSTER as u32 / 8);
    let disk = Disk::of(4 * CLUSTER).at(0, b"QFI\xfb").be32(4, 3).be32(20, 16);
    let disk = disk.be64(24, clusters * CLUSTER as u64).be32(36, entries).be64(40, CLUSTER as u64).be32(100, 104);
    let disk = disk.be64(CLUSTER, 2 * CLUSTER as u64).be64(2 * CLUSTER, 3 * CLUSTER as u64);
    disk.at(3 * CLUSTER, &[7; CLUSTER])
}

async fn open(format: ImageFormat, disk: Disk) -> Result<Converter> {
    Converter::open(format, Arc::new(Memory(disk.0))).await
}

async fn convert(format: ImageFormat, disk: Disk) -> Result<Vec<Change>> {
    let mut changes = open(format, disk).await?.into_changes(1 << 30);
    let mut all = Vec::new();
    while let Some(change) = changes.next().await {
        all.push(change?);
    }
    Ok(all)
}

#[track_caller]
fn refused<T>(outcome: Result<T>, words: &str) {
    match outcome {
        Ok(_) => panic!("not refused: {words}"),
        Err(error) => assert!(error.message().contains(words), "'{}' lacks '{words}'", error.message()),
    }
}

#[tokio::test]
async fn what_is_mapped_is_read_and_the_rest_is_zeros() {
    let whole = Change::Data { offset: 0, bytes: vec![7; CLUSTER].into() };
    assert_eq!(convert(ImageFormat::Qcow2, qcow2(4)).await.unwrap(), [whole]);
    // The last cluster cut short, as a disk that ends within it; a size that is no whole cluster.
    let mut short = qcow2(4);
    short.0.truncate(3 * CLUSTER + 100);
    let mut padded = vec![0; CLUSTER];
    padded[..100].fill(7);
    let want = Change::Data { offset: 0, bytes: padded.into() };
    assert_eq!(convert(ImageFormat::Qcow2, short).await.unwrap(), [want]);
    let odd = convert(ImageFormat::Qcow2, qcow2(4).be64(24, 1_000)).await.unwrap();
    assert_eq!(odd, [Change::Data { offset: 0, bytes: vec![7; 1_000].into() }]);
    // A cluster that is told to be zeros although it has a place.
    let blank = qcow2(4).be64(2 * CLUSTER, (3 * CLUSTER as u64) | 1);
    assert_eq!(convert(ImageFormat::Qcow2, blank).await.unwrap(), []);
}

#[tokio::test]
async fn headers_that_reach_out_are_refused() {
    let no = async |disk: Disk, words: &str| refused(open(ImageFormat::Qcow2, disk).await, words);
    no(qcow2(4).be64(8, 512), "backing file").await;
    no(qcow2(4).be32(32, 1), "encrypted").await;
    no(qcow2(4).be64(72, 4), "external data file").await;
    no(qcow2(4).be64(72, 1 << 40), "not known").await;
    no(qcow2(4).be64(72, 8).at(104, &[9]), "compressed by a method").await;
    no(qcow2(4).be32(4, 1), "version").await;
    no(qcow2(4).be32(20, 60), "cluster size").await;
    no(qcow2(4).be64(24, u64::MAX), "do not fit").await;
    no(Disk::of(10), "header").await;
    for format in ImageFormat::ALL {
        refused(open(format, Disk::of(1 << 20)).await, format.name());
        refused(open(format, Disk::of(0)).await, format.name());
        refused(open(format, Disk::of(100).at(0, b"QFI\xfb\0\0\0\x03")).await, format.name());
    }
}

#[tokio::test]
async fn tables_that_lead_nowhere_are_refused() {
    let no = async |disk: Disk, words: &str| refused(convert(ImageFormat::Qcow2, disk).await, words);
    no(qcow2(4).be64(CLUSTER, 1 << 40), "cut short").await;
    no(qcow2(4).be64(CLUSTER, 512), "askew").await;
    no(qcow2(4).be64(2 * CLUSTER, 1 << 40), "cut short").await;
    no(qcow2(4).be64(2 * CLUSTER, 512), "askew").await;
    no(qcow2(4).be64(40, u64::MAX), "cut short").await;
    // Compressed, outside the image; and inside it, but no compressed data.
    no(qcow2(4).be64(2 * CLUSTER, (1 << 62) | (1 << 40)), "out of range").await;
    no(qcow2(4).be64(2 * CLUSTER, (1 << 62) | (3 * CLUSTER as u64)), "damaged").await;
}

/// A terabyte out of four clusters: every entry leads to the same one.
#[tokio::test]
async fn bombs_run_out_of_their_allowance() {
    let mut bomb = qcow2(16 << 20);
    for entry in 0..CLUSTER / 8 {
        bomb = bomb.be64(2 * CLUSTER + entry * 8, 3 * CLUSTER as u64);
    }
    for entry in 0..2_048 {
        bomb = bomb.be64(CLUSTER + entry * 8, 2 * CLUSTER as u64);
    }
    refused(convert(ImageFormat::Qcow2, bomb).await, "over and over");
    // Many tables that are one, and empty.
    let mut maze = qcow2(16 << 20).be64(2 * CLUSTER, 0);
    for entry in 0..2_048 {
        maze = maze.be64(CLUSTER + entry * 8, 2 * CLUSTER as u64);
    }
    refused(convert(ImageFormat::Qcow2, maze).await, "over and over");
    let mut changes = open(ImageFormat::Qcow2, qcow2(4)).await.unwrap().into_changes(CLUSTER as u64 - 1);
    let error = changes.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
}

#[tokio::test]
async fn no_header_makes_it_panic() {
    let rng = umbel_core::SeededRng::new(11);
    for round in 0..2_000 {
        let mut disk = qcow2(4);
        for _ in 0..6 {
            let at = match round % 3 {
                0 => umbel_core::Rng::below(&rng, 112),
                1 => CLUSTER + umbel_core::Rng::below(&rng, 16),
                _ => 2 * CLUSTER + umbel_core::Rng::below(&rng, 64),
            };
            let mut value = [0; 1];
            umbel_core::Rng::fill(&rng, &mut value);
            disk.0[at] = value[0];
        }
        let _ = convert(ImageFormat::Qcow2, disk).await;
    }
}

#[test]
fn zeros_are_left_out_page_by_page() {
    let check = |at: u64, bytes: Vec<u8>, want: &[(u64, usize)]| {
        let changes = without_zeros(at, &bytes.into());
        let found: Vec<(u64, usize)> = changes
            .iter()
            .map(|change| match change {
                Change::Data { offset, bytes } => (*offset, bytes.len()),
                Change::Zero { .. } => panic!("zeros are not named"),
            })
            .collect();
        assert_eq!(found, want);
    };
    let page = |byte: u8| vec![byte; PAGE];
    check(0, vec![], &[]);
    check(0, page(0), &[]);
    check(0, page(1), &[(0, PAGE)]);
    check(
        0,
        [page(0), page(1), page(1), page(0), page(2)].concat(),
        &[(PAGE as u64, 2 * PAGE), (4 * PAGE as u64, PAGE)],
    );
    check(100, [vec![0; PAGE - 100], vec![1; 10]].concat(), &[(PAGE as u64, 10)]);
    check(100, [vec![3; 1], vec![0; PAGE]].concat(), &[(100, PAGE - 100)]);
}
