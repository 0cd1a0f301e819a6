//! What is in the cluster afterwards, as Ceph's own tools see it.

use std::time::Duration;

use umbel_driver::{Pool, Removed, WriteOptions, no_progress};
use umbel_driver_ceph::{CephCluster, CephPool};
use uuid::Uuid;

use crate::support::{MIB, OwnPool, admin, bytes, conf, eventually, get, put, stream_of, tool};

#[tokio::test(flavor = "multi_thread")]
async fn images_are_made_as_ceph_makes_them() {
    let own = OwnPool::new("made");
    let pool = own.open(&admin());
    pool.create("blank", 10 << 30).await.unwrap();
    put(&pool, "image", MIB).await;
    pool.snapshot("image", "snap").await.unwrap();
    pool.clone_disk(&pool.location("image", "snap"), "clone", 0).await.unwrap();
    for disk in ["blank", "image", "clone"] {
        let info = tool("rbd", &["info", "--pool", &own.name, disk]);
        let features = "features: layering, exclusive-lock, object-map, fast-diff, deep-flatten";
        assert!(info.contains(features), "{disk}: {info}");
        assert!(info.contains("order 22 (4 MiB objects)"), "{disk}: {info}");
        assert!(info.contains("format: 2\n"), "{disk}: {info}");
    }
    let info = tool("rbd", &["info", "--pool", &own.name, "clone"]);
    assert!(info.contains(&format!("parent: {}/image@snap\n", own.name)), "{info}");
    // Clones of the second form are told by this, and their parents need no protection.
    assert!(info.contains("op_features: clone-child"), "{info}");
    let snapshots = tool("rbd", &["snap", "ls", "--pool", &own.name, "image"]);
    assert!(!snapshots.contains("yes"), "no snapshot is protected: {snapshots}");

    assert_eq!(pool.remove("image").await.unwrap(), Removed::Hidden);
    let info = tool("rbd", &["info", "--pool", &own.name, "clone"]);
    assert!(info.contains(&format!("parent: {}/image@snap (trash ", own.name)), "{info}");
    assert_eq!(pool.remove("clone").await.unwrap(), Removed::Gone);
    assert_eq!(pool.purge().await.unwrap(), ["image"]);
    assert_eq!(tool("rbd", &["trash", "ls", "--pool", &own.name]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_object_is_left_behind() {
    let own = OwnPool::new("left");
    let pool = own.open(&admin());
    put(&pool, "image", 9 * MIB).await;
    pool.snapshot("image", "snap").await.unwrap();
    pool.clone_disk(&pool.location("image", "snap"), "clone", 1 << 30).await.unwrap();
    pool.flatten("clone", no_progress()).await.unwrap();
    pool.snapshot("clone", "one").await.unwrap();
    pool.clone_disk(&pool.location("clone", "one"), "second", 0).await.unwrap();
    assert_eq!(pool.remove("clone").await.unwrap(), Removed::Hidden);
    assert_eq!(pool.remove("image").await.unwrap(), Removed::Gone);
    assert_eq!(pool.remove("second").await.unwrap(), Removed::Gone);
    pool.purge().await.unwrap();
    // Objects under removed snapshots are trimmed by the OSDs in their own time; the pool's directories stay.
    let stay = ["rbd_children", "rbd_directory", "rbd_info", "rbd_trash"];
    eventually("all objects of removed disks are gone", async || {
        tool("rados", &["--pool", &own.name, "ls"]).lines().all(|object| stay.contains(&object))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_are_not_stored() {
    let own = OwnPool::new("zeros");
    let pool = own.open(&admin());
    let mut content = vec![0; 40 * MIB];
    content[17 * MIB] = 1;
    pool.write("sparse", stream_of(content), WriteOptions::default()).await.unwrap();
    let objects = tool("rados", &["--pool", &own.name, "ls"]);
    let data = objects.lines().filter(|object| object.starts_with("rbd_data.")).count();
    assert_eq!(data, 1, "of ten objects nine are zeros:\n{objects}");
}

/// An image whose sender does not tell its size is made with 1 GiB at first.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_outgrow_its_disk() {
    let own = OwnPool::new("grows");
    let pool = own.open(&admin());
    const ZEROS: usize = (1 << 30) + 12_345;
    let mut pieces: Vec<_> = (0..ZEROS / MIB).map(|_| Ok(bytes::Bytes::from_static(&[0; MIB]))).collect();
    pieces.push(Ok(bytes::Bytes::from_static(&[0; ZEROS % MIB])));
    pieces.push(Ok(bytes(5 * MIB, 1).into()));
    let stream = Box::pin(futures_util::stream::iter(pieces));
    let received = pool.write("long", stream, WriteOptions::default()).await.unwrap();
    assert_eq!(received, (ZEROS + 5 * MIB) as u64);
    assert_eq!(pool.stat("long").await.unwrap().unwrap().size, received);
    assert!(get(&pool, "long", ZEROS as u64, 5 * MIB as u64).await == bytes(5 * MIB, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trash_that_is_not_ours_stays() {
    let own = OwnPool::new("trash");
    let pool = own.open(&admin());
    put(&pool, "theirs", 4_096).await;
    tool("rbd", &["trash", "mv", "--pool", &own.name, "theirs"]);
    assert_eq!(pool.purge().await.unwrap(), Vec::<String>::new());
    assert!(tool("rbd", &["trash", "ls", "--pool", &own.name]).contains("theirs"));
}

/// Two hosts look after one pool. Both at one disk, librbd would have one of them wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn two_clients_free_each_disk_once() {
    let own = OwnPool::new("turns");
    let (one, two) = (own.open(&admin()), own.open(&admin()));
    for round in 0..2 {
        let parent = format!("parent-{round}");
        let clones: Vec<String> = (0..3).map(|clone| format!("{parent}-{clone}")).collect();
        one.create(&parent, 8 << 20).await.unwrap();
        one.snapshot(&parent, "snap").await.unwrap();
        for clone in &clones {
            one.clone_disk(&one.location(&parent, "snap"), clone, 0).await.unwrap();
            one.snapshot(clone, "snap").await.unwrap();
            one.clone_disk(&one.location(clone, "snap"), &format!("{clone}-of"), 0).await.unwrap();
        }
        let hidden: Vec<String> = [parent].into_iter().chain(clones.clone()).collect();
        for disk in &hidden {
            assert_eq!(one.remove(disk).await.unwrap(), Removed::Hidden);
        }
        for clone in &clones {
            assert_eq!(one.remove(&format!("{clone}-of")).await.unwrap(), Removed::Gone);
        }
        let all_freed = async |pool: &CephPool| {
            let mut freed = Vec::new();
            while !pool.hidden().await.unwrap().is_empty() {
                freed.extend(pool.purge().await.unwrap());
            }
            freed
        };
        let both = async { tokio::join!(all_freed(&one), all_freed(&two)) };
        let (mut freed, by_two) = tokio::time::timeout(Duration::from_secs(120), both).await.expect("none waits");
        freed.extend(by_two);
        freed.sort();
        assert_eq!(freed, hidden);
    }
}

/// Images of other services have protected snapshots, and clones of the first form.
#[tokio::test(flavor = "multi_thread")]
async fn protected_snapshots_and_old_clones_are_handled() {
    let own = OwnPool::new("old");
    let pool = own.open(&admin());
    put(&pool, "image", MIB).await;
    pool.snapshot("image", "snap").await.unwrap();
    let (image, clone) = (format!("{}/image@snap", own.name), format!("{}/old-clone", own.name));
    tool("rbd", &["snap", "protect", &image]);
    pool.clone_disk(&pool.location("image", "snap"), "new-clone", 0).await.unwrap();
    tool("rbd", &["clone", "--rbd-default-clone-format", "1", &image, &clone]);
    let parent = pool.stat("old-clone").await.unwrap().unwrap().parent;
    assert_eq!(parent, Some(pool.location("image", "snap")));

    // Ceph does not let go of a parent of old clones; it must say so, and the image must stay whole.
    let outcome = pool.remove("image").await;
    if let Err(error) = &outcome {
        assert!(error.is(umbel_core::Kind::Busy), "{}", error.for_log());
    }
    assert!(get(&pool, "old-clone", 0, MIB as u64).await == bytes(MIB, 0));
    assert_eq!(pool.remove("old-clone").await.unwrap(), Removed::Gone);
    assert_eq!(pool.remove("new-clone").await.unwrap(), Removed::Gone);
    if outcome.is_err() {
        assert_eq!(pool.remove("image").await.unwrap(), Removed::Gone, "protected, and without clones");
    } else {
        assert_eq!(pool.purge().await.unwrap(), ["image"]);
    }
}

/// What a server goes through, with the caps that production has and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn profile_rbd_is_enough() {
    let cluster = CephCluster::connect(&conf(), "umbel").await.unwrap();
    let pool = |name: &str| umbel_driver_ceph::CephPool::new(cluster.clone(), name, name);
    let (images, vms) = (pool("images"), pool("vms"));
    let id = Uuid::new_v4().to_string();
    let disk = format!("{id}_disk");
    put(&images, &id, 2 * MIB).await;
    images.snapshot(&id, "snap").await.unwrap();
    let location = images.location(&id, "snap");
    assert_eq!(location.to_string(), format!("rbd://{}/images/{id}/snap", cluster.fsid().await.unwrap()));
    vms.can_clone(&location).await.unwrap();
    vms.clone_disk(&location, &disk, 1 << 30).await.unwrap();
    vms.snapshot(&disk, "before").await.unwrap();
    vms.rollback(&disk, "before").await.unwrap();
    vms.remove_snapshot(&disk, "before").await.unwrap();
    assert_eq!(vms.stat(&disk).await.unwrap().unwrap().parent, Some(location));
    let capacity = vms.capacity().await.unwrap();
    assert!(capacity.free > 0 && capacity.total >= capacity.free, "{capacity:?}");
    assert_eq!(vms.remove(&disk).await.unwrap(), Removed::Gone);
    assert_eq!(images.remove(&id).await.unwrap(), Removed::Gone);
    let findings = cluster.doctor(&["images", "vms", "volumes"]).await;
    assert!(findings.iter().all(|finding| finding.good), "{findings:#?}");
    assert_eq!(findings.len(), 6, "library, cluster, oldest client and three pools: {findings:#?}");
}

/// An image's name is an object and an entry in a directory; librbd changes one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_broke_off_is_ended() {
    let own = OwnPool::new("rename");
    let pool = own.open(&admin());
    put(&pool, "old", MIB).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    tool("rados", &["--pool", &own.name, "get", "rbd_id.old", path]);
    tool("rados", &["--pool", &own.name, "put", "rbd_id.new", path]);
    pool.rename("old", "new").await.unwrap();
    assert_eq!(pool.list().await.unwrap(), ["new"]);
    tool("rados", &["--pool", &own.name, "put", "rbd_id.old", path]);
    pool.rename("old", "new").await.unwrap();
    assert!(pool.stat("old").await.unwrap().is_none(), "the old name is gone");
    assert!(get(&pool, "new", 0, MIB as u64).await == bytes(MIB, 0));
    let limits = umbel_driver::Limits { iops: Some(100), iops_burst: Some(300), ..Default::default() };
    pool.limit("new", &limits).await.unwrap();
    let config = tool("rbd", &["config", "image", "ls", "--pool", &own.name, "new"]);
    let set =
        |key: &str, value: &str| config.lines().any(|line| line.split_whitespace().take(3).eq([key, value, "image"]));
    assert!(set("rbd_qos_iops_limit", "100") && set("rbd_qos_iops_burst", "300"), "{config}");
}
