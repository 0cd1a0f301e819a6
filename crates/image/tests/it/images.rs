//! Create, show, delete, tags, actions.

use serde_json::{Value, json};
use umbel_db::Engine;
use umbel_driver::Operation;
use umbel_image::Config;

use crate::cloud::{Cloud, ids, image};

const IMAGES: &str = "/image/v2/images";

#[tokio::test]
async fn an_image_is_what_its_creator_said() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let body = json!({
            "name": "Debian", "disk_format": "qcow2", "container_format": "bare", "visibility": "private",
            "min_disk": 3, "min_ram": 512, "protected": true, "os_hidden": true, "tags": ["b", "a", "b"],
            "os_distro": "debian", "hw_disk_bus": "scsi", "owner_specified.openstack.md5": "", "kernel_id": null,
        });
        let answer = cloud.call(&token, "POST", IMAGES, body).await;
        assert_eq!(answer.header("openstack-image-store-ids"), "fast,slow");
        let location = answer.header("location").to_owned();
        let made = answer.expect(201);
        let id = made["id"].as_str().unwrap();
        assert_eq!(location, format!("http://cloud:1/image/v2/images/{id}"));
        let want = json!({
            "id": id, "name": "Debian", "status": "queued", "visibility": "private", "protected": true,
            "os_hidden": true, "checksum": null, "os_hash_algo": null, "os_hash_value": null, "size": null,
            "virtual_size": null, "container_format": "bare", "disk_format": "qcow2", "min_disk": 3, "min_ram": 512,
            "owner": "p", "created_at": "2026-11-18T11:06:40Z", "updated_at": "2026-11-18T11:06:40Z",
            "tags": ["a", "b"], "self": format!("/v2/images/{id}"), "file": format!("/v2/images/{id}/file"),
            "schema": "/v2/schemas/image", "os_distro": "debian", "hw_disk_bus": "scsi",
            "owner_specified.openstack.md5": "", "kernel_id": null,
        });
        assert_eq!(made, want, "{engine:?}");
        assert_eq!(cloud.get(&token, &image(id)).await.expect(200), want, "{engine:?}");
    }
}

#[tokio::test]
async fn a_plain_image_is_shared_and_queued() {
    let cloud = Cloud::new().await;
    let made = cloud.call(&cloud.member("p"), "POST", IMAGES, json!({})).await.expect(201);
    assert_eq!(
        (&made["visibility"], &made["status"], &made["name"]),
        (&json!("shared"), &json!("queued"), &Value::Null)
    );
    assert_eq!((&made["disk_format"], &made["min_disk"]), (&Value::Null, &json!(0)));
}

#[tokio::test]
async fn a_client_may_choose_the_id_once() {
    let cloud = Cloud::new().await;
    let (token, id) = (cloud.member("p"), "6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d");
    assert_eq!(cloud.create(&token, json!({"id": id})).await, id);
    cloud.call(&token, "POST", IMAGES, json!({"id": id})).await.refused(409, "already exists");
    cloud.call(&token, "POST", IMAGES, json!({"id": "x"})).await.refused(400, "UUID");
    // The id is free again once the image is gone.
    cloud.delete(&token, &image(id)).await.expect(204);
    assert_eq!(cloud.create(&token, json!({"id": id})).await, id);
}

#[tokio::test]
async fn bad_creations_are_refused() {
    let cloud = Cloud::new().await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    for (body, status) in [
        (json!({"disk_format": "wrong"}), 400),
        (json!({"container_format": "wrong", "disk_format": "vhd"}), 400),
        (json!({"name": 5}), 400),
        (json!({"min_ram": -1}), 400),
        (json!({"os_distro": 5}), 400),
        (json!([]), 400),
        (json!("x"), 400),
        (json!({"status": "active"}), 403),
        (json!({"size": 5}), 403),
        (json!({"os_glance_foo": "bar"}), 403),
        (json!({"locations": []}), 403),
        (json!({"visibility": "public"}), 403),
        (json!({"owner": "q"}), 403),
    ] {
        let answer = cloud.call(&token, "POST", IMAGES, body.clone()).await;
        assert_eq!(answer.status, status, "{body}");
    }
    let made = cloud.call(&admin, "POST", IMAGES, json!({"visibility": "public", "owner": "q"})).await.expect(201);
    assert_eq!((&made["visibility"], &made["owner"]), (&json!("public"), &json!("q")));
    let reader = cloud.token("p", &["reader"]);
    cloud.call(&reader, "POST", IMAGES, json!({})).await.refused(403, "add_image");
    let large = json!({"description": "x".repeat(200_000)});
    cloud.call(&token, "POST", IMAGES, large).await.expect(413);
}

#[tokio::test]
async fn quotas_are_413() {
    let config = Config { max_properties: 2, max_tags: 2, ..Config::default() };
    let cloud = Cloud::with(Engine::Sqlite, config).await;
    let token = cloud.member("p");
    let full = json!({"a": "1", "b": "2", "tags": ["x", "y"]});
    let id = cloud.create(&token, full).await;
    cloud.call(&token, "POST", IMAGES, json!({"a": "1", "b": "2", "c": "3"})).await.refused(413, "properties");
    cloud.call(&token, "POST", IMAGES, json!({"tags": ["x", "y", "z"]})).await.refused(413, "tags");
    cloud.patch(&token, &id, json!([{"op": "add", "path": "/c", "value": "3"}])).await.refused(413, "properties");
    cloud.patch(&token, &id, json!([{"op": "add", "path": "/a", "value": "9"}])).await.expect(200);
    cloud.call(&token, "PUT", &format!("{}/tags/z", image(&id)), Value::Null).await.refused(413, "tags");
}

#[tokio::test]
async fn tags_come_and_go() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let id = cloud.create(&token, json!({"tags": ["old"]})).await;
        let tag = |name: &str| format!("{}/tags/{name}", image(&id));
        cloud.call(&token, "PUT", &tag("new"), Value::Null).await.expect(204);
        cloud.call(&token, "PUT", &tag("new"), Value::Null).await.expect(204);
        cloud.call(&token, "PUT", &tag("a%20b%C3%A9"), Value::Null).await.expect(204);
        cloud.delete(&token, &tag("old")).await.expect(204);
        cloud.delete(&token, &tag("old")).await.expect(404);
        cloud.call(&token, "PUT", &tag(&"t".repeat(256)), Value::Null).await.expect(400);
        assert_eq!(cloud.show(&id).await["tags"], json!(["a bé", "new"]), "{engine:?}");
    }
}

#[tokio::test]
async fn protected_images_stay() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.create(&token, json!({"protected": true})).await;
    cloud.delete(&token, &image(&id)).await.refused(403, "protected");
    cloud.patch(&token, &id, json!([{"op": "replace", "path": "/protected", "value": false}])).await.expect(200);
    cloud.delete(&token, &image(&id)).await.expect(204);
}

#[tokio::test]
async fn a_deleted_image_is_gone_with_its_data() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let id = cloud.create(&token, json!({"disk_format": "raw", "container_format": "bare", "tags": ["t"]})).await;
        cloud.upload(&token, &id, b"data").await.expect(204);
        assert_eq!(cloud.disks().await, [id.as_str()]);
        cloud.delete(&token, &image(&id)).await.expect(204);
        for path in [image(&id), crate::cloud::file(&id)] {
            cloud.get(&token, &path).await.expect(404);
        }
        cloud.delete(&token, &image(&id)).await.expect(404);
        cloud.upload(&token, &id, b"data").await.expect(404);
        assert!(ids(&cloud.get(&token, IMAGES).await.expect(200)).is_empty());
        assert!(cloud.disks().await.is_empty(), "{engine:?}");
    }
}

#[tokio::test]
async fn a_pool_that_fails_does_not_hold_up_a_deletion() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.active(&token, b"data").await;
    cloud.world.fail_next(Operation::Remove, 2, umbel_core::Kind::Unavailable);
    cloud.delete(&token, &image(&id)).await.expect(204);
    cloud.get(&token, &image(&id)).await.expect(404);
    assert_eq!(cloud.disks().await, [id.as_str()]);
    assert_eq!(cloud.images.sweep().await.deletions, 0);
    assert_eq!(cloud.images.sweep().await.deletions, 1);
    assert!(cloud.disks().await.is_empty());
    assert_eq!(cloud.images.sweep().await, umbel_image::Swept::default());
}

#[tokio::test]
async fn an_image_with_clones_is_deleted_and_its_disk_purged_with_the_last() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.active(&token, &crate::cloud::noise(1, 100_000)).await;
    let location = cloud.pool.location(&id, umbel_image::SNAPSHOT);
    cloud.pool.clone_disk(&location, "server_disk", 0).await.unwrap();
    cloud.delete(&token, &image(&id)).await.expect(204);
    cloud.get(&token, &image(&id)).await.expect(404);
    assert_eq!(cloud.disks().await, ["server_disk"]);
    assert_eq!(cloud.images.sweep().await.purged, 0);
    cloud.pool.remove("server_disk").await.unwrap();
    cloud.images.sweep().await;
    assert!(cloud.disks().await.is_empty());
    assert!(cloud.pool.purge().await.unwrap().is_empty());
}

#[tokio::test]
async fn deactivated_data_are_for_administrators() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let id = cloud.active(&token, b"data").await;
        let act = |what: &str| format!("{}/actions/{what}", image(&id));
        for _ in 0..2 {
            cloud.call(&token, "POST", &act("deactivate"), Value::Null).await.expect(204);
        }
        assert_eq!(cloud.show(&id).await["status"], "deactivated");
        cloud.get(&token, &crate::cloud::file(&id)).await.refused(403, "deactivated");
        assert_eq!(cloud.get(&cloud.admin(), &crate::cloud::file(&id)).await.bytes, "data");
        for _ in 0..2 {
            cloud.call(&token, "POST", &act("reactivate"), Value::Null).await.expect(204);
        }
        assert_eq!(cloud.get(&token, &crate::cloud::file(&id)).await.bytes, "data", "{engine:?}");
        let queued = cloud.queued(&token, "raw").await;
        let path = format!("{}/actions/deactivate", image(&queued));
        cloud.call(&token, "POST", &path, Value::Null).await.refused(403, "queued");
    }
}
