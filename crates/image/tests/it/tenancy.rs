//! Who sees what, and who may do what.

use serde_json::{Value, json};
use umbel_api::Rule;
use umbel_db::Engine;
use umbel_http::Body;

use crate::cloud::{Cloud, file, ids, image};

const IMAGES: &str = "/image/v2/images";

#[tokio::test]
async fn no_route_answers_without_a_token() {
    let cloud = Cloud::new().await;
    let table = umbel_image::service(cloud.images.clone()).table();
    assert!(table.len() >= 25, "{}", table.len());
    let id = "6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d";
    for route in table {
        let path = route.path.replace("{image_id}", id).replace("{member_id}", "m").replace("{tag}", "t");
        let path = format!("/image{}", path.replace("{schema}", "image"));
        for token in ["", "rubbish"] {
            let answer = cloud.send(route.method.name(), &path, &[("x-auth-token", token)], Body::empty()).await;
            match route.rule {
                Rule::Public => assert!(answer.status < 400, "{} {path}: {}", route.method.name(), answer.status),
                _ => assert_eq!(answer.status, 401, "{} {path}", route.method.name()),
            }
        }
    }
}

#[tokio::test]
async fn readers_only_read() {
    let cloud = Cloud::new().await;
    let id = cloud.active(&cloud.member("p"), b"data").await;
    let reader = cloud.token("p", &["reader"]);
    cloud.get(&reader, &image(&id)).await.expect(200);
    cloud.get(&reader, IMAGES).await.expect(200);
    cloud.get(&reader, &file(&id)).await.expect(403);
    cloud.patch(&reader, &id, json!([])).await.expect(403);
    cloud.delete(&reader, &image(&id)).await.expect(403);
    cloud.upload(&reader, &id, b"x").await.expect(403);
    let stranger = cloud.token("p", &[]);
    cloud.get(&stranger, IMAGES).await.expect(403);
}

/// One image of each visibility, of project `p`.
async fn one_of_each(cloud: &Cloud) -> [String; 4] {
    let admin = cloud.admin();
    let mut all = Vec::new();
    for visibility in ["public", "community", "shared", "private"] {
        let body = json!({"visibility": visibility, "owner": "p", "disk_format": "raw", "container_format": "bare"});
        let id = cloud.create(&admin, body).await;
        cloud.upload(&admin, &id, b"data").await.expect(204);
        cloud.tick();
        all.push(id);
    }
    all.try_into().unwrap()
}

#[tokio::test]
async fn others_see_what_the_visibility_says() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let all = one_of_each(&cloud).await;
        let [public, community, shared, private] = &all;
        let other = cloud.member("q");
        for (id, seen) in [(public, true), (community, true), (shared, false), (private, false)] {
            let (get, change) = if seen { (200, 403) } else { (404, 404) };
            cloud.get(&other, &image(id)).await.expect(get);
            cloud.get(&other, &file(id)).await.expect(get);
            cloud.patch(&other, id, json!([{"op": "add", "path": "/x", "value": "1"}])).await.expect(change);
            cloud.delete(&other, &image(id)).await.expect(change);
            cloud.upload(&other, id, b"x").await.expect(change);
            cloud.call(&other, "PUT", &format!("{}/tags/t", image(id)), Value::Null).await.expect(change);
            cloud.call(&other, "POST", &format!("{}/actions/deactivate", image(id)), Value::Null).await.expect(change);
        }
        let list = async |token: &str, query: &str| {
            let mut found = ids(&cloud.get(token, &format!("{IMAGES}{query}")).await.expect(200));
            found.reverse();
            found
        };
        let own = cloud.member("p");
        assert_eq!(list(&other, "").await, [public.as_str()]);
        assert_eq!(list(&other, "?visibility=community").await, [community.as_str()]);
        assert_eq!(list(&other, "?visibility=all").await, [public.clone(), community.clone()]);
        assert_eq!(list(&other, "?visibility=private").await, Vec::<String>::new());
        assert_eq!(list(&other, "?owner=p&visibility=all").await, [public.clone(), community.clone()]);
        assert_eq!(list(&own, "").await, all);
        assert_eq!(list(&own, "?visibility=shared").await, [shared.as_str()]);
        let admin = cloud.admin();
        assert_eq!(list(&admin, "").await, [public.clone(), shared.clone(), private.clone()]);
        assert_eq!(list(&admin, "?visibility=all").await, all);
    }
}

/// A user must not reach a foreign image through a service that looks it up with its own token beside the user's.
#[tokio::test]
async fn a_services_token_widens_nothing_for_a_user() {
    let cloud = Cloud::new().await;
    let [.., private] = one_of_each(&cloud).await;
    let (other, service) = (cloud.member("q"), cloud.service());
    let headers = [("x-auth-token", other.as_str()), ("x-service-token", service.as_str())];
    cloud.send("GET", &image(&private), &headers, Body::empty()).await.expect(404);
    let locations = format!("{}/locations", image(&private));
    cloud.send("GET", &locations, &headers, Body::empty()).await.expect(404);
    cloud.get(&service, &locations).await.expect(200);
}

#[tokio::test]
async fn an_owner_does_not_publish_but_an_administrator_does() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.create(&token, json!({})).await;
    let publish = json!([{"op": "replace", "path": "/visibility", "value": "public"}]);
    cloud.patch(&token, &id, publish.clone()).await.refused(403, "publicize");
    cloud.patch(&cloud.admin(), &id, publish).await.expect(200);
    // What is public stays so when its owner changes something else.
    cloud.patch(&token, &id, json!([{"op": "add", "path": "/x", "value": "1"}])).await.expect(200);
    assert_eq!(cloud.show(&id).await["visibility"], "public");
}
