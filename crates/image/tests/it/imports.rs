//! Imports of what was staged: what they leave in the stores, and what they say meanwhile.

use std::sync::Arc;

use serde_json::{Value, json};
use umbel_core::{Kind, SystemRng};
use umbel_db::Engine;
use umbel_driver::{LocalPool, LocalStore, Mode, Operation, Pool, SimulatedPool, Simulation};
use umbel_image::Config;

use crate::cloud::{Cloud, file, image, noise};

/// Two stores of which none can clone from the other, so that everything is copied.
async fn apart(engine: Engine) -> (Cloud, tempfile::TempDir) {
    let world = Simulation::new(Mode::default());
    let near = Arc::new(SimulatedPool::new(&world, "fast")) as Arc<dyn Pool>;
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path(), &SystemRng::new()).await.unwrap();
    let second = Arc::new(LocalPool::open(&store, "slow", "slow").await.unwrap()) as Arc<dyn Pool>;
    (Cloud::over(engine, Config::default(), world, [near, second]).await, dir)
}

async fn staged(cloud: &Cloud, token: &str, format: &str, bytes: &[u8]) -> String {
    let id = cloud.queued(token, format).await;
    cloud.stage(token, &id, bytes).await.expect(204);
    id
}

fn direct() -> Value {
    json!({"method": {"name": "glance-direct"}})
}

#[tokio::test]
async fn staged_bytes_become_the_image() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let bytes = noise(1, 100_000);
        let id = staged(&cloud, &token, "raw", &bytes).await;
        let shown = cloud.show(&id).await;
        assert_eq!((&shown["status"], &shown["size"]), (&json!("uploading"), &json!(100_000)));
        assert!(shown.get("stores").is_none());
        cloud.stage(&token, &id, &bytes).await.refused(409, "uploading");
        cloud.import(&cloud.member("q"), &id, direct()).await.expect(404);
        let answer = cloud.import(&token, &id, direct()).await;
        let request = answer.header("x-openstack-request-id").to_owned();
        answer.expect(202);
        let shown = cloud.show(&id).await;
        assert_eq!((&shown["status"], &shown["os_glance_importing_to_stores"]), (&json!("importing"), &json!("fast")));
        cloud.import(&token, &id, direct()).await.expect(409);
        cloud.work().await;
        let shown = cloud.show(&id).await;
        assert_eq!(
            (&shown["status"], &shown["stores"], &shown["size"]),
            (&json!("active"), &json!("fast"), &json!(100_000))
        );
        assert_eq!(
            (&shown["os_glance_importing_to_stores"], &shown["os_glance_failed_import"]),
            (&json!(""), &json!(""))
        );
        assert!(shown.get("os_glance_import_task").is_none());
        assert_eq!(shown["os_hash_value"].as_str().unwrap().len(), 128);
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, bytes);
        assert_eq!(cloud.disks().await, [id.as_str()], "{engine:?}");
        let tasks = cloud.get(&token, &format!("{}/tasks", image(&id))).await.expect(200);
        let task = &tasks["tasks"][0];
        assert_eq!(
            (&task["status"], &task["type"], &task["request_id"]),
            (&json!("success"), &json!("api_image_import"), &json!(request))
        );
        assert_eq!(task["input"]["import_req"], direct());
        assert_eq!(task["result"]["image_id"], json!(id));
        cloud.delete(&token, &image(&id)).await.expect(204);
        assert!(cloud.disks().await.is_empty());
    }
}

#[tokio::test]
async fn several_stores_get_the_same() {
    let (far, _dir) = apart(Engine::Sqlite).await;
    for cloud in [Cloud::new().await, far] {
        let token = cloud.member("p");
        let bytes = noise(2, 70_000);
        for request in [json!({"all_stores": true}), json!({"stores": ["slow", "fast"]})] {
            let id = staged(&cloud, &token, "raw", &bytes).await;
            let mut body = direct();
            body.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
            cloud.import(&token, &id, body).await.expect(202);
            cloud.work().await;
            assert_eq!(cloud.tasks(&id).await, [("success".to_owned(), String::new())]);
            assert_eq!(cloud.show(&id).await["stores"], "fast,slow");
            for store in ["fast", "slow"] {
                let path = format!("{}?prefer={store}", file(&id));
                assert_eq!(cloud.get(&token, &path).await.bytes, bytes, "{store}");
            }
            assert_eq!(cloud.disks().await, [id.as_str(), id.as_str()]);
            for pool in [&cloud.pool, &cloud.second] {
                assert!(pool.stat(&id).await.unwrap().unwrap().parent.is_none(), "stands alone");
            }
            cloud.delete(&token, &image(&id)).await.expect(204);
            cloud.images.sweep().await;
            assert!(cloud.disks().await.is_empty());
        }
    }
}

#[tokio::test]
async fn content_that_lies_is_refused_when_it_is_imported() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = staged(&cloud, &token, "qcow2", &noise(3, 70_000)).await;
    cloud.import(&token, &id, direct()).await.expect(202);
    cloud.work().await;
    let shown = cloud.show(&id).await;
    assert_eq!((&shown["status"], &shown["size"], &shown["checksum"]), (&json!("queued"), &json!(null), &json!(null)));
    assert_eq!(shown["os_glance_failed_import"], "fast");
    let [(status, message)] = <[_; 1]>::try_from(cloud.tasks(&id).await).unwrap();
    assert_eq!(status, "failure");
    assert!(message.contains("qcow2"), "{message}");
    assert!(cloud.disks().await.is_empty());
    // The image can be tried again.
    cloud.upload(&token, &id, b"x").await.expect(400);
    cloud.stage(&token, &id, b"x").await.expect(204);
    cloud.delete(&token, &image(&id)).await.expect(204);
    assert!(cloud.disks().await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_imported_is_refused_at_once() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let queued = cloud.queued(&token, "raw").await;
    let active = cloud.active(&token, b"data").await;
    let check = async |id: &str, body: Value, status: u16, words: &str| {
        cloud.import(&token, id, body).await.refused(status, words);
    };
    check(&queued, json!({}), 400, "'method'").await;
    check(&queued, json!({"method": {}}), 400, "'name'").await;
    check(&queued, json!({"method": {"name": "ftp"}}), 400, "Unknown import method").await;
    check(&queued, json!({"method": {"name": "glance-download"}}), 400, "Unknown import method").await;
    check(&queued, direct(), 409, "staged").await;
    check(&active, direct(), 409, "active").await;
    check(&queued, json!({"method": {"name": "copy-image"}}), 409, "active").await;
    check(&queued, json!({"method": {"name": "web-download"}}), 400, "uri").await;
    check(&queued, json!({"method": {"name": "web-download", "uri": "file:///etc/passwd"}}), 400, "URL").await;
    check(&queued, json!({"method": {"name": "web-download", "uri": "http://127.0.0.1/x"}}), 400, "address").await;
    check(&queued, json!({"method": {"name": "web-download", "uri": "http://a.example:22/x"}}), 400, "filtering").await;
    let web = json!({"name": "web-download", "uri": "http://a.example/x"});
    check(&queued, json!({"method": web, "stores": ["none"]}), 409, "none").await;
    check(&queued, json!({"method": web, "stores": []}), 400, "store").await;
    check(&queued, json!({"method": web, "stores": ["fast"], "all_stores": true}), 400, "All_stores").await;
    check(&queued, json!({"method": web, "all_stores": "yes"}), 400, "boolean").await;
    check(&queued, json!({"method": web, "all_stores_must_succeed": 1}), 400, "boolean").await;
    let bare = cloud.create(&token, json!({"name": "n"})).await;
    cloud.stage(&token, &bare, b"data").await.expect(204);
    check(&bare, direct(), 409, "container_format").await;
    assert!(cloud.tasks(&queued).await.is_empty());
}

#[tokio::test]
async fn one_store_that_fails_fails_all_or_is_left_out() {
    for must in [true, false] {
        let (cloud, _dir) = apart(Engine::Sqlite).await;
        let token = cloud.member("p");
        let id = staged(&cloud, &token, "raw", &noise(4, 5_000)).await;
        // The other store is filled first; the default one fails.
        cloud.world.fail_next(Operation::Rename, 100, Kind::NoSpace);
        let body = json!({"method": {"name": "glance-direct"}, "all_stores": true, "all_stores_must_succeed": must});
        cloud.import(&token, &id, body).await.expect(202);
        cloud.work().await;
        let shown = cloud.show(&id).await;
        assert_eq!(shown["os_glance_failed_import"], "fast");
        assert_eq!(shown["os_glance_importing_to_stores"], "");
        let (status, stores) = (shown["status"].as_str().unwrap(), shown.get("stores"));
        match must {
            true => {
                assert_eq!((status, stores), ("queued", None));
                assert!(cloud.disks().await.is_empty());
                assert_eq!(cloud.tasks(&id).await[0].0, "failure");
            }
            false => {
                assert_eq!((status, stores), ("active", Some(&json!("slow"))));
                assert_eq!(cloud.disks().await, [id.as_str()]);
                assert_eq!(cloud.tasks(&id).await[0].0, "success");
            }
        }
    }
}

#[tokio::test]
async fn an_image_deleted_in_the_middle_leaves_nothing() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = staged(&cloud, &token, "raw", &noise(5, 5_000)).await;
    cloud.import(&token, &id, direct()).await.expect(202);
    cloud.delete(&token, &image(&id)).await.expect(204);
    cloud.get(&token, &image(&id)).await.expect(404);
    // The workflow holds the image until it has found out.
    assert_eq!(cloud.images.sweep().await.deletions, 0);
    cloud.work().await;
    cloud.images.sweep().await;
    assert!(cloud.disks().await.is_empty());
    cloud.create(&token, json!({"id": id})).await;
}

#[tokio::test]
async fn a_staging_that_is_cut_off_is_undone() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let broken = crate::cloud::body(vec![Ok(noise(1, 600).into()), Err(std::io::Error::other("gone"))]);
    let headers = [("x-auth-token", token.as_str()), ("content-type", "application/octet-stream")];
    let answer = cloud.send("PUT", &format!("{}/stage", image(&id)), &headers, broken).await;
    assert!(answer.status >= 400);
    assert_eq!(cloud.show(&id).await["status"], "queued");
    assert!(cloud.disks().await.is_empty());
}

#[tokio::test]
async fn quotas_count_what_is_staged() {
    let config =
        Config { stage_quota: Some(1 << 20), count_quota: Some(3), uploading_quota: Some(1), ..Config::default() };
    let cloud = Cloud::with(Engine::Sqlite, config).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    cloud.stage(&token, &id, &noise(1, (1 << 20) + 1)).await.expect(413);
    cloud.stage(&token, &id, &noise(1, 1 << 20)).await.expect(204);
    let next = cloud.queued(&token, "raw").await;
    cloud.stage(&token, &next, b"x").await.refused(413, "image_count_uploading");
    let usage = cloud.get(&token, "/image/v2/info/usage").await.expect(200);
    assert_eq!(
        usage["usage"],
        json!({
            "image_size_total": {"usage": 0, "limit": -1},
            "image_stage_total": {"usage": 1, "limit": 1},
            "image_count_total": {"usage": 2, "limit": 3},
            "image_count_uploading": {"usage": 1, "limit": 1},
        })
    );
    cloud.queued(&token, "raw").await;
    cloud.call(&token, "POST", "/image/v2/images", json!({})).await.refused(413, "image_count_total");
    cloud.create(&cloud.member("q"), json!({})).await;
}

/// Real files: what is staged is renamed in one store, cloned into the other, and cloned from a third pool.
#[tokio::test]
async fn local_pools_rename_clone_and_flatten() {
    let dir = tempfile::tempdir().unwrap();
    let files = LocalStore::open(dir.path(), &SystemRng::new()).await.unwrap();
    let open = async |name: &str| Arc::new(LocalPool::open(&files, name, name).await.unwrap()) as Arc<dyn Pool>;
    let pools = [open("fast").await, open("slow").await];
    let servers = open("vms").await;
    let world = Simulation::new(Mode::default());
    let cloud = Cloud::over(Engine::Sqlite, Config::default(), world, pools).await;
    let token = cloud.member("p");
    let bytes = noise(9, 300_001);
    let id = staged(&cloud, &token, "raw", &bytes).await;
    let both = json!({"method": {"name": "glance-direct"}, "all_stores": true});
    cloud.import(&token, &id, both).await.expect(202);
    cloud.work().await;
    cloud.images.sweep().await;
    assert_eq!(cloud.tasks(&id).await, [("success".to_owned(), String::new())]);
    assert_eq!(cloud.disks().await, [id.as_str(), id.as_str()]);
    for store in ["fast", "slow"] {
        assert_eq!(cloud.get(&token, &format!("{}?prefer={store}", file(&id))).await.bytes, bytes, "{store}");
    }
    let disk = bytes::Bytes::from(noise(10, 262_144));
    let stream = Box::pin(futures_util::stream::iter([Ok(disk.clone())]));
    servers.write("disk", stream, umbel_driver::WriteOptions::default()).await.unwrap();
    servers.snapshot("disk", "now").await.unwrap();
    let snapshot = cloud.queued(&token, "raw").await;
    let body = json!({"url": servers.location("disk", "now").to_string()});
    cloud.call(&cloud.service(), "POST", &format!("{}/locations", image(&snapshot)), body).await.expect(202);
    assert_eq!(cloud.show(&snapshot).await["status"], "active");
    servers.remove("disk").await.unwrap();
    cloud.work().await;
    cloud.images.sweep().await;
    assert_eq!(cloud.pool.stat(&snapshot).await.unwrap().unwrap().parent, None);
    assert_eq!(cloud.get(&token, &file(&snapshot)).await.bytes, disk);
    servers.purge().await.unwrap();
    assert!(servers.hidden().await.unwrap_or_default().is_empty(), "the server's disk is really gone");
}
