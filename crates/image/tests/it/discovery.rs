//! Version documents, schemas, information about the site.

use serde_json::json;
use umbel_db::Engine;
use umbel_http::Body;
use umbel_image::Config;

use crate::cloud::Cloud;

#[tokio::test]
async fn versions_are_told_where_clients_look() {
    let cloud = Cloud::new().await;
    for (path, status) in [("/image", 300), ("/image/", 300), ("/image/v2", 300), ("/image/versions", 200)] {
        let body = cloud.send("GET", path, &[], Body::empty()).await.expect(status);
        let versions = body["versions"].as_array().unwrap();
        assert_eq!(
            versions[0],
            json!({"id": "v2.17", "status": "CURRENT",
                "links": [{"rel": "self", "href": "http://cloud:1/image/v2/"}]}),
            "{path}"
        );
        assert_eq!(versions.last().unwrap()["id"], "v2.0");
        assert_eq!(versions.iter().filter(|version| version["status"] == "CURRENT").count(), 1);
    }
}

#[tokio::test]
async fn schemas_name_what_bodies_hold() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    for name in ["image", "images", "member", "members", "task", "tasks"] {
        let schema = cloud.get(&token, &format!("/image/v2/schemas/{name}")).await.expect(200);
        assert_eq!(schema["name"], name);
    }
    cloud.get(&token, "/image/v2/schemas/other").await.expect(404);
    let schema = cloud.get(&token, "/image/v2/schemas/image").await.expect(200);
    let id = cloud.active(&token, b"data").await;
    for name in cloud.show(&id).await.as_object().unwrap().keys() {
        assert!(schema["properties"].get(name).is_some(), "the schema lacks {name}");
    }
}

#[tokio::test]
async fn the_site_is_described() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let import = cloud.get(&token, "/image/v2/info/import").await.expect(200);
    assert_eq!(import["import-methods"]["value"], json!(["glance-direct", "web-download", "copy-image"]));
    let stores = cloud.get(&token, "/image/v2/info/stores").await.expect(200);
    assert_eq!(stores, json!({"stores": [{"id": "fast", "default": "true"}, {"id": "slow"}]}));
    cloud.get(&token, "/image/v2/info/stores/detail").await.expect(403);
    let detail = cloud.get(&cloud.admin(), "/image/v2/info/stores/detail").await.expect(200);
    let location = cloud.pool.location("any", "snap");
    assert_eq!(detail["stores"][0]["type"], location.scheme);
    assert_eq!(detail["stores"][0]["properties"]["pool"], location.pool);
}

#[tokio::test]
async fn stores_have_weights_and_descriptions() {
    let config = Config {
        store_weights: [("slow".to_owned(), 7)].into(),
        store_descriptions: [("fast".to_owned(), "Near".to_owned())].into(),
        ..Config::default()
    };
    let cloud = Cloud::with(Engine::Sqlite, config).await;
    let detail = cloud.get(&cloud.admin(), "/image/v2/info/stores/detail").await.expect(200);
    assert_eq!((&detail["stores"][0]["weight"], &detail["stores"][1]["weight"]), (&json!(0), &json!(7)));
    assert_eq!(detail["stores"][0]["description"], "Near");
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    for path in ["/image/v3/images", "/image/v2/images/x", "/image/v2/images/6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d"] {
        cloud.get(&token, path).await.expect(404);
    }
    cloud.call(&token, "PUT", "/image/v2/images", json!({})).await.expect(405);
    cloud.delete(&token, "/image/v2/images").await.expect(405);
    // An id that got lost.
    cloud.get(&token, "/image/v2/images/").await.expect(404);
    cloud.delete(&token, "/image/v2/images/").await.expect(404);
}
