use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use umbel_driver::{ByteStream, Pool, WriteOptions};
use umbel_driver_ceph::{CephCluster, CephConfig, CephPool};
use uuid::Uuid;

pub const MIB: usize = 1 << 20;

pub fn conf() -> PathBuf {
    match std::env::var_os("UMBEL_TEST_CEPH_CONF") {
        Some(conf) => conf.into(),
        None => panic!(
            "UMBEL_TEST_CEPH_CONF is not set. Run: make ceph-up DIR=/tmp/ceph; export UMBEL_TEST_CEPH_CONF=/tmp/ceph/ceph.conf"
        ),
    }
}

/// Runs `ceph` or `rbd` as an administrator, and returns what it prints.
pub fn tool(name: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = try_tool(name, args);
    let error = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{name} {args:?}: {error}");
    String::from_utf8(stdout).unwrap()
}

fn try_tool(name: &str, args: &[&str]) -> Output {
    Command::new(name).arg("-c").arg(conf()).args(args).output().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A pool for one test; gone with all it holds when the test ends, however it ends.
pub struct OwnPool {
    pub name: String,
}

impl OwnPool {
    pub fn new(purpose: &str) -> Self {
        let name = format!("test-{purpose}-{}", Uuid::new_v4().simple());
        tool("ceph", &["osd", "pool", "create", &name, "4"]);
        tool("ceph", &["osd", "pool", "application", "enable", &name, "rbd"]);
        OwnPool { name }
    }

    pub fn open(&self, cluster: &Arc<CephCluster>) -> CephPool {
        CephPool::new(cluster.clone(), "tier", self.name.as_str())
    }
}

impl Drop for OwnPool {
    fn drop(&mut self) {
        try_tool("ceph", &["osd", "pool", "delete", &self.name, &self.name, "--yes-i-really-really-mean-it"]);
    }
}

pub fn admin() -> Arc<CephCluster> {
    CephCluster::new(CephConfig::new(conf(), "admin"))
}

pub fn bytes(length: usize, seed: u8) -> Vec<u8> {
    // No zeros, and no two objects alike.
    (0..length).map(|at| ((at / 4_096 + at) % 251) as u8 + 1 + seed % 4).collect()
}

pub fn stream_of(bytes: Vec<u8>) -> ByteStream {
    Box::pin(stream::iter(Bytes::from(bytes).chunks(65_536).map(Bytes::copy_from_slice).map(Ok).collect::<Vec<_>>()))
}

pub async fn put(pool: &dyn Pool, disk: &str, length: usize) {
    pool.write(disk, stream_of(bytes(length, 0)), WriteOptions::default()).await.unwrap();
}

pub async fn get(pool: &dyn Pool, disk: &str, offset: u64, length: u64) -> Vec<u8> {
    let mut stream = pool.read(disk, None, offset, length).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece.unwrap());
    }
    all
}

/// Asks again until it says yes.
pub async fn eventually(promise: &str, what: impl AsyncFn() -> bool) {
    let asked = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap_or_else(|_| panic!("{promise}: not within 60 s"));
}
