//! Local disks that a QEMU has open, with its storage daemon for a guest's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use umbel_core::{Error, Kind, MIB, Result, SystemRng};
use umbel_driver::{Attachment, DiskFormat, LiveDisks, LocalPool, LocalStore, Pool};

/// One disk, open for writing.
struct Guest {
    process: Child,
    dir: TempDir,
    state: Mutex<State>,
}

struct State {
    file: PathBuf,
    node: String,
    /// The next switch fails, and nothing goes over.
    refuses: bool,
}

impl Guest {
    fn start(file: PathBuf, format: &str) -> Arc<Self> {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let node = json!({"driver": format, "node-name": "n0", "file": {"driver": "file", "filename": file}});
        let process = Command::new("qemu-storage-daemon")
            .args(["--chardev", &format!("socket,id=qmp,path={},server=on,wait=off", at("qmp"))])
            .args(["--monitor", "chardev=qmp", "--blockdev", &node.to_string()])
            .args(["--nbd-server", &format!("addr.type=unix,addr.path={}", at("nbd"))])
            .args(["--export", "type=nbd,id=e,node-name=n0,writable=on,name=disk"])
            .spawn()
            .expect("qemu-storage-daemon runs; install it with: apt-get install --no-install-recommends qemu-utils");
        let state = Mutex::new(State { file, node: "n0".to_owned(), refuses: false });
        let guest = Arc::new(Guest { process, dir, state });
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(guest.dir.path().join("nbd")).is_err() {
            assert!(Instant::now() < deadline, "the storage daemon listens");
            std::thread::yield_now();
        }
        guest
    }

    fn ask(&self, command: Value) -> Result<()> {
        let mut stream = UnixStream::connect(self.dir.path().join("qmp")).map_err(Error::internal)?;
        let mut lines = BufReader::new(stream.try_clone().map_err(Error::internal)?).lines();
        for command in [json!({"execute": "qmp_capabilities"}), command] {
            writeln!(stream, "{command}").map_err(Error::internal)?;
            loop {
                let line = lines.next().expect("an answer").map_err(Error::internal)?;
                let answer: Value = serde_json::from_str(&line).map_err(Error::internal)?;
                if answer.get("error").is_some() {
                    return Err(Error::internal(line));
                }
                if answer.get("return").is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn writes(&self, pattern: u8, offset: u64) {
        let command = format!("write -P {pattern} {offset} 512");
        let disk = format!("nbd+unix:///disk?socket={}", self.dir.path().join("nbd").display());
        let output =
            Command::new("qemu-io").args(["-f", "raw", "-c", &command, "-c", "flush", &disk]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !text.contains("failed"), "{text}");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[async_trait]
impl LiveDisks for Guest {
    async fn is_live(&self, file: &Path) -> Result<bool> {
        Ok(self.state.lock().file == file)
    }

    async fn switch(&self, moves: &[(PathBuf, PathBuf)]) -> Result<()> {
        let mut state = self.state.lock();
        let [(from, to)] = moves else { panic!("one disk is open: {moves:?}") };
        assert_eq!(*from, state.file, "the file that is open");
        if state.refuses {
            return Err(Error::unavailable("The guest does not go over."));
        }
        let node = format!("n{}", to.file_stem().unwrap().to_str().unwrap());
        self.ask(json!({"execute": "blockdev-add", "arguments": {
            "driver": "qcow2", "node-name": node, "backing": null, "file": {"driver": "file", "filename": to}}}))?;
        let snapshot = json!({"type": "blockdev-snapshot", "data": {"node": state.node, "overlay": node}});
        self.ask(json!({"execute": "transaction", "arguments": {"actions": [snapshot]}}))?;
        (state.file, state.node) = (to.clone(), node);
        Ok(())
    }

    async fn grow(&self, file: &Path, size: u64) -> Result<()> {
        let state = self.state.lock();
        assert_eq!(file, state.file, "the file that is open");
        // An NBD export wants its size to stay; a guest's disk does not.
        self.ask(json!({"execute": "block-export-del", "arguments": {"id": "e", "mode": "hard"}}))?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let resize = json!({"execute": "block_resize", "arguments": {"node-name": state.node, "size": size}});
        while let Err(error) = self.ask(resize.clone()) {
            assert!(Instant::now() < deadline, "the export ends: {error:?}");
        }
        self.ask(json!({"execute": "block-export-add", "arguments": {
            "type": "nbd", "id": "e", "node-name": state.node, "writable": true, "name": "disk"}}))
    }
}

async fn byte(pool: &LocalPool, disk: &str, snapshot: Option<&str>) -> u8 {
    let stream = pool.read(disk, snapshot, 0, 512).await.unwrap();
    stream.try_collect::<Vec<_>>().await.unwrap().concat()[0]
}

fn file(pool: &LocalPool, disk: &str) -> (PathBuf, &'static str) {
    match pool.attachment(disk) {
        Attachment::File { path, format: DiskFormat::Raw } => (path.canonicalize().unwrap(), "raw"),
        Attachment::File { path, format: DiskFormat::Qcow2 } => (path.canonicalize().unwrap(), "qcow2"),
        other => panic!("a local disk attached as {other:?}"),
    }
}

#[tokio::test]
async fn a_disk_in_use_is_snapshotted_and_grown() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::open(root.path(), &SystemRng::new()).await.unwrap();
    let pool = LocalPool::open(&store, "vms", "vms").await.unwrap();
    for disk in ["disk", "idle"] {
        pool.create(disk, MIB).await.unwrap();
    }
    let (path, format) = file(&pool, "disk");
    let guest = Guest::start(path, format);
    store.set_live(guest.clone());
    guest.writes(1, 0);
    pool.snapshot_together(&[("disk", "one"), ("idle", "one")]).await.unwrap();
    guest.writes(2, 0);
    assert_eq!(file(&pool, "disk").0, guest.state.lock().file, "the head is what the guest writes");
    assert_eq!(byte(&pool, "disk", Some("one")).await, 1, "a snapshot of a disk in use can be read");
    assert_eq!(pool.read("disk", None, 0, 512).await.err().map(|error| error.kind()), Some(Kind::Conflict));

    pool.resize("disk", 2 * MIB).await.unwrap();
    guest.writes(3, 2 * MIB - 512);
    assert_eq!(pool.stat("disk").await.unwrap().unwrap().size, 2 * MIB);
    pool.snapshot("disk", "two").await.unwrap();
    pool.rename("disk", "renamed").await.unwrap();
    guest.writes(4, 0);
    let differs = pool.diff("renamed", Some("one"), Some("two")).await.unwrap();
    assert!(differs.first().is_some_and(|extent| extent.offset == 0 && !extent.zero), "{differs:?}");

    // A guest that does not go over: nothing is made, and the head is what it has open.
    guest.state.lock().refuses = true;
    assert_eq!(pool.snapshot("renamed", "three").await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(file(&pool, "renamed").0, guest.state.lock().file);
    assert_eq!(pool.stat("renamed").await.unwrap().unwrap().snapshots, ["one", "two"]);
    guest.state.lock().refuses = false;

    // Killed when the overlay was the head and the guest had not gone over.
    let open = guest.state.lock().file.clone();
    let layers = root.path().join("vms/.layers");
    let below = format!("../../vms/.layers/{}", open.file_name().unwrap().to_str().unwrap());
    let mut made = Command::new("qemu-img");
    made.current_dir(&layers).args(["create", "-q", "-f", "qcow2", "-u", "-F", "qcow2"]);
    assert!(made.args(["-b", &below, "900.qcow2", "2M"]).status().unwrap().success());
    let head = root.path().join("vms/renamed/head");
    fs::remove_file(&head).unwrap();
    symlink("../../vms/.layers/900.qcow2", &head).unwrap();
    let outcome = pool.rollback("renamed", "one").await;
    assert_eq!(outcome.unwrap_err().kind(), Kind::Conflict, "the disk is in use, though its head is not");
    guest.writes(5, 0);
    pool.snapshot("renamed", "three").await.unwrap();
    assert!(!layers.join("900.qcow2").exists(), "the overlay that nobody went over to is gone");
    guest.writes(6, 0);
    for (snapshot, want) in [("one", 1), ("two", 2), ("three", 5)] {
        assert_eq!(byte(&pool, "renamed", Some(snapshot)).await, want, "{snapshot}");
    }

    drop(store);
    let process = guest.process.id().to_string();
    assert!(Command::new("kill").arg(process).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(60);
    while pool.read("renamed", None, 0, 512).await.is_err() {
        assert!(Instant::now() < deadline, "the daemon ends when it is told to");
        tokio::task::yield_now().await;
    }
    assert_eq!(byte(&pool, "renamed", None).await, 6);
    let check = Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(file(&pool, "renamed").0).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    for disk in ["renamed", "idle"] {
        pool.remove(disk).await.unwrap();
    }
    assert_eq!(fs::read_dir(&layers).unwrap().count(), 0, "nothing is left");
}
