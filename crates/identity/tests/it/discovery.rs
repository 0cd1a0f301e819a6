use serde_json::{Value, json};

use crate::cloud::{Cloud, call};

#[tokio::test]
async fn versions_are_told_to_the_letter() {
    let cloud = Cloud::new().await;
    let version = json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": "http://cloud:1/identity/v3/"}],
        "media-types": [{
            "base": "application/json",
            "type": "application/vnd.openstack.identity-v3+json"
        }]
    });
    for path in ["/identity", "/identity/"] {
        let answer = cloud.get(path, "").await;
        assert_eq!(answer.headers["location"], "http://cloud:1/identity/v3/");
        assert_eq!(answer.expect(300), json!({"versions": {"values": [version.clone()]}}));
    }
    for path in ["/identity/v3", "/identity/v3/"] {
        assert_eq!(cloud.get(path, "").await.expect(200), json!({"version": version.clone()}));
    }
}

#[tokio::test]
async fn links_follow_the_proxy() {
    let cloud = Cloud::new().await;
    let headers = [("x-forwarded-host", "api.example.org"), ("x-forwarded-proto", "https")];
    let answer = call(&cloud.router, "GET", "/identity/v3", &headers, Value::Null).await.expect(200);
    assert_eq!(answer["version"]["links"][0]["href"], "https://api.example.org/identity/v3/");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_so() {
    let cloud = Cloud::new().await;
    let token = cloud.admin().await;
    let answer = cloud.get("/identity/v3/nothing", &token).await.expect(404);
    assert_eq!(answer["error"]["code"], 404);
    assert_eq!(answer["error"]["title"], "Not Found");
    cloud.call("PUT", "/identity/v3/users", &token, Value::Null).await.expect(405);
}
