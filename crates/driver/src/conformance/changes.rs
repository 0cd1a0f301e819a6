//! What differences promise: with them, a copy of a disk follows it from snapshot to snapshot, and holds the same bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, stream};
use umbel_core::{Error, Kind, MIB};

use super::pool::{Bench, collect, sample};
use super::{check, done, refused};
use crate::{Change, ChangeStream, Extent, Progress, no_progress};

pub(super) async fn alone(bench: &Bench<'_>) {
    check("differences", differences(bench)).await;
    check("chain of differences", chain(bench)).await;
    check("differences after a rollback", after_rollback(bench)).await;
    check("differences of a clone", of_clone(bench)).await;
    check("patch", patch(bench)).await;
    check("refused patches", refused_patches(bench)).await;
    check("usage", usage(bench)).await;
}

pub(super) fn changes(list: Vec<Change>) -> ChangeStream {
    Box::pin(stream::iter(list.into_iter().map(Ok)))
}

fn data(offset: u64, bytes: &[u8]) -> Change {
    Change::Data { offset, bytes: bytes.to_vec().into() }
}

fn zero(offset: u64, length: u64) -> Change {
    Change::Zero { offset, length }
}

fn applied(bytes: &mut [u8], list: &[Change]) {
    for change in list {
        let range = change.range();
        let into = &mut bytes[range.start as usize..range.end as usize];
        match change {
            Change::Data { bytes, .. } => into.copy_from_slice(bytes),
            Change::Zero { .. } => into.fill(0),
        }
    }
}

/// Panics unless the ranges are in order, in the disk, and cover all bytes that differ; what they call zeros must be.
fn covers(promise: &str, extents: &[Extent], from: &[u8], to: &[u8]) {
    let mut rebuilt = from.to_vec();
    rebuilt.resize(to.len(), 0);
    let mut end = 0;
    for extent in extents {
        assert!(extent.offset >= end && extent.length > 0, "{promise}: {extent:?} is out of order: {extents:?}");
        end = extent.offset + extent.length;
        assert!(end <= to.len() as u64, "{promise}: {extent:?} runs past the disk's {} bytes", to.len());
        let range = extent.offset as usize..end as usize;
        if extent.zero {
            assert!(to[range.clone()].iter().all(|byte| *byte == 0), "{promise}: {extent:?} is not zeros");
        }
        rebuilt[range.clone()].copy_from_slice(&to[range]);
    }
    if rebuilt != to {
        let at = rebuilt.iter().zip(to).position(|(have, want)| have != want);
        panic!("{promise}: the difference at {at:?} is not among {extents:?}");
    }
}

/// Copies what differs into another disk, as a backup does. Bytes copied.
async fn follow(bench: &Bench<'_>, disk: &str, from: Option<&str>, to: Option<&str>, copy: &str) -> u64 {
    let extents = done("diff", bench.pool.diff(disk, from, to).await);
    let end = extents.last().map_or(0, |last| last.offset + last.length);
    if end > bench.size(copy).await {
        done("resize of the copy", bench.pool.resize(copy, end).await);
    }
    let mut list = Vec::new();
    for extent in extents {
        if extent.zero {
            list.push(zero(extent.offset, extent.length));
            continue;
        }
        let stream = done("read", bench.pool.read(disk, to, extent.offset, extent.length).await);
        let bytes = done("read", collect(stream).await);
        list.push(Change::Data { offset: extent.offset, bytes: bytes.into() });
    }
    done("patch of the copy", bench.pool.patch(copy, changes(list), no_progress()).await)
}

async fn differences(bench: &Bench<'_>) {
    let (pool, first) = (bench.pool, sample(40));
    let size = first.len();
    let disk = bench.put("differs", &first).await;
    done("snapshot", pool.snapshot(&disk, "one").await);
    let same = done("diff of what is the same", pool.diff(&disk, Some("one"), None).await);
    assert_eq!(same, [], "nothing differs from a snapshot that nobody wrote after");
    covers("diff from nothing", &done("diff", pool.diff(&disk, None, Some("one")).await), &vec![0; size], &first);
    covers("diff from nothing to now", &done("diff", pool.diff(&disk, None, None).await), &vec![0; size], &first);

    let list = vec![data(512, &[7; 1_024]), zero(MIB - 4_096, 4_096), data(3 * MIB - 300, &[9; 70_001])];
    let mut second = first.clone();
    applied(&mut second, &list);
    done("patch", pool.patch(&disk, changes(list), no_progress()).await);
    done("snapshot", pool.snapshot(&disk, "two").await);
    let two = done("diff", pool.diff(&disk, Some("one"), Some("two")).await);
    covers("diff of two snapshots", &two, &first, &second);
    let named: u64 = two.iter().map(|extent| extent.length).sum();
    assert!(named < 5 * MIB, "most of the disk is the same, and {named} bytes are named as different: {two:?}");
    covers("diff to now", &done("diff", pool.diff(&disk, Some("one"), None).await), &first, &second);

    done("resize", pool.resize(&disk, 12 * MIB).await);
    let then = done("size of a snapshot", pool.snapshot_size(&disk, "two").await);
    assert_eq!(then, size as u64, "a snapshot does not grow with its disk");
    refused("size of no snapshot", pool.snapshot_size(&disk, "none").await, Kind::NotFound);
    let mut third = second.clone();
    third.resize(12 * MIB as usize, 0);
    let grown = done("diff", pool.diff(&disk, Some("two"), None).await);
    covers("diff of a disk that grew", &grown, &second, &third);
    let gained: u64 = grown.iter().map(|extent| extent.length).sum();
    assert!(gained >= 12 * MIB - size as u64, "all that was gained differs: {grown:?}");

    refused("diff of no disk", pool.diff(&bench.name("none"), None, None).await, Kind::NotFound);
    refused("diff from no snapshot", pool.diff(&disk, Some("none"), None).await, Kind::NotFound);
    refused("diff to no snapshot", pool.diff(&disk, None, Some("none")).await, Kind::NotFound);
    bench.gone(&disk).await;
}

async fn chain(bench: &Bench<'_>) {
    let (pool, mut bytes) = (bench.pool, sample(41));
    let disk = bench.put("followed", &bytes).await;
    let copy = bench.name("copy");
    done("create", pool.create(&copy, bytes.len() as u64).await);
    done("snapshot", pool.snapshot(&disk, "s0").await);
    follow(bench, &disk, None, Some("s0"), &copy).await;
    bench.holds("a full copy", &copy, None, 0, &bytes).await;
    let rounds = [
        vec![data(0, &[1; 4_096]), zero(200_000, 300_000), data(6 * MIB, &[2; 65_536])],
        vec![zero(0, 3 * MIB), data(5 * MIB + 17, &[3; 1_000])],
        vec![data(2 * MIB, &[4; 2 << 20]), zero(8 * MIB, MIB)],
    ];
    for (at, list) in rounds.into_iter().enumerate() {
        let (from, to) = (format!("s{at}"), format!("s{}", at + 1));
        applied(&mut bytes, &list);
        done("patch", pool.patch(&disk, changes(list), no_progress()).await);
        if at == 1 {
            bytes.resize(bytes.len() + 3 * MIB as usize, 0);
            done("resize", pool.resize(&disk, bytes.len() as u64).await);
        }
        done("snapshot", pool.snapshot(&disk, &to).await);
        let copied = follow(bench, &disk, Some(&from), Some(&to), &copy).await;
        assert!(copied < bytes.len() as u64 / 2, "round {at}: {copied} bytes are copied where few differ");
        bench.holds("a copy that follows", &copy, None, 0, &bytes).await;
        done("snapshot of the copy", pool.snapshot(&copy, &to).await);
    }
    bench.gone(&disk).await;
    bench.gone(&copy).await;
}

async fn after_rollback(bench: &Bench<'_>) {
    let (pool, first) = (bench.pool, sample(42));
    let disk = bench.put("returned", &first).await;
    done("snapshot", pool.snapshot(&disk, "one").await);
    let list = vec![data(MIB, &[5; 8_192]), data(7 * MIB, &[6; 512])];
    let mut second = first.clone();
    applied(&mut second, &list);
    done("patch", pool.patch(&disk, changes(list), no_progress()).await);
    done("snapshot", pool.snapshot(&disk, "two").await);
    done("rollback", pool.rollback(&disk, "one").await);
    covers("from a later snapshot", &done("diff", pool.diff(&disk, Some("two"), None).await), &second, &first);
    covers("back in time", &done("diff", pool.diff(&disk, Some("two"), Some("one")).await), &second, &first);
    let list = vec![data(2 * MIB, &[8; 4_096])];
    let mut third = first.clone();
    applied(&mut third, &list);
    done("patch", pool.patch(&disk, changes(list), no_progress()).await);
    covers("from aside", &done("diff", pool.diff(&disk, Some("two"), None).await), &second, &third);
    covers("from below", &done("diff", pool.diff(&disk, Some("one"), None).await), &first, &third);
    bench.gone(&disk).await;
}

async fn of_clone(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(43));
    let parent = bench.put("origin", &bytes).await;
    done("snapshot", pool.snapshot(&parent, "snap").await);
    let disk = bench.name("inherits");
    done("clone", pool.clone_disk(&pool.location(&parent, "snap"), &disk, 12 * MIB).await);
    let mut want = bytes.clone();
    want.resize(12 * MIB as usize, 0);
    let nothing = vec![0; want.len()];
    covers("a clone's inheritance", &done("diff", pool.diff(&disk, None, None).await), &nothing, &want);
    done("snapshot", pool.snapshot(&disk, "born").await);
    // In part over what is inherited, over zeros, and past the parent's end.
    let list = vec![data(100, &[1; 50]), zero(500_000, 200_000), data(4 * MIB, &[2; 512]), data(10 * MIB, &[3; 5_000])];
    let before = want.clone();
    applied(&mut want, &list);
    done("patch of a clone", pool.patch(&disk, changes(list), no_progress()).await);
    bench.holds("a patched clone", &disk, None, 0, &want).await;
    bench.holds("its snapshot", &disk, Some("born"), 0, &before).await;
    bench.holds("its parent", &parent, None, 0, &bytes).await;
    covers("a clone's own", &done("diff", pool.diff(&disk, Some("born"), None).await), &before, &want);
    bench.gone(&disk).await;
    bench.gone(&parent).await;
}

async fn patch(bench: &Bench<'_>) {
    let (pool, mut bytes) = (bench.pool, sample(44));
    let disk = bench.put("patched", &bytes).await;
    let told = Arc::new(AtomicU64::new(0));
    let heard = told.clone();
    let progress: Progress = Arc::new(move |total| heard.store(total, Ordering::SeqCst));
    let list = vec![data(0, &[1; 1]), data(70_000, &[2; 5 << 20]), zero(6 * MIB, MIB), data(8 * MIB, &[3; 9])];
    applied(&mut bytes, &list);
    for _ in 0..2 {
        let written = done("patch, and again", pool.patch(&disk, changes(list.clone()), progress.clone()).await);
        assert_eq!(written, 1 + (5 << 20) + 9, "patch returns the bytes of data");
        bench.holds("a patched disk", &disk, None, 0, &bytes).await;
        // The second time above a snapshot.
        done("snapshot", pool.snapshot(&disk, "snap").await);
    }
    assert!((1..=(5 << 20) + 10).contains(&told.load(Ordering::SeqCst)), "progress of a patch is told");
    assert_eq!(done("patch of nothing", pool.patch(&disk, changes(vec![]), no_progress()).await), 0);
    bench.holds("a disk patched with nothing", &disk, None, 0, &bytes).await;
    let clean = vec![zero(0, bytes.len() as u64)];
    applied(&mut bytes, &clean);
    done("patch with zeros alone", pool.patch(&disk, changes(clean), no_progress()).await);
    bench.holds("a disk of zeros", &disk, None, 0, &bytes).await;
    bench.gone(&disk).await;
}

async fn refused_patches(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(45));
    let disk = bench.put("unpatched", &bytes).await;
    let end = bytes.len() as u64;
    for list in [vec![data(end - 1, &[1, 2])], vec![zero(end, 1)], vec![data(5_000, &[1]), data(4_000, &[1])]] {
        let what = format!("a patch of {list:?}");
        refused(&what, pool.patch(&disk, changes(list), no_progress()).await, Kind::BadRequest);
    }
    let broken = stream::iter([Ok(data(0, &bytes[..512]))])
        .chain(stream::once(async { Err(Error::new(Kind::TooLarge, "The sender thought better of it.")) }));
    let outcome = pool.patch(&disk, Box::pin(broken), no_progress()).await;
    refused("a stream of changes that fails gives its own failure", outcome, Kind::TooLarge);
    let none = pool.patch(&bench.name("none"), changes(vec![data(0, &[1])]), no_progress()).await;
    refused("patch of no disk", none, Kind::NotFound);
    done("patch after refused ones", pool.patch(&disk, changes(vec![data(0, &bytes[..512])]), no_progress()).await);
    bench.gone(&disk).await;
}

async fn usage(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(46));
    let disk = bench.put("used", &bytes).await;
    let fresh = done("usage", pool.usage(&disk).await);
    assert!(fresh.head >= MIB && fresh.snapshots.is_empty(), "a written disk takes room: {fresh:?}");
    done("snapshot", pool.snapshot(&disk, "one").await);
    let usage = done("usage", pool.usage(&disk).await);
    assert_eq!(usage.snapshots.len(), 1);
    assert!(usage.snapshots[0].1 >= MIB, "what was the disk's is its first snapshot's: {usage:?}");
    assert!(usage.head < MIB, "nothing is written beyond the snapshot: {usage:?}");
    done("patch", pool.patch(&disk, changes(vec![data(6 * MIB, &[1; 1 << 20])]), no_progress()).await);
    done("snapshot", pool.snapshot(&disk, "two").await);
    let clone = bench.name("used-clone");
    done("clone", pool.clone_disk(&pool.location(&disk, "two"), &clone, 0).await);
    let usage = done("usage", pool.usage(&disk).await);
    let names: Vec<_> = usage.snapshots.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["one", "two"], "snapshots are told oldest first");
    assert!((MIB..6 * MIB).contains(&usage.snapshots[1].1), "the second has what was written since: {usage:?}");
    let cloned = done("usage of a clone", pool.usage(&clone).await);
    assert!(cloned.head < MIB, "a parent's bytes are not its clone's: {cloned:?}");
    refused("usage of no disk", pool.usage(&bench.name("none")).await, Kind::NotFound);
    bench.gone(&clone).await;
    bench.gone(&disk).await;
}
