//! One image in several stores: copies, and how it leaves one.

use serde_json::json;
use umbel_core::Kind;
use umbel_db::Engine;
use umbel_driver::Operation;
use umbel_image::SNAPSHOT;
use umbel_workflow::harness::at_every_moment;

use crate::cloud::{Cloud, file, image, noise};

fn in_store(store: &str, id: &str) -> String {
    format!("/image/v2/stores/{store}/{id}")
}

#[tokio::test]
async fn an_image_is_copied_and_leaves_a_store() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let (token, admin) = (cloud.member("p"), cloud.admin());
        let bytes = noise(1, 50_000);
        let id = cloud.active(&token, &bytes).await;
        cloud.delete(&token, &in_store("fast", &id)).await.refused(403, "only store");
        let copy = json!({"method": {"name": "copy-image"}, "all_stores": true, "all_stores_must_succeed": false});
        cloud.import(&token, &id, copy.clone()).await.refused(403, "copy_image");
        cloud
            .import(&admin, &id, json!({"method": {"name": "copy-image"}, "stores": ["fast"]}))
            .await
            .refused(400, "fast");
        cloud.import(&admin, &id, copy.clone()).await.expect(202);
        let shown = cloud.show(&id).await;
        assert_eq!((&shown["status"], &shown["os_glance_importing_to_stores"]), (&json!("active"), &json!("slow")));
        cloud.work().await;
        let shown = cloud.show(&id).await;
        assert_eq!((&shown["stores"], &shown["status"]), (&json!("fast,slow"), &json!("active")));
        assert_eq!(
            (&shown["os_glance_importing_to_stores"], &shown["os_glance_failed_import"]),
            (&json!(""), &json!(""))
        );
        // Nothing is left to copy, and that is said in the same way.
        cloud.import(&admin, &id, copy).await.expect(202);
        cloud.work().await;
        assert_eq!(cloud.tasks(&id).await.iter().filter(|(status, _)| status == "success").count(), 2);

        cloud.delete(&token, &in_store("none", &id)).await.expect(409);
        cloud.delete(&cloud.member("q"), &in_store("fast", &id)).await.expect(404);
        let parent = cloud.pool.location(&id, SNAPSHOT);
        cloud.pool.clone_disk(&parent, "server", 0).await.unwrap();
        cloud.delete(&token, &in_store("fast", &id)).await.expect(204);
        assert_eq!(cloud.show(&id).await["stores"], "slow");
        cloud.work().await;
        assert_eq!(cloud.disks().await, [id.as_str(), "server"]);
        cloud.delete(&token, &in_store("fast", &id)).await.expect(404);
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, bytes);
        cloud.patch(&token, &id, json!([{"op": "replace", "path": "/protected", "value": true}])).await.expect(200);
        cloud.delete(&token, &in_store("slow", &id)).await.refused(403, "protected");
    }
}

#[tokio::test]
async fn a_copy_that_fails_leaves_the_image_as_it_was() {
    let places = at_every_moment(async |crash| {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let id = cloud.active(&token, b"data").await;
        cloud.world.fail_next(Operation::Clone, 100, Kind::NoSpace);
        let copy = json!({"method": {"name": "copy-image"}, "stores": ["slow"]});
        cloud.import(&cloud.admin(), &id, copy).await.expect(202);
        cloud.work_with(&cloud.images, crash.clone()).await;
        cloud.work().await;
        let shown = cloud.show(&id).await;
        let place = crash.place();
        assert_eq!((&shown["status"], &shown["stores"]), (&json!("active"), &json!("fast")), "{place}");
        assert_eq!(shown["os_glance_failed_import"], "slow", "{place}");
        assert_eq!(cloud.disks().await, [id.as_str()], "{place}");
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, "data", "{place}");
    })
    .await;
    assert!(places.len() > 5, "{places:?}");
}

#[tokio::test]
async fn data_that_leave_a_store_go_whoever_dies() {
    at_every_moment(async |crash| {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        cloud.stage(&token, &id, b"data").await.expect(204);
        let both = json!({"method": {"name": "glance-direct"}, "all_stores": true});
        cloud.import(&token, &id, both).await.expect(202);
        cloud.work().await;
        cloud.delete(&token, &in_store("slow", &id)).await.expect(204);
        cloud.work_with(&cloud.images, crash.clone()).await;
        cloud.work().await;
        assert_eq!(cloud.disks().await, [id.as_str()], "{}", crash.place());
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, "data");
        cloud.delete(&token, &image(&id)).await.expect(204);
    })
    .await;
}
