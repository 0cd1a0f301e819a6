//! Images of other formats, as raw disks in a real cluster.

use std::process::Command;
use std::sync::Arc;

use umbel_driver::convert::{Converter, DiskSource, ImageFormat};
use umbel_driver::{Pool, WriteOptions, no_progress};

use crate::support::{MIB, OwnPool, admin, bytes, get, stream_of, tool};

/// 256 MiB with 3 MiB of data.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; 256 * MIB];
    disk[..MIB].copy_from_slice(&bytes(MIB, 1));
    disk[101 * MIB + 512..102 * MIB + 512].copy_from_slice(&bytes(MIB, 2));
    disk[255 * MIB..].copy_from_slice(&bytes(MIB, 3));
    disk
}

fn made(disk: &[u8], kind: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    std::fs::write(&raw, disk).unwrap();
    let args = [&["convert", "-f", "raw", "-O"], kind, &[raw.to_str().unwrap(), image.to_str().unwrap()]].concat();
    let done = Command::new("qemu-img").args(&args).output();
    let done = done.expect("qemu-img is missing: run scripts/deps.sh, or install qemu-utils");
    assert!(done.status.success(), "qemu-img {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    std::fs::read(image).unwrap()
}

#[tokio::test]
async fn images_become_sparse_disks_that_can_be_cloned() {
    let own = OwnPool::new("convert");
    let pool: Arc<dyn Pool> = Arc::new(own.open(&admin()));
    let disk = disk();
    for (format, kind) in [
        (ImageFormat::Qcow2, &["qcow2", "-c"][..]),
        (ImageFormat::Vmdk, &["vmdk", "-o", "subformat=streamOptimized"]),
        (ImageFormat::Vhdx, &["vhdx"]),
    ] {
        let image = made(&disk, kind);
        let (source, raw) = (format.name().to_owned(), format!("{format}.raw"));
        let size = image.len() as u64;
        pool.write(&source, stream_of(image), WriteOptions::default()).await.unwrap();
        pool.snapshot(&source, "snap").await.unwrap();
        let from = DiskSource { pool: pool.clone(), disk: source, snapshot: Some("snap".to_owned()), size };
        let converter = Converter::open(format, Arc::new(from)).await.unwrap();
        assert_eq!(converter.virtual_size(), disk.len() as u64);
        pool.create(&raw, converter.virtual_size()).await.unwrap();
        pool.patch(&raw, converter.into_changes(1 << 30), no_progress()).await.unwrap();
        pool.snapshot(&raw, "snap").await.unwrap();
        assert!(get(&*pool, &raw, 0, disk.len() as u64).await == disk, "{format}: other bytes");
        let used = tool("rbd", &["du", "--format", "json", &format!("{}/{raw}@snap", own.name)]);
        let used: serde_json::Value = serde_json::from_str(&used).unwrap();
        let stored = used["images"][0]["used_size"].as_u64().unwrap();
        // Whole objects of 4 MiB are counted.
        assert!(stored <= 16 * MIB as u64, "{format}: {stored} bytes are stored of 3 MiB");
        let clone = format!("{format}-clone");
        pool.clone_disk(&pool.location(&raw, "snap"), &clone, 0).await.unwrap();
        let told = tool("rbd", &["info", "--format", "json", &format!("{}/{clone}", own.name)]);
        assert!(told.contains(&raw), "{told}");
    }
}
