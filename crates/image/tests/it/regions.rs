//! Imports from another region's image service, found in the catalog.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use umbel_client::{Body, Transport};
use umbel_http::{Body as ServerBody, Router};
use umbel_image::Images;
use umbel_workflow::Crash;

use crate::cloud::{Cloud, file, image, noise, send};

/// Reaches the image service of the region "far", and a catalog that names it.
struct Far(Router);

#[async_trait]
impl Transport for Far {
    async fn send(&self, request: http::Request<Body>) -> umbel_core::Result<http::Response<Body>> {
        let path = request.uri().path().to_owned();
        let token = request.headers()["x-auth-token"].to_str().unwrap().to_owned();
        if path == "/identity/v3/auth/catalog" {
            let endpoint = json!({"interface": "public", "region_id": "far", "url": "http://far/image"});
            let catalog = json!({"catalog": [{"type": "image", "endpoints": [endpoint]}]});
            return Ok(http::Response::new(Body::Bytes(catalog.to_string().into())));
        }
        let answer = send(&self.0, "GET", &path, &[("x-auth-token", &token)], ServerBody::empty()).await;
        let response = http::Response::builder().status(answer.status);
        Ok(response.body(Body::Bytes(answer.bytes)).unwrap())
    }
}

struct Near {
    cloud: Cloud,
    images: Arc<Images>,
    router: Router,
}

impl Near {
    async fn to(far: &Cloud) -> Near {
        let cloud = Cloud::new().await;
        let transport = Arc::new(Far(far.router.clone()));
        let (images, router) = cloud.in_regions(transport, "http://near/identity/v3").await;
        Near { cloud, images, router }
    }

    async fn import(&self, token: &str, id: &str, source: &str, region: &str) -> (u16, Value) {
        let method = json!({"name": "glance-download", "glance_image_id": source, "glance_region": region});
        let headers = [("x-auth-token", token), ("content-type", "application/json")];
        let body = ServerBody::from(json!({"method": method}).to_string());
        let answer = send(&self.router, "POST", &format!("{}/import", image(id)), &headers, body).await;
        (answer.status, serde_json::from_slice(&answer.bytes).unwrap_or(Value::Null))
    }

    async fn work(&self) {
        self.cloud.work_with(&self.images, Crash::never()).await;
    }
}

/// In the region "far": an image with properties.
async fn source(far: &Cloud, token: &str, bytes: &[u8]) -> String {
    let body = json!({"name": "s", "disk_format": "raw", "container_format": "bare", "hw_cpu_cores": "5",
        "os_distro": "rhel", "speed": "88mph"});
    let id = far.create(token, body).await;
    far.upload(token, &id, bytes).await.expect(204);
    id
}

#[tokio::test]
async fn an_image_of_another_region_is_fetched() {
    let far = Cloud::new().await;
    let near = Near::to(&far).await;
    let token = near.cloud.member("p");
    let bytes = noise(1, 50_000);
    let source = source(&far, &token, &bytes).await;
    let listed =
        send(&near.router, "GET", "/image/v2/info/import", &[("x-auth-token", &token)], ServerBody::empty()).await;
    assert_eq!(listed.expect(200)["import-methods"]["value"][3], "glance-download");
    let attributes = json!({"disk_format": "iso", "container_format": "ovf", "os_distro": "windows", "mine": "1"});
    let id = near.cloud.create(&token, attributes).await;
    assert_eq!(near.import(&token, &id, &source, "far").await.0, 202);
    near.work().await;
    assert_eq!(near.cloud.tasks(&id).await, [("success".to_owned(), String::new())]);
    let shown = near.cloud.show(&id).await;
    assert_eq!((&shown["disk_format"], &shown["container_format"]), (&json!("raw"), &json!("bare")));
    assert_eq!(
        (&shown["os_distro"], &shown["hw_cpu_cores"], &shown["mine"]),
        (&json!("rhel"), &json!("5"), &json!("1"))
    );
    assert!(shown.get("speed").is_none());
    assert_eq!(near.cloud.get(&token, &file(&id)).await.bytes, bytes);
}

#[tokio::test]
async fn what_the_other_region_does_not_give_leaves_the_image_as_it_was() {
    let far = Cloud::new().await;
    let near = Near::to(&far).await;
    let token = near.cloud.member("p");
    let hidden = source(&far, &far.member("q"), b"data").await;
    let queued = far.queued(&token, "raw").await;
    let attributes = json!({"disk_format": "iso", "container_format": "bare", "os_distro": "windows"});
    let missing = "36d4b546-64a2-4bb9-bdd0-ba676aa48f2c";
    for (source, region, words) in [
        (missing, "far", "No image found"),
        (hidden.as_str(), "far", "No image found"),
        (queued.as_str(), "far", "active"),
        (missing, "not a region", "not a region"),
    ] {
        let id = near.cloud.create(&token, attributes.clone()).await;
        assert_eq!(near.import(&token, &id, source, region).await.0, 202);
        near.work().await;
        let [(status, message)] = <[_; 1]>::try_from(near.cloud.tasks(&id).await).unwrap();
        assert_eq!(status, "failure");
        assert!(message.contains(words), "{message}");
        let shown = near.cloud.show(&id).await;
        assert_eq!(
            (&shown["status"], &shown["disk_format"], &shown["os_distro"]),
            (&json!("queued"), &json!("iso"), &json!("windows"))
        );
    }
    let id = near.cloud.create(&token, attributes).await;
    let (status, body) = near.import(&token, &id, "foo", "far").await;
    assert_eq!(status, 400);
    assert!(body["message"].as_str().unwrap().contains("image id does not look like a UUID"));
}

/// The content does not fit what the other region says of it, which is found out after our image was made the same.
#[tokio::test]
async fn what_was_adopted_is_given_back() {
    let far = Cloud::new().await;
    let near = Near::to(&far).await;
    let token = near.cloud.member("p");
    let source = source(&far, &token, &noise(1, 5_000)).await;
    near.cloud.world.fail_next(umbel_driver::Operation::Write, 100, umbel_core::Kind::NoSpace);
    let id =
        near.cloud.create(&token, json!({"disk_format": "iso", "container_format": "ovf", "os_distro": "w"})).await;
    assert_eq!(near.import(&token, &id, &source, "far").await.0, 202);
    near.work().await;
    let shown = near.cloud.show(&id).await;
    assert_eq!((&shown["disk_format"], &shown["container_format"]), (&json!("iso"), &json!("ovf")));
    assert_eq!((&shown["os_distro"], shown.get("hw_cpu_cores")), (&json!("w"), None));
    assert_eq!(shown["status"], "queued");
    assert!(near.cloud.disks().await.is_empty());
}

/// The token is kept in memory only.
#[tokio::test]
async fn another_process_cannot_go_on_for_the_caller() {
    let far = Cloud::new().await;
    let near = Near::to(&far).await;
    let token = near.cloud.member("p");
    let source = source(&far, &token, b"data").await;
    let id = near.cloud.queued(&token, "raw").await;
    assert_eq!(near.import(&token, &id, &source, "far").await.0, 202);
    let transport = Arc::new(Far(far.router.clone()));
    let (other, _) = near.cloud.in_regions(transport, "http://near/identity").await;
    near.cloud.work_with(&other, Crash::never()).await;
    let [(status, message)] = <[_; 1]>::try_from(near.cloud.tasks(&id).await).unwrap();
    assert!(status == "failure" && message.contains("Ask again"), "{message}");
    assert_eq!(near.cloud.show(&id).await["status"], "queued");
}
