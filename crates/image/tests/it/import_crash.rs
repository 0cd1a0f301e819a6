//! A process that dies at any moment of an import: another ends what it began.

use serde_json::json;
use umbel_core::Kind;
use umbel_driver::Operation;
use umbel_workflow::harness::at_every_moment;

use crate::cloud::{Cloud, file, image, noise};

#[tokio::test]
async fn an_import_is_finished_by_another_process() {
    let places = at_every_moment(async |crash| {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let bytes = noise(1, 5_000);
        let id = cloud.queued(&token, "raw").await;
        cloud.stage(&token, &id, &bytes).await.expect(204);
        let body = json!({"method": {"name": "glance-direct"}, "all_stores": true});
        cloud.import(&token, &id, body).await.expect(202);
        cloud.work_with(&cloud.images, crash.clone()).await;
        let (other, _) = cloud.another().await;
        cloud.work_with(&other, umbel_workflow::Crash::never()).await;
        let place = crash.place();
        assert_eq!(cloud.show(&id).await["stores"], "fast,slow", "{place}");
        assert_eq!(cloud.tasks(&id).await, [("success".to_owned(), String::new())], "{place}");
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, bytes, "{place}");
        assert_eq!(cloud.disks().await, [id.as_str(), id.as_str()], "{place}");
        cloud.delete(&token, &image(&id)).await.expect(204);
        cloud.images.sweep().await;
        assert!(cloud.disks().await.is_empty(), "{place}");
    })
    .await;
    assert!(places.len() > 10, "{places:?}");
}

#[tokio::test]
async fn an_import_that_fails_is_undone_by_another_process() {
    let places = at_every_moment(async |crash| {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        cloud.stage(&token, &id, &noise(1, 5_000)).await.expect(204);
        // The other store is filled, then the default one never is.
        cloud.world.fail_next(Operation::Rename, 100, Kind::NoSpace);
        let body = json!({"method": {"name": "glance-direct"}, "all_stores": true});
        cloud.import(&token, &id, body).await.expect(202);
        cloud.work_with(&cloud.images, crash.clone()).await;
        let (other, _) = cloud.another().await;
        cloud.work_with(&other, umbel_workflow::Crash::never()).await;
        let place = crash.place();
        assert_eq!(cloud.show(&id).await["status"], "queued", "{place}");
        assert_eq!(cloud.tasks(&id).await[0].0, "failure", "{place}");
        assert!(cloud.disks().await.is_empty(), "{place}: {:?}", cloud.disks().await);
    })
    .await;
    assert!(places.len() > 10, "{places:?}");
}

/// What its owner does once an import has ended is not undone by another end of it, not even where the image is deleted
/// and made again by the same id.
#[tokio::test]
async fn an_import_that_has_ended_touches_nothing_any_more() {
    let places = at_every_moment(async |crash| {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        cloud.stage(&token, &id, &noise(1, 5_000)).await.expect(204);
        let import = json!({"method": {"name": "glance-direct"}});
        cloud.import(&token, &id, import.clone()).await.expect(202);
        cloud.work_with(&cloud.images, crash.clone()).await;
        let place = crash.place();
        let ended = cloud.tasks(&id).await == [("success".to_owned(), String::new())];
        let next = noise(2, 5_000);
        if ended {
            cloud.delete(&token, &image(&id)).await.expect(204);
            cloud.images.sweep().await;
            let again = json!({"id": id, "name": "i", "disk_format": "raw", "container_format": "bare"});
            cloud.create(&token, again).await;
            cloud.stage(&token, &id, &next).await.expect(204);
        }
        let (other, _) = cloud.another().await;
        cloud.work_with(&other, umbel_workflow::Crash::never()).await;
        if ended {
            cloud.import(&token, &id, import).await.expect(202);
            cloud.work_with(&other, umbel_workflow::Crash::never()).await;
            assert_eq!(cloud.show(&id).await["status"], "active", "{place}");
            assert_eq!(cloud.get(&token, &file(&id)).await.bytes, next, "{place}");
        }
    })
    .await;
    assert!(places.len() > 8, "{places:?}");
}
