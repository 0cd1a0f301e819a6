use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

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

#[tokio::test(flavor = "multi_thread")]
async fn several_disks_have_one_point_in_time() {
    let own = OwnPool::new("group");
    let pool = own.open(&admin());
    let guests = Mutex::new(HashMap::<String, Guest>::new());
    let write = async |disk: &str, offset: u64, bytes: &[u8]| {
        let mut guest = guests.lock().unwrap().remove(disk).unwrap_or_else(|| Guest::open(&pool.attachment(disk)));
        let pattern = bytes[0];
        let guest = tokio::task::spawn_blocking(move || {
            guest.write(offset, pattern);
            guest
        });
        let guest = guest.await.unwrap();
        guests.lock().unwrap().insert(disk.to_owned(), guest);
    };
    conformance::pool_under_writers(&pool, write, async || guests.lock().unwrap().clear()).await;
}

/// A disk that QEMU keeps open, as a guest does.
struct Guest {
    process: Child,
    says: BufReader<ChildStdout>,
}

impl Guest {
    fn open(attachment: &Attachment) -> Self {
        let mut process = Command::new("qemu-io")
            .args(["-f", "raw", &address(attachment)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("qemu-io: {error}. Run: make deps"));
        let says = BufReader::new(process.stdout.take().unwrap());
        Guest { process, says }
    }

    fn write(&mut self, offset: u64, pattern: u8) {
        writeln!(self.process.stdin.as_mut().unwrap(), "write -P {pattern} {offset} 512").unwrap();
        let mut line = String::new();
        while !line.contains("ops/sec") {
            line.clear();
            assert!(self.says.read_line(&mut line).unwrap() > 0, "qemu-io has ended");
            assert!(!line.contains("failed"), "a guest's write fails: {line}");
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn address(attachment: &Attachment) -> String {
    let Attachment::Rbd { pool, image, user, conf } = attachment else { panic!("{attachment:?} is no RBD disk") };
    format!("rbd:{pool}/{image}:id={user}:conf={}", conf.display())
}

/// QEMU's own block layer and RBD driver, without a guest around them.
fn qemu_writes(attachment: &Attachment, offset: u64, bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let command = format!("write -s {} {offset} {}", file.path().display(), bytes.len());
    let disk = address(attachment);
    let output = Command::new("qemu-io").args(["-f", "raw", "-c", &command, &disk]).output();
    let output = output.unwrap_or_else(|error| panic!("qemu-io: {error}. Run: make deps"));
    assert!(output.status.success(), "qemu-io {disk}: {}", String::from_utf8_lossy(&output.stderr));
}
