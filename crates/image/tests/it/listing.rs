//! Lists: filters, order, pages.

use serde_json::{Value, json};
use umbel_core::{Rng, SeededRng};
use umbel_db::Engine;

use crate::cloud::{Cloud, ids};

const IMAGES: &str = "/image/v2/images";

async fn list(cloud: &Cloud, query: &str) -> Value {
    cloud.get(&cloud.member("p"), &format!("{IMAGES}{query}")).await.expect(200)
}

async fn names(cloud: &Cloud, query: &str) -> Vec<String> {
    let body = list(cloud, query).await;
    let mut names: Vec<String> =
        body["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn filters_choose() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        for (name, more) in [
            ("a", json!({"disk_format": "raw", "container_format": "bare", "tags": ["x", "y"], "os_distro": "debian"})),
            ("b", json!({"disk_format": "raw", "container_format": "bare", "tags": ["x"], "os_distro": "Debian"})),
            ("c, d", json!({"disk_format": "qcow2", "container_format": "bare", "protected": true})),
            ("e", json!({"os_hidden": true, "visibility": "private", "min_ram": 64})),
        ] {
            let mut body = more.clone();
            body["name"] = name.into();
            let id = cloud.create(&token, body).await;
            if more["disk_format"] == "raw" {
                cloud.upload(&token, &id, &vec![1; name.as_bytes()[0].into()]).await.expect(204);
            }
            cloud.tick();
        }
        let first = list(&cloud, "?name=a").await["images"][0].clone();
        let id = first["id"].as_str().unwrap();
        let checks: &[(&str, &[&str])] = &[
            ("", &["a", "b", "c, d"]),
            ("?name=b", &["b"]),
            ("?name=in:a,b", &["a", "b"]),
            ("?name=in:%22c,%20d%22,a", &["a", "c, d"]),
            ("?name=A", &[]),
            ("?name=%25", &[]),
            ("?status=active", &["a", "b"]),
            ("?status=queued", &["c, d"]),
            ("?disk_format=qcow2", &["c, d"]),
            ("?disk_format=in:raw,qcow2", &["a", "b", "c, d"]),
            ("?container_format=bare&disk_format=raw", &["a", "b"]),
            ("?tag=x", &["a", "b"]),
            ("?tag=x&tag=y", &["a"]),
            ("?tag=z", &[]),
            ("?os_distro=debian", &["a"]),
            ("?os_distro=debian&hw_disk_bus=scsi", &[]),
            ("?protected=true", &["c, d"]),
            ("?protected=false", &["a", "b"]),
            ("?os_hidden=true", &["e"]),
            ("?os_hidden=True&min_ram=64", &["e"]),
            ("?visibility=private", &[]),
            ("?visibility=private&os_hidden=true", &["e"]),
            ("?visibility=shared", &["a", "b", "c, d"]),
            ("?owner=p", &["a", "b", "c, d"]),
            ("?owner=q", &[]),
            ("?size=97", &["a"]),
            ("?size_min=98", &["b"]),
            ("?size_min=97&size_max=98", &["a", "b"]),
            ("?size_max=96", &[]),
            ("?created_at=2026-11-18T11:06:41Z", &["b"]),
            ("?created_at=neq:2026-11-18T11:06:41Z", &["a", "c, d"]),
            ("?created_at=gt:2026-11-18T11:06:41Z", &["c, d"]),
            ("?created_at=gte:2026-11-18T11:06:41Z", &["b", "c, d"]),
            ("?created_at=lt:2026-11-18T11:06:41Z", &["a"]),
            ("?created_at=lte:2026-11-18T11:06:41Z", &["a", "b"]),
            ("?updated_at=2026-11-18T11:06:42Z", &["c, d"]),
        ];
        for (query, want) in checks {
            assert_eq!(names(&cloud, query).await, *want, "{engine:?}: {query}");
        }
        let hash = first["os_hash_value"].as_str().unwrap();
        assert_eq!(names(&cloud, &format!("?os_hash_value={hash}")).await, ["a"]);
        assert_eq!(names(&cloud, &format!("?checksum={}", first["checksum"].as_str().unwrap())).await, ["a"]);
        assert_eq!(names(&cloud, &format!("?id={id}")).await, ["a"]);
        assert_eq!(names(&cloud, &format!("?id=in:{id},x")).await, ["a"]);
    }
}

#[tokio::test]
async fn a_page_tells_where_the_next_is() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let mut made = Vec::new();
    for _ in 0..30 {
        made.push(cloud.create(&token, json!({"name": "n"})).await);
        cloud.tick();
    }
    made.reverse();
    let body = list(&cloud, "").await;
    assert_eq!(ids(&body), made[..25]);
    assert_eq!((&body["first"], &body["schema"]), (&json!("/v2/images"), &json!("/v2/schemas/images")));
    assert_eq!(body["next"], format!("/v2/images?marker={}", made[24]));
    let rest = list(&cloud, &format!("?marker={}", made[24])).await;
    assert_eq!(ids(&rest), made[25..]);
    assert!(rest.get("next").is_none());
    let page = list(&cloud, "?limit=10&name=n&sort=created_at:asc").await;
    assert_eq!(page["first"], "/v2/images?limit=10&name=n&sort=created_at%3Aasc");
    assert_eq!(page["next"], format!("/v2/images?limit=10&name=n&sort=created_at%3Aasc&marker={}", made[20]));
    // A full last page has no next.
    assert!(list(&cloud, "?limit=30").await.get("next").is_none());
    assert!(ids(&list(&cloud, "?limit=0").await).is_empty());
    assert_eq!(ids(&list(&cloud, "?limit=100000").await).len(), 30);
}

#[tokio::test]
async fn markers_that_nobody_sees_are_refused() {
    let cloud = Cloud::new().await;
    let (own, other) = (cloud.member("p"), cloud.member("q"));
    let hidden = cloud.create(&other, json!({"visibility": "private"})).await;
    for marker in [hidden.as_str(), "6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d", "x"] {
        cloud.get(&own, &format!("{IMAGES}?marker={marker}")).await.expect(400);
    }
    for query in
        ["?limit=x", "?limit=-1", "?sort_key=owner", "?sort_dir=up", "?visibility=x", "?changes-since=2026-01-01"]
    {
        cloud.get(&own, &format!("{IMAGES}{query}")).await.expect(400);
    }
}

/// Walks pages of every size in many orders and compares with a plain sort of everything.
#[tokio::test]
async fn pages_together_are_the_whole_in_order() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let rng = SeededRng::new(11);
        for at in 0..40 {
            let mut body = json!({});
            // Few values and nulls, so that ties and missing ones are everywhere.
            if rng.below(4) > 0 {
                body["name"] = ["a", "B", "b", "é", ""][rng.below(5)].into();
            }
            if rng.below(3) > 0 {
                body["disk_format"] = ["raw", "iso", "qcow2"][rng.below(3)].into();
                body["container_format"] = "bare".into();
            }
            let id = cloud.create(&token, body.clone()).await;
            if body["disk_format"] == "raw" {
                cloud.upload(&token, &id, &vec![0; rng.below(3) * 100]).await.expect(204);
            }
            if at % 3 == 0 {
                cloud.tick();
            }
        }
        let everything = list(&cloud, "?limit=1000").await["images"].as_array().unwrap().clone();
        assert_eq!(everything.len(), 40);
        for order in [
            "name:asc",
            "name",
            "size:asc,name:desc",
            "status:asc,disk_format",
            "updated_at:asc",
            "id",
            "container_format:asc",
            "created_at:asc,size",
        ] {
            let whole = list(&cloud, &format!("?limit=1000&sort={order}")).await;
            check_order(whole["images"].as_array().unwrap(), order);
            let want = ids(&whole);
            assert_eq!(want.len(), 40, "{order}");
            for limit in [3, 17] {
                assert_eq!(
                    walk(&cloud, &format!("?limit={limit}&sort={order}")).await,
                    want,
                    "{engine:?} {order} {limit}"
                );
            }
        }
    }
}

/// Follows `next` until there is none.
async fn walk(cloud: &Cloud, query: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut path = format!("{IMAGES}{query}");
    loop {
        let body = cloud.get(&cloud.member("p"), &path).await.expect(200);
        all.extend(ids(&body));
        match body["next"].as_str() {
            Some(next) => path = format!("/image{next}"),
            None => return all,
        }
        assert!(all.len() <= 40, "pages repeat");
    }
}

/// Seconds are all that answers show of moments, so ties between them are not looked into.
#[track_caller]
fn check_order(images: &[Value], order: &str) {
    let keys: Vec<(&str, bool)> = order
        .split(',')
        .map(|term| term.split_once(':').map_or((term, false), |(key, direction)| (key, direction == "asc")))
        .collect();
    for pair in images.windows(2) {
        for (key, ascending) in &keys {
            let (one, two) = (rank(&pair[0][*key]), rank(&pair[1][*key]));
            if one == two {
                continue;
            }
            assert_eq!(one < two, *ascending, "{order}: {one:?}, then {two:?}");
            break;
        }
    }
}

/// Nothing comes first, then numbers by size, then texts by their bytes.
fn rank(value: &Value) -> (i64, Vec<u8>) {
    match value {
        Value::Null => (-1, Vec::new()),
        Value::Number(number) => (number.as_i64().unwrap(), Vec::new()),
        other => (-1, other.as_str().unwrap().as_bytes().to_vec()),
    }
}
