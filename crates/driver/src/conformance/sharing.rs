//! What clones promise: nothing is copied, nothing is shared that is written, and parents go with their last clone.

use futures_util::future::join_all;
use umbel_core::MIB;

use super::pool::{Bench, sample};
use super::{check, done, refused};
use crate::{Location, Pool, Removed, no_progress};

/// The part of the suite for one pool, whose clones lie in it too.
pub(super) async fn alone(bench: &Bench<'_>) {
    check("clone", clone(bench)).await;
    check("foreign parents", foreign_parents(bench)).await;
    check("clone of a clone", clone_of_clone(bench)).await;
    check("a removed parent", removed_parent(bench)).await;
    check("a removed snapshot", removed_snapshot(bench)).await;
    check("flatten", flatten(bench)).await;
    check("sixteen clones at once", sixteen_clones(bench)).await;
}

/// Runs the promises for a pool of images and a pool of servers' disks that are clones of them. The pools are of one
/// cluster (or one local store).
///
/// # Panics
/// With the promise that is not kept.
pub async fn two_pools(images: &dyn Pool, vms: &dyn Pool) {
    let (images, vms) = (Bench::new(images), Bench::new(vms));
    check("clone into another pool", clone_across(&images, &vms)).await;
    images.nothing_left().await;
    vms.nothing_left().await;
}

/// Runs the promises that show only when someone writes into disks: clones, parents and snapshots do not see each
/// other's writes.
///
/// `guest_writes(disk, offset, bytes)` writes as a guest would, through [`Pool::attachment`]; offset and length are
/// multiples of 512. It returns when the bytes are in the disk and the disk is closed.
///
/// # Panics
/// With the promise that is not kept.
pub async fn pool_under_guest(pool: &dyn Pool, guest_writes: impl AsyncFn(&str, u64, &[u8])) {
    let bench = Bench::new(pool);
    check("writes into clone and parent", isolation(&bench, &guest_writes)).await;
    check("rollback of writes", rollback_of_writes(&bench, &guest_writes)).await;
    check("writes and sizes", writes_and_sizes(&bench, &guest_writes)).await;
    check("flatten of writes", flatten_of_writes(&bench, &guest_writes)).await;
    bench.nothing_left().await;
}

async fn snapped(bench: &Bench<'_>, name: &str, bytes: &[u8]) -> (String, Location) {
    let disk = bench.put(name, bytes).await;
    done("snapshot", bench.pool.snapshot(&disk, "snap").await);
    let location = bench.pool.location(&disk, "snap");
    (disk, location)
}

async fn hidden(bench: &Bench<'_>, disk: &str) {
    let removed = done("remove of a parent", bench.pool.remove(disk).await);
    assert_eq!(removed, Removed::Hidden, "a disk whose clones live is hidden by its removal");
    assert!(!bench.is_there(disk).await, "a hidden disk is out of sight");
}

async fn clone(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(20));
    let length = bytes.len() as u64;
    let (parent, location) = snapped(bench, "parent", &bytes).await;
    assert_eq!(pool.can_clone(&location).await, Ok(()), "a snapshot of this pool can be cloned in it");

    // No size, a smaller size, a larger one, and one far larger than the parent.
    for (name, asked, size) in
        [("as-it-is", 0, length), ("smaller", MIB, length), ("larger", 20 * MIB, 20 * MIB), ("huge", 5 << 40, 5 << 40)]
    {
        let disk = bench.name(name);
        done("clone", pool.clone_disk(&location, &disk, asked).await);
        let info = done("stat", pool.stat(&disk).await).expect("stat finds a clone");
        assert_eq!(info.size, size, "size of a clone asked for with {asked} bytes of a parent of {length}");
        assert_eq!(info.parent.as_ref(), Some(&location), "a clone knows its parent");
        assert_eq!(info.snapshots, Vec::<String>::new(), "a clone has none of its parent's snapshots");
        bench.holds("a clone has its parent's bytes", &disk, None, 0, &bytes).await;
        if size > length {
            let tail = (size - length).min(MIB);
            bench.holds("after the parent's end are zeros", &disk, None, length, &vec![0; tail as usize]).await;
            bench.holds("at the clone's end are zeros", &disk, None, size - tail, &vec![0; tail as usize]).await;
        }
        let again = pool.clone_disk(&location, &disk, 0).await;
        refused("clone of a name that exists", again, umbel_core::Kind::Conflict);
        assert_eq!(bench.size(&disk).await, size, "a refused clone leaves the disk as it is");
        bench.gone(&disk).await;
    }
    assert_eq!(bench.size(&parent).await, length, "clones of other sizes leave the parent's");
    bench.gone(&parent).await;
}

async fn foreign_parents(bench: &Bench<'_>) {
    let pool = bench.pool;
    let (parent, location) = snapped(bench, "at-home", &sample(21)[..65_536]).await;
    let elsewhere = Location { cluster: "00000000-0000-0000-0000-000000000000".into(), ..location.clone() };
    let otherwise = Location { scheme: "http".into(), ..location };
    for foreign in [elsewhere, otherwise] {
        let reason = pool.can_clone(&foreign).await.expect_err("what lies in another store cannot be cloned");
        assert!(reason.split_whitespace().count() > 2, "can_clone gives a reason that a user understands: '{reason}'");
        let disk = bench.name("foreign");
        let outcome = pool.clone_disk(&foreign, &disk, 0).await;
        assert!(outcome.is_err(), "a clone of what lies in another store is refused");
        assert!(!bench.is_there(&disk).await, "a refused clone leaves no disk");
    }
    bench.gone(&parent).await;
}

async fn clone_of_clone(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(22));
    let (first, location) = snapped(bench, "first", &bytes).await;
    let (second, third) = (bench.name("second"), bench.name("third"));
    done("clone", pool.clone_disk(&location, &second, 12 * MIB).await);
    done("snapshot of a clone", pool.snapshot(&second, "inner").await);
    let inner = pool.location(&second, "inner");
    done("clone of a clone", pool.clone_disk(&inner, &third, 14 * MIB).await);
    let info = done("stat", pool.stat(&third).await).expect("stat finds the clone's clone");
    assert_eq!((info.size, info.parent), (14 * MIB, Some(inner)), "a clone's clone knows size and parent");
    let info = done("stat", pool.stat(&second).await).expect("stat finds the clone");
    assert_eq!(info.parent, Some(location), "a clone with a snapshot still knows its parent");

    hidden(bench, &first).await;
    hidden(bench, &second).await;
    bench.holds("both parents hidden, the last clone has its bytes", &third, None, 0, &bytes).await;
    let purged = done("purge", pool.purge().await);
    assert!(!purged.contains(&first) && !purged.contains(&second), "purge spares what a clone needs: {purged:?}");
    bench.holds("purged, the last clone has its bytes", &third, None, 0, &bytes).await;
    bench.gone(&third).await;
    // A parent may need one round more than its clone, which is hidden until the round before.
    let mut purged = done("purge", pool.purge().await);
    purged.extend(done("purge", pool.purge().await));
    assert!(purged.contains(&first) && purged.contains(&second), "purge frees the whole chain: {purged:?}");
}

async fn removed_parent(bench: &Bench<'_>) {
    let (pool, bytes, other) = (bench.pool, sample(23), sample(24));
    let (parent, location) = snapped(bench, "removed", &bytes).await;
    let (one, two) = (bench.name("one"), bench.name("two"));
    done("clone", pool.clone_disk(&location, &one, 0).await);
    done("clone", pool.clone_disk(&location, &two, 0).await);
    hidden(bench, &parent).await;
    assert_eq!(done("remove", pool.remove(&parent).await), Removed::Absent, "a hidden disk is absent to all others");
    let purged = done("purge", pool.purge().await);
    assert!(!purged.contains(&parent), "purge spares a parent with clones");
    refused(
        "clone of a hidden disk",
        pool.clone_disk(&location, &bench.name("late"), 0).await,
        umbel_core::Kind::NotFound,
    );

    // The name is free, and the new disk of that name has nothing to do with the old one.
    let (heir, heirs) = snapped(bench, "removed", &other).await;
    let three = bench.name("three");
    done("clone of the heir", pool.clone_disk(&heirs, &three, 0).await);
    bench.holds("a clone of the old disk", &one, None, 0, &bytes).await;
    bench.holds("a clone of the new disk", &three, None, 0, &other).await;
    bench.gone(&three).await;
    bench.gone(&heir).await;

    bench.gone(&one).await;
    let purged = done("purge", pool.purge().await);
    assert!(!purged.contains(&parent), "purge spares a parent while one clone lives");
    bench.holds("the last clone has its bytes", &two, None, 0, &bytes).await;
    bench.gone(&two).await;
    let purged = done("purge", pool.purge().await);
    assert!(purged.contains(&parent), "purge names '{parent}', whose last clone is gone: {purged:?}");
    let purged = done("purge", pool.purge().await);
    assert!(!purged.contains(&parent), "what is purged is purged once");
}

async fn removed_snapshot(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(25));
    let (parent, location) = snapped(bench, "unsnapped", &bytes).await;
    let disk = bench.name("unsnapped-clone");
    done("clone", pool.clone_disk(&location, &disk, 0).await);
    done("remove_snapshot with a clone", pool.remove_snapshot(&parent, "snap").await);
    assert_eq!(bench.snapshots(&parent).await, Vec::<String>::new(), "the snapshot is out of sight");
    bench.holds("the clone lives on", &disk, None, 0, &bytes).await;
    let late = pool.clone_disk(&location, &bench.name("late"), 0).await;
    refused("clone of a removed snapshot", late, umbel_core::Kind::NotFound);
    hidden(bench, &parent).await;
    bench.holds("the clone lives on without its parent", &disk, None, 0, &bytes).await;
    bench.gone(&disk).await;
    let purged = done("purge", pool.purge().await);
    assert!(purged.contains(&parent), "purge names '{parent}', whose last clone is gone: {purged:?}");
}

async fn flatten(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(26));
    let (parent, location) = snapped(bench, "unflat", &bytes).await;
    let disk = bench.name("flat");
    done("clone", pool.clone_disk(&location, &disk, 16 * MIB).await);
    done("snapshot of a clone", pool.snapshot(&disk, "own").await);
    done("flatten", pool.flatten(&disk, no_progress()).await);
    done("flatten again", pool.flatten(&disk, no_progress()).await);
    done("flatten of what is no clone", pool.flatten(&parent, no_progress()).await);
    let info = done("stat", pool.stat(&disk).await).expect("stat finds a flattened disk");
    assert_eq!((info.size, info.parent), (16 * MIB, None), "a flattened disk has its size and no parent");
    assert_eq!(info.snapshots, ["own"], "a flattened disk has its snapshots");
    bench.gone(&parent).await;
    bench.holds("a flattened disk stands alone", &disk, None, 0, &bytes).await;
    bench.holds("its snapshots stand alone", &disk, Some("own"), 0, &bytes).await;
    bench.gone(&disk).await;
}

async fn sixteen_clones(bench: &Bench<'_>) {
    let (pool, bytes) = (bench.pool, sample(27));
    let (parent, location) = snapped(bench, "crowd", &bytes).await;
    let disks: Vec<_> = (0..16).map(|at| bench.name(&format!("crowd-{at}"))).collect();
    let clones = join_all(disks.iter().map(|disk| pool.clone_disk(&location, disk, 64 * MIB))).await;
    for outcome in clones {
        done("one of sixteen clones at once", outcome);
    }
    for disk in &disks {
        assert_eq!(bench.size(disk).await, 64 * MIB, "size of one of sixteen clones");
        bench.holds("one of sixteen clones", disk, None, 0, &bytes[..100_000]).await;
    }
    hidden(bench, &parent).await;
    let removals = join_all(disks.iter().map(|disk| pool.remove(disk))).await;
    for outcome in removals {
        assert_eq!(done("one of sixteen removals", outcome), Removed::Gone, "a clone without clones goes at once");
    }
    let purged = done("purge", pool.purge().await);
    assert!(purged.contains(&parent), "purge names '{parent}', whose sixteen clones are gone: {purged:?}");
}

async fn clone_across(images: &Bench<'_>, vms: &Bench<'_>) {
    let bytes = sample(28);
    let (image, location) = snapped(images, "image", &bytes).await;
    assert_eq!(vms.pool.can_clone(&location).await, Ok(()), "an image can be cloned into the pool of servers' disks");
    let disk = vms.name("disk");
    done("clone into another pool", vms.pool.clone_disk(&location, &disk, 20 * MIB).await);
    let info = done("stat", vms.pool.stat(&disk).await).expect("stat finds the clone in its pool");
    assert_eq!((info.size, info.parent), (20 * MIB, Some(location)), "the clone knows a parent in another pool");
    assert!(!images.is_there(&disk).await, "the clone is in its own pool only");
    hidden(images, &image).await;
    let purged = done("purge", images.pool.purge().await);
    assert!(!purged.contains(&image), "purge sees clones in other pools");
    vms.holds("the clone has its image's bytes", &disk, None, 0, &bytes).await;
    done("flatten across pools", vms.pool.flatten(&disk, no_progress()).await);
    let purged = done("purge", images.pool.purge().await);
    assert!(purged.contains(&image), "an image goes when its last clone stands alone: {purged:?}");
    vms.holds("the clone has its image's bytes", &disk, None, 0, &bytes).await;
    vms.gone(&disk).await;
}

/// The bytes with `patch` over them, as a disk should read that was written to.
fn patched(bytes: &[u8], offset: u64, patch: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let offset = offset as usize;
    bytes.resize(bytes.len().max(offset + patch.len()), 0);
    bytes[offset..offset + patch.len()].copy_from_slice(patch);
    bytes
}

async fn isolation(bench: &Bench<'_>, guest_writes: &impl AsyncFn(&str, u64, &[u8])) {
    let (pool, bytes) = (bench.pool, sample(30));
    let (parent, location) = snapped(bench, "shared", &bytes).await;
    let (one, two) = (bench.name("shared-one"), bench.name("shared-two"));
    done("clone", pool.clone_disk(&location, &one, 0).await);
    done("clone", pool.clone_disk(&location, &two, 0).await);
    // Over bytes, over zeros, across a border of clusters and objects.
    let (first, second, third): (&[u8], &[u8], &[u8]) = (&[0x11; 4_096], &[0x22; 131_072], &[0x33; 512]);
    guest_writes(&one, 512, first).await;
    guest_writes(&two, 4 * MIB - 65_536, second).await;
    guest_writes(&parent, 8 * MIB, third).await;
    bench.holds("the first clone", &one, None, 0, &patched(&bytes, 512, first)).await;
    bench.holds("the second clone", &two, None, 0, &patched(&bytes, 4 * MIB - 65_536, second)).await;
    bench.holds("the parent", &parent, None, 0, &patched(&bytes, 8 * MIB, third)).await;
    bench.holds("the parent's snapshot", &parent, Some("snap"), 0, &bytes).await;
    let late = bench.name("shared-late");
    done("clone", pool.clone_disk(&location, &late, 0).await);
    bench.holds("a clone made after the writes", &late, None, 0, &bytes).await;
    for disk in [&one, &two, &late, &parent] {
        bench.gone(disk).await;
    }
}

async fn rollback_of_writes(bench: &Bench<'_>, guest_writes: &impl AsyncFn(&str, u64, &[u8])) {
    let (pool, bytes) = (bench.pool, sample(31));
    let disk = bench.put("undo", &bytes).await;
    done("snapshot", pool.snapshot(&disk, "clean").await);
    guest_writes(&disk, MIB, &[0x44; 8_192]).await;
    let dirty = patched(&bytes, MIB, &[0x44; 8_192]);
    bench.holds("a write after a snapshot", &disk, None, 0, &dirty).await;
    bench.holds("a snapshot before a write", &disk, Some("clean"), 0, &bytes).await;
    done("snapshot", pool.snapshot(&disk, "dirty").await);
    guest_writes(&disk, 6 * MIB, &[0x55; 8_192]).await;
    done("rollback", pool.rollback(&disk, "clean").await);
    bench.holds("the disk after rollback", &disk, None, 0, &bytes).await;
    guest_writes(&disk, 3 * MIB, &[0x66; 8_192]).await;
    bench.holds("a write after rollback", &disk, None, 0, &patched(&bytes, 3 * MIB, &[0x66; 8_192])).await;
    bench.holds("the snapshot rolled back to", &disk, Some("clean"), 0, &bytes).await;
    bench.holds("the later snapshot", &disk, Some("dirty"), 0, &dirty).await;
    done("rollback forward", pool.rollback(&disk, "dirty").await);
    bench.holds("the disk after rolling forward", &disk, None, 0, &dirty).await;
    bench.gone(&disk).await;
}

async fn writes_and_sizes(bench: &Bench<'_>, guest_writes: &impl AsyncFn(&str, u64, &[u8])) {
    let (pool, bytes) = (bench.pool, sample(32));
    let (parent, location) = snapped(bench, "sizes", &bytes).await;
    let disk = bench.name("sizes-clone");
    done("clone", pool.clone_disk(&location, &disk, 12 * MIB).await);
    guest_writes(&disk, 11 * MIB, &[0x77; 65_536]).await;
    done("resize", pool.resize(&disk, 40 * MIB).await);
    guest_writes(&disk, 39 * MIB, &[0x78; 65_536]).await;
    let want = patched(&patched(&bytes, 11 * MIB, &[0x77; 65_536]), 39 * MIB, &[0x78; 65_536]);
    bench.holds("writes on both sides of a resize", &disk, None, 0, &want).await;
    let blank = bench.name("sizes-blank");
    done("create", pool.create(&blank, 4 * MIB).await);
    guest_writes(&blank, 2 * MIB, &[0x79; 512]).await;
    let want = patched(&vec![0; 4 * MIB as usize], 2 * MIB, &[0x79; 512]);
    bench.holds("a write into a blank disk", &blank, None, 0, &want).await;
    for disk in [&disk, &blank, &parent] {
        bench.gone(disk).await;
    }
}

async fn flatten_of_writes(bench: &Bench<'_>, guest_writes: &impl AsyncFn(&str, u64, &[u8])) {
    let (pool, bytes) = (bench.pool, sample(33));
    let (parent, location) = snapped(bench, "alone", &bytes).await;
    let disk = bench.name("alone-clone");
    done("clone", pool.clone_disk(&location, &disk, 0).await);
    guest_writes(&disk, 0, &[0x99; 1_024]).await;
    done("snapshot", pool.snapshot(&disk, "own").await);
    let own = patched(&bytes, 0, &[0x99; 1_024]);
    guest_writes(&disk, 2 * MIB, &[0xaa; 1_024]).await;
    done("flatten", pool.flatten(&disk, no_progress()).await);
    bench.gone(&parent).await;
    let want = patched(&own, 2 * MIB, &[0xaa; 1_024]);
    bench.holds("a flattened disk has its own writes", &disk, None, 0, &want).await;
    bench.holds("its snapshots have theirs", &disk, Some("own"), 0, &own).await;
    guest_writes(&disk, 4 * MIB, &[0xbb; 512]).await;
    bench.holds("writes after flatten", &disk, None, 0, &patched(&want, 4 * MIB, &[0xbb; 512])).await;
    bench.gone(&disk).await;
}
