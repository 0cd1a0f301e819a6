//! A whole cloud on database servers: the same main job, and nothing of it in files.

use std::time::Duration;

use serde_json::{Value, json};
use umbel::config::Config;
use umbel_client::{Body, Call, NewServer};
use umbel_testkit::{TestCloud, fresh_database};

const LIMIT: Duration = Duration::from_secs(60);

async fn main_job(engine: umbel_db::Engine) {
    let mut urls = Vec::new();
    for _ in 0..6 {
        urls.push(Some(fresh_database(engine).await));
    }
    let test = TestCloud::start(|config: &mut Config| {
        let databases = &mut config.database;
        databases.connections = 4;
        databases.identity = urls.pop().flatten();
        databases.image = urls.pop().flatten();
        databases.volume = urls.pop().flatten();
        databases.api = urls.pop().flatten();
        databases.cell0 = urls.pop().flatten();
        databases.cells = [("cell1".to_owned(), urls.pop().flatten())].into();
    })
    .await;
    let cloud = &test.admin;
    let body = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    let image: Value = cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let image = image["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/images/{image}/file");
    let call = Call::new("image", http::Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Bytes(vec![1; 1 << 20].into()));
    cloud.bytes(call).await.unwrap();
    let new = NewServer { name: "s", image_id: &image, flavor_id: "42", count: 3 };
    let first = cloud.create_server(&new).await.unwrap();
    cloud.wait_active(&first, Duration::from_millis(20), LIMIT).await.unwrap();
    let servers = cloud.servers("s").await.unwrap();
    assert_eq!(servers.len(), 3);
    for server in servers {
        cloud.wait_active(&server.id, Duration::from_millis(20), LIMIT).await.unwrap();
        cloud.delete_server(&server.id).await.unwrap();
        cloud.wait_gone(&server.id, Duration::from_millis(20), LIMIT).await.unwrap();
    }
    let files = std::fs::read_dir(test.running.dir().join("db")).unwrap().count();
    assert_eq!(files, 0, "something is in files");
    test.stop().await;
}

#[tokio::test]
async fn the_main_job_on_postgresql() {
    main_job(umbel_db::Engine::Postgres).await;
}

#[tokio::test]
async fn the_main_job_on_mariadb() {
    main_job(umbel_db::Engine::MariaDb).await;
}

/// A server that finds no host is in cell0, in ERROR, and its fault is the scheduler's funnel.
#[tokio::test]
async fn a_server_without_a_host_tells_the_funnel() {
    let test = TestCloud::start(|_| {}).await;
    let cloud = &test.admin;
    let flavor = json!({"flavor": {"name": "huge", "ram": 1 << 30, "vcpus": 1, "disk": 1, "id": "huge"}});
    let _: Value = cloud.post("compute", "/flavors", None, &flavor).await.unwrap();
    let quota = json!({"quota_set": {"ram": -1}}).to_string();
    let path = format!("/os-quota-sets/{}", cloud.project_id.as_ref().unwrap());
    let call = Call::new("compute", http::Method::PUT, &path)
        .headers(&[("content-type", "application/json")])
        .body(Body::Bytes(quota.into()));
    cloud.bytes(call).await.unwrap();
    let body = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    let image: Value = cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let image = image["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/images/{image}/file");
    let call = Call::new("image", http::Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Bytes(vec![1; 4096].into()));
    cloud.bytes(call).await.unwrap();
    let new = NewServer { name: "s", image_id: &image, flavor_id: "huge", count: 1 };
    let id = cloud.create_server(&new).await.unwrap();
    let error = cloud.wait_active(&id, Duration::from_millis(20), LIMIT).await.unwrap_err();
    assert!(error.message().contains("No valid host was found. 1 host ->"), "{error}");
    cloud.delete_server(&id).await.unwrap();
    cloud.wait_gone(&id, Duration::from_millis(20), LIMIT).await.unwrap();
    test.stop().await;
}
