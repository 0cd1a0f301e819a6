//! Images whose data stay on the web.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use umbel_db::Engine;
use umbel_http::Body;
use umbel_image::Config;
use umbel_workflow::Crash;
use umbel_workflow::harness::at_every_moment;

use crate::cloud::{Cloud, file, image, noise};
use crate::web::{found, site, trusting};

fn config() -> Config {
    Config { web_store: Some("web".to_owned()), show_multiple_locations: true, ..trusting() }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn give(cloud: &Cloud, token: &str, id: &str, url: &str, validation: Value) -> u16 {
    let body = json!({"url": url, "validation_data": validation});
    cloud.call(token, "POST", &format!("{}/locations", image(id)), body).await.status
}

fn brief(shown: &Value) -> [Value; 4] {
    ["status", "stores", "size", "os_hash_algo"].map(|name| shown[name].clone())
}

#[tokio::test]
async fn data_on_the_web_are_read_from_there() {
    let bytes = noise(1, 100_000);
    let served = bytes.clone();
    let root = site(move |_| found(&served)).await;
    for engine in Engine::ALL {
        let cloud = Cloud::with(engine, config()).await;
        let token = cloud.member("p");
        let url = format!("{root}/disk");
        let id = cloud.queued(&token, "raw").await;
        assert_eq!(give(&cloud, &cloud.member("q"), &id, &url, Value::Null).await, 404);
        assert_eq!(give(&cloud, &token, &id, &url, Value::Null).await, 202);
        let shown = cloud.show(&id).await;
        assert_eq!(brief(&shown), [json!("active"), json!("web"), json!(100_000), json!("sha512")], "{engine:?}");
        assert_eq!(shown["os_hash_value"], json!(null));
        cloud.work().await;
        let shown = cloud.show(&id).await;
        assert_eq!(shown["os_hash_value"].as_str().map(str::len), Some(128));
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, bytes);
        let headers = [("x-auth-token", token.as_str()), ("range", "bytes=1000-1999")];
        let answer = cloud.send("GET", &file(&id), &headers, Body::empty()).await;
        assert_eq!((answer.status, &answer.bytes[..]), (206, &bytes[1000..2000]));
        cloud.delete(&token, &image(&id)).await.expect(204);
        cloud.get(&token, &image(&id)).await.expect(404);

        let checked = cloud.queued(&token, "qcow2").await;
        let hash = json!({"os_hash_algo": "sha256", "os_hash_value": sha256(&bytes)});
        assert_eq!(give(&cloud, &token, &checked, &url, hash.clone()).await, 202);
        assert_eq!(cloud.show(&checked).await["status"], "importing");
        cloud.work().await;
        let shown = cloud.show(&checked).await;
        assert_eq!(brief(&shown), [json!("active"), json!("web"), json!(100_000), json!("sha256")]);
        assert_eq!(shown["os_hash_value"], hash["os_hash_value"]);
        assert_eq!(give(&cloud, &token, &checked, &url, hash).await, 409);
        assert!(cloud.disks().await.is_empty());
    }
}

#[tokio::test]
async fn other_data_than_were_told_leave_the_image_queued() {
    let root = site(|_| found(b"other data")).await;
    let cloud = Cloud::with(Engine::Sqlite, config()).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    for wrong in [
        json!({"os_hash_value": "0".repeat(64)}),
        json!({"os_hash_algo": "sha512", "os_hash_value": "0".repeat(64)}),
        json!({"os_hash_algo": "sha1", "os_hash_value": "0".repeat(40)}),
    ] {
        assert_eq!(give(&cloud, &token, &id, &format!("{root}/x"), wrong).await, 400);
    }
    let hash = json!({"os_hash_algo": "sha256", "os_hash_value": "0".repeat(64)});
    assert_eq!(give(&cloud, &token, &id, &format!("{root}/x"), hash).await, 202);
    cloud.work().await;
    let shown = cloud.show(&id).await;
    assert_eq!(brief(&shown), [json!("queued"), json!("web"), json!(null), json!(null)]);
    let [(status, message)] = <[_; 1]>::try_from(cloud.tasks(&id).await).unwrap();
    assert!(status == "failure" && message.contains("hash"), "{message}");
    assert!(cloud.get(&token, &file(&id)).await.bytes.is_empty());
    // It can still become an image.
    cloud.upload(&token, &id, b"data").await.expect(204);
    let shown = cloud.show(&id).await;
    assert_eq!((&shown["status"], &shown["stores"]), (&json!("active"), &json!("fast")));
}

/// An image in use keeps the hash that it was told by, whatever is at its URL by the time another process looks.
#[tokio::test]
async fn what_is_known_of_data_stays_whenever_a_process_dies() {
    let places = at_every_moment(async |crash| {
        let changed = Arc::new(AtomicBool::new(false));
        let seen = changed.clone();
        let root = site(move |_| found(if seen.load(Ordering::SeqCst) { b"DATA" } else { b"data" })).await;
        let cloud = Cloud::with(Engine::Sqlite, config()).await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        assert_eq!(give(&cloud, &token, &id, &format!("{root}/x"), Value::Null).await, 202);
        cloud.work_with(&cloud.images, crash.clone()).await;
        let before = cloud.show(&id).await;
        let known = before["os_hash_value"].is_string();
        changed.store(known, Ordering::SeqCst);
        let (other, _) = cloud.another().await;
        cloud.work_with(&other, Crash::never()).await;
        let shown = cloud.show(&id).await;
        assert!(shown["os_hash_value"].is_string(), "{}", crash.place());
        if known {
            assert_eq!(shown, before, "{}", crash.place());
        }
        assert_eq!(cloud.tasks(&id).await, [("success".to_owned(), String::new())], "{}", crash.place());
    })
    .await;
    assert!(places.len() >= 2, "{places:?}");
}

#[tokio::test]
async fn locations_are_changed_where_they_are_shown() {
    let root = site(|_| found(b"data")).await;
    let place = |path: &str| json!({"url": format!("{root}/{path}"), "metadata": {"of": path}});
    let cloud = Cloud::with(Engine::Sqlite, config()).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let change = async |token: &str, op: &str, path: &str, value: Value| {
        cloud.patch(token, &id, json!([{"op": op, "path": path, "value": value}])).await
    };
    for url in ["gopher://a.example", "http://localhost:1/x", "rbd://a/b/c/d"] {
        change(&token, "add", "/locations/-", json!({"url": url})).await.expect(400);
    }
    change(&token, "add", "/locations/-", place("a")).await.expect(200);
    change(&token, "add", "/locations/0", place("b")).await.expect(200);
    let shown = cloud.show(&id).await;
    assert_eq!(brief(&shown), [json!("active"), json!("web"), json!(4), json!(null)]);
    assert_eq!(shown["locations"][0]["metadata"], json!({"of": "b", "store": "web"}));
    assert_eq!(shown["locations"][1]["url"], place("a")["url"]);
    let mut locations = shown["locations"].clone();
    locations[0]["metadata"]["of"] = json!("c");
    change(&token, "replace", "/locations", locations.clone()).await.expect(200);
    change(&token, "replace", "/locations", json!([place("a")])).await.expect(400);
    assert_eq!(cloud.show(&id).await["locations"], locations);
    let hashed = json!({"url": format!("{root}/d"), "validation_data": {"checksum": "0".repeat(32)}});
    change(&token, "add", "/locations/-", hashed).await.expect(409);
    change(&token, "remove", "/locations/0", Value::Null).await.expect(403);
    change(&cloud.admin(), "remove", "/locations/2", Value::Null).await.expect(404);
    change(&cloud.admin(), "remove", "/locations/0", Value::Null).await.expect(200);
    change(&cloud.admin(), "remove", "/locations/0", Value::Null).await.expect(403);
    assert_eq!(cloud.show(&id).await["locations"][0]["url"], place("a")["url"]);
    // Data of a store stay alone.
    let stored = cloud.queued(&token, "raw").await;
    cloud.upload(&token, &stored, b"data").await.expect(204);
    assert_eq!(cloud.show(&stored).await["locations"].as_array().map(Vec::len), Some(1));
    cloud.patch(&token, &stored, json!([{"op": "add", "path": "/locations/-", "value": place("a")}])).await.expect(409);
}

#[tokio::test]
async fn locations_that_are_not_shown_stay_as_they_are() {
    let cloud = Cloud::with(Engine::Sqlite, trusting()).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let change = json!([{"op": "add", "path": "/locations/-", "value": {"url": "http://a.example/x"}}]);
    cloud.patch(&token, &id, change).await.refused(403, "invisible");
    assert_eq!(give(&cloud, &token, &id, "http://127.0.0.1/x", Value::Null).await, 400);
    assert!(cloud.show(&id).await.get("locations").is_none());
}

#[tokio::test]
async fn data_that_change_or_go_are_not_sent() {
    let gone = Arc::new(AtomicBool::new(false));
    let seen = gone.clone();
    let root = site(move |_| found(if seen.load(Ordering::SeqCst) { b"something else" } else { b"data" })).await;
    let cloud = Cloud::with(Engine::Sqlite, Config { do_secure_hash: false, ..config() }).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let hash = json!({"os_hash_algo": "sha256", "os_hash_value": "0".repeat(64)});
    assert_eq!(give(&cloud, &token, &id, &format!("{root}/x"), hash).await, 202);
    let shown = cloud.show(&id).await;
    assert_eq!(brief(&shown), [json!("active"), json!("web"), json!(4), json!("sha256")]);
    assert_eq!(cloud.tasks(&id).await, [("success".to_owned(), String::new())]);
    assert_eq!(&cloud.get(&token, &file(&id)).await.bytes[..], b"data");
    gone.store(true, Ordering::SeqCst);
    cloud.get(&token, &file(&id)).await.refused(503, "changed");
}
