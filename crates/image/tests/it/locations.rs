//! Places of data, for services.

use serde_json::json;
use umbel_db::Engine;
use umbel_driver::{Pool, SimulatedPool, WriteOptions};
use umbel_image::SNAPSHOT;

use crate::cloud::{Cloud, file, image, noise};

fn locations(id: &str) -> String {
    format!("{}/locations", image(id))
}

async fn put(cloud: &Cloud, disk: &str, bytes: &[u8]) -> String {
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    let stream = Box::pin(futures_util::stream::iter([Ok(bytes)]));
    cloud.pool.write(disk, stream, WriteOptions::default()).await.unwrap();
    cloud.pool.snapshot(disk, SNAPSHOT).await.unwrap();
    cloud.pool.location(disk, SNAPSHOT).to_string()
}

#[tokio::test]
async fn services_learn_where_data_are_and_users_do_not() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.active(&token, b"data").await;
    let want = json!([{
        "url": cloud.pool.location(&id, SNAPSHOT).to_string(),
        "metadata": {"store": "fast", "format": "raw"},
    }]);
    for allowed in [cloud.service(), cloud.admin()] {
        assert_eq!(cloud.get(&allowed, &locations(&id)).await.expect(200), want);
    }
    cloud.get(&token, &locations(&id)).await.expect(403);
    let shown = cloud.show(&id).await;
    assert!(shown.get("direct_url").is_none() && shown.get("locations").is_none());
    assert_eq!(shown["stores"], "fast");
    let empty = cloud.queued(&token, "raw").await;
    assert_eq!(cloud.get(&cloud.service(), &locations(&empty)).await.expect(200), json!([]));
}

#[tokio::test]
async fn data_that_are_in_a_store_already_become_an_image() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let (token, service) = (cloud.member("p"), cloud.service());
        let bytes = noise(3, 200_000);
        let url = put(&cloud, "snapshot-of-a-server", &bytes).await;
        let id = cloud.queued(&token, "raw").await;
        let hash = "ab".repeat(64);
        let body = json!({"url": url, "validation_data": {"os_hash_algo": "sha512", "os_hash_value": hash}});
        cloud.call(&token, "POST", &locations(&id), body.clone()).await.expect(403);
        cloud.call(&service, "POST", &locations(&id), body.clone()).await.expect(202);
        let shown = cloud.show(&id).await;
        assert_eq!((&shown["status"], &shown["size"]), (&json!("active"), &json!(200_000)));
        assert_eq!((&shown["os_hash_value"], &shown["os_hash_algo"]), (&json!(hash), &json!("sha512")));
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, bytes);
        cloud.call(&service, "POST", &locations(&id), body.clone()).await.refused(409, "active");
        // Deleting one of two owners would take the other's data.
        let thief = cloud.queued(&token, "raw").await;
        cloud.call(&service, "POST", &locations(&thief), body).await.refused(409, "Another image");
        assert_eq!(cloud.show(&thief).await["status"], "queued");
        cloud.delete(&token, &image(&id)).await.expect(204);
        assert!(cloud.disks().await.is_empty(), "{engine:?}");
    }
}

#[tokio::test]
async fn places_outside_our_stores_are_refused() {
    let cloud = Cloud::new().await;
    let service = cloud.service();
    let id = cloud.queued(&cloud.member("p"), "raw").await;
    let url = put(&cloud, "d", b"data").await;
    for bad in [
        "file:///etc/shadow".to_owned(),
        "http://127.0.0.1/latest".to_owned(),
        "rbd://0f/images/x/snap".to_owned(),
        url.replace("/fast/", "/vms/"),
        url.replace("/snap", "/other"),
        url.replace("/d/", "/missing/"),
    ] {
        cloud.call(&service, "POST", &locations(&id), json!({"url": bad})).await.expect(400);
    }
    for hash in ["x", &"g".repeat(128), &"a".repeat(64)] {
        let body = json!({"url": url, "validation_data": {"os_hash_algo": "sha512", "os_hash_value": hash}});
        cloud.call(&service, "POST", &locations(&id), body).await.expect(400);
    }
    let body = json!({"url": url, "validation_data": {"os_hash_algo": "md5", "os_hash_value": "a"}});
    cloud.call(&service, "POST", &locations(&id), body).await.expect(400);
    assert_eq!(cloud.show(&id).await["status"], "queued");
}

/// As a server's disk with a snapshot, outside the stores.
async fn server_disk(cloud: &Cloud, bytes: &[u8]) -> (SimulatedPool, String) {
    let pool = SimulatedPool::new(&cloud.world, "vms");
    let stream = Box::pin(futures_util::stream::iter([Ok(bytes::Bytes::copy_from_slice(bytes))]));
    pool.write("disk", stream, WriteOptions::default()).await.unwrap();
    pool.snapshot("disk", "now").await.unwrap();
    let url = pool.location("disk", "now").to_string();
    (pool, url)
}

#[tokio::test]
async fn data_of_another_pool_are_cloned_and_stand_alone_later() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let (token, service) = (cloud.member("p"), cloud.service());
        let bytes = noise(7, 65_536);
        let (pool, url) = server_disk(&cloud, &bytes).await;
        let id = cloud.queued(&token, "raw").await;
        cloud.call(&token, "POST", &locations(&id), json!({"url": url})).await.expect(403);
        cloud.call(&service, "POST", &locations(&id), json!({"url": url})).await.expect(202);
        let shown = cloud.show(&id).await;
        assert_eq!(
            (&shown["status"], &shown["size"], &shown["stores"]),
            (&json!("active"), &json!(65_536), &json!("fast"))
        );
        // The server's own snapshot can go at once.
        pool.remove_snapshot("disk", "now").await.unwrap();
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, bytes);
        assert_eq!(cloud.tasks(&id).await[0].0, "pending");
        assert!(cloud.pool.stat(&id).await.unwrap().unwrap().parent.is_some());
        let clone = cloud.pool.location(&id, SNAPSHOT);
        cloud.pool.clone_disk(&clone, "server", 0).await.unwrap();
        cloud.work().await;
        assert_eq!(cloud.tasks(&id).await, [("success".to_owned(), String::new())]);
        assert!(cloud.pool.stat(&id).await.unwrap().unwrap().parent.is_none());
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, bytes);
        cloud.call(&service, "POST", &locations(&id), json!({"url": url})).await.refused(409, "active");
        // What is not there, and what nobody can clone.
        let other = cloud.queued(&token, "raw").await;
        cloud
            .call(&service, "POST", &locations(&other), json!({"url": url.replace("/disk/", "/none/")}))
            .await
            .refused(400, "no data");
        for wrong in ["rbd://fsid/pool/image/snap", "https://a.example/image", "file:///etc/passwd"] {
            cloud.call(&service, "POST", &locations(&other), json!({"url": wrong})).await.expect(400);
        }
        assert_eq!(cloud.show(&other).await["status"], "queued");
        assert_eq!(cloud.disks().await, [id.as_str(), "server"]);
    }
}

#[tokio::test]
async fn flattening_survives_death_and_deletion() {
    umbel_workflow::harness::at_every_moment(async |crash| {
        let cloud = Cloud::new().await;
        let (token, service) = (cloud.member("p"), cloud.service());
        let (_pool, url) = server_disk(&cloud, &noise(7, 10_000)).await;
        let kept = cloud.queued(&token, "raw").await;
        let gone = cloud.queued(&token, "raw").await;
        for id in [&kept, &gone] {
            cloud.call(&service, "POST", &locations(id), json!({"url": url})).await.expect(202);
        }
        cloud.delete(&token, &image(&gone)).await.expect(204);
        cloud.world.fail_next(umbel_driver::Operation::Flatten, 1, umbel_core::Kind::Unavailable);
        cloud.work_with(&cloud.images, crash.clone()).await;
        cloud.work().await;
        let place = crash.place();
        assert!(cloud.pool.stat(&kept).await.unwrap().unwrap().parent.is_none(), "{place}");
        assert_eq!(cloud.tasks(&kept).await, [("success".to_owned(), String::new())], "{place}");
        assert_eq!(cloud.disks().await, [kept.as_str()], "{place}");
    })
    .await;
}

#[tokio::test]
async fn services_fill_what_their_users_asked_for_and_nothing_else() {
    let cloud = Cloud::new().await;
    // As services log in: the role of one, and that of whoever calls what users call.
    let (owner, service) = (cloud.member("p"), cloud.token("service", &["service", "member", "reader"]));
    let id = cloud.queued(&owner, "raw").await;
    cloud.upload(&service, &id, b"of a server").await.expect(204);
    assert_eq!(cloud.get(&owner, &file(&id)).await.bytes, b"of a server"[..]);
    cloud.upload(&service, &id, b"again").await.expect(403);
    cloud.delete(&service, &image(&id)).await.expect(403);

    let unfilled = cloud.queued(&owner, "raw").await;
    cloud.delete(&service, &image(&unfilled)).await.expect(204);
    cloud.get(&owner, &image(&unfilled)).await.expect(404);
}
