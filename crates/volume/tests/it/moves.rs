use std::sync::Arc;

use serde_json::{Value, json};
use umbel_core::Kind;
use umbel_db::Engine;
use umbel_driver::convert::{Converter, FileSource, ImageFormat};
use umbel_driver::{Mode, Operation, Pool, SimulatedPool, Simulation};
use umbel_volume::Config;
use umbel_workflow::Crash;
use umbel_workflow::harness::at_every_moment;

use crate::books;
use crate::cloud::{Cloud, gib, noise, read};
use crate::held::HeldPool;

fn upload(more: Value) -> Value {
    let mut arguments = json!({"image_name": "i"});
    arguments.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({ "os-volume_upload_image": arguments })
}

async fn snapshots(pool: &dyn Pool, volume: &str) -> Vec<String> {
    pool.stat(&format!("volume-{volume}")).await.unwrap().unwrap().snapshots
}

/// What ran in a process that died goes on in another.
async fn work_through(cloud: &Cloud, crash: &Crash) {
    let (volumes, _router) = cloud.another().await;
    cloud.work_with(&volumes, crash.clone()).await;
    if crash.fired() {
        cloud.work().await;
    }
}

#[tokio::test]
async fn an_upload_is_whole_wherever_it_breaks_off() {
    let places = at_every_moment(|crash| async move {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let volume = cloud.volume(&token, json!({"size": 1})).await;
        let begun = cloud.act(&token, &volume, upload(json!({}))).await.expect(202);
        let image = begun["os-volume_upload_image"]["image_id"].as_str().unwrap().to_owned();
        assert_eq!(cloud.show(&volume).await["status"], "uploading");
        work_through(&cloud, &crash).await;
        assert_eq!(cloud.show(&volume).await["status"], "available", "{}", crash.place());
        assert_eq!(cloud.images.data(&image).unwrap().1.len(), 1, "{}", crash.place());
        assert!(snapshots(&*cloud.pool, &volume).await.is_empty(), "{}", crash.place());
    })
    .await;
    assert!(places.len() > 8, "{places:?}");
}

#[tokio::test]
async fn an_upload_tells_of_what_was_asked_for() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let source = cloud.images.add("raw", &noise(3, 4096), json!({})).await;
    let volume = cloud.volume(&token, json!({"size": 1, "imageRef": source})).await;
    let asked = upload(json!({"visibility": "private", "protected": "False"}));
    let begun = cloud.act(&token, &volume, asked).await.expect(202)["os-volume_upload_image"].clone();
    assert_eq!((&begun["visibility"], &begun["protected"]), (&json!("private"), &json!(false)));
    assert_eq!((&begun["status"], &begun["size"]), (&json!("uploading"), &json!(1)));
    cloud.act(&token, &volume, upload(json!({}))).await.refused(400, "status must be available");
    cloud.work().await;
    let path = format!("/volumes/{volume}/action");
    let old = cloud.call_at("3.0", &token, "POST", &path, upload(json!({}))).await.expect(202);
    assert_eq!(old["os-volume_upload_image"].get("visibility"), None);
    cloud.work().await;
    cloud.act(&token, &volume, upload(json!({"visibility": "public"}))).await.refused(403, "upload_public");
    cloud.act(&token, &volume, upload(json!({"disk_format": "vhdx"}))).await.refused(400, "not as vhdx");
}

#[tokio::test]
async fn a_volume_becomes_an_image_of_another_format() {
    for (name, format, most) in [
        ("qcow2", ImageFormat::Qcow2, 2 << 20),
        ("vmdk", ImageFormat::Vmdk, 2 << 20),
        ("vdi", ImageFormat::Vdi, 4 << 20),
        ("vhd", ImageFormat::Vhd, 4 << 20),
        ("vpc", ImageFormat::Vhd, 4 << 20),
    ] {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let volume = cloud.volume(&token, json!({"size": 1})).await;
        let bytes = noise(7, 150_000);
        cloud.write(&volume, &bytes).await;
        let begun = cloud.act(&token, &volume, upload(json!({"disk_format": name}))).await.expect(202);
        cloud.work().await;
        let image = begun["os-volume_upload_image"]["image_id"].as_str().unwrap();
        let (written, _) = cloud.images.data(image).unwrap();
        assert!(written.len() < most, "{name}: {}", written.len());
        let dir = tempfile::tempdir().unwrap();
        let (file, raw) = (dir.path().join("image"), dir.path().join("raw"));
        std::fs::write(&file, &written).unwrap();
        // QEMU reads it as we do.
        let of_qemu = if format == ImageFormat::Vhd { "vpc" } else { name };
        let mut command = std::process::Command::new("qemu-img");
        let converted = command.args(["convert", "-f", of_qemu, "-O", "raw"]).args([&file, &raw]).output();
        let converted = converted.expect("qemu-img is missing: run scripts/deps.sh, or install qemu-utils");
        assert!(converted.status.success(), "{name}: {}", String::from_utf8_lossy(&converted.stderr));
        let raw = std::fs::File::open(&raw).unwrap();
        assert_eq!(raw.metadata().unwrap().len(), gib(1), "{name}");
        let mut first = vec![0; bytes.len()];
        std::os::unix::fs::FileExt::read_exact_at(&raw, &mut first, 0).unwrap();
        assert_eq!(first, bytes, "{name}");

        let source = Arc::new(FileSource::new(std::fs::File::open(&file).unwrap()).unwrap());
        let converter = Converter::open(format, source).await.unwrap();
        assert_eq!(converter.virtual_size(), gib(1), "{name}");
        let options = umbel_driver::WriteOptions::default();
        cloud.second.write("back", converter.into_bytes(), options).await.unwrap();
        assert_eq!(read(&*cloud.second, "back", bytes.len()).await, bytes, "{name}");
    }
}

#[tokio::test]
async fn a_failed_upload_leaves_the_volume_and_no_image() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    cloud.world.fail_next(Operation::Snapshot, 1, Kind::Internal);
    let begun = cloud.act(&token, &volume, upload(json!({}))).await.expect(202);
    cloud.work().await;
    assert_eq!(cloud.show(&volume).await["status"], "available");
    assert!(cloud.images.data(begun["os-volume_upload_image"]["image_id"].as_str().unwrap()).is_none());
}

async fn types(cloud: &Cloud) {
    for (name, specs) in [("on-slow", json!({"volume_backend_name": "slow"})), ("plain", json!({}))] {
        let body = json!({"volume_type": {"name": name, "extra_specs": specs}});
        cloud.post(&cloud.admin(), "/types", body).await.expect(200);
    }
}

#[tokio::test]
async fn a_retype_that_moves_is_whole_wherever_it_breaks_off() {
    let places = at_every_moment(|crash| async move {
        let cloud = Cloud::new().await;
        types(&cloud).await;
        let token = cloud.member("p");
        let volume = cloud.volume(&token, json!({"size": 1})).await;
        let bytes = noise(9, 70_000);
        cloud.write(&volume, &bytes).await;
        let retype = json!({"os-retype": {"new_type": "on-slow", "migration_policy": "on-demand"}});
        cloud.act(&token, &volume, retype).await.expect(202);
        assert_eq!(cloud.show(&volume).await["status"], "retyping");
        work_through(&cloud, &crash).await;
        let shown = cloud.show(&volume).await;
        assert_eq!((&shown["status"], &shown["migration_status"]), (&json!("available"), &json!("success")));
        assert_eq!(
            (&shown["volume_type"], &shown["os-vol-host-attr:host"]),
            (&json!("on-slow"), &json!("umbel@slow#slow"))
        );
        let disk = format!("volume-{volume}");
        assert_eq!(read(&*cloud.second, &disk, bytes.len()).await, bytes, "{}", crash.place());
        assert!(cloud.pool.stat(&disk).await.unwrap().is_none(), "{}", crash.place());
        assert!(cloud.second.stat(&disk).await.unwrap().unwrap().parent.is_none());
    })
    .await;
    assert!(places.len() > 8, "{places:?}");
}

/// A cloud whose default pool can be held.
async fn held() -> (Cloud, Arc<HeldPool>) {
    let world = Simulation::new(Mode::default());
    let [fast, slow, images] =
        ["fast", "slow", "images"].map(|name| Arc::new(SimulatedPool::new(&world, name)) as Arc<dyn Pool>);
    let held = HeldPool::new(fast);
    let pools = [held.clone() as Arc<dyn Pool>, slow, images];
    let cloud = Cloud::over(Engine::Sqlite, Config::default(), world, pools).await;
    types(&cloud).await;
    (cloud, held)
}

/// What was found out about a pool holds no more once the volume has left it: neither that the type fits there, nor that
/// it must be moved from there.
#[tokio::test]
async fn a_retype_notices_that_the_volume_has_moved_meanwhile() {
    for (new, policy) in [("on-slow", "on-demand"), ("plain", "never")] {
        let (cloud, held) = held().await;
        let token = cloud.member("p");
        let volume = cloud.volume(&token, json!({"size": 1})).await;
        let before = cloud.show(&volume).await;
        let bytes = noise(13, 70_000);
        cloud.write(&volume, &bytes).await;

        held.capacity.shut();
        let retype = cloud.act(&token, &volume, json!({"os-retype": {"new_type": new, "migration_policy": policy}}));
        let moving = async {
            held.capacity.reached().await;
            held.capacity.open();
            let migrate = json!({"os-migrate_volume": {"host": "umbel@slow#slow"}});
            cloud.act(&cloud.admin(), &volume, migrate).await.expect(202);
            cloud.work().await;
            held.capacity.let_on();
        };
        let (answer, ()) = tokio::join!(retype, moving);
        answer.refused(409, "has just moved to another pool; try again");

        cloud.work().await;
        let shown = cloud.show(&volume).await;
        assert_eq!((&shown["status"], &shown["volume_type"]), (&json!("available"), &before["volume_type"]), "{new}");
        assert_eq!(shown["os-vol-host-attr:host"], "umbel@slow#slow");
        let disk = format!("volume-{volume}");
        assert_eq!(read(&*cloud.second, &disk, bytes.len()).await, bytes);
        assert!(cloud.pool.stat(&disk).await.unwrap().is_none());
        // What it was told to do is what helps: where it is now, both fit.
        let again = json!({"os-retype": {"new_type": new, "migration_policy": "never"}});
        cloud.act(&token, &volume, again).await.expect(202);
        let shown = cloud.show(&volume).await;
        assert_eq!((&shown["status"], &shown["volume_type"]), (&json!("available"), &json!(new)));
        books::check(&cloud, new).await;
    }
}

/// A retype that needs a move looks at pools first, which takes its time. It begins none beside another, nor of what is in
/// other hands by then.
#[tokio::test]
async fn a_retype_that_moves_goes_by_what_the_volume_is_in_the_end() {
    let (cloud, held) = held().await;
    let token = cloud.member("p");
    let retype = json!({"os-retype": {"new_type": "on-slow", "migration_policy": "on-demand"}});
    // What is done to the volume while the retype looks at pools, where that leaves it, and what the retype is told.
    let meanwhile = [
        ("migrate", "umbel@slow#slow", 400, "not be part of an active migration"),
        ("snapshot", "umbel@fast#fast", 400, "has snapshots, which cannot move"),
        ("reserve", "umbel@fast#fast", 400, "Retype needs volume to be in available or in-use state"),
        ("delete", "", 404, "could not be found"),
        ("retype", "umbel@slow#slow", 400, "Retype needs volume to be in available or in-use state"),
    ];
    for (what, host, status, words) in meanwhile {
        let volume = cloud.volume(&token, json!({"size": 1})).await;
        held.capacity.shut();
        let first = cloud.act(&token, &volume, retype.clone());
        let other = async {
            held.capacity.reached().await;
            held.capacity.open();
            begin(&cloud, what, &volume, &retype).await;
            held.capacity.let_on();
        };
        let (answer, ()) = tokio::join!(first, other);
        answer.refused(status, words);
        cloud.work().await;
        let shown = cloud.get(&cloud.admin(), &format!("/volumes/{volume}")).await;
        match host {
            "" => drop(shown.expect(404)),
            host => assert_eq!(shown.expect(200)["volume"]["os-vol-host-attr:host"], host, "{what}"),
        }
    }
    books::check(&cloud, "retypes").await;
}

/// Asks for it and does not do it.
async fn begin(cloud: &Cloud, what: &str, volume: &str, retype: &Value) {
    let token = cloud.member("p");
    let migrate = json!({"os-migrate_volume": {"host": "umbel@slow#slow"}});
    let server = "6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9f0001";
    let answer = match what {
        "migrate" => cloud.act(&cloud.admin(), volume, migrate).await,
        "snapshot" => cloud.post(&token, "/snapshots", json!({"snapshot": {"volume_id": volume}})).await,
        "reserve" => {
            let body = json!({"attachment": {"volume_uuid": volume, "instance_uuid": server}});
            cloud.post(&token, "/attachments", body).await
        }
        "delete" => cloud.delete(&token, &format!("/volumes/{volume}")).await,
        _ => cloud.act(&token, volume, retype.clone()).await,
    };
    assert!((200..300).contains(&answer.status), "{what}: {}", String::from_utf8_lossy(&answer.bytes));
}

#[tokio::test]
async fn a_type_that_fits_its_pool_is_changed_at_once() {
    let cloud = Cloud::new().await;
    types(&cloud).await;
    let token = cloud.member("p");
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    let retype = |name: &str| json!({"os-retype": {"new_type": name, "migration_policy": "never"}});
    cloud.act(&token, &volume, retype("plain")).await.expect(202);
    let shown = cloud.show(&volume).await;
    assert_eq!((&shown["volume_type"], &shown["migration_status"]), (&json!("plain"), &Value::Null));
    cloud.act(&token, &volume, retype("plain")).await.refused(400, "requested type has to be different");
    cloud.act(&token, &volume, retype("on-slow")).await.refused(400, "requires migration");
    cloud.act(&token, &volume, retype("none")).await.refused(404, "none");
}

#[tokio::test]
async fn a_migration_goes_where_it_may_and_back_if_it_fails() {
    let cloud = Cloud::new().await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    let migrate = |host: &str| json!({"os-migrate_volume": {"host": host, "lock_volume": true}});
    cloud.act(&token, &volume, migrate("umbel@slow#slow")).await.refused(403, "migrate_volume");
    cloud.act(&admin, &volume, migrate("umbel@moon#moon")).await.refused(400, "Invalid host");
    cloud.act(&admin, &volume, migrate("umbel@fast#fast")).await.refused(400, "must be different");
    cloud.world.fail_next(Operation::Flatten, 1, Kind::Internal);
    cloud.act(&admin, &volume, migrate("umbel@slow#slow")).await.expect(202);
    assert_eq!(cloud.show(&volume).await["status"], "maintenance");
    cloud.work().await;
    let shown = cloud.show(&volume).await;
    assert_eq!((&shown["status"], &shown["migration_status"]), (&json!("available"), &json!("error")));
    let disk = format!("volume-{volume}");
    assert!(cloud.second.stat(&disk).await.unwrap().is_none());
    assert!(snapshots(&*cloud.pool, &volume).await.is_empty());
    cloud.act(&admin, &volume, migrate("umbel@slow#slow")).await.expect(202);
    cloud.work().await;
    assert_eq!(cloud.show(&volume).await["os-vol-host-attr:host"], "umbel@slow#slow");
}

#[tokio::test]
async fn a_volume_is_filled_anew_from_an_image() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let bytes = noise(11, 40_000);
    let image = cloud.images.add("raw", &bytes, json!({})).await;
    let reimage = json!({"os-reimage": {"image_id": image}});
    let plain = cloud.volume(&token, json!({"size": 1})).await;
    let kept = cloud.volume(&token, json!({"size": 1})).await;
    cloud.snapshot(&token, &kept).await;
    for volume in [&plain, &kept] {
        cloud.write(volume, &noise(12, 90_000)).await;
        cloud.act(&token, volume, reimage.clone()).await.expect(202);
        assert_eq!(cloud.show(volume).await["status"], "downloading");
        cloud.work().await;
        let shown = cloud.show(volume).await;
        assert_eq!((&shown["status"], &shown["bootable"]), (&json!("available"), &json!("true")));
        assert_eq!(shown["volume_image_metadata"]["image_id"], *image);
        let found = cloud.read(volume, 90_000).await;
        assert!(found[..bytes.len()] == bytes && found[bytes.len()..].iter().all(|byte| *byte == 0));
    }
    assert_eq!(snapshots(&*cloud.pool, &kept).await.len(), 1);
    assert_eq!(cloud.disks().await.len(), 2, "{:?}", cloud.disks().await);
}
