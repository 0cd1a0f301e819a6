//! A process that is killed at any change it makes to a pool, whatever it was asked for: what was answered holds, what
//! was not is as it was or done, and rows and pools say the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use umbel_db::read;
use umbel_driver::{Mode, Pool, SimulatedPool, Waiting, WriteOptions};
use umbel_http::Body;
use umbel_image::{SNAPSHOT, store::audit};
use umbel_workflow::RunnerConfig;

use crate::cloud::{Cloud, eventually, file, image, noise, send};
use crate::web::{found, site, trusting};

/// What is asked for, of an image that is prepared for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Upload,
    UploadForeign,
    Stage,
    Import,
    ImportToAll,
    FromTheWeb,
    CopyToAll,
    Location,
    Delete,
    DeleteCloned,
    Discard,
}

const ALL: [Ask; 11] = [
    Ask::Upload,
    Ask::UploadForeign,
    Ask::Stage,
    Ask::Import,
    Ask::ImportToAll,
    Ask::FromTheWeb,
    Ask::CopyToAll,
    Ask::Location,
    Ask::Delete,
    Ask::DeleteCloned,
    Ask::Discard,
];

/// The request, and what the image is once all of it is done.
struct Asked {
    id: String,
    token: String,
    method: &'static str,
    path: String,
    body: Vec<u8>,
    json: bool,
    done: &'static str,
    bytes: Vec<u8>,
}

async fn prepare(cloud: &Cloud, ask: Ask, root: &str) -> Asked {
    let token = cloud.member("p");
    let bytes = noise(1, 30_000);
    let has_data = matches!(ask, Ask::CopyToAll | Ask::Delete | Ask::DeleteCloned | Ask::Discard);
    let format = if ask == Ask::UploadForeign { "qcow2" } else { "raw" };
    let id = match has_data {
        true => cloud.active(&token, &bytes).await,
        false => cloud.queued(&token, format).await,
    };
    let import = |body: Value| (format!("{}/import", image(&id)), body);
    let both = |name: &str| json!({"method": {"name": name}, "all_stores": true});
    let mut asked = Asked {
        id: id.clone(),
        token,
        method: "POST",
        path: file(&id),
        body: bytes.clone(),
        json: true,
        done: "active",
        bytes,
    };
    let mut text = None;
    match ask {
        Ask::Upload => (asked.method, asked.json) = ("PUT", false),
        Ask::UploadForeign => {
            (asked.method, asked.json) = ("PUT", false);
            asked.bytes = crate::twins::qcow2();
            asked.body = asked.bytes.clone();
        }
        Ask::Stage => {
            (asked.method, asked.json, asked.done) = ("PUT", false, "uploading");
            asked.path = format!("{}/stage", image(&id));
        }
        Ask::Import | Ask::ImportToAll => {
            cloud.stage(&asked.token, &id, &asked.bytes).await.expect(204);
            let one = json!({"method": {"name": "glance-direct"}});
            text = Some(import(if ask == Ask::Import { one } else { both("glance-direct") }));
        }
        Ask::FromTheWeb => text = Some(import(json!({"method": {"name": "web-download", "uri": root}}))),
        Ask::CopyToAll => {
            asked.token = cloud.admin();
            text = Some(import(both("copy-image")));
        }
        Ask::Location => {
            asked.token = cloud.service();
            let pool = SimulatedPool::new(&cloud.world, "vms");
            let stream = Box::pin(futures_util::stream::iter([Ok(bytes::Bytes::copy_from_slice(&asked.bytes))]));
            pool.write("disk", stream, WriteOptions::default()).await.unwrap();
            pool.snapshot("disk", "now").await.unwrap();
            let url = pool.location("disk", "now").to_string();
            text = Some((format!("{}/locations", image(&id)), json!({ "url": url })));
        }
        Ask::Delete | Ask::DeleteCloned => {
            (asked.method, asked.path, asked.body, asked.done) = ("DELETE", image(&id), Vec::new(), "gone");
            if ask == Ask::DeleteCloned {
                let parent = cloud.pool.location(&id, SNAPSHOT);
                SimulatedPool::new(&cloud.world, "vms").clone_disk(&parent, "server", 0).await.unwrap();
            }
        }
        Ask::Discard => {
            cloud.import(&cloud.admin(), &id, both("copy-image")).await.expect(202);
            cloud.work().await;
            (asked.method, asked.body) = ("DELETE", Vec::new());
            asked.path = format!("/image/v2/stores/slow/{id}");
        }
    }
    if let Some((path, body)) = text {
        (asked.path, asked.body) = (path, body.to_string().into_bytes());
    }
    asked
}

/// Asks a process of its own, which does all the work that follows too, on a runtime that is torn down when it is about
/// to change a pool for the nth time; where that was, and what was answered by then.
fn killed_at(cloud: &Cloud, asked: &Asked, nth: usize) -> (Option<Waiting>, Option<u16>) {
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (images, router) = doomed.block_on(cloud.another());
    let answer = Arc::new(Mutex::new(None));
    cloud.world.set_mode(Mode::Stepped);
    let (token, path, body) = (asked.token.clone(), asked.path.clone(), asked.body.clone());
    let (method, kind) = (asked.method, if asked.json { "application/json" } else { "application/octet-stream" });
    let (heard, clock) = (answer.clone(), cloud.clock.clone());
    let life = async move {
        let headers = [("x-auth-token", token.as_str()), ("content-type", kind)];
        let status = send(&router, method, &path, &headers, Body::from(body)).await.status;
        *heard.lock() = Some(status);
        let config = RunnerConfig { lease: Duration::from_secs(86_400), ..RunnerConfig::default() };
        let ticking = eventually("the clock never ends", async || {
            clock.advance(Duration::from_millis(200));
            false
        });
        let runner = images.runner(config);
        tokio::select! {
            done = runner.run_until_idle(Duration::from_secs(60)) => done.unwrap(),
            () = ticking => {}
        }
        images.make_twins().await;
    };
    let died = doomed.block_on(async {
        let mut life = Box::pin(life);
        for left in (0..=nth).rev() {
            let at = tokio::select! {
                () = &mut life => return None,
                at = cloud.world.next_waiting() => at,
            };
            if left == 0 {
                return Some(at);
            }
            cloud.world.release(at.ticket);
        }
        None
    });
    doomed.shutdown_timeout(Duration::from_secs(60));
    cloud.world.set_mode(Mode::default());
    let answer = *answer.lock();
    (died, answer)
}

/// What every process does now and then, for long enough that whoever died is known to be dead.
async fn recover(cloud: &Cloud) {
    for _ in 0..3 {
        cloud.clock.advance(Duration::from_secs(60));
        cloud.images.sweep().await;
        cloud.work().await;
        cloud.images.make_twins().await;
    }
}

async fn check(cloud: &Cloud, asked: &Asked, answer: Option<u16>, place: &str) {
    let found = cloud.get(&cloud.admin(), &image(&asked.id)).await;
    let status = match found.status {
        404 => "gone".to_owned(),
        _ => found.expect(200)["status"].as_str().unwrap().to_owned(),
    };
    match answer {
        Some(answer) => assert!(answer < 300 && status == asked.done, "{place}: {answer}, and it is {status}"),
        None => assert!(["queued", "uploading", "active", "gone"].contains(&status.as_str()), "{place}: {status}"),
    }
    if status == "active" {
        let bytes = cloud.get(&cloud.admin(), &file(&asked.id)).await.bytes;
        assert!(bytes == asked.bytes, "{place}: the bytes are others");
    }
    let db = cloud.db().await;
    let known = read!(db, "audit", |tx| audit::disks(tx).await).unwrap();
    let all: BTreeSet<_> = known.iter().map(|row| (row.store.clone(), row.disk.clone())).collect();
    let mut there = BTreeSet::new();
    for (store, pool) in [("fast", &cloud.pool), ("slow", &cloud.second)] {
        there.extend(pool.list().await.unwrap().into_iter().map(|disk| (store.to_owned(), disk)));
        let hidden = pool.hidden().await.unwrap();
        assert!(hidden.iter().all(|one| !one.free), "{place}: {hidden:?}");
    }
    let strays: Vec<_> = there.difference(&all).collect();
    assert!(strays.is_empty(), "{place}: nobody's disks {strays:?}");
    for row in known.iter().filter(|row| row.expected) {
        assert!(there.contains(&(row.store.clone(), row.disk.clone())), "{place}: {} is lost", row.disk);
    }
    let left = read!(db, "look for flows", |tx| umbel_workflow::under_way(tx).await).unwrap();
    assert!(left.is_empty(), "{place}: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_left_wherever_a_process_is_killed() {
    let served = noise(1, 30_000);
    let root = site(move |_| found(&served)).await;
    for ask in ALL {
        for nth in 0.. {
            let cloud = Cloud::with(umbel_db::Engine::Sqlite, trusting()).await;
            let asked = prepare(&cloud, ask, &root).await;
            let (died, answer) = tokio::task::block_in_place(|| killed_at(&cloud, &asked, nth));
            recover(&cloud).await;
            check(&cloud, &asked, answer, &format!("{ask:?}, change {nth}: {died:?}")).await;
            if died.is_none() {
                assert!(nth > 0, "{ask:?} changes nothing");
                break;
            }
        }
    }
}
