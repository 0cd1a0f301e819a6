//! Changes of an image.

use serde_json::{Value, json};
use umbel_db::Engine;
use umbel_http::Body;

use crate::cloud::{Cloud, image};

#[tokio::test]
async fn changes_are_kept() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let id = cloud.create(&token, json!({"name": "old", "tags": ["a", "b"], "x": "1", "y": "2"})).await;
        cloud.tick();
        let changes = json!([
            {"op": "replace", "path": "/name", "value": "new"},
            {"op": "add", "path": "/tags", "value": ["b", "c"]},
            {"op": "replace", "path": "/x", "value": "one"},
            {"op": "remove", "path": "/y"},
            {"op": "add", "path": "/z", "value": "3"},
            {"op": "add", "path": "/disk_format", "value": "raw"},
            {"op": "replace", "path": "/visibility", "value": "community"},
        ]);
        let changed = cloud.patch(&token, &id, changes).await.expect(200);
        assert_eq!(changed, cloud.show(&id).await, "{engine:?}");
        assert_eq!((&changed["name"], &changed["tags"]), (&json!("new"), &json!(["b", "c"])));
        assert_eq!((&changed["x"], &changed["y"], &changed["z"]), (&json!("one"), &Value::Null, &json!("3")));
        assert_eq!((&changed["disk_format"], &changed["visibility"]), (&json!("raw"), &json!("community")));
        assert_eq!(changed["created_at"], "2026-11-18T11:06:40Z");
        assert_eq!(changed["updated_at"], "2026-11-18T11:06:41Z");
    }
}

#[tokio::test]
async fn one_bad_change_undoes_them_all() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.create(&token, json!({"name": "old"})).await;
    let changes = json!([{"op": "replace", "path": "/name", "value": "new"}, {"op": "remove", "path": "/missing"}]);
    cloud.patch(&token, &id, changes).await.refused(409, "does not exist");
    assert_eq!(cloud.show(&id).await["name"], "old");
}

#[tokio::test]
async fn an_empty_patch_changes_nothing() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.create(&token, json!({})).await;
    let before = cloud.show(&id).await;
    cloud.tick();
    assert_eq!(cloud.patch(&token, &id, json!([])).await.expect(200), before);
}

#[tokio::test]
async fn both_drafts_are_spoken_and_no_other() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.create(&token, json!({"name": "old"})).await;
    let send = async |kind: &str, body: Value| {
        let headers = [("x-auth-token", token.as_str()), ("content-type", kind)];
        cloud.send("PATCH", &image(&id), &headers, Body::from(body.to_string())).await
    };
    let old = json!([{"replace": "/name", "value": "older"}]);
    send("application/openstack-images-v2.0-json-patch", old.clone()).await.expect(200);
    send("application/openstack-images-v2.1-json-patch; charset=utf-8", json!([])).await.expect(200);
    send("application/json", old).await.refused(415, "v2.1-json-patch");
    send("application/openstack-images-v2.1-json-patch", json!({})).await.expect(400);
    let headers = [("x-auth-token", token.as_str()), ("content-type", "application/openstack-images-v2.1-json-patch")];
    cloud.send("PATCH", &image(&id), &headers, Body::from("[")).await.expect(400);
    assert_eq!(cloud.show(&id).await["name"], "older");
}

#[tokio::test]
async fn formats_change_until_there_are_data() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.active(&token, b"data").await;
    let set = |value: &str| json!([{"op": "replace", "path": "/disk_format", "value": value}]);
    cloud.patch(&token, &id, set("qcow2")).await.refused(403, "disk_format");
    cloud.patch(&token, &id, set("raw")).await.expect(200);
    cloud.patch(&token, &id, json!([{"op": "replace", "path": "/size", "value": 1}])).await.refused(403, "read-only");
}

#[tokio::test]
async fn two_changes_at_once_both_happen() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let id = cloud.create(&token, json!({})).await;
        let set = |at: usize| {
            let (cloud, token, id) = (&cloud, &token, &id);
            async move {
                let change = json!([{"op": "add", "path": format!("/p{at}"), "value": "x"}]);
                cloud.patch(token, id, change).await.expect(200);
            }
        };
        futures_util::future::join_all((0..8).map(set)).await;
        let image = cloud.show(&id).await;
        assert!((0..8).all(|at| image[format!("p{at}")] == "x"), "{engine:?}: {image}");
    }
}
