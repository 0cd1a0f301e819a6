use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;
use umbel_core::{GIB, Kind, MIB, SystemRng};
use umbel_driver::{
    Attachment, ByteStream, DiskFormat, LocalPool, LocalStore, Pool, Removed, WriteOptions, conformance, no_progress,
};

/// Runs a tool of QEMU, which are what says whether our overlays are good.
fn qemu(tool: &str, args: &[&str]) -> String {
    let output = Command::new(tool).args(args).output().unwrap_or_else(|error| {
        panic!("cannot run {tool} ({error}); install it with: apt-get install --no-install-recommends qemu-utils")
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {text}");
    text
}

fn file(pool: &LocalPool, disk: &str) -> (PathBuf, &'static str) {
    match pool.attachment(disk) {
        Attachment::File { path, format: DiskFormat::Raw } => (path, "raw"),
        Attachment::File { path, format: DiskFormat::Qcow2 } => (path, "qcow2"),
        other => panic!("a local disk attached as {other:?}"),
    }
}

/// Writes as QEMU does for its guest, and lets QEMU check the result.
async fn guest_writes(pool: &LocalPool, scratch: &Path, disk: &str, offset: u64, bytes: &[u8]) {
    let (path, format) = file(pool, disk);
    let path = path.to_str().unwrap();
    let source = scratch.join("bytes");
    fs::write(&source, bytes).unwrap();
    let command = format!("write -s {} {offset} {}", source.display(), bytes.len());
    qemu("qemu-io", &["-f", format, "-c", &command, path]);
    check_image(pool, disk);
}

fn check_image(pool: &LocalPool, disk: &str) {
    let (path, format) = file(pool, disk);
    if format == "qcow2" {
        let text = qemu("qemu-img", &["check", "-f", "qcow2", path.to_str().unwrap()]);
        assert!(text.contains("No errors were found"), "{text}");
    }
}

async fn open(root: &Path, pool: &str) -> LocalPool {
    let store = LocalStore::open(root, &SystemRng::new()).await.unwrap();
    LocalPool::open(&store, pool, pool).await.unwrap()
}

fn zeros_with(length: usize, data: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = vec![0; length];
    data.iter().for_each(|(at, byte)| bytes[*at] = *byte);
    bytes
}

fn stream_of(bytes: Vec<u8>) -> ByteStream {
    Box::pin(stream::iter([Ok(bytes.into())]))
}

async fn put(pool: &LocalPool, disk: &str, bytes: Vec<u8>) {
    pool.write(disk, stream_of(bytes), WriteOptions::default()).await.unwrap();
}

async fn get(pool: &LocalPool, disk: &str, snapshot: Option<&str>, length: u64) -> Vec<u8> {
    let stream = pool.read(disk, snapshot, 0, length).await.unwrap();
    stream.try_collect::<Vec<_>>().await.unwrap().concat()
}

fn layers(root: &Path, pool: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(pool).join(".layers")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn entries(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn pool_keeps_every_promise() {
    let root = TempDir::new().unwrap();
    conformance::pool(async || Arc::new(open(root.path(), "vms").await) as Arc<dyn Pool>).await;
    assert_eq!(layers(root.path(), "vms"), Vec::<String>::new(), "the suite removed all its disks");
    assert_eq!(entries(&root.path().join("vms/.hidden")), Vec::<String>::new());
}

#[tokio::test]
async fn clones_cross_pools() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::open(root.path(), &SystemRng::new()).await.unwrap();
    let images = LocalPool::open(&store, "fast-images", "images").await.unwrap();
    let vms = LocalPool::open(&store, "fast-vms", "vms").await.unwrap();
    assert_eq!((images.name(), &*images.location("a", "b").pool), ("fast-images", "images"));
    conformance::two_pools(&images, &vms).await;
    assert_eq!(layers(root.path(), "images"), Vec::<String>::new());
    assert_eq!(layers(root.path(), "vms"), Vec::<String>::new());
}

#[tokio::test]
async fn guests_do_not_see_each_others_writes() {
    let (root, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let pool = open(root.path(), "vms").await;
    conformance::pool_under_guest(&pool, async |disk, offset, bytes| {
        guest_writes(&pool, scratch.path(), disk, offset, bytes).await;
    })
    .await;
}

#[tokio::test]
async fn qemu_reads_what_we_make() {
    let (root, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = LocalStore::open(root.path(), &SystemRng::new()).await.unwrap();
    let images = LocalPool::open(&store, "images", "images").await.unwrap();
    let vms = LocalPool::open(&store, "vms", "vms").await.unwrap();
    let bytes = zeros_with(3 * MIB as usize, &[(0, 1), (1_000_000, 2), (3 * MIB as usize - 1, 3)]);
    put(&images, "image", bytes.clone()).await;
    images.snapshot("image", "snap").await.unwrap();
    let parent = images.location("image", "snap");
    for (disk, size) in [("equal", 0), ("usual", 20 * GIB), ("huge", 5 << 40)] {
        vms.clone_disk(&parent, disk, size).await.unwrap();
        check_image(&vms, disk);
        let (path, _) = file(&vms, disk);
        let info = qemu("qemu-img", &["info", "--output=json", "-f", "qcow2", path.to_str().unwrap()]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"].as_u64().unwrap(), size.max(bytes.len() as u64));
        assert_eq!(info["backing-filename-format"], "raw");
    }
    // Grown by the size in the header alone, and past what the tables hold.
    for (disk, size) in [("usual", 4 << 40), ("usual", (4 << 40) + GIB), ("huge", 6 << 40)] {
        vms.resize(disk, size).await.unwrap();
        check_image(&vms, disk);
        guest_writes(&vms, scratch.path(), disk, size - 512, &[7; 512]).await;
        assert_eq!(vms.stat(disk).await.unwrap().unwrap().size, size);
        let tail = vms.read(disk, None, size - 512, 512).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(tail.concat(), [7; 512], "QEMU wrote at the new end");
    }
    // The store can be moved: nothing in it holds its path. QEMU sees the same bytes through the link as we do.
    drop((images, vms, store));
    let moved = scratch.path().join("moved");
    fs::rename(root.path(), &moved).unwrap();
    let vms = open(&moved, "vms").await;
    assert_eq!(get(&vms, "equal", None, bytes.len() as u64).await, bytes);
    let (path, out) = (file(&vms, "equal").0, scratch.path().join("out"));
    qemu("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", path.to_str().unwrap(), out.to_str().unwrap()]);
    assert!(fs::read(out).unwrap() == bytes, "qemu-img reads the clone's bytes");
}

#[tokio::test]
async fn content_is_never_taken_for_a_format() {
    let (root, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let pool = open(root.path(), "vms").await;
    // An image that claims to be raw and is a qcow2 with a backing file: /etc/passwd must not come out of it.
    let evil = scratch.path().join("evil");
    let evil = evil.to_str().unwrap();
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/passwd", evil, "64K"]);
    let bytes = fs::read(evil).unwrap();
    put(&pool, "evil", bytes.clone()).await;
    pool.snapshot("evil", "snap").await.unwrap();
    pool.clone_disk(&pool.location("evil", "snap"), "clone", 0).await.unwrap();
    let length = bytes.len() as u64;
    assert!(get(&pool, "clone", None, length).await == bytes, "a clone shows the bytes, not what they describe");
    let out = scratch.path().join("out");
    let (path, _) = file(&pool, "clone");
    qemu("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", path.to_str().unwrap(), out.to_str().unwrap()]);
    assert!(fs::read(out).unwrap()[..bytes.len()] == bytes, "QEMU sees the bytes too");
}

#[tokio::test]
async fn zeros_take_no_room() {
    let root = TempDir::new().unwrap();
    let pool = open(root.path(), "vms").await;
    let blocks = |disk: &str| fs::metadata(file(&pool, disk).0).unwrap().blocks() * 512;
    put(&pool, "sparse", zeros_with(64 * MIB as usize, &[(0, 1), (40 * MIB as usize, 1)])).await;
    assert!(blocks("sparse") <= 4 * (64 << 10), "64 MiB of zeros and two bytes take {} bytes", blocks("sparse"));
    pool.create("blank", 100 * GIB).await.unwrap();
    assert_eq!(blocks("blank"), 0);
    pool.snapshot("sparse", "snap").await.unwrap();
    pool.clone_disk(&pool.location("sparse", "snap"), "clone", 100 * GIB).await.unwrap();
    assert!(blocks("clone") <= 64 << 10, "a clone takes {} bytes", blocks("clone"));
    pool.flatten("clone", no_progress()).await.unwrap();
    assert_eq!(pool.remove("sparse").await.unwrap(), Removed::Gone);
    let total: u64 = layers(root.path(), "vms")
        .iter()
        .map(|name| fs::metadata(root.path().join("vms/.layers").join(name)).unwrap().blocks() * 512)
        .sum();
    assert!(total <= 6 * (64 << 10), "a flattened clone takes {total} bytes");
}

#[tokio::test]
async fn a_disk_in_use_is_left_alone() {
    let root = TempDir::new().unwrap();
    let pool = open(root.path(), "vms").await;
    put(&pool, "parent", vec![1; MIB as usize]).await;
    pool.snapshot("parent", "snap").await.unwrap();
    pool.clone_disk(&pool.location("parent", "snap"), "disk", 0).await.unwrap();
    let (path, format) = file(&pool, "disk");
    let mut guest = Command::new("qemu-io")
        .args(["-f", format, path.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("qemu-io runs; install it with: apt-get install --no-install-recommends qemu-utils");
    let deadline = Instant::now() + Duration::from_secs(60);
    let refused = |outcome: umbel_core::Result<()>| outcome.is_err_and(|error| error.is(Kind::Conflict));
    // Reading changes nothing, so it may be asked until QEMU has the file.
    while !refused(pool.read("disk", None, 0, 1).await.map(drop)) {
        assert!(Instant::now() < deadline, "QEMU's lock on a disk in use is seen");
        tokio::task::yield_now().await;
    }
    assert!(refused(pool.snapshot("disk", "one").await));
    assert!(refused(pool.resize("disk", 2 * MIB).await));
    assert!(refused(pool.flatten("disk", no_progress()).await));
    assert_eq!(pool.stat("disk").await.unwrap().unwrap().size, MIB, "stat may be asked at any time");
    assert!(pool.stat("disk").await.unwrap().unwrap().snapshots.is_empty());
    pool.clone_disk(&pool.location("parent", "snap"), "other", 0).await.unwrap();

    drop(guest.stdin.take());
    guest.wait().unwrap();
    pool.snapshot("disk", "one").await.unwrap();
    pool.resize("disk", 2 * MIB).await.unwrap();
    pool.flatten("disk", no_progress()).await.unwrap();
    assert_eq!(get(&pool, "disk", None, MIB).await, vec![1; MIB as usize]);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_swept() {
    let root = TempDir::new().unwrap();
    let pool = open(root.path(), "vms").await;
    put(&pool, "parent", vec![1; 70_000]).await;
    pool.snapshot("parent", "snap").await.unwrap();
    pool.clone_disk(&pool.location("parent", "snap"), "clone", 0).await.unwrap();
    let kept = layers(root.path(), "vms");
    drop(pool);

    // What kill -9 leaves at the worst moments, one after the other.
    let vms = root.path().join("vms");
    fs::write(vms.join(".layers/900.raw"), [1; 10]).unwrap();
    fs::write(vms.join(".layers/901.qcow2"), b"QFI").unwrap();
    fs::write(vms.join(".layers/902.rebase"), b"").unwrap();
    fs::create_dir(vms.join(".new-900")).unwrap();
    symlink("../../vms/.layers/900.raw", vms.join(".new-900/head")).unwrap();
    symlink("../../vms/.layers/900.raw", vms.join("clone/.head")).unwrap();
    fs::write(root.path().join(".id.new"), "half").unwrap();

    let pool = open(root.path(), "vms").await;
    assert_eq!(layers(root.path(), "vms"), kept, "a sweep takes what nothing leads to, and nothing else");
    assert!(!vms.join(".new-900").exists());
    let mut disks = pool.list().await.unwrap();
    disks.sort();
    assert_eq!(disks, ["clone", "parent"]);
    pool.snapshot("clone", "after").await.unwrap();
    assert_eq!(pool.stat("clone").await.unwrap().unwrap().snapshots, ["after"]);
    assert_eq!(get(&pool, "clone", None, 70_000).await, vec![1; 70_000]);

    // A crash between hiding a removed disk and answering: the next removal finds none, and purge what it left.
    fs::rename(vms.join("clone"), vms.join(".hidden/clone@0")).unwrap();
    assert_eq!(pool.remove("clone").await.unwrap(), Removed::Absent);
    assert_eq!(pool.purge().await.unwrap(), ["clone"]);
    assert_eq!(pool.remove("parent").await.unwrap(), Removed::Gone);
    assert_eq!(layers(root.path(), "vms"), Vec::<String>::new());
}

#[tokio::test]
async fn another_process_does_not_sweep_what_is_being_written() {
    let root = TempDir::new().unwrap();
    let pool = open(root.path(), "vms").await;
    let (send, receive) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let stream = stream::unfold(receive, |mut receive| async {
        let bytes = receive.recv().await?;
        Some((Ok(bytes.into()), receive))
    });
    let writing = async { pool.write("slow", stream.boxed(), WriteOptions::default()).await.unwrap() };
    let sweeping = async {
        send.send(vec![1; 2 * MIB as usize]).await.unwrap();
        // Taken only when the first was.
        send.send(vec![2; MIB as usize]).await.unwrap();
        let other = open(root.path(), "vms").await;
        other.purge().await.unwrap();
        assert_eq!(layers(root.path(), "vms").len(), 1);
        assert_eq!(other.list().await.unwrap(), Vec::<String>::new());
        drop(send);
    };
    let (received, ()) = tokio::join!(writing, sweeping);
    assert_eq!(received, 3 * MIB);
    let want = [vec![1; 2 * MIB as usize], vec![2; MIB as usize]].concat();
    assert!(get(&pool, "slow", None, 3 * MIB).await == want, "the disk is whole");
}

#[tokio::test]
async fn a_damaged_disk_takes_no_other_with_it() {
    let root = TempDir::new().unwrap();
    let pool = open(root.path(), "vms").await;
    put(&pool, "good", vec![1; 70_000]).await;
    put(&pool, "parent", vec![2; 70_000]).await;
    pool.snapshot("parent", "snap").await.unwrap();
    pool.clone_disk(&pool.location("parent", "snap"), "bad", 0).await.unwrap();
    let (path, _) = file(&pool, "bad");
    fs::write(path, [0; 4_096]).unwrap();

    let pool = open(root.path(), "vms").await;
    assert_eq!(pool.stat("bad").await.unwrap_err().kind(), Kind::Internal);
    // What the damaged disk may need cannot be known, so it is kept.
    assert_eq!(pool.remove("parent").await.unwrap(), Removed::Hidden);
    assert_eq!(get(&pool, "good", None, 70_000).await, vec![1; 70_000]);
    assert!(layers(root.path(), "vms").iter().any(|name| name.ends_with(".raw")));
    pool.remove("bad").await.unwrap();
    assert_eq!(pool.purge().await.unwrap().len(), 1, "without the damaged disk, its parent can be freed");
}

#[tokio::test]
async fn snapshots_of_a_disk_of_odd_length_can_be_cloned() {
    let root = TempDir::new().unwrap();
    let pool = open(root.path(), "vms").await;
    put(&pool, "odd", vec![1; 1_000]).await;
    pool.snapshot("odd", "snap").await.unwrap();
    assert_eq!(get(&pool, "odd", Some("snap"), 1_000).await, vec![1; 1_000]);
    assert_eq!(pool.read("odd", Some("snap"), 0, 1_001).await.map(drop).unwrap_err().kind(), Kind::BadRequest);
    pool.clone_disk(&pool.location("odd", "snap"), "clone", 0).await.unwrap();
    check_image(&pool, "clone");
    assert_eq!(pool.stat("clone").await.unwrap().unwrap().size, 1_024);
    assert_eq!(get(&pool, "clone", None, 1_024).await, [vec![1; 1_000], vec![0; 24]].concat());
}

#[tokio::test]
async fn names_of_stores_and_disks_have_limits() {
    let root = TempDir::new().unwrap();
    let pool = open(root.path(), "vms").await;
    for name in ["", &"x".repeat(300)] {
        assert_eq!(pool.create(name, MIB).await.unwrap_err().kind(), Kind::BadRequest);
    }
    // Not files of the store, whatever they are called.
    for name in ["..", ".layers", "../../etc", "head"] {
        pool.create(name, MIB).await.unwrap();
        assert_eq!(pool.remove(name).await.unwrap(), Removed::Gone);
    }
    let other = TempDir::new().unwrap();
    let elsewhere = open(other.path(), "vms").await;
    put(&pool, "here", vec![1; 512]).await;
    pool.snapshot("here", "snap").await.unwrap();
    let reason = elsewhere.can_clone(&pool.location("here", "snap")).await.unwrap_err();
    assert!(reason.contains("local store"), "{reason}");
}

#[tokio::test]
async fn notes_of_clones_are_made_again() {
    let root = TempDir::new().unwrap();
    let pool = open(root.path(), "vms").await;
    put(&pool, "parent", vec![1; 70_000]).await;
    pool.snapshot("parent", "snap").await.unwrap();
    pool.clone_disk(&pool.location("parent", "snap"), "clone", 0).await.unwrap();
    drop(pool);
    // They are not synced, so this is how a power failure may leave them.
    fs::remove_dir_all(root.path().join("vms/.clones")).unwrap();
    let pool = open(root.path(), "vms").await;
    assert_eq!(pool.remove("parent").await.unwrap(), Removed::Hidden);
    assert_eq!(get(&pool, "clone", None, 70_000).await, vec![1; 70_000]);
}

/// Where the child of the next test finds its store.
const KILLED: &str = "UMBEL_TEST_KILLED_STORE";

/// Starts itself as another process, kills that as it begins its first operation, its second, and so on, and looks
/// each time at what it left.
#[tokio::test]
async fn a_store_outlives_kill_9_at_any_operation() {
    if let Some(root) = std::env::var_os(KILLED) {
        return work_until_killed(Path::new(&root)).await;
    }
    let name = "local::a_store_outlives_kill_9_at_any_operation";
    for operation in 1..=60 {
        let root = TempDir::new().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(KILLED, root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let last = lines.map(Result::unwrap).filter(|line| line.starts_with("now: ")).nth(operation - 1);
        child.kill().unwrap();
        child.wait().unwrap();
        let last = last.unwrap_or_else(|| panic!("the child does at least {operation} operations"));
        eprintln!("killed in operation {operation}, {last}");
        all_is_well(root.path()).await;
    }
}

fn survivor() -> Vec<u8> {
    zeros_with(300_000, &[(0, 1), (150_000, 2), (299_999, 3)])
}

async fn work_until_killed(root: &Path) {
    // Its own line on the output, whatever the test harness writes before.
    let now = |what: &str| println!("\nnow: {what}");
    let pool = open(root, "vms").await;
    for round in 0.. {
        let (a, b) = (&format!("a-{round}"), &format!("b-{round}"));
        now("write");
        put(&pool, a, survivor()).await;
        now("snapshot");
        pool.snapshot(a, "snap").await.unwrap();
        now("clone");
        pool.clone_disk(&pool.location(a, "snap"), b, MIB).await.unwrap();
        now("snapshot of the clone");
        pool.snapshot(b, "own").await.unwrap();
        now("resize");
        pool.resize(b, 2 * MIB).await.unwrap();
        now("rollback");
        pool.rollback(b, "own").await.unwrap();
        now("rename of the parent");
        let renamed = &format!("{a}-renamed");
        pool.rename(a, renamed).await.unwrap();
        now("rename of its snapshot");
        pool.rename_snapshot(renamed, "snap", "point").await.unwrap();
        now("snapshots of both");
        pool.snapshot_together(&[(renamed, "both"), (b, "both")]).await.unwrap();
        now("patch");
        let whole = vec![Ok(umbel_driver::Change::Data { offset: 0, bytes: survivor().into() })];
        pool.patch(b, Box::pin(stream::iter(whole)), no_progress()).await.unwrap();
        now("limit");
        pool.limit(b, &umbel_driver::Limits { iops: Some(9), ..Default::default() }).await.unwrap();
        now("remove of the parent");
        pool.remove(renamed).await.unwrap();
        now("flatten");
        pool.flatten(b, no_progress()).await.unwrap();
        now("purge");
        pool.purge().await.unwrap();
        now("remove_snapshot");
        pool.remove_snapshot(b, "own").await.unwrap();
        if round % 2 == 0 {
            now("remove");
            pool.remove(b).await.unwrap();
        }
    }
}

/// Whatever disks there are, they are whole, and when they are removed nothing is left.
async fn all_is_well(root: &Path) {
    let pool = open(root, "vms").await;
    for disk in pool.list().await.unwrap() {
        let info = pool.stat(&disk).await.unwrap().unwrap();
        let mut want = survivor();
        want.resize(info.size as usize, 0);
        assert!(get(&pool, &disk, None, info.size).await == want, "'{disk}' has its bytes: {info:?}");
        for snapshot in &info.snapshots {
            let bytes = get(&pool, &disk, Some(snapshot), survivor().len() as u64).await;
            assert!(bytes == survivor(), "'{disk}@{snapshot}' has its bytes: {info:?}");
        }
        check_image(&pool, &disk);
        pool.snapshot(&disk, "after").await.unwrap();
        pool.clone_disk(&pool.location(&disk, "after"), &format!("clone of {disk}"), 0).await.unwrap();
    }
    for disk in pool.list().await.unwrap() {
        pool.remove(&disk).await.unwrap();
    }
    pool.purge().await.unwrap();
    assert_eq!(layers(root, "vms"), Vec::<String>::new(), "all disks are removed and purged");
    assert_eq!(entries(&root.join("vms/.hidden")), Vec::<String>::new());
    assert_eq!(entries(&root.join("vms")).iter().filter(|name| !name.starts_with('.')).count(), 0);
}
