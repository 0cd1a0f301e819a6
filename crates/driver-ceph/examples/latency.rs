//! What the operations of a pool cost on a given cluster, in milliseconds. `docs/ceph.md` says how to read it.
//!
//!     cargo run --release -p umbel-driver-ceph --example latency -- /etc/ceph/ceph.conf umbel vms
//!
//! Writes to the pool under names of its own, and removes them again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use umbel_core::{Error, MIB, Result};
use umbel_driver::{Pool, WriteOptions};
use umbel_driver_ceph::{CephCluster, CephPool};

const ROUNDS: usize = 20;
const CROWD: usize = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = || Error::bad_request("use: latency CONF [USER [POOL]]");
    let conf = PathBuf::from(args.next().ok_or_else(usage)?);
    let user = args.next().unwrap_or_else(|| "umbel".to_owned());
    let pool = args.next().unwrap_or_else(|| "vms".to_owned());
    let outcome = measure(&conf, &user, &pool).await;
    outcome.inspect_err(|error| eprintln!("{}", error.for_log()))
}

async fn measure(conf: &Path, user: &str, pool: &str) -> Result<()> {
    println!("{:<40} {:>8} {:>8} {:>8}", "", "median", "min", "max");
    let mut connects = Times::default();
    for _ in 0..ROUNDS {
        connects.time(CephCluster::connect(conf, user)).await?;
    }
    connects.print("connect");
    let pool = CephPool::new(CephCluster::connect(conf, user).await?, pool, pool);
    let prefix = format!("latency-{}", std::process::id());
    let image = format!("{prefix}-image");
    one_by_one(&pool, &prefix, &image).await?;
    crowd(&pool, &prefix, &image).await?;
    pool.remove(&image).await?;
    pool.purge().await?;
    Ok(())
}

async fn one_by_one(pool: &CephPool, prefix: &str, image: &str) -> Result<()> {
    let began = Instant::now();
    pool.write(image, noise(64), WriteOptions::default()).await?;
    print_once("write 64 MiB", began.elapsed());
    let began = Instant::now();
    let mut bytes = pool.read(image, None, 0, 64 * MIB).await?;
    while let Some(piece) = bytes.next().await {
        piece?;
    }
    print_once("read 64 MiB", began.elapsed());

    pool.snapshot(image, "snap").await?;
    let parent = pool.location(image, "snap");
    let mut times: [Times; 9] = Default::default();
    let [create, clone, grown, stat, resize, snapshot, unsnap, remove, list] = &mut times;
    for round in 0..ROUNDS {
        let (blank, disk, large) =
            (format!("{prefix}-{round}"), format!("{prefix}-{round}_disk"), format!("{prefix}-{round}_large"));
        create.time(pool.create(&blank, 1 << 30)).await?;
        clone.time(pool.clone_disk(&parent, &disk, 0)).await?;
        grown.time(pool.clone_disk(&parent, &large, 10 << 30)).await?;
        stat.time(pool.stat(&disk)).await?;
        resize.time(pool.resize(&disk, 10 << 30)).await?;
        snapshot.time(pool.snapshot(&disk, "s")).await?;
        unsnap.time(pool.remove_snapshot(&disk, "s")).await?;
        list.time(pool.list()).await?;
        remove.time(pool.remove(&disk)).await?;
        pool.remove(&large).await?;
        pool.remove(&blank).await?;
    }
    let names = [
        "create 1 GiB",
        "clone",
        "clone, grown to 10 GiB",
        "stat of a clone",
        "resize to 10 GiB",
        "snapshot",
        "remove_snapshot",
        "remove a clone of 10 GiB",
        "list",
    ];
    for (name, times) in names.iter().zip(times) {
        times.print(name);
    }
    Ok(())
}

async fn crowd(pool: &CephPool, prefix: &str, image: &str) -> Result<()> {
    let parent = pool.location(image, "snap");
    let names: Vec<_> = (0..CROWD).map(|at| format!("{prefix}-crowd-{at}")).collect();
    let began = Instant::now();
    let clones = stream::iter(&names).map(|name| pool.clone_disk(&parent, name, 2 << 30)).buffer_unordered(CROWD);
    let failed = clones.filter_map(async |outcome| outcome.err()).collect::<Vec<_>>().await;
    print_rate(&format!("{CROWD} clones at once, grown to 2 GiB"), began.elapsed(), failed.len());
    let began = Instant::now();
    let removals = stream::iter(&names).map(|name| pool.remove(name)).buffer_unordered(CROWD);
    let failed = removals.filter_map(async |outcome| outcome.err()).collect::<Vec<_>>().await;
    print_rate(&format!("{CROWD} removals at once"), began.elapsed(), failed.len());
    Ok(())
}

/// Bytes that no storage can leave out or compress.
fn noise(mebibytes: usize) -> umbel_driver::ByteStream {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(MIB as usize);
    while block.len() < MIB as usize {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        block.extend_from_slice(&state.to_be_bytes());
    }
    let block = Bytes::from(block);
    Box::pin(stream::iter((0..mebibytes).map(move |_| Ok(block.clone()))))
}

#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    async fn time<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let outcome = work.await?;
        self.0.push(began.elapsed());
        Ok(outcome)
    }

    fn print(mut self, name: &str) {
        self.0.sort_unstable();
        let ms = |at: usize| self.0.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        println!("{name:<40} {:>8.1} {:>8.1} {:>8.1}", ms(self.0.len() / 2), ms(0), ms(self.0.len().saturating_sub(1)));
    }
}

fn print_once(name: &str, took: Duration) {
    println!("{name:<40} {:>8.1}", took.as_secs_f64() * 1e3);
}

fn print_rate(name: &str, took: Duration, failed: usize) {
    let seconds = took.as_secs_f64();
    println!("{name:<40} {:>8.1}   {:.0}/s, {failed} failed", seconds * 1e3, CROWD as f64 / seconds);
}
