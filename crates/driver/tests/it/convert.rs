//! Images that `qemu-img` made, read by our own readers and compared byte by byte.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use umbel_core::{Kind, Result, Rng, SeededRng, SystemRng};
use umbel_driver::convert::{Converter, DiskSource, FileSource, ImageFormat, Source};
use umbel_driver::{Change, LocalPool, LocalStore, Pool, WriteOptions, no_progress};

const MIB: usize = 1 << 20;

fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}: run scripts/deps.sh, or install qemu-utils"));
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Noise, text that compresses, holes, single sectors, and an end that is no whole cluster.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0; 40 * MIB + 3 * 512];
    let rng = SeededRng::new(3);
    rng.fill(&mut bytes[..5 * MIB]);
    for (index, byte) in bytes[9 * MIB..14 * MIB].iter_mut().enumerate() {
        *byte = (index / 1_000) as u8;
    }
    bytes[20 * MIB + 512..20 * MIB + 1024].fill(9);
    rng.fill(&mut bytes[31 * MIB + 65_000..33 * MIB + 100]);
    bytes[38 * MIB..].fill(5);
    bytes
}

struct Made {
    _dir: tempfile::TempDir,
    raw: PathBuf,
    image: PathBuf,
}

fn made(format: &str, options: &[&str]) -> Made {
    made_of(&disk(), format, options)
}

fn made_of(bytes: &[u8], format: &str, options: &[&str]) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    std::fs::write(&raw, bytes).unwrap();
    let (from, to) = (raw.to_str().unwrap(), image.to_str().unwrap());
    let args = [&["convert", "-f", "raw", "-O", format], options, &[from, to]].concat();
    run("qemu-img", &args);
    Made { raw, image, _dir: dir }
}

async fn open(format: ImageFormat, image: &Path) -> Converter {
    let file = FileSource::new(std::fs::File::open(image).unwrap()).unwrap();
    Converter::open(format, Arc::new(file)).await.unwrap()
}

/// The disk by both ways out, which must be the same.
async fn read(format: ImageFormat, image: &Path) -> Vec<u8> {
    let converter = open(format, image).await;
    let mut patched = vec![0; converter.virtual_size() as usize];
    let (mut changes, mut end) = (converter.into_changes(1 << 30), 0);
    while let Some(change) = changes.next().await {
        match change.unwrap() {
            Change::Data { offset, bytes } => {
                assert!(offset >= end && !bytes.is_empty(), "ascending");
                end = offset + bytes.len() as u64;
                patched[offset as usize..end as usize].copy_from_slice(&bytes);
            }
            Change::Zero { .. } => panic!("a blank disk needs no zeros"),
        }
    }
    let mut streamed = Vec::new();
    let mut bytes = open(format, image).await.into_bytes();
    while let Some(chunk) = bytes.next().await {
        streamed.extend_from_slice(&chunk.unwrap());
    }
    assert!(streamed == patched, "{format}: the stream is not what the changes are");
    patched
}

async fn same(format: ImageFormat, name: &str, options: &[&str]) {
    let made = made(name, options);
    let mut want = std::fs::read(&made.raw).unwrap();
    let got = read(format, &made.image).await;
    // Some formats know only disks of whole cylinders or mebibytes.
    assert!(got.len() >= want.len() && got.len() - want.len() < 2 * MIB, "{name} {options:?}: {} bytes", got.len());
    want.resize(got.len(), 0);
    assert!(got == want, "{name} {options:?}: other bytes");
}

#[tokio::test]
async fn qcow2_of_all_kinds() {
    let kinds: [&[&str]; 10] = [
        &[],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-o", "compat=0.10"],
        &["-o", "cluster_size=512"],
        &["-c", "-o", "cluster_size=4096"],
        &["-o", "cluster_size=2M"],
        &["-c", "-o", "cluster_size=2M"],
        &["-o", "extended_l2=on"],
        &["-o", "preallocation=metadata"],
    ];
    for options in kinds {
        same(ImageFormat::Qcow2, "qcow2", options).await;
    }
}

#[tokio::test]
async fn vmdk_of_all_kinds_that_are_one_file() {
    same(ImageFormat::Vmdk, "vmdk", &["-o", "subformat=monolithicSparse"]).await;
    same(ImageFormat::Vmdk, "vmdk", &["-o", "subformat=monolithicSparse,zeroed_grain=on"]).await;
    same(ImageFormat::Vmdk, "vmdk", &["-o", "subformat=streamOptimized"]).await;
}

#[tokio::test]
async fn vdi_vhd_and_vhdx_of_all_kinds() {
    same(ImageFormat::Vdi, "vdi", &[]).await;
    same(ImageFormat::Vdi, "vdi", &["-o", "static=on"]).await;
    same(ImageFormat::Vhd, "vpc", &[]).await;
    same(ImageFormat::Vhd, "vpc", &["-o", "force_size=on"]).await;
    same(ImageFormat::Vhd, "vpc", &["-o", "subformat=fixed,force_size=on"]).await;
    same(ImageFormat::Vhdx, "vhdx", &[]).await;
    same(ImageFormat::Vhdx, "vhdx", &["-o", "subformat=fixed"]).await;
    same(ImageFormat::Vhdx, "vhdx", &["-o", "block_size=1M"]).await;
    same(ImageFormat::Vhdx, "vhdx", &["-o", "block_size=32M"]).await;
}

/// An image that a guest wrote to: clusters in no order, discarded ones, rewritten compressed ones, and snapshots.
#[tokio::test]
async fn a_used_qcow2_is_its_present_state() {
    for options in [&["-c"][..], &["-o", "extended_l2=on"], &["-o", "cluster_size=4096"]] {
        let made = made("qcow2", options);
        let image = made.image.to_str().unwrap();
        run("qemu-img", &["snapshot", "-c", "before", image]);
        let writes = [
            "write -P 3 35M 70000",
            "write -P 4 1M 4096",
            "write -P 6 12M 100k",
            "write -z 2M 1M",
            "discard 3M 1M",
            "write -P 8 34M 512",
            "write -P 9 39M 3k",
        ];
        let commands: Vec<&str> = writes.iter().flat_map(|write| ["-c", write]).collect();
        run("qemu-io", &[&["-f", "qcow2", "-d", "unmap"], commands.as_slice(), &[image]].concat());
        let plain = made.raw.with_extension("out");
        run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", image, plain.to_str().unwrap()]);
        assert!(read(ImageFormat::Qcow2, &made.image).await == std::fs::read(plain).unwrap(), "{options:?}");
    }
}

/// From one pool's disk to another, with no file between them.
#[tokio::test]
async fn a_stored_image_becomes_a_disk_of_another_pool() {
    let root = tempfile::tempdir().unwrap();
    let store = LocalStore::open(root.path(), &SystemRng::new()).await.unwrap();
    let images: Arc<dyn Pool> = Arc::new(LocalPool::open(&store, "images", "images").await.unwrap());
    let vms = LocalPool::open(&store, "vms", "vms").await.unwrap();
    let made = made("qcow2", &["-c"]);
    let bytes = std::fs::read(&made.image).unwrap();
    let size = bytes.len() as u64;
    let stream = futures_util::stream::iter([Ok(bytes.into())]);
    images.write("image", Box::pin(stream), WriteOptions::default()).await.unwrap();
    images.snapshot("image", "snap").await.unwrap();
    let open = async || {
        let disk = DiskSource { pool: images.clone(), disk: "image".into(), snapshot: Some("snap".into()), size };
        Converter::open(ImageFormat::Qcow2, Arc::new(disk)).await.unwrap()
    };
    let most = 1 << 30;
    assert_eq!(open().await.write_disk(&vms, "disk", 100 << 20, most, no_progress()).await.unwrap(), 100 << 20);
    let mut stream = vms.read("disk", None, 0, 100 << 20).await.unwrap();
    let mut got = Vec::new();
    while let Some(chunk) = stream.next().await {
        got.extend_from_slice(&chunk.unwrap());
    }
    let mut want = disk();
    want.resize(100 << 20, 0);
    assert!(got == want);
    let taken = open().await.write_disk(&vms, "disk", 0, most, no_progress()).await.unwrap_err();
    assert_eq!(taken.kind(), Kind::Conflict);
    let large = open().await.write_disk(&vms, "small", 0, 1 << 20, no_progress()).await.unwrap_err();
    assert_eq!(large.kind(), Kind::TooLarge);
    assert_eq!(vms.list().await.unwrap(), ["disk"], "nothing is left of what failed");
}

struct Memory(Vec<u8>);

#[async_trait]
impl Source for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, offset: u64, length: u64) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(&self.0[offset as usize..(offset + length) as usize]))
    }
}

/// Headers and tables with bytes changed at random: whatever they say, reading ends, in data or in a refusal.
#[tokio::test]
async fn damaged_images_are_read_or_refused() {
    let mut raw = vec![0; 3 * MIB];
    SeededRng::new(4).fill(&mut raw[MIB..MIB + 5_000]);
    raw[2 * MIB..2 * MIB + 100_000].fill(3);
    let kinds: [(ImageFormat, &str, &[&str]); 9] = [
        (ImageFormat::Qcow2, "qcow2", &[]),
        (ImageFormat::Qcow2, "qcow2", &["-c"]),
        (ImageFormat::Qcow2, "qcow2", &["-c", "-o", "compression_type=zstd"]),
        (ImageFormat::Qcow2, "qcow2", &["-o", "extended_l2=on"]),
        (ImageFormat::Vmdk, "vmdk", &[]),
        (ImageFormat::Vmdk, "vmdk", &["-o", "subformat=streamOptimized"]),
        (ImageFormat::Vdi, "vdi", &[]),
        (ImageFormat::Vhd, "vpc", &[]),
        (ImageFormat::Vhdx, "vhdx", &[]),
    ];
    let rng = SeededRng::new(21);
    for (format, name, options) in kinds {
        let image = std::fs::read(made_of(&raw, name, options).image).unwrap();
        // Bytes that mean something; the first of them are headers and tables mostly.
        let said: Vec<usize> = (0..image.len()).filter(|at| image[*at] != 0).take(600).collect();
        let mut refusals = 0;
        for _ in 0..150 {
            let mut image = image.clone();
            for _ in 0..2 {
                let mut byte = [0; 1];
                rng.fill(&mut byte);
                image[said[rng.below(said.len())]] = byte[0];
            }
            refusals += usize::from(read_all(format, image).await.is_err());
        }
        assert!(refusals > 0, "{format}: nothing was damaged");
    }
}

async fn read_all(format: ImageFormat, image: Vec<u8>) -> Result<u64> {
    let mut changes = Converter::open(format, Arc::new(Memory(image))).await?.into_changes(1 << 30);
    let mut read = 0;
    while let Some(change) = changes.next().await {
        if let Change::Data { bytes, .. } = change? {
            read += bytes.len() as u64;
        }
    }
    Ok(read)
}
