//! What a process does that stood still while another one took its work over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;
use umbel_driver::{Pool, WriteOptions};
use umbel_driver_ceph::{CephCluster, CephConfig, CephPool};

use crate::support::{MIB, OwnPool, bytes, conf, eventually, get, put, stream_of, tool};

/// An operation of it is given up after 20 s.
fn process(name: &str) -> Arc<CephCluster> {
    let config = CephConfig::new(conf(), "admin");
    CephCluster::new(CephConfig { process: Some(name.to_owned()), request_timeout: Duration::from_secs(5), ..config })
}

/// Names of processes on the pool's roll.
fn roll(own: &OwnPool) -> Vec<String> {
    let info = tool("rados", &["-p", &own.name, "lock", "info", "umbel_clients", "umbel", "--format", "json"]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let lockers = info["lockers"].as_array().unwrap();
    lockers.iter().map(|locker| locker["cookie"].as_str().unwrap().to_owned()).collect()
}

/// An upload that has begun and waits in the middle until it is let go.
struct Upload {
    go_on: oneshot::Sender<()>,
    outcome: tokio::task::JoinHandle<umbel_core::Result<u64>>,
}

impl Upload {
    async fn begin(pool: CephPool, disk: &'static str) -> Upload {
        let (go_on, told) = oneshot::channel::<()>();
        let (at_half, half) = oneshot::channel::<()>();
        let pause = stream::once(async move {
            at_half.send(()).unwrap();
            told.await.unwrap();
            Ok(Bytes::from_static(b"the rest"))
        });
        let data = stream_of(bytes(8 * MIB, 0)).chain(pause).chain(stream_of(bytes(8 * MIB, 0)));
        let outcome = tokio::spawn(async move { pool.write(disk, Box::pin(data), WriteOptions::default()).await });
        half.await.unwrap();
        Upload { go_on, outcome }
    }

    async fn end(self) -> umbel_core::Result<u64> {
        self.go_on.send(()).unwrap();
        self.outcome.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_over_is_not_touched_by_who_had_it() {
    let own = OwnPool::new("takeover");
    let (one, other) = (process("one"), process("other"));
    let (stands_still, goes_on) = (own.open(&one), own.open(&other));
    let upload = Upload::begin(own.open(&one), "disk").await;

    goes_on.shut_out("one").await.unwrap();
    assert_eq!(roll(&own), ["other"]);
    // Neither its lock nor its watch is in the way.
    goes_on.remove("disk").await.unwrap();
    let new = bytes(10 * MIB, 1);
    goes_on.write("disk", stream_of(new.clone()), WriteOptions::default()).await.unwrap();

    upload.end().await.expect_err("a client that is shut out has written");
    assert!(get(&goes_on, "disk", 0, new.len() as u64).await == new, "the disk of the successor was changed");
    // By a client of its own it is as good as any.
    eventually("it works again", async || stands_still.stat("disk").await.is_ok()).await;
    put(&stands_still, "another", MIB).await;
    assert!(goes_on.stat("another").await.unwrap().is_some());
    let mut both = roll(&own);
    both.sort();
    assert_eq!(both, ["one", "other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_breaks_off_its_own_calls() {
    let own = OwnPool::new("own");
    let cluster = process("own");
    let pool = own.open(&cluster);
    let upload = Upload::begin(own.open(&cluster), "disk").await;

    pool.shut_out("own").await.unwrap();
    pool.remove("disk").await.unwrap();
    put(&pool, "disk", MIB).await;

    upload.end().await.expect_err("a client that is shut out has written");
    assert!(get(&pool, "disk", 0, MIB as u64).await == bytes(MIB, 0), "the new disk was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_has_shuts_out_nobody() {
    let own = OwnPool::new("nobody");
    let pool = own.open(&process("one"));
    let upload = Upload::begin(own.open(&process("two")), "disk").await;
    pool.shut_out("three").await.unwrap();
    upload.end().await.unwrap();
    assert_eq!(pool.stat("disk").await.unwrap().map(|info| info.size), Some(16 * MIB as u64 + 8));
}
