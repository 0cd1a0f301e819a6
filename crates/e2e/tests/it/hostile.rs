//! Bad input gets its precise answer, and leaves nothing behind.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use umbel_client::{Auth, Body, Call, Cloud, CloudConfig, HttpTransport, Transport, collect};
use umbel_core::Error;
use umbel_testkit::{TestCloud, until};

/// Status and body of a call.
async fn answer(cloud: &Cloud, call: Call<'_>) -> (u16, Value) {
    let response = cloud.send(call).await.unwrap();
    let status: StatusCode = response.status();
    let bytes = collect(response.into_body(), 1 << 20).await.unwrap();
    (status.as_u16(), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn post<'a>(service: &'a str, path: &'a str, body: impl Into<Bytes>) -> Call<'a> {
    Call::new(service, Method::POST, path)
        .headers(&[("content-type", "application/json")])
        .body(Body::Bytes(body.into()))
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_so() {
    let test = TestCloud::start(|_| {}).await;
    let cloud = &test.admin;
    let lists =
        [("compute", "/servers"), ("image", "/v2/images"), ("block-storage", "/volumes"), ("identity", "/v3/users")];
    for (service, path) in lists {
        let url = format!("{}{path}", cloud.endpoint(service).unwrap());
        let request = http::Request::get(url).header("x-auth-token", "forged").body(Body::Empty).unwrap();
        let refused = HttpTransport::new(false).unwrap().send(request).await.unwrap();
        assert_eq!(refused.status(), 401, "{service}");
    }

    let flavor = json!({"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1, "id": "f"}}).to_string();
    assert_eq!(answer(cloud, post("compute", "/flavors", flavor)).await.0, 200);
    let unknown = json!({"server": {
        "name": "x", "imageRef": "6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d", "flavorRef": "f", "networks": "none"
    }});
    let (status, body) = answer(cloud, post("compute", "/servers", unknown.to_string()).version("2.60")).await;
    assert_eq!(status, 400, "{body}");
    assert!(body["badRequest"]["message"].as_str().unwrap().contains("image"), "{body}");

    let huge = json!({"server": {"name": "x".repeat(200_000)}}).to_string();
    assert_eq!(answer(cloud, post("compute", "/servers", huge)).await.0, 413);
    assert_eq!(answer(cloud, Call::new("compute", Method::GET, "/servers").version("2.999")).await.0, 406);
    assert_eq!(answer(cloud, post("compute", "/servers", "{")).await.0, 400);
    assert_eq!(answer(cloud, post("compute", "/servers", "[]")).await.0, 400);
    assert_eq!(answer(cloud, Call::new("compute", Method::GET, "/servers/none")).await.0, 404);
    assert_eq!(answer(cloud, Call::new("compute", Method::GET, "/no-such-path")).await.0, 404);
    test.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_no_token_are_refused() {
    let test = TestCloud::start(|_| {}).await;
    let transport = HttpTransport::new(false).unwrap();
    let mut config: CloudConfig = test.running.admin();
    config.auth.password = Some("wrong".to_owned());
    assert_eq!(Cloud::login(&config, &transport).await.unwrap_err().kind().status(), 401);
    config.auth.username = Some("nobody".to_owned());
    assert_eq!(Cloud::login(&config, &transport).await.unwrap_err().kind().status(), 401);
    test.stop().await;
}

#[tokio::test]
async fn another_projects_server_is_not_there() {
    let test = TestCloud::start(|_| {}).await;
    let admin = &test.admin;
    let server =
        umbel_client::NewServer { name: "mine", image_id: &image(admin, b"x").await, flavor_id: "f", count: 1 };
    let flavor = json!({"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1, "id": "f"}});
    let _: Value = admin.post("compute", "/flavors", None, &flavor).await.unwrap();
    let id = admin.create_server(&server).await.unwrap();
    let other = member(&test).await;
    assert_eq!(answer(&other, Call::new("compute", Method::GET, &format!("/servers/{id}"))).await.0, 404);
    assert_eq!(answer(&other, Call::new("compute", Method::DELETE, &format!("/servers/{id}"))).await.0, 404);
    assert!(other.servers("").await.unwrap().is_empty());
    assert_eq!(answer(&other, post("compute", "/flavors", flavor.to_string())).await.0, 403);
    assert_eq!(answer(&other, Call::new("compute", Method::GET, "/servers?all_tenants=1")).await.0, 403);
    test.stop().await;
}

/// A program's secret with access rules: good for what they name, and for what follows from it in other services.
#[tokio::test]
async fn a_program_is_held_to_its_access_rules() {
    let test = TestCloud::start(|_| {}).await;
    let admin = &test.admin;
    let flavor = json!({"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1, "id": "f"}});
    let _: Value = admin.post("compute", "/flavors", None, &flavor).await.unwrap();
    let image_id = image(admin, b"x").await;
    let path = format!("/v3/users/{}/application_credentials", admin.user_id);
    let rules = json!([
        {"service": "compute", "method": "POST", "path": "/v2.1/servers"},
        {"service": "compute", "method": "GET", "path": "/v2.1/servers/{server_id}"}
    ]);
    let body = json!({"application_credential": {"name": "program", "access_rules": rules}});
    let made: Value = admin.post("identity", &path, None, &body).await.unwrap();
    let text = |name: &str| made["application_credential"][name].as_str().map(str::to_owned);
    let own = test.running.admin();
    let auth = Auth {
        auth_url: own.auth.auth_url.clone(),
        application_credential_id: text("id"),
        application_credential_secret: text("secret"),
        ..Auth::default()
    };
    let config = CloudConfig { auth, ..own };
    let program = Cloud::connect(&config, std::sync::Arc::new(HttpTransport::new(false).unwrap())).await.unwrap();
    let server = umbel_client::NewServer { name: "made", image_id: &image_id, flavor_id: "f", count: 1 };
    // Compute looks at the image in the program's name, which the rules say nothing of.
    let id = program.create_server(&server).await.unwrap();
    assert_eq!(answer(&program, Call::new("compute", Method::GET, &format!("/servers/{id}"))).await.0, 200);
    for (service, method, path) in [
        ("compute", Method::GET, "/servers".to_owned()),
        ("compute", Method::DELETE, format!("/servers/{id}")),
        ("image", Method::GET, format!("/v2/images/{image_id}")),
        ("block-storage", Method::GET, "/volumes".to_owned()),
        ("identity", Method::GET, path.clone()),
    ] {
        let (status, body) = answer(&program, Call::new(service, method, &path)).await;
        assert_eq!(status, 401, "{service} {path}: {body}");
    }
    test.stop().await;
}

#[tokio::test]
async fn an_upload_cut_half_way_leaves_no_bytes() {
    let test = TestCloud::start(|_| {}).await;
    let cloud = &test.admin;
    let made: Value = cloud
        .post("image", "/v2/images", None, &json!({"name": "cut", "disk_format": "raw", "container_format": "bare"}))
        .await
        .unwrap();
    let path = format!("/v2/images/{}", made["id"].as_str().unwrap());
    let chunks = stream::iter([Ok(Bytes::from(vec![7; 1 << 20])), Err(Error::internal("the client goes away"))]);
    let file = format!("{path}/file");
    let call = Call::new("image", Method::PUT, &file)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Stream(Box::pin(chunks)));
    let _ = cloud.send(call).await;
    until::yes("the image is queued or killed", Duration::from_secs(30), async || {
        let image: Value = cloud.get("image", &path, None).await.unwrap();
        image["status"] == "queued" || image["status"] == "killed"
    })
    .await;
    let images = test.running.dir().join("pools/images");
    let id = made["id"].as_str().unwrap();
    let left = std::fs::read_dir(images)
        .unwrap()
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().contains(id)));
    assert_eq!(left.count(), 0, "bytes are left");
    test.stop().await;
}

/// An active image with these bytes.
async fn image(cloud: &Cloud, bytes: &'static [u8]) -> String {
    let body = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    let made: Value = cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/images/{id}/file");
    let call = Call::new("image", Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Bytes(Bytes::from_static(bytes)));
    cloud.bytes(call).await.unwrap();
    id
}

/// A member of another project.
async fn member(test: &TestCloud) -> Cloud {
    let admin = &test.admin;
    let made: Value =
        admin.post("identity", "/v3/projects", None, &json!({"project": {"name": "other"}})).await.unwrap();
    let project = made["project"]["id"].as_str().unwrap().to_owned();
    let user = json!({"user": {"name": "other", "password": "secret", "domain_id": "default"}});
    let made: Value = admin.post("identity", "/v3/users", None, &user).await.unwrap();
    let user = made["user"]["id"].as_str().unwrap().to_owned();
    let roles: Value = admin.get("identity", "/v3/roles?name=member", None).await.unwrap();
    let role = roles["roles"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v3/projects/{project}/users/{user}/roles/{role}");
    admin.bytes(Call::new("identity", Method::PUT, &path)).await.unwrap();
    let mut config = test.running.admin();
    config.auth.username = Some("other".to_owned());
    config.auth.password = Some("secret".to_owned());
    config.auth.project_name = Some("other".to_owned());
    Cloud::connect(&config, std::sync::Arc::new(HttpTransport::new(false).unwrap())).await.unwrap()
}
