//! What one pool promises by itself: making, writing, reading, snapshots, sizes, removal.
//! What clones promise is in [`super::sharing`]; [`pool`] runs both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use umbel_core::{Error, Kind, MIB, Rng, SeededRng};
use uuid::Uuid;

use super::{changes, check, done, eventually, names, refused, sharing};
use crate::{ByteStream, Pool, Removed, WriteOptions, no_progress};

/// Runs every promise of [`Pool`].
///
/// `make` opens the pool, each time as a new object over the same store, as a restarted process would. No other
/// object may be purging the pool while the suite runs.
///
/// # Panics
/// With the promise that is not kept.
pub async fn pool(make: impl AsyncFn() -> Arc<dyn Pool>) {
    let opened = make().await;
    let bench = Bench::new(&*opened);
    check("create", create(&bench)).await;
    check("write", write(&bench)).await;
    check("write with a size", write_with_size(&bench)).await;
    check("refused streams", refused_streams(&bench)).await;
    check("two writers of one name", two_writers(&bench)).await;
    check("abandoned write", abandoned_write(&bench)).await;
    check("read ranges", read_ranges(&bench)).await;
    check("snapshots", snapshots(&bench)).await;
    check("rollback", rollback(&bench)).await;
    check("resize", resize(&bench)).await;
    check("remove", remove(&bench)).await;
    check("missing names", missing_names(&bench)).await;
    check("names and locations", unusual_names(&bench)).await;
    check("capacity", capacity(&bench)).await;
    sharing::alone(&bench).await;
    names::alone(&bench).await;
    changes::alone(&bench).await;
    check("open again", open_again(&bench, make)).await;
    bench.nothing_left().await;
}

/// A pool under test, with names nobody else uses.
pub(super) struct Bench<'a> {
    pub pool: &'a dyn Pool,
    prefix: String,
}

impl<'a> Bench<'a> {
    pub fn new(pool: &'a dyn Pool) -> Self {
        Bench { pool, prefix: format!("conformance-{}", Uuid::new_v4().simple()) }
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Writes `bytes` as a new disk and returns its name.
    pub async fn put(&self, name: &str, bytes: &[u8]) -> String {
        let name = self.name(name);
        let received =
            done("write of a new disk", self.pool.write(&name, stream_of(bytes), WriteOptions::default()).await);
        assert_eq!(received, bytes.len() as u64, "write returns the number of bytes received");
        name
    }

    pub async fn size(&self, disk: &str) -> u64 {
        done("stat", self.pool.stat(disk).await).unwrap_or_else(|| panic!("stat finds no disk '{disk}'")).size
    }

    pub async fn snapshots(&self, disk: &str) -> Vec<String> {
        done("stat", self.pool.stat(disk).await).unwrap_or_else(|| panic!("stat finds no disk '{disk}'")).snapshots
    }

    pub async fn is_there(&self, disk: &str) -> bool {
        let stat = done("stat", self.pool.stat(disk).await).is_some();
        let listed = done("list", self.pool.list().await).iter().any(|have| have == disk);
        assert_eq!(stat, listed, "stat and list agree whether '{disk}' is there");
        stat
    }

    /// Panics unless the range holds exactly `want`; says where they part rather than printing megabytes.
    pub async fn holds(&self, promise: &str, disk: &str, snapshot: Option<&str>, offset: u64, want: &[u8]) {
        let stream = done(promise, self.pool.read(disk, snapshot, offset, want.len() as u64).await);
        let have = done(promise, collect(stream).await);
        assert_eq!(have.len(), want.len(), "{promise}: number of bytes read");
        // Slices compare at once; finding the place is slow in a debug build.
        if have != want {
            let at = have.iter().zip(want).position(|(have, want)| have != want).unwrap_or_default();
            panic!("{promise}: byte {} is {:#04x}, not {:#04x}", offset + at as u64, have[at], want[at]);
        }
    }

    pub async fn gone(&self, disk: &str) {
        let removed = done("remove", self.pool.remove(disk).await);
        assert_eq!(removed, Removed::Gone, "remove of '{disk}', which nobody clones");
        assert!(!self.is_there(disk).await, "'{disk}' is out of sight after its removal");
    }

    pub async fn nothing_left(&self) {
        done("purge", self.pool.purge().await);
        let left = done("list", self.pool.list().await);
        let left: Vec<_> = left.iter().filter(|name| name.starts_with(&self.prefix)).collect();
        assert!(left.is_empty(), "the suite removed its disks, but these are listed: {left:?}");
    }
}

/// Bytes in pieces of uneven lengths, so that no driver can count on blocks.
pub(super) fn stream_of(bytes: &[u8]) -> ByteStream {
    Box::pin(stream::iter(pieces(bytes).into_iter().map(Ok)))
}

fn pieces(bytes: &[u8]) -> Vec<Bytes> {
    const LENGTHS: [usize; 5] = [1, 4_095, 65_536, 1_000_003, 8_192];
    let (mut rest, mut pieces) = (bytes, Vec::new());
    for length in LENGTHS.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(rest.len().min(*length));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    pieces
}

pub(super) async fn collect(mut stream: ByteStream) -> umbel_core::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// 9 MiB: bytes that repeat nowhere at both ends, zeros between, and a lone byte in the zeros. Longer than two RADOS
/// objects, so that holes and borders of objects are crossed.
pub(super) fn sample(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 9 * MIB as usize];
    let rng = SeededRng::new(seed);
    rng.fill(&mut bytes[..MIB as usize + 777]);
    bytes[5 * MIB as usize + 4_321] = 0x5a;
    let tail = bytes.len() - 300_000;
    rng.fill(&mut bytes[tail..]);
    bytes
}

async fn create(bench: &Bench<'_>) {
    let (pool, disk) = (bench.pool, bench.name("create"));
    done("create", pool.create(&disk, 6 * MIB).await);
    let info = done("stat", pool.stat(&disk).await).expect("stat finds a created disk");
    assert_eq!((info.size, info.parent, info.snapshots), (6 * MIB, None, vec![]), "what stat says of a blank disk");
    bench.holds("a blank disk is zeros", &disk, None, 0, &vec![0; 6 * MIB as usize]).await;
    refused("create of a name that exists", pool.create(&disk, MIB).await, Kind::Conflict);
    let other = pool.write(&disk, stream_of(&sample(1)), WriteOptions::default()).await;
    refused("write of a name that exists", other, Kind::Conflict);
    assert_eq!(bench.size(&disk).await, 6 * MIB, "a refused create or write leaves the disk as it is");
    bench.holds("a refused write leaves the disk as it is", &disk, None, 0, &[0; 4_096]).await;
    bench.gone(&disk).await;
}

async fn write(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(2));
    let disk = bench.put("write", &bytes).await;
    assert_eq!(bench.size(&disk).await, bytes.len() as u64, "a disk is as long as its stream");
    bench.holds("a disk holds what was written", &disk, None, 0, &bytes).await;
    bench.gone(&disk).await;

    // Any file can be uploaded as an image, and must come back to the byte.
    let odd = bench.put("odd", &bytes[..1_001]).await;
    assert_eq!(bench.size(&odd).await, 1_001, "a disk of a length that no block divides");
    bench.holds("a disk of odd length", &odd, None, 0, &bytes[..1_001]).await;
    bench.gone(&odd).await;

    let none = bench.put("none", &[]).await;
    assert_eq!(bench.size(&none).await, 0, "an empty stream makes an empty disk");
    bench.gone(&none).await;

    let grown = bench.name("grown");
    let options = WriteOptions { min_size: 10 * MIB, ..WriteOptions::default() };
    let received = done("write with a smallest size", pool.write(&grown, stream_of(&bytes[..70_000]), options).await);
    assert_eq!(received, 70_000, "write counts the bytes received, not the size");
    assert_eq!(bench.size(&grown).await, 10 * MIB, "a disk is never smaller than min_size");
    let mut want = bytes[..70_000].to_vec();
    want.resize(10 * MIB as usize, 0);
    bench.holds("what min_size adds is zeros", &grown, None, 0, &want).await;
    bench.gone(&grown).await;
}

async fn write_with_size(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(3));
    let told = Arc::new(AtomicU64::new(0));
    let heard = told.clone();
    let options = WriteOptions {
        size: Some(bytes.len() as u64),
        progress: Arc::new(move |total| {
            let before = heard.swap(total, Ordering::SeqCst);
            assert!(before <= total, "progress went back from {before} to {total}");
        }),
        ..WriteOptions::default()
    };
    let disk = bench.name("sized");
    let received = done("write with a size", pool.write(&disk, stream_of(&bytes), options).await);
    assert_eq!(received, bytes.len() as u64, "write returns the number of bytes received");
    let told = told.load(Ordering::SeqCst);
    assert!((1..=bytes.len() as u64).contains(&told), "progress of 9 MiB was told, and last as {told} bytes");
    bench.holds("a disk written with its size", &disk, None, 0, &bytes).await;

    // A server's disk from an image that cannot be cloned: both sizes at once.
    let both = bench.name("both");
    let options = WriteOptions { size: Some(bytes.len() as u64), min_size: 12 * MIB, progress: crate::no_progress() };
    done("write with both sizes", pool.write(&both, stream_of(&bytes), options).await);
    assert_eq!(bench.size(&both).await, 12 * MIB, "min_size counts where the stream's size is smaller");
    bench.gone(&disk).await;
    bench.gone(&both).await;
}

async fn refused_streams(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(4));
    let disk = bench.name("refused");
    for (what, size) in [("ends short of its size", bytes.len() + 1), ("runs past its size", bytes.len() - 1)] {
        let options = WriteOptions { size: Some(size as u64), ..WriteOptions::default() };
        let outcome = pool.write(&disk, stream_of(&bytes), options).await;
        assert!(outcome.is_err(), "a stream that {what} is refused");
        assert!(!bench.is_there(&disk).await, "a stream that {what} leaves no disk");
    }
    let mut items: Vec<_> = pieces(&bytes).into_iter().map(Ok).collect();
    items.push(Err(Error::new(Kind::TooLarge, "The sender thought better of it.")));
    let broken = Box::pin(stream::iter(items));
    let outcome = pool.write(&disk, broken, WriteOptions::default()).await;
    refused("a stream that fails gives its own failure", outcome, Kind::TooLarge);
    assert!(!bench.is_there(&disk).await, "a stream that fails leaves no disk");

    let again = bench.put("refused", &bytes).await;
    bench.holds("after refused streams the name is free", &again, None, 0, &bytes).await;
    bench.gone(&again).await;
}

async fn two_writers(bench: &Bench<'_>) {
    let (pool, disk) = (bench.pool, bench.name("twice"));
    let (one, two) = (sample(5), sample(6));
    let (first, second) = tokio::join!(
        pool.write(&disk, stream_of(&one), WriteOptions::default()),
        pool.write(&disk, stream_of(&two), WriteOptions::default()),
    );
    let (winner, loser) = match (&first, &second) {
        (Ok(_), Err(_)) => (one, second),
        (Err(_), Ok(_)) => (two, first),
        _ => panic!("of two writers of one name exactly one wins: {first:?}, {second:?}"),
    };
    refused("the second writer of a name", loser, Kind::Conflict);
    bench.holds("the disk is the winner's", &disk, None, 0, &winner).await;
    bench.gone(&disk).await;
}

async fn abandoned_write(bench: &Bench<'_>) {
    let (pool, disk, bytes) = (bench.pool, bench.name("abandoned"), sample(7));
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel::<()>();
    let endless = stream::iter(pieces(&bytes).into_iter().map(Ok)).chain(stream::once(async move {
        // Reached when all before was taken; then never another item.
        let _ = asked.send(());
        std::future::pending().await
    }));
    tokio::select! {
        outcome = pool.write(&disk, Box::pin(endless), WriteOptions::default()) =>
            panic!("a write whose stream does not end has ended: {outcome:?}"),
        _ = was_asked.recv() => {}
    }
    // Not `is_there`: the disk may go between its two questions.
    let absent = async || done("stat", pool.stat(&disk).await).is_none();
    eventually("an abandoned write leaves no disk", absent).await;
    eventually("the name of an abandoned write can be written", async || {
        match pool.write(&disk, stream_of(&bytes), WriteOptions::default()).await {
            Ok(_) => true,
            Err(error) if error.is(Kind::Conflict) || error.is(Kind::Busy) => false,
            Err(error) => panic!("write after an abandoned write: {}", error.for_log()),
        }
    })
    .await;
    bench.holds("a disk written after an abandoned write", &disk, None, 0, &bytes).await;
    bench.gone(&disk).await;
}

async fn read_ranges(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(8));
    let disk = bench.put("ranges", &bytes).await;
    done("snapshot", pool.snapshot(&disk, "snap").await);
    let end = bytes.len();
    let ranges = [(0, 1), (0, 512), (1, 4_096), (65_535, 2), (MIB as usize - 3, 4_000), (4 << 20, 1 << 20)];
    for (offset, length) in ranges.into_iter().chain([(2 << 20, 3 << 20), (end - 1, 1), (end - 70_000, 70_000)]) {
        let want = &bytes[offset..offset + length];
        let what = format!("{length} bytes from {offset}");
        bench.holds(&what, &disk, None, offset as u64, want).await;
        bench.holds(&format!("{what} of a snapshot"), &disk, Some("snap"), offset as u64, want).await;
    }
    bench.holds("no bytes", &disk, None, 0, &[]).await;
    bench.holds("no bytes at the end", &disk, None, end as u64, &[]).await;
    for (offset, length) in [(end - 1, 2), (end, 1), (end + (64 << 20), 10)] {
        let outcome = match pool.read(&disk, None, offset as u64, length).await {
            Ok(stream) => collect(stream).await,
            Err(error) => Err(error),
        };
        assert!(outcome.is_err(), "a read of {length} bytes from {offset} of a disk of {end} fails, not ends short");
    }
    bench.gone(&disk).await;
}

async fn snapshots(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(9));
    let disk = bench.put("snapshots", &bytes).await;
    // In an order that no sorting of names gives.
    for name in ["middle", "zebra", "ant"] {
        done("snapshot", pool.snapshot(&disk, name).await);
        done("the same snapshot again", pool.snapshot(&disk, name).await);
    }
    assert_eq!(bench.snapshots(&disk).await, ["middle", "zebra", "ant"], "snapshots are told oldest first");
    for name in ["middle", "zebra", "ant"] {
        bench.holds("a snapshot holds the disk's bytes", &disk, Some(name), 0, &bytes).await;
    }
    done("remove_snapshot", pool.remove_snapshot(&disk, "zebra").await);
    done("remove_snapshot again", pool.remove_snapshot(&disk, "zebra").await);
    assert_eq!(bench.snapshots(&disk).await, ["middle", "ant"], "a removed snapshot is out of sight");
    refused("read of a removed snapshot", pool.read(&disk, Some("zebra"), 0, 1).await.map(drop), Kind::NotFound);
    bench.holds("its neighbours stay", &disk, Some("middle"), 0, &bytes).await;
    bench.holds("its neighbours stay", &disk, Some("ant"), 0, &bytes).await;
    bench.holds("the disk stays", &disk, None, 0, &bytes).await;
    done("the name of a removed snapshot is free", pool.snapshot(&disk, "zebra").await);
    assert_eq!(bench.snapshots(&disk).await, ["middle", "ant", "zebra"], "a snapshot made again is the youngest");
    bench.gone(&disk).await;
}

async fn rollback(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(10));
    let length = bytes.len() as u64;
    let disk = bench.put("rollback", &bytes).await;
    done("snapshot", pool.snapshot(&disk, "small").await);
    done("resize", pool.resize(&disk, length + 4 * MIB).await);
    done("snapshot", pool.snapshot(&disk, "large").await);
    done("rollback", pool.rollback(&disk, "small").await);
    assert_eq!(bench.size(&disk).await, length, "rollback gives back the snapshot's size");
    bench.holds("rollback gives back the snapshot's bytes", &disk, None, 0, &bytes).await;
    assert_eq!(bench.snapshots(&disk).await, ["small", "large"], "later snapshots stay");
    done("rollback again", pool.rollback(&disk, "small").await);
    done("rollback forward", pool.rollback(&disk, "large").await);
    assert_eq!(bench.size(&disk).await, length + 4 * MIB, "a later snapshot can be rolled forward to");
    bench.holds("the later snapshot's bytes", &disk, None, 0, &bytes).await;
    refused("rollback to no snapshot", pool.rollback(&disk, "none").await, Kind::NotFound);
    bench.gone(&disk).await;
}

async fn resize(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(11));
    let length = bytes.len() as u64;
    let disk = bench.put("resize", &bytes).await;
    // Once as written, once above a snapshot: drivers keep the two differently.
    for (from, to) in [(length, 16 * MIB), (16 * MIB, 33 * MIB)] {
        done("resize", pool.resize(&disk, to).await);
        done("resize to the size it has", pool.resize(&disk, to).await);
        assert_eq!(bench.size(&disk).await, to, "a disk grows to the size asked for");
        refused("resize to less", pool.resize(&disk, from).await, Kind::BadRequest);
        assert_eq!(bench.size(&disk).await, to, "a refused resize changes nothing");
        bench.holds("what was there stays", &disk, None, 0, &bytes).await;
        bench.holds("what is added is zeros", &disk, None, to - MIB, &vec![0; MIB as usize]).await;
        done("snapshot", pool.snapshot(&disk, "snap").await);
    }
    bench.holds("a snapshot keeps its bytes", &disk, Some("snap"), 0, &bytes).await;
    let past = match pool.read(&disk, Some("snap"), 16 * MIB, 1).await {
        Ok(stream) => collect(stream).await,
        Err(error) => Err(error),
    };
    assert!(past.is_err(), "a snapshot keeps its size when the disk grows");
    bench.gone(&disk).await;
}

async fn remove(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(12));
    let disk = bench.put("remove", &bytes).await;
    done("snapshot", pool.snapshot(&disk, "one").await);
    done("snapshot", pool.snapshot(&disk, "two").await);
    bench.gone(&disk).await;
    for _ in 0..2 {
        assert_eq!(done("remove again", pool.remove(&disk).await), Removed::Absent, "remove of what is gone");
    }
    let never = bench.name("never");
    assert_eq!(done("remove", pool.remove(&never).await), Removed::Absent, "remove of what never was");
    done("the name of a removed disk is free", pool.create(&disk, MIB).await);
    assert_eq!(bench.snapshots(&disk).await, Vec::<String>::new(), "a new disk has no snapshots of an old one");
    bench.gone(&disk).await;
    done("purge without anything hidden", pool.purge().await);
}

async fn missing_names(bench: &Bench<'_>) {
    let (pool, none) = (bench.pool, bench.name("missing"));
    assert!(done("stat of nothing", pool.stat(&none).await).is_none(), "stat of a missing disk is None");
    refused("read of no disk", pool.read(&none, None, 0, 1).await.map(drop), Kind::NotFound);
    refused("snapshot of no disk", pool.snapshot(&none, "snap").await, Kind::NotFound);
    refused("rollback of no disk", pool.rollback(&none, "snap").await, Kind::NotFound);
    refused("resize of no disk", pool.resize(&none, MIB).await, Kind::NotFound);
    refused("flatten of no disk", pool.flatten(&none, no_progress()).await, Kind::NotFound);
    let clone = bench.name("clone-of-missing");
    refused("clone of no disk", pool.clone_disk(&pool.location(&none, "snap"), &clone, 0).await, Kind::NotFound);
    let disk = bench.put("present", &[1; 4_096]).await;
    refused("read of no snapshot", pool.read(&disk, Some("snap"), 0, 1).await.map(drop), Kind::NotFound);
    refused("clone of no snapshot", pool.clone_disk(&pool.location(&disk, "snap"), &clone, 0).await, Kind::NotFound);
    assert!(!bench.is_there(&clone).await, "a refused clone leaves no disk");
    bench.gone(&disk).await;
}

async fn unusual_names(bench: &Bench<'_>) {
    let pool = bench.pool;
    // Pairs that a careless encoding would take for one another.
    let disks = [" a b", ".a%20b", ".a b", "_disk", "ä"].map(|name| bench.name(name));
    for (at, disk) in disks.iter().enumerate() {
        done("create", pool.create(disk, MIB * (at as u64 + 1)).await);
        done("snapshot", pool.snapshot(disk, "s n%a.p").await);
    }
    for (at, disk) in disks.iter().enumerate() {
        assert_eq!(bench.size(disk).await, MIB * (at as u64 + 1), "'{disk}' is itself");
        assert_eq!(bench.snapshots(disk).await, ["s n%a.p"], "snapshots of '{disk}'");
        let location = pool.location(disk, "s n%a.p");
        assert_eq!((&location.disk, &*location.snapshot), (disk, "s n%a.p"), "a location names disk and snapshot");
        let parsed = location.to_string().parse();
        assert_eq!(parsed.ok(), Some(location), "a location can be written and read");
        assert!(bench.is_there(disk).await, "'{disk}' is listed");
        bench.gone(disk).await;
    }
}

async fn capacity(bench: &Bench<'_>) {
    let capacity = done("capacity", bench.pool.capacity().await);
    assert!(capacity.total > 0, "a pool that takes disks has a size");
    assert!(capacity.free <= capacity.total, "no more is free than there is: {capacity:?}");
}

async fn open_again(bench: &Bench<'_>, make: impl AsyncFn() -> Arc<dyn Pool>) {
    let bytes = sample(13);
    let disk = bench.put("again", &bytes).await;
    done("snapshot", bench.pool.snapshot(&disk, "first").await);
    done("snapshot", bench.pool.snapshot(&disk, "second").await);
    let clone = bench.name("again-clone");
    done("clone", bench.pool.clone_disk(&bench.pool.location(&disk, "first"), &clone, 0).await);

    let second = make().await;
    let again = Bench { pool: &*second, prefix: bench.prefix.clone() };
    assert_eq!(second.location(&disk, "first"), bench.pool.location(&disk, "first"), "locations outlive the process");
    for disk in [&disk, &clone] {
        let (before, after) = (bench.pool.stat(disk).await, second.stat(disk).await);
        assert_eq!(done("stat", before), done("stat", after), "a pool opened again knows '{disk}'");
        again.holds("a pool opened again has its bytes", disk, None, 0, &bytes).await;
    }
    assert_eq!(done("remove", second.remove(&disk).await), Removed::Hidden, "a pool opened again knows the clones");
    again.gone(&clone).await;
    let purged = done("purge", second.purge().await);
    assert!(purged.contains(&disk), "purge names '{disk}', whose last clone is gone: {purged:?}");
}
