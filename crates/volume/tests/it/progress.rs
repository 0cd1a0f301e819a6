//! How far work is, while it is done.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use umbel_core::{MIB, SystemRng};
use umbel_db::{Engine, read};
use umbel_driver::{Change, LocalPool, LocalStore, Mode, Pool, Simulation, no_progress};
use umbel_volume::{Config, store};

use crate::cloud::{Cloud, eventually};
use crate::held::HeldPool;

/// A pool of files copies 64 MiB of data at a time.
const PART: u64 = 64 * MIB;

/// Writes a part at each of these places of a volume's disk.
async fn write_parts(cloud: &Cloud, volume: &str, places: &[u64]) {
    let mib = Bytes::from(vec![0x5a; MIB as usize]);
    let parts = places.iter().flat_map(|at| (0..PART).step_by(MIB as usize).map(move |more| at + more));
    let changes: Vec<_> = parts.map(|offset| Ok(Change::Data { offset, bytes: mib.clone() })).collect();
    let changes = Box::pin(futures_util::stream::iter(changes));
    cloud.pool.patch(&format!("volume-{volume}"), changes, no_progress()).await.unwrap();
}

/// What `umbel storage progress` prints of the volume: the workflow, and its percent.
async fn running(cloud: &Cloud, volume: &str) -> Option<(String, Option<u64>)> {
    let all = read!(cloud.db, "look at what runs", |tx| store::audit::running(tx, 10).await).unwrap();
    all.into_iter().find(|one| one.id == volume).map(|one| (one.what, one.percent))
}

/// Its percent rises with what is copied, in the API and in what operators see, and nothing is left of it in the end. The
/// pool is held after each part, so that each can be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flattening_is_seen_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let files = LocalStore::open(dir.path(), &SystemRng::new()).await.unwrap();
    let pool = async |name: &str| Arc::new(LocalPool::open(&files, name, name).await.unwrap()) as Arc<dyn Pool>;
    let held = HeldPool::new(pool("fast").await);
    let pools = [held.clone() as Arc<dyn Pool>, pool("slow").await, pool("images").await];
    let config = Config { max_clone_depth: 1, ..Config::default() };
    let cloud = Cloud::over(Engine::Sqlite, config, Simulation::new(Mode::default()), pools).await;
    let token = cloud.member("p");
    let source = cloud.volume(&token, json!({"size": 1})).await;
    write_parts(&cloud, &source, &[0, 512 * MIB]).await;
    let clone = cloud.volume(&token, json!({"source_volid": source})).await;

    held.flattened.shut();
    let deep = cloud.begin(&token, json!({"source_volid": clone})).await;
    let looking = async {
        // The end of each part of data, and then the disk's, which is not the end of the work.
        for (done, percent) in [(PART, 6), (512 * MIB + PART, 56), (1024 * MIB, 99)] {
            assert_eq!(held.flattened.reached().await, done);
            let want = json!({"umbel:progress": format!("{percent}%")});
            eventually(&format!("{percent}% is told"), async || cloud.show(&deep).await["metadata"] == want).await;
            assert_eq!(cloud.show(&deep).await["status"], "available", "it is used meanwhile like any other");
            assert_eq!(running(&cloud, &deep).await, Some(("volume_flatten".to_owned(), Some(percent))));
            held.flattened.let_on();
        }
    };
    tokio::join!(cloud.work(), looking);
    assert_eq!((&cloud.show(&deep).await["metadata"], running(&cloud, &deep).await), (&json!({}), None));
    let stat = async |volume: &str| cloud.pool.stat(&format!("volume-{volume}")).await.unwrap().unwrap();
    assert!(stat(&deep).await.parent.is_none() && stat(&clone).await.parent.is_some());
    let disk = format!("volume-{deep}");
    let copied = crate::cloud::read(&*cloud.pool, &disk, 65 * MIB as usize).await;
    assert!(
        copied[..PART as usize].iter().all(|byte| *byte == 0x5a)
            && copied[PART as usize..].iter().all(|byte| *byte == 0)
    );
}
