use std::io::Write;
use std::process::Command;
use std::sync::Arc;

use umbel_driver::{Attachment, Pool, conformance};

use crate::support::{OwnPool, admin};

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_keeps_the_promises_of_pools() {
    let own = OwnPool::new("suite");
    conformance::pool(async || Arc::new(own.open(&admin())) as Arc<dyn Pool>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_cross_pools() {
    let (images, vms) = (OwnPool::new("images"), OwnPool::new("vms"));
    let cluster = admin();
    conformance::two_pools(&images.open(&cluster), &vms.open(&cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_write_through_the_attachment() {
    let own = OwnPool::new("guest");
    let pool = own.open(&admin());
    let write = async |disk: &str, offset: u64, bytes: &[u8]| {
        let (attachment, bytes) = (pool.attachment(disk), bytes.to_vec());
        tokio::task::spawn_blocking(move || qemu_writes(&attachment, offset, &bytes)).await.unwrap();
    };
    conformance::pool_under_guest(&pool, write).await;
}

/// QEMU's own block layer and RBD driver, without a guest around them.
fn qemu_writes(attachment: &Attachment, offset: u64, bytes: &[u8]) {
    let Attachment::Rbd { pool, image, user, conf } = attachment else { panic!("{attachment:?} is no RBD disk") };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let command = format!("write -s {} {offset} {}", file.path().display(), bytes.len());
    let disk = format!("rbd:{pool}/{image}:id={user}:conf={}", conf.display());
    let output = Command::new("qemu-io").args(["-f", "raw", "-c", &command, &disk]).output();
    let output = output.unwrap_or_else(|error| panic!("qemu-io: {error}. Run: make deps"));
    assert!(output.status.success(), "qemu-io {disk}: {}", String::from_utf8_lossy(&output.stderr));
}
