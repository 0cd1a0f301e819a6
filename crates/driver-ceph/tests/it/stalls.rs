//! What befalls a whole cluster, on a cluster of its own: OSDs that hang, monitors that die, clients that are fenced.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use umbel_core::{Kind, Result};
use umbel_driver::{Pool, Removed, WriteOptions};
use umbel_driver_ceph::{CephCluster, CephConfig, CephPool};

use crate::support::{MIB, bytes, eventually, get, put, stream_of};

/// How long one request may take here, and how long an operation of several of them may.
const REQUEST: Duration = Duration::from_secs(3);
const OPERATION: Duration = Duration::from_secs(25);

struct OwnCluster {
    dir: tempfile::TempDir,
}

impl OwnCluster {
    fn up() -> Self {
        let cluster = OwnCluster { dir: tempfile::tempdir().unwrap() };
        cluster.script("ceph-up.sh");
        cluster
    }

    fn script(&self, name: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name);
        let output = Command::new(&script).arg(self.dir.path()).env("OSD_SIZE_GIB", "4").output().unwrap();
        assert!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("ceph.conf")
    }

    fn ceph(&self, args: &[&str]) {
        let output = Command::new("ceph").arg("-c").arg(self.conf()).args(args).output().unwrap();
        assert!(output.status.success(), "ceph {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn signal(&self, daemon: &str, signal: &str) {
        self::signal(self.pid(daemon), signal);
    }

    fn pid(&self, daemon: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("run").join(format!("{daemon}.pid"))).unwrap()
    }

    fn connect(&self) -> Arc<CephCluster> {
        let config = CephConfig { connect_timeout: REQUEST, request_timeout: REQUEST, ..self.config() };
        CephCluster::new(config)
    }

    fn config(&self) -> CephConfig {
        CephConfig::new(self.conf(), "umbel")
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        // A daemon that is stopped does not end when it is told to.
        for daemon in ["osd", "mon"] {
            if self.dir.path().join("run").join(format!("{daemon}.pid")).exists() {
                self.signal(daemon, "-CONT");
            }
        }
        self.script("ceph-down.sh");
    }
}

fn signal(pid: String, signal: &str) {
    assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
}

async fn gives_up<T>(what: &str, work: impl Future<Output = Result<T>>) {
    let began = Instant::now();
    let outcome = tokio::time::timeout(Duration::from_secs(120), work).await;
    let took = began.elapsed();
    let Ok(outcome) = outcome else { panic!("{what} waits without end") };
    let Err(error) = outcome else { panic!("{what} has succeeded without a cluster") };
    eprintln!("{what}: {took:.1?}: {}", error.for_log());
    assert!(matches!(error.kind(), Kind::Timeout | Kind::Unavailable), "{what}: {}", error.for_log());
    assert!(took < OPERATION, "{what} took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_without_end_and_everything_comes_back() {
    let own = OwnCluster::up();
    let pool = CephPool::new(own.connect(), "vms", "vms");
    put(&pool, "image", MIB).await;
    pool.snapshot("image", "snap").await.unwrap();
    pool.create("disk", 1 << 30).await.unwrap();

    // The OSD hangs in the middle of an upload, then for all that follows.
    let own_osd = own.pid("osd");
    let hang = stream::once(async move {
        signal(own_osd, "-STOP");
        Ok(Bytes::from_static(b"the rest"))
    });
    let data = stream_of(bytes(10 * MIB, 0)).chain(hang).chain(stream_of(bytes(20 * MIB, 0)));
    gives_up("write that was begun", pool.write("begun", Box::pin(data), WriteOptions::default())).await;
    every_operation_gives_up(&pool).await;
    own.signal("osd", "-CONT");
    comes_back(&pool, "an OSD that goes on").await;

    own.signal("mon", "-STOP");
    gives_up("snapshot without a monitor", pool.snapshot("disk", "unseen")).await;
    own.signal("mon", "-CONT");
    comes_back(&pool, "a monitor that goes on").await;

    own.ceph(&["osd", "blocklist", "add", "127.0.0.1:0/0"]);
    eventually("a fenced client is told so", async || pool.create("fenced", 1).await.is_err()).await;
    own.ceph(&["osd", "blocklist", "rm", "127.0.0.1:0/0"]);
    comes_back(&pool, "a client that was fenced").await;

    own.script("ceph-down.sh");
    let fresh = CephPool::new(own.connect(), "vms", "vms");
    gives_up("list of a cluster that is down", fresh.list()).await;
    own.script("ceph-up.sh");
    comes_back(&fresh, "a cluster that was down at first").await;
    comes_back(&pool, "a cluster that was restarted").await;
}

async fn every_operation_gives_up(pool: &CephPool) {
    let image = pool.location("image", "snap");
    let written = pool.write("written", stream_of(bytes(20 * MIB, 0)), WriteOptions::default());
    tokio::join!(
        gives_up("list", pool.list()),
        gives_up("stat", pool.stat("disk")),
        gives_up("create", pool.create("created", 1 << 20)),
        gives_up("write", written),
        gives_up("read", pool.read("image", None, 0, 1)),
        gives_up("clone", pool.clone_disk(&image, "cloned", 1 << 30)),
        gives_up("snapshot", pool.snapshot("disk", "unseen")),
        gives_up("resize", pool.resize("disk", 2 << 30)),
        gives_up("remove", pool.remove("disk")),
        gives_up("purge", pool.purge()),
    );
    assert!(pool.can_clone(&image).await.is_err());
}

/// What was broken off may have been done or not; it can be done again, and undone.
async fn comes_back(pool: &CephPool, what: &str) {
    let image = pool.location("image", "snap");
    eventually(what, async || pool.stat("image").await.is_ok_and(|info| info.is_some())).await;
    for disk in ["begun", "created", "written", "cloned"] {
        eventually(what, async || pool.remove(disk).await.is_ok()).await;
    }
    eventually(what, async || pool.clone_disk(&image, "cloned", 1 << 30).await.is_ok()).await;
    assert!(get(pool, "cloned", 0, MIB as u64).await == bytes(MIB, 0), "{what}");
    pool.snapshot("cloned", "again").await.unwrap();
    assert_eq!(pool.remove("cloned").await.unwrap(), Removed::Gone);
}
