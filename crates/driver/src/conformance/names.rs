//! What renaming, listing of clones and hidden disks, snapshots of several disks, and limits promise.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use umbel_core::{Kind, MIB};

use super::pool::{Bench, sample};
use super::{check, done, eventually, refused};
use crate::{Child, Limits, Pool, Removed};

pub(super) async fn alone(bench: &Bench<'_>) {
    check("rename", rename(bench)).await;
    check("rename of a snapshot", rename_snapshot(bench)).await;
    check("children", children(bench)).await;
    check("hidden disks", hidden(bench)).await;
    check("snapshots of several disks", together(bench)).await;
    check("limits", limits(bench)).await;
}

async fn rename(bench: &Bench<'_>) {
    let (pool, bytes, other) = (bench.pool, sample(50), sample(51));
    let (disk, to, clone) = (bench.put("old", &bytes).await, bench.name("new"), bench.name("heir"));
    done("snapshot", pool.snapshot(&disk, "snap").await);
    done("clone", pool.clone_disk(&pool.location(&disk, "snap"), &clone, 0).await);
    done("rename", pool.rename(&disk, &to).await);
    done("rename again", pool.rename(&disk, &to).await);
    done("rename to the name it has", pool.rename(&to, &to).await);
    assert!(!bench.is_there(&disk).await && bench.is_there(&to).await, "a renamed disk is there once");
    assert_eq!(bench.snapshots(&to).await, ["snap"], "a renamed disk keeps its snapshots");
    bench.holds("a renamed disk", &to, None, 0, &bytes).await;
    bench.holds("a snapshot of a renamed disk", &to, Some("snap"), 0, &bytes).await;
    bench.holds("a clone of a renamed disk", &clone, None, 0, &bytes).await;
    let parent = async || done("stat", pool.stat(&clone).await).expect("stat finds the clone").parent;
    assert_eq!(parent().await, Some(pool.location(&to, "snap")), "a clone knows its parent's new name");

    // The name is free, and its next disk is nobody's parent.
    let taken = bench.put("old", &other).await;
    done("snapshot", pool.snapshot(&taken, "snap").await);
    assert_eq!(parent().await, Some(pool.location(&to, "snap")), "a clone is not taken for another disk's");
    refused("rename to a name that exists", pool.rename(&taken, &to).await, Kind::Conflict);
    bench.holds("a refused rename leaves both", &taken, None, 0, &other).await;
    bench.holds("a refused rename leaves both", &to, None, 0, &bytes).await;
    let none = bench.name("none");
    refused("rename of no disk", pool.rename(&none, &bench.name("nowhere")).await, Kind::NotFound);
    bench.gone(&taken).await;

    done("rename back", pool.rename(&to, &disk).await);
    assert_eq!(parent().await, Some(pool.location(&disk, "snap")), "a clone knows a name that came back");
    assert_eq!(done("remove", pool.remove(&disk).await), Removed::Hidden, "a renamed disk still has its clone");
    bench.holds("a clone of a hidden disk", &clone, None, 0, &bytes).await;
    bench.gone(&clone).await;
    assert!(done("purge", pool.purge().await).contains(&disk), "purge names it as it was called last");
}

async fn rename_snapshot(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(52));
    let (disk, clone) = (bench.put("named", &bytes).await, bench.name("named-clone"));
    done("snapshot", pool.snapshot(&disk, "first").await);
    done("snapshot", pool.snapshot(&disk, "second").await);
    done("clone", pool.clone_disk(&pool.location(&disk, "first"), &clone, 0).await);
    done("rename_snapshot", pool.rename_snapshot(&disk, "first", "renamed").await);
    done("rename_snapshot again", pool.rename_snapshot(&disk, "first", "renamed").await);
    assert_eq!(bench.snapshots(&disk).await, ["renamed", "second"], "a renamed snapshot keeps its place");
    bench.holds("a renamed snapshot", &disk, Some("renamed"), 0, &bytes).await;
    let info = done("stat", pool.stat(&clone).await).expect("stat finds the clone");
    assert_eq!(info.parent, Some(pool.location(&disk, "renamed")), "a clone knows its snapshot's new name");
    refused("a name that exists", pool.rename_snapshot(&disk, "second", "renamed").await, Kind::Conflict);
    refused("rename of no snapshot", pool.rename_snapshot(&disk, "none", "other").await, Kind::NotFound);
    let none = bench.name("none");
    refused("rename of no disk's snapshot", pool.rename_snapshot(&none, "first", "other").await, Kind::NotFound);
    bench.gone(&clone).await;
    bench.gone(&disk).await;
}

async fn children(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(53));
    let parent = bench.put("family", &bytes[..65_536]).await;
    done("snapshot", pool.snapshot(&parent, "one").await);
    done("snapshot", pool.snapshot(&parent, "two").await);
    let [first, second, third, grandchild] = ["first", "second", "third", "grand"].map(|name| bench.name(name));
    for (snapshot, disk) in [("one", &first), ("one", &second), ("two", &third)] {
        done("clone", pool.clone_disk(&pool.location(&parent, snapshot), disk, 0).await);
    }
    done("snapshot of a clone", pool.snapshot(&second, "own").await);
    done("clone of a clone", pool.clone_disk(&pool.location(&second, "own"), &grandchild, 0).await);
    let of = async |snapshot: &str| {
        let mut found = done("children", pool.children(&parent, snapshot).await);
        found.sort_by(|one, two| one.disk.cmp(&two.disk));
        found
    };
    let child = |disk: &String, hidden| Child { pool: pool.location("a", "b").pool, disk: disk.clone(), hidden };
    assert_eq!(of("one").await, [child(&first, false), child(&second, false)], "clones of one snapshot");
    assert_eq!(of("two").await, [child(&third, false)], "clones of the other");
    assert_eq!(done("remove", pool.remove(&second).await), Removed::Hidden, "a clone with a clone");
    assert_eq!(of("one").await, [child(&first, false), child(&second, true)], "a hidden clone is one");
    bench.gone(&grandchild).await;
    done("purge", pool.purge().await);
    bench.gone(&first).await;
    done("flatten", pool.flatten(&third, crate::no_progress()).await);
    assert_eq!((of("one").await, of("two").await), (vec![], vec![]), "what is gone or stands alone is nobody's clone");
    refused("children of no disk", pool.children(&bench.name("none"), "one").await, Kind::NotFound);
    refused("children of no snapshot", pool.children(&parent, "none").await, Kind::NotFound);
    bench.gone(&third).await;
    bench.gone(&parent).await;
}

async fn hidden(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(54));
    let (parent, clone) = (bench.put("unseen", &bytes[..65_536]).await, bench.name("seen"));
    let ours = async || {
        let mut found = done("hidden", pool.hidden().await);
        found.retain(|hidden| hidden.disk == parent);
        found
    };
    done("snapshot", pool.snapshot(&parent, "snap").await);
    done("clone", pool.clone_disk(&pool.location(&parent, "snap"), &clone, 0).await);
    assert_eq!(ours().await, [], "what is in sight is not hidden");
    assert_eq!(done("remove", pool.remove(&parent).await), Removed::Hidden);
    let found = ours().await;
    assert!(found.len() == 1 && !found[0].free && !found[0].id.is_empty(), "a parent is hidden, not free: {found:?}");
    bench.gone(&clone).await;
    let found = ours().await;
    assert!(found.len() == 1 && found[0].free, "without its clone it can be purged: {found:?}");
    done("purge", pool.purge().await);
    assert_eq!(ours().await, [], "what is purged is not hidden");
}

async fn together(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(55));
    let disks =
        [bench.put("group-a", &bytes).await, bench.put("group-b", &bytes[..70_000]).await, bench.name("group-c")];
    done("create", pool.create(&disks[2], MIB).await);
    let all: Vec<_> = disks.iter().map(|disk| (disk.as_str(), "point")).collect();
    done("snapshot_together", pool.snapshot_together(&all).await);
    done("snapshot_together again", pool.snapshot_together(&all).await);
    for disk in &disks {
        assert_eq!(bench.snapshots(disk).await, ["point"], "each disk has its snapshot once");
    }
    bench.holds("the first disk's", &disks[0], Some("point"), 0, &bytes).await;
    bench.holds("the second disk's", &disks[1], Some("point"), 0, &bytes[..70_000]).await;

    let none = bench.name("none");
    let with_none = [(disks[0].as_str(), "late"), (none.as_str(), "late")];
    refused("one disk of them missing", pool.snapshot_together(&with_none).await, Kind::NotFound);
    assert_eq!(bench.snapshots(&disks[0]).await, ["point"], "none is made where one cannot be");
    let twice = [(disks[0].as_str(), "x"), (disks[0].as_str(), "y")];
    refused("one disk twice", pool.snapshot_together(&twice).await, Kind::BadRequest);

    // A call that broke off after the first: its snapshot is of another moment.
    done("snapshot", pool.snapshot(&disks[0], "broken").await);
    let patch = vec![crate::Change::Data { offset: 0, bytes: vec![0x77; 512].into() }];
    done("patch", pool.patch(&disks[0], super::changes::changes(patch), crate::no_progress()).await);
    let broken: Vec<_> = disks.iter().map(|disk| (disk.as_str(), "broken")).collect();
    done("snapshot_together after one that broke off", pool.snapshot_together(&broken).await);
    bench.holds("all are made anew", &disks[0], Some("broken"), 0, &[0x77; 512]).await;
    done("no disks at all", pool.snapshot_together(&[]).await);
    for disk in &disks {
        bench.gone(disk).await;
    }
}

/// Runs the promise of [`Pool::snapshot_together`] that shows only while someone writes.
///
/// `write(disk, offset, bytes)` writes 512 equal bytes as a guest that keeps the disk open, and returns when the guest
/// would know them written. The disks are removed at the end, so `close` must have them closed.
///
/// # Panics
/// With the promise that is not kept.
pub async fn pool_under_writers(pool: &dyn Pool, write: impl AsyncFn(&str, u64, &[u8]), close: impl AsyncFn()) {
    let bench = Bench::new(pool);
    check("one point in time under a writer", one_point(&bench, &write, &close)).await;
    bench.nothing_left().await;
}

async fn one_point(bench: &Bench<'_>, write: &impl AsyncFn(&str, u64, &[u8]), close: &impl AsyncFn()) {
    let (pool, disks) = (bench.pool, ["first", "second", "third"].map(|name| bench.name(name)));
    for disk in &disks {
        done("create", pool.create(disk, 8 * MIB).await);
    }
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let writer = async {
        // Each disk only when the one before has it: of two disks, the later one never has what the earlier lacks.
        while !stop.load(SeqCst) {
            let round = rounds.fetch_add(1, SeqCst) + 1;
            for disk in &disks {
                write(disk, 0, &[round as u8; 512]).await;
            }
        }
    };
    let points = ["a", "b", "c", "d", "e"];
    let snapshots = async {
        for point in points {
            let before = rounds.load(SeqCst);
            eventually("the writer goes on after a snapshot", async || rounds.load(SeqCst) > before + 1).await;
            let all: Vec<_> = disks.iter().map(|disk| (disk.as_str(), point)).collect();
            let made = pool.snapshot_together(&all).await;
            done("snapshot_together under a writer", made);
        }
        stop.store(true, SeqCst);
    };
    tokio::join!(writer, snapshots);
    close().await;
    for point in points {
        let mut have = Vec::new();
        for disk in &disks {
            let stream = done("read", pool.read(disk, Some(point), 0, 1).await);
            have.push(done("read", super::pool::collect(stream).await)[0]);
        }
        let behind: Vec<u8> = have.windows(2).map(|pair| pair[0].wrapping_sub(pair[1])).collect();
        assert!(behind.iter().map(|behind| u32::from(*behind)).sum::<u32>() <= 1, "point '{point}' is torn: {have:?}");
    }
    for disk in &disks {
        bench.gone(disk).await;
    }
}

async fn limits(bench: &Bench<'_>) {
    let (pool, disk) = (bench.pool, bench.name("limited"));
    done("create", pool.create(&disk, MIB).await);
    let get = async |disk: &str| done("limits", pool.limits(disk).await);
    assert_eq!(get(&disk).await, Limits::default(), "a new disk has no limits");
    let some = Limits { iops: Some(500), iops_burst: Some(1_000), write_bytes: Some(50 * MIB), ..Limits::default() };
    let more = Limits {
        iops: Some(2_000),
        iops_burst: Some(2_000),
        read_iops: Some(7),
        read_iops_burst: Some(70),
        write_iops: Some(6),
        write_iops_burst: Some(60),
        bytes: Some(5 << 40),
        bytes_burst: Some(6 << 40),
        read_bytes: Some(4 * MIB),
        read_bytes_burst: Some(4 * MIB),
        write_bytes: Some(3 * MIB),
        write_bytes_burst: Some(9 * MIB),
        ..Limits::default()
    };
    for limits in [&some, &some, &more, &some] {
        done("limit", pool.limit(&disk, limits).await);
        assert_eq!(get(&disk).await, *limits, "limits replace all earlier ones");
    }
    let renamed = bench.name("limited-too");
    done("rename", pool.rename(&disk, &renamed).await);
    assert_eq!(get(&renamed).await, some, "limits stay with a disk that is renamed");
    for bad in [
        Limits { iops: Some(0), ..Limits::default() },
        Limits { bytes_burst: Some(5), ..Limits::default() },
        Limits { read_iops: Some(10), read_iops_burst: Some(5), ..Limits::default() },
    ] {
        refused("limits that make no sense", pool.limit(&renamed, &bad).await, Kind::BadRequest);
    }
    assert_eq!(get(&renamed).await, some, "refused limits change nothing");
    done("no limits", pool.limit(&renamed, &Limits::default()).await);
    assert_eq!(get(&renamed).await, Limits::default(), "limits can be lifted");
    refused("limits of no disk", pool.limit(&disk, &some).await, Kind::NotFound);
    refused("limits of no disk", pool.limits(&disk).await, Kind::NotFound);
    bench.gone(&renamed).await;
}
