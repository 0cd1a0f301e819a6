//! Raw twins of images in other formats: made by `qemu-img`, converted by us, compared byte by byte.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use umbel_db::Engine;
use umbel_driver::{LocalPool, LocalStore, Mode, Operation, Pool, Simulation};
use umbel_image::{Config, Images, SNAPSHOT, TwinPolicy};

use crate::cloud::{Cloud, eventually, file, image, noise};

const KIB: usize = 1 << 10;

/// The image service's name of a format, and QEMU's with its options.
const KINDS: [(&str, &[&str]); 13] = [
    ("qcow2", &["qcow2"]),
    ("qcow2", &["qcow2", "-o", "compat=0.10"]),
    ("qcow2", &["qcow2", "-o", "extended_l2=on"]),
    ("qcow2", &["qcow2", "-c"]),
    ("qcow2", &["qcow2", "-c", "-o", "compression_type=zstd"]),
    ("vmdk", &["vmdk"]),
    ("vmdk", &["vmdk", "-o", "subformat=streamOptimized"]),
    ("vdi", &["vdi"]),
    ("vdi", &["vdi", "-o", "static=on"]),
    ("vhd", &["vpc", "-o", "force_size=on"]),
    ("vhd", &["vpc", "-o", "subformat=fixed,force_size=on"]),
    ("vhdx", &["vhdx"]),
    ("vhdx", &["vhdx", "-o", "subformat=fixed"]),
];

/// Two MiB with noise, text and holes.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0; 2048 * KIB];
    bytes[..100 * KIB].copy_from_slice(&noise(8, 100 * KIB));
    bytes[1000 * KIB..1200 * KIB].fill(b'x');
    bytes[2048 * KIB - 512..].fill(1);
    bytes
}

fn made(bytes: &[u8], kind: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    std::fs::write(&raw, bytes).unwrap();
    let args = [&["convert", "-f", "raw", "-O"], kind, &[raw.to_str().unwrap(), image.to_str().unwrap()]].concat();
    let done = Command::new("qemu-img").args(&args).output();
    let done = done.expect("qemu-img is missing: run scripts/deps.sh, or install qemu-utils");
    assert!(done.status.success(), "qemu-img {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    std::fs::read(image).unwrap()
}

pub fn qcow2() -> Vec<u8> {
    made(&disk(), &["qcow2"])
}

async fn uploaded(cloud: &Cloud, format: &str, bytes: &[u8]) -> String {
    let token = cloud.member("p");
    let id = cloud.queued(&token, format).await;
    cloud.upload(&token, &id, bytes).await.expect(204);
    id
}

async fn content(pool: &dyn Pool, disk: &str) -> Vec<u8> {
    let size = pool.stat(disk).await.unwrap().unwrap().size;
    let mut stream = pool.read(disk, Some(SNAPSHOT), 0, size).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    bytes
}

/// As a service finds them: format and disk of each.
async fn locations(cloud: &Cloud, id: &str, query: &str) -> Vec<(String, String)> {
    let found = cloud.get(&cloud.service(), &format!("{}/locations{query}", image(id))).await.expect(200);
    let one = |found: &Value| {
        let disk = found["url"].as_str().unwrap().rsplit('/').nth(1).unwrap().to_owned();
        (found["metadata"]["format"].as_str().unwrap().to_owned(), disk)
    };
    found.as_array().unwrap().iter().map(one).collect()
}

fn both(id: &str, format: &str) -> Vec<(String, String)> {
    vec![("raw".to_owned(), format!("{id}.raw")), (format.to_owned(), id.to_owned())]
}

async fn twin_of(cloud: &Cloud, id: &str) -> String {
    cloud.show(id).await["umbel_twin"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_format_gets_a_twin_and_stays_what_it_was() {
    for (format, kind) in KINDS {
        let cloud = Cloud::new().await;
        let bytes = made(&disk(), kind);
        let id = uploaded(&cloud, format, &bytes).await;
        let before = cloud.show(&id).await;
        assert_eq!(cloud.images.make_twins().await, 1, "{kind:?}");
        assert_eq!(locations(&cloud, &id, "").await, both(&id, format), "{kind:?}");
        let mut want = disk();
        let got = content(&*cloud.pool, &format!("{id}.raw")).await;
        assert!(got.len() >= want.len() && got.len() < want.len() + 1024 * KIB, "{kind:?}: {}", got.len());
        want.resize(got.len(), 0);
        assert!(got == want, "{kind:?}: other bytes");
        let mut shown = cloud.show(&id).await;
        let listed = cloud.get(&cloud.member("p"), "/image/v2/images").await.expect(200);
        assert_eq!(listed["images"][0], shown, "{kind:?}: a list tells it, too");
        assert_eq!(shown["umbel_twin"].take(), "ready");
        shown.as_object_mut().unwrap().remove("umbel_twin");
        assert_eq!(shown, before, "{kind:?}");
        assert_eq!(shown["virtual_size"], got.len(), "{kind:?}");
        assert!(cloud.get(&cloud.member("p"), &file(&id)).await.bytes == bytes, "{kind:?}: downloaded as it came");
        assert_eq!(cloud.images.make_twins().await, 0, "{kind:?}: once");
        cloud.delete(&cloud.member("p"), &image(&id)).await.expect(204);
        assert!(cloud.disks().await.is_empty(), "{kind:?}");
    }
}

#[tokio::test]
async fn only_disks_that_hide_their_bytes_need_one() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    cloud.active(&token, b"raw").await;
    let package = cloud.create(&token, json!({"disk_format": "qcow2", "container_format": "ova"})).await;
    cloud.upload(&token, &package, &qcow2()).await.expect(204);
    cloud.queued(&token, "qcow2").await;
    assert_eq!(cloud.images.make_twins().await, 0);
    assert_eq!(locations(&cloud, &package, "?wait=30").await, [("qcow2".to_owned(), package.clone())]);
}

#[tokio::test]
async fn stores_have_policies_of_their_own() {
    let policies = [("fast", TwinPolicy::FirstUse), ("slow", TwinPolicy::Off)];
    let store_twins: BTreeMap<_, _> = policies.map(|(name, policy)| (name.to_owned(), policy)).into();
    let cloud = Cloud::with(Engine::Sqlite, Config { store_twins, ..Config::default() }).await;
    let token = cloud.member("p");
    let id = uploaded(&cloud, "qcow2", &qcow2()).await;
    assert_eq!(cloud.images.make_twins().await, 0);
    assert_eq!(twin_of(&cloud, &id).await, "");
    assert_eq!(locations(&cloud, &id, "").await, [("qcow2".to_owned(), id.clone())]);
    assert_eq!(twin_of(&cloud, &id).await, "waiting");
    assert_eq!(cloud.images.make_twins().await, 1);
    assert_eq!(locations(&cloud, &id, "").await, both(&id, "qcow2"));
    let never = cloud.queued(&token, "qcow2").await;
    let body = umbel_http::Body::from(qcow2());
    cloud.upload_with(&token, &never, &[("x-image-meta-store", "slow")], body).await.expect(204);
    assert_eq!(locations(&cloud, &never, "?wait=30").await, [("qcow2".to_owned(), never.clone())]);
    assert_eq!(cloud.images.make_twins().await, 0);
}

#[tokio::test]
async fn an_original_can_be_replaced() {
    for engine in Engine::ALL {
        let cloud = Cloud::with(engine, Config { twin: TwinPolicy::Replace, ..Config::default() }).await;
        let (token, raw) = (cloud.member("p"), disk());
        let id = uploaded(&cloud, "qcow2", &qcow2()).await;
        let same = cloud.active(&token, &raw).await;
        let want = cloud.show(&same).await;
        // Who has looked at the image learns with its bytes what they are by now.
        assert_eq!(cloud.get(&token, &file(&id)).await.header("x-umbel-disk-format"), "qcow2");
        assert_eq!(cloud.images.make_twins().await, 1);
        let shown = cloud.show(&id).await;
        for name in ["disk_format", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "stores"] {
            assert_eq!(shown[name], want[name], "{name}");
        }
        assert_eq!(locations(&cloud, &id, "").await, [("raw".to_owned(), format!("{id}.raw"))]);
        let replaced = cloud.get(&token, &file(&id)).await;
        assert!(replaced.bytes == raw && replaced.header("x-umbel-disk-format") == "raw");
        // Downloads that began before still read the original.
        assert!(cloud.disks().await.contains(&id));
        assert_eq!(cloud.images.make_twins().await, 0);
        cloud.clock.advance(Duration::from_secs(3_600));
        assert_eq!(cloud.images.make_twins().await, 1);
        let mut left = vec![format!("{id}.raw"), same];
        left.sort();
        assert_eq!(cloud.disks().await, left);
        cloud.delete(&token, &image(&id)).await.expect(204);
        assert_eq!(cloud.disks().await.len(), 1);
    }
}

#[tokio::test]
async fn whoever_waits_gets_the_twin_and_others_do_not_wait() {
    let cloud = Cloud::new().await;
    let id = uploaded(&cloud, "qcow2", &qcow2()).await;
    cloud.world.set_mode(Mode::Stepped);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let background = tokio::spawn(cloud.images.clone().run_background(async move {
        let _ = stopped.await;
    }));
    assert_eq!(locations(&cloud, &id, "").await, [("qcow2".to_owned(), id.clone())]);
    let released = async {
        loop {
            let waiting = cloud.world.next_waiting().await;
            cloud.world.release(waiting.ticket);
            if waiting.operation == Operation::Snapshot {
                break;
            }
        }
    };
    let (found, ()) = tokio::join!(locations(&cloud, &id, "?wait=60"), released);
    assert_eq!(found, both(&id, "qcow2"));
    cloud.world.set_mode(Mode::default());
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), background).await.unwrap().unwrap();
    cloud.get(&cloud.service(), &format!("{}/locations?wait=long", image(&id))).await.expect(400);
}

#[tokio::test]
async fn progress_is_shown_and_cannot_be_written() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = uploaded(&cloud, "qcow2", &qcow2()).await;
    cloud.world.set_mode(Mode::Stepped);
    let (images, uuid) = (cloud.images.clone(), id.parse().unwrap());
    let making = tokio::spawn(async move { images.make_twins().await });
    loop {
        let waiting = cloud.world.next_waiting().await;
        if waiting.operation == Operation::Snapshot {
            break;
        }
        cloud.world.release(waiting.ticket);
    }
    let total = disk().len() as u64;
    let seen = cloud.images.watch_twin(uuid, "fast").expect("a conversion under way");
    assert_eq!(*seen.borrow(), total);
    eventually("the progress is noted", async || {
        twin_of(&cloud, &id).await == format!("100% ({total} of {total} bytes)")
    })
    .await;
    cloud.world.set_mode(Mode::default());
    assert_eq!(making.await.unwrap(), 1);
    let change = json!([{"op": "add", "path": "/umbel_twin", "value": "mine"}]);
    cloud.patch(&token, &id, change).await.expect(403);
    let copy = cloud.create(&token, json!({"name": "copy", "umbel_twin": "ready"})).await;
    assert_eq!(cloud.show(&copy).await.get("umbel_twin"), None);
}

/// Headers that pass and tables that lie: the image stays what it is, and nothing is left of the attempt.
#[tokio::test]
async fn images_that_cannot_be_converted_say_why() {
    let cloud = Cloud::new().await;
    let mut bytes = qcow2();
    let first = u64::from_be_bytes(bytes[40..48].try_into().unwrap()) as usize;
    bytes[first..first + 8].copy_from_slice(&(1_u64 << 50).to_be_bytes());
    let id = uploaded(&cloud, "qcow2", &bytes).await;
    assert_eq!(cloud.images.make_twins().await, 0);
    assert_eq!(
        twin_of(&cloud, &id).await,
        "failed: The qcow2 image is cut short: parts that its header names are missing."
    );
    assert_eq!(cloud.show(&id).await["status"], "active");
    assert_eq!(cloud.disks().await, [id.as_str()]);
    cloud.clock.advance(Duration::from_secs(86_400));
    cloud.world.set_mode(Mode::Stepped);
    assert_eq!(cloud.images.make_twins().await, 0, "not tried again");
    cloud.world.set_mode(Mode::default());
    assert_eq!(locations(&cloud, &id, "?wait=60").await, [("qcow2".to_owned(), id.clone())]);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for operation in [Operation::Create, Operation::Patch, Operation::Snapshot] {
        let cloud = Cloud::new().await;
        let id = uploaded(&cloud, "qcow2", &qcow2()).await;
        cloud.world.fail_next(operation, 1, umbel_core::Kind::Unavailable);
        assert_eq!(cloud.images.make_twins().await, 0, "{operation:?}");
        let shown = twin_of(&cloud, &id).await;
        assert!(shown.starts_with("waiting: "), "{operation:?}: {shown}");
        assert_eq!(cloud.disks().await, [id.as_str()], "{operation:?}");
        assert_eq!(cloud.images.make_twins().await, 0, "{operation:?}: not at once");
        cloud.clock.advance(Duration::from_secs(60));
        assert_eq!(cloud.images.make_twins().await, 1, "{operation:?}");
        assert_eq!(locations(&cloud, &id, "").await, both(&id, "qcow2"));
    }
}

/// Runs a process of its own, which is torn down when its pool is about to do `at`: nothing of it runs on.
fn killed_at(cloud: &Cloud, at: Operation) {
    cloud.world.set_mode(Mode::Stepped);
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (images, _) = doomed.block_on(cloud.another());
    doomed.spawn(async move { Images::make_twins(&images).await });
    doomed.block_on(async {
        loop {
            let waiting = cloud.world.next_waiting().await;
            if waiting.operation == at {
                break;
            }
            cloud.world.release(waiting.ticket);
        }
    });
    doomed.shutdown_timeout(Duration::from_secs(60));
    cloud.world.set_mode(Mode::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_killed_at_any_step_is_followed_by_another() {
    for at in [Operation::Create, Operation::Patch, Operation::Snapshot] {
        for engine in Engine::ALL {
            let cloud = Cloud::on(engine).await;
            let id = uploaded(&cloud, "qcow2", &qcow2()).await;
            tokio::task::block_in_place(|| killed_at(&cloud, at));
            assert_eq!(cloud.images.make_twins().await, 0, "{at:?} {engine:?}: it may live");
            cloud.clock.advance(Duration::from_secs(60));
            assert_eq!(cloud.images.make_twins().await, 1, "{at:?} {engine:?}");
            assert!(content(&*cloud.pool, &format!("{id}.raw")).await == disk());
            assert_eq!(cloud.disks().await.len(), 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_process_need_not_wait() {
    let cloud = Cloud::new().await;
    uploaded(&cloud, "qcow2", &qcow2()).await;
    tokio::task::block_in_place(|| killed_at(&cloud, Operation::Snapshot));
    cloud.images.take_over().await.unwrap();
    assert_eq!(cloud.images.make_twins().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_takes_the_twin_at_any_step() {
    for at in [Operation::Create, Operation::Patch, Operation::Snapshot] {
        // Its maker is dead.
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let id = uploaded(&cloud, "qcow2", &qcow2()).await;
        tokio::task::block_in_place(|| killed_at(&cloud, at));
        cloud.delete(&token, &image(&id)).await.expect(204);
        cloud.get(&token, &image(&id)).await.expect(404);
        cloud.clock.advance(Duration::from_secs(60));
        assert_eq!(cloud.images.sweep().await.deletions, 1, "{at:?}");
        assert_eq!(cloud.images.make_twins().await, 0);
        assert!(cloud.disks().await.is_empty(), "{at:?}");
        // Its maker lives.
        let id = uploaded(&cloud, "qcow2", &qcow2()).await;
        cloud.world.set_mode(Mode::Stepped);
        let images = cloud.images.clone();
        let making = tokio::spawn(async move { images.make_twins().await });
        loop {
            let waiting = cloud.world.next_waiting().await;
            if waiting.operation == at {
                break;
            }
            cloud.world.release(waiting.ticket);
        }
        let path = image(&id);
        let deleting = cloud.delete(&token, &path);
        let releasing = async {
            eventually("the deletion is noted", async || cloud.get(&token, &image(&id)).await.status == 404).await;
            cloud.world.set_mode(Mode::default());
        };
        let (deleted, ()) = tokio::join!(deleting, releasing);
        deleted.expect(204);
        assert_eq!(making.await.unwrap(), 0, "{at:?}");
        eventually("nothing is left", async || cloud.disks().await.is_empty()).await;
        cloud.create(&token, json!({"id": id})).await;
    }
}

#[tokio::test]
async fn a_twin_is_no_other_images_data() {
    let cloud = Cloud::new().await;
    let id = uploaded(&cloud, "qcow2", &qcow2()).await;
    assert_eq!(cloud.images.make_twins().await, 1);
    let thief = cloud.queued(&cloud.member("p"), "raw").await;
    let url = cloud.pool.location(&format!("{id}.raw"), SNAPSHOT).to_string();
    let path = format!("{}/locations", image(&thief));
    cloud.call(&cloud.service(), "POST", &path, json!({"url": url})).await.refused(409, "Another image");
    assert_eq!(cloud.show(&thief).await["status"], "queued");
}

/// Data in one of two stores are deleted: the twin there goes, the other stays.
#[tokio::test]
async fn a_twin_leaves_a_store_with_its_image() {
    let cloud = Cloud::new().await;
    let token = cloud.admin();
    let id = uploaded(&cloud, "qcow2", &qcow2()).await;
    let copy = json!({"method": {"name": "copy-image"}, "stores": ["slow"]});
    cloud.import(&token, &id, copy).await.expect(202);
    cloud.work().await;
    assert_eq!(cloud.images.make_twins().await, 2);
    assert_eq!(cloud.disks().await.len(), 4);
    assert_eq!(twin_of(&cloud, &id).await, "fast: ready, slow: ready");
    cloud.delete(&token, &format!("/image/v2/stores/fast/{id}")).await.expect(204);
    cloud.work().await;
    assert_eq!(cloud.images.make_twins().await, 1);
    assert_eq!(locations(&cloud, &id, "").await, both(&id, "qcow2"));
    assert!(content(&*cloud.second, &format!("{id}.raw")).await == disk());
    eventually("the other store is empty", async || cloud.pool.list().await.unwrap().is_empty()).await;
}

/// Clones of the twin do not hinder, and live on.
#[tokio::test]
async fn clones_outlive_the_image() {
    let cloud = Cloud::new().await;
    let id = uploaded(&cloud, "qcow2", &qcow2()).await;
    assert_eq!(cloud.images.make_twins().await, 1);
    let parent = cloud.pool.location(&format!("{id}.raw"), SNAPSHOT);
    cloud.pool.clone_disk(&parent, "server_disk", 0).await.unwrap();
    cloud.pool.snapshot("server_disk", SNAPSHOT).await.unwrap();
    cloud.delete(&cloud.member("p"), &image(&id)).await.expect(204);
    assert_eq!(cloud.disks().await, ["server_disk"]);
    assert!(content(&*cloud.pool, "server_disk").await == disk());
    cloud.pool.remove("server_disk").await.unwrap();
    // The clone's own hidden rest goes first, then what it was made of.
    while cloud.images.sweep().await.purged > 0 {}
    assert!(cloud.disks().await.is_empty());
}

/// In files: the holes of the image are holes of the twin.
#[tokio::test]
async fn twins_are_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path(), &umbel_core::SystemRng::new()).await.unwrap();
    let pool = |name: &'static str| {
        let store = store.clone();
        async move { Arc::new(LocalPool::open(&store, name, name).await.unwrap()) as Arc<dyn Pool> }
    };
    let pools = [pool("images").await, pool("more").await];
    let cloud = Cloud::over(Engine::Sqlite, Config::default(), Simulation::new(Mode::default()), pools).await;
    let mut raw = vec![0; 256 << 20];
    raw[100 << 20..101 << 20].copy_from_slice(&noise(1, 1 << 20));
    let id = uploaded(&cloud, "qcow2", &made(&raw, &["qcow2", "-c"])).await;
    assert_eq!(cloud.images.make_twins().await, 1);
    assert!(content(&*cloud.pool, &format!("{id}.raw")).await == raw);
    let layers = std::fs::read_dir(dir.path().join("images/.layers")).unwrap();
    let blocks = layers.map(|layer| std::os::unix::fs::MetadataExt::blocks(&layer.unwrap().metadata().unwrap()));
    let stored: u64 = blocks.map(|blocks| blocks * 512).sum();
    assert!(stored < 8 << 20, "{stored} bytes are stored of an image with 1 MiB of data");
    let parent = cloud.pool.location(&format!("{id}.raw"), SNAPSHOT);
    cloud.pool.clone_disk(&parent, "server_disk", 0).await.unwrap();
    assert_eq!(cloud.pool.stat("server_disk").await.unwrap().unwrap().parent, Some(parent));
}
