//! Clusters that are down, full, or not what they should be. Every answer comes in bounded time.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use umbel_core::Kind;
use umbel_driver::{Pool, Removed, WriteOptions};
use umbel_driver_ceph::{CephCluster, CephConfig, CephPool};

use crate::support::{MIB, OwnPool, admin, bytes, conf, eventually, get, put, stream_of, tool};

/// A configuration whose monitor is a port where `listener` never says a word, or nobody listens.
fn conf_of(dir: &Path, port: u16) -> PathBuf {
    let text = format!("[global]\nmon host = v1:127.0.0.1:{port}\nauth client required = none\n");
    let path = dir.join("ceph.conf");
    std::fs::write(&path, text).unwrap();
    path
}

fn impatient(conf: PathBuf) -> Arc<CephCluster> {
    let config = CephConfig { connect_timeout: Duration::from_secs(2), ..CephConfig::new(conf, "admin") };
    CephCluster::new(config)
}

fn is_down(kind: Kind) -> bool {
    matches!(kind, Kind::Timeout | Kind::Unavailable)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_monitor_is_answered_for_in_bounded_time() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for port in [silent_port, closed_port] {
        let cluster = impatient(conf_of(dir.path(), port));
        let pool = CephPool::new(cluster.clone(), "vms", "vms");
        let began = Instant::now();
        let error = pool.create("disk", 1).await.unwrap_err();
        assert!(is_down(error.kind()), "{}", error.for_log());
        assert!(!error.message().contains("ceph.conf"), "paths are for the log: {error}");
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
        let reason = pool.can_clone(&pool.location("image", "snap")).await.unwrap_err();
        assert!(reason.contains("is in the Ceph cluster") || reason.contains("cannot be reached"), "{reason}");

        // Many at once wait for one attempt, not one after the other.
        let began = Instant::now();
        for outcome in join_all((0..32).map(|_| pool.stat("disk"))).await {
            assert!(is_down(outcome.unwrap_err().kind()));
        }
        assert!(began.elapsed() < Duration::from_secs(15), "32 callers took {:?}", began.elapsed());
        let findings = cluster.doctor(&["vms"]).await;
        assert!(findings.iter().any(|finding| !finding.good && !finding.mend.is_empty()), "{findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_comes_up_later_is_used_then() {
    let dir = tempfile::tempdir().unwrap();
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = conf_of(dir.path(), closed_port);
    let own = OwnPool::new("later");
    let pool = own.open(&impatient(path.clone()));
    assert!(is_down(pool.list().await.unwrap_err().kind()));
    std::fs::copy(conf(), &path).unwrap();
    assert_eq!(pool.list().await.unwrap(), Vec::<String>::new());
    assert_eq!(pool.location("a", "b").cluster, pool.cluster().fsid().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_configuration_say_what_they_are() {
    let cluster = CephCluster::new(CephConfig::new("/nonexistent/ceph.conf", "admin"));
    let error = CephPool::new(cluster, "vms", "vms").list().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.for_log().contains("/nonexistent/ceph.conf"), "{}", error.for_log());

    let stranger = CephCluster::new(CephConfig::new(conf(), "nobody"));
    let error = CephPool::new(stranger, "vms", "vms").list().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.for_log().contains("client.nobody"), "{}", error.for_log());

    let pool = CephPool::new(admin(), "vms", "no-such-pool");
    let error = pool.stat("disk").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "a missing pool is no missing disk: {}", error.for_log());
    let findings = pool.cluster().doctor(&["no-such-pool"]).await;
    let finding = findings.last().unwrap();
    assert!(!finding.good && finding.mend.contains("ceph osd pool create no-such-pool"), "{findings:#?}");

    // A user without caps for a pool.
    let own = OwnPool::new("caps");
    let pool = own.open(&CephCluster::new(CephConfig::new(conf(), "umbel")));
    let error = pool.create("disk", 1).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{}", error.for_log());
    let findings = pool.cluster().doctor(&[&own.name]).await;
    assert!(!findings.last().unwrap().good, "{findings:#?}");
}

fn is_full(own: &OwnPool) -> bool {
    let pools = tool("ceph", &["osd", "pool", "ls", "detail"]);
    pools.lines().any(|line| line.contains(&own.name) && line.contains("full_quota"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_says_so_within_seconds() {
    let own = OwnPool::new("full");
    let pool = own.open(&admin());
    put(&pool, "image", 6 * MIB).await;
    pool.snapshot("image", "snap").await.unwrap();
    let image = pool.location("image", "snap");
    tool("ceph", &["osd", "pool", "set-quota", &own.name, "max_bytes", "4194304"]);

    // The cluster itself takes seconds to notice, and until then it takes what comes.
    eventually("the quota is noticed", async || is_full(&own)).await;
    for attempt in ["with old figures", "with new figures"] {
        let began = Instant::now();
        let write = pool.write("disk", stream_of(bytes(20 * MIB, 0)), WriteOptions::default()).await;
        let create = pool.create("disk", 1 << 30).await;
        let clone = pool.clone_disk(&image, "disk", 1 << 30).await;
        let outcomes = [("write", write.map(drop)), ("create", create), ("clone", clone)];
        for (what, outcome) in outcomes {
            let error = outcome.expect_err(what);
            eprintln!("{what} {attempt}: {}", error.for_log());
            assert_eq!(error.kind(), Kind::NoSpace, "{what} {attempt}: {}", error.for_log());
            assert!(error.message().contains("full"), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "three refusals took {:?}", began.elapsed());
        assert_eq!(pool.list().await.unwrap(), ["image"], "nothing is left of what was refused");
        // Once the figures have been read for the refusals, they are those that the next round goes by.
        let shown = async || pool.capacity().await.is_ok_and(|capacity| capacity.free == 0);
        eventually("the figures show it", shown).await;
    }
    // Also by a process that is not on its roll yet, for which there is no room either.
    let newcomer =
        CephCluster::new(CephConfig { process: Some("newcomer".to_owned()), ..CephConfig::new(conf(), "admin") });
    let removed = own.open(&newcomer).remove("image").await.unwrap();
    assert_eq!(removed, Removed::Gone, "a full pool can be emptied");
    tool("ceph", &["osd", "pool", "set-quota", &own.name, "max_bytes", "0"]);
    eventually("there is room again", async || pool.create("disk", 1 << 30).await.is_ok()).await;
}

/// A pool in which nothing was ever removed has no trash, and when it is full Ceph 16 answers a removal with "no such image".
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_removal_is_not_taken_for_done() {
    let own = OwnPool::new("refuses");
    let pool = own.open(&admin());
    let image = format!("{}/image", own.name);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes(8 * MIB, 0)).unwrap();
    tool("rbd", &["import", &file.path().to_string_lossy(), &image]);
    tool("ceph", &["osd", "pool", "set-quota", &own.name, "max_bytes", "4194304"]);
    eventually("the quota is noticed", async || is_full(&own)).await;
    let error = pool.remove("image").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{}", error.for_log());
    assert!(pool.stat("image").await.unwrap().is_some());
    tool("ceph", &["osd", "pool", "set-quota", &own.name, "max_bytes", "0"]);
    eventually("there is room again", async || !is_full(&own)).await;
    assert_eq!(pool.remove("image").await.unwrap(), Removed::Gone);
}

/// Ceph 16 makes one without its object map in a full pool, with success, and cannot open it.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_opened_is_not_made() {
    let own = OwnPool::new("unmade");
    let pool = own.open(&admin());
    for disk in ["one", "two"] {
        put(&pool, disk, 4 * MIB).await;
    }
    tool("ceph", &["osd", "pool", "set-quota", &own.name, "max_bytes", "4194304"]);
    eventually("the quota is noticed", async || is_full(&own)).await;
    let refused = async |made: umbel_core::Result<()>| {
        let error = made.unwrap_err();
        assert_eq!(error.kind(), Kind::NoSpace, "{}", error.for_log());
        for disk in ["one", "two"] {
            assert_eq!(pool.stat(disk).await.unwrap().unwrap().snapshots, [""; 0], "{}", error.for_log());
        }
    };
    refused(pool.snapshot("one", "snap").await).await;
    refused(pool.snapshot_together(&[("one", "snap"), ("two", "snap")]).await).await;
    tool("ceph", &["osd", "pool", "set-quota", &own.name, "max_bytes", "0"]);
    eventually("there is room again", async || !is_full(&own)).await;
    pool.snapshot("one", "snap").await.unwrap();
    assert!(pool.read("one", Some("snap"), 0, 1).await.is_ok());
}

/// As it is left by a client that is killed between writing a snapshot down and making its object map.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_broke_off_is_made_again() {
    let own = OwnPool::new("brokeoff");
    let pool = own.open(&admin());
    let disks = [("one", "snap"), ("two", "snap")];
    let break_off = async || {
        for (disk, snapshot) in disks {
            let image = format!("{}/{disk}", own.name);
            let json = |args: &[&str]| serde_json::from_str::<serde_json::Value>(&tool("rbd", args)).unwrap();
            let id = json(&["info", &image, "--format", "json"])["id"].as_str().unwrap().to_owned();
            let number = json(&["snap", "ls", &image, "--format", "json"])[0]["id"].as_u64().unwrap();
            tool("rados", &["-p", &own.name, "rm", &format!("rbd_object_map.{id}.{number:016x}")]);
            assert!(pool.read(disk, Some(snapshot), 0, 1).await.is_err(), "it would be of use");
        }
    };
    for (disk, snapshot) in disks {
        put(&pool, disk, MIB).await;
        pool.snapshot(disk, snapshot).await.unwrap();
    }
    break_off().await;
    for (disk, snapshot) in disks {
        pool.snapshot(disk, snapshot).await.unwrap();
        assert!(get_at(&pool, disk, snapshot).await == bytes(MIB, 0));
    }
    break_off().await;
    pool.snapshot_together(&disks).await.unwrap();
    for (disk, snapshot) in disks {
        assert!(get_at(&pool, disk, snapshot).await == bytes(MIB, 0));
        pool.remove_snapshot(disk, snapshot).await.unwrap();
    }
}

/// As it is left by a client that is killed while it makes an image.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_broke_off_is_made_again() {
    let own = OwnPool::new("begun");
    let pool = own.open(&admin());
    let rados = |args: &[&str]| tool("rados", &[&["-p", own.name.as_str()], args].concat());
    let id = |disk: &str| {
        let info = tool("rbd", &["info", &format!("{}/{disk}", own.name), "--format", "json"]);
        serde_json::from_str::<serde_json::Value>(&info).unwrap()["id"].as_str().unwrap().to_owned()
    };
    put(&pool, "image", MIB).await;
    pool.snapshot("image", "snap").await.unwrap();
    let parent = pool.location("image", "snap");
    // A name without an image.
    for listed in [true, false] {
        for disk in ["made", "cloned", "written"] {
            pool.create(disk, 1 << 20).await.unwrap();
            let id = id(disk);
            rados(&["rm", &format!("rbd_header.{id}")]);
            if !listed {
                rados(&["rmomapkey", "rbd_directory", &format!("name_{disk}")]);
                rados(&["rmomapkey", "rbd_directory", &format!("id_{id}")]);
            }
            assert!(pool.stat(disk).await.unwrap().is_none());
        }
        let (made, cloned, written) = tokio::join!(
            pool.create("made", 1 << 20),
            pool.clone_disk(&parent, "cloned", 1 << 24),
            pool.write("written", stream_of(bytes(MIB, 1)), WriteOptions::default()),
        );
        made.unwrap();
        cloned.unwrap();
        written.unwrap();
        assert!(get(&pool, "cloned", 0, MIB as u64).await == bytes(MIB, 0));
        for disk in ["made", "cloned", "written"] {
            assert_eq!(pool.remove(disk).await.unwrap(), Removed::Gone);
        }
    }
    // A clone that has no parent yet.
    pool.create("cloned", MIB as u64).await.unwrap();
    pool.clone_disk(&parent, "cloned", 0).await.unwrap();
    assert_eq!(pool.children("image", "snap").await.unwrap().len(), 1);
    // What is whole stays.
    put(&pool, "kept", MIB).await;
    for disk in ["cloned", "kept"] {
        assert_eq!(pool.clone_disk(&parent, disk, 0).await.unwrap_err().kind(), Kind::Conflict);
        assert_eq!(pool.create(disk, 1).await.unwrap_err().kind(), Kind::Conflict);
        assert!(get(&pool, disk, 0, MIB as u64).await == bytes(MIB, 0));
    }
}

/// librbd never comes back from opening such a clone. It costs whoever opens it, and nobody else.
#[test]
fn a_clone_whose_parents_pool_is_gone_takes_no_turn_for_good() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(open_an_orphan());
    // Its end would wait for the calls that hang.
    runtime.shutdown_background();
}

async fn open_an_orphan() {
    let own = OwnPool::new("orphan");
    {
        let pool = own.open(&admin());
        put(&pool, "disk", MIB).await;
        let other = OwnPool::new("parents");
        let parents = other.open(&admin());
        put(&parents, "image", MIB).await;
        parents.snapshot("image", "snap").await.unwrap();
        pool.clone_disk(&parents.location("image", "snap"), "orphan", 0).await.unwrap();
    }
    // A client that has never heard of the parent's pool.
    let request_timeout = Duration::from_secs(2);
    let config = CephConfig { request_timeout, parallel: 2, ..CephConfig::new(conf(), "admin") };
    let pool = own.open(&CephCluster::new(config));
    for _ in 0..3 {
        // Two at a time: each takes the last turn there is.
        for outcome in join_all([pool.stat("orphan"), pool.stat("orphan")]).await {
            assert_eq!(outcome.unwrap_err().kind(), Kind::Timeout);
        }
        let others = async || pool.stat("disk").await.is_ok_and(|info| info.is_some());
        eventually("other disks are at hand", others).await;
    }
}

async fn get_at(pool: &dyn Pool, disk: &str, snapshot: &str) -> Vec<u8> {
    let pieces = pool.read(disk, Some(snapshot), 0, MIB as u64).await.unwrap();
    pieces.map(|piece| piece.unwrap().to_vec()).concat().await
}

/// The quota is met in the middle: a disk is begun, and must go.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_stops_where_the_pool_ends() {
    let own = OwnPool::new("ends");
    let pool = own.open(&admin());
    tool("ceph", &["osd", "pool", "set-quota", &own.name, "max_bytes", "16777216"]);
    let known = async || pool.capacity().await.is_ok_and(|capacity| capacity.total == 16 << 20);
    eventually("the quota is known", known).await;
    let began = Instant::now();
    let error = pool.write("disk", stream_of(bytes(64 * MIB, 0)), WriteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{}", error.for_log());
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    assert_eq!(pool.list().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_open_elsewhere_is_busy() {
    let own = OwnPool::new("busy");
    let pool = own.open(&admin());
    pool.create("disk", 1 << 20).await.unwrap();
    let target = format!("{}/disk", own.name);
    // `rbd watch` holds the image open as a hypervisor does.
    let mut watcher = std::process::Command::new("rbd")
        .arg("-c")
        .arg(conf())
        .args(["watch", &target])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("somebody watches", async || tool("rbd", &["status", &target]).contains("watcher=")).await;
    let error = pool.remove("disk").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy, "{}", error.for_log());
    assert!(pool.stat("disk").await.unwrap().is_some(), "a refused removal leaves the disk");
    // It ends with its input.
    drop(watcher.stdin.take());
    assert!(watcher.wait().unwrap().success());
    assert_eq!(pool.remove("disk").await.unwrap(), Removed::Gone);
}
