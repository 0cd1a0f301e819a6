//! Who may do what, for every route there is.

use umbel_api::{Method, Rule};
use umbel_compute::service;

use crate::cloud::{Client, Cloud};

/// The path with a value for each of its parameters.
fn filled(path: &str) -> String {
    path.strip_prefix("/v2.1")
        .unwrap()
        .split('/')
        .map(|part| if part.starts_with('{') { "x" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn every_route_wants_a_token_and_names_its_policy() {
    let cloud = Cloud::new().await;
    let service = service(cloud.state.clone());
    let mut checked = 0;
    for route in service.table() {
        assert!(route.policy.starts_with("os_compute_api:") || route.policy.starts_with("compute:"), "{route:?}");
        if route.rule == Rule::Public {
            continue;
        }
        // The newest version that has the route.
        let minor = route.versions.max.minor.min(104);
        let client = Client { cloud: &cloud, token: None, version: format!("2.{minor}") };
        client.expect(401, route.method.name(), &filled(route.path), None).await;
        let client = Client { token: Some("forged".into()), ..client };
        client.expect(401, route.method.name(), &filled(route.path), None).await;
        checked += 1;
    }
    assert!(checked > 70, "{checked}");
}

#[tokio::test]
async fn readers_change_nothing_and_members_administer_nothing() {
    let cloud = Cloud::new().await;
    let service = service(cloud.state.clone());
    for route in service.table() {
        let minor = route.versions.max.minor.min(104);
        let client = match route.rule {
            Rule::Member => cloud.client("p", "reader"),
            Rule::Admin => cloud.client("p", "member"),
            _ => continue,
        };
        assert!(route.method != Method::Get || route.rule == Rule::Admin, "{route:?}");
        client.at(&format!("2.{minor}")).expect(403, route.method.name(), &filled(route.path), None).await;
    }
}

#[tokio::test]
async fn a_foreign_server_is_not_there() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    let foreign = cloud.client("q", "member");
    let path = format!("/servers/{id}");
    for (method, rest) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/metadata"),
        ("GET", "/tags"),
        ("GET", "/ips"),
        ("GET", "/os-interface"),
        ("GET", "/os-instance-actions"),
        ("GET", "/os-volume_attachments"),
        ("DELETE", "/tags"),
    ] {
        foreign.expect(404, method, &format!("{path}{rest}"), None).await;
    }
    for action in ["os-start", "os-stop", "lock", "os-getConsoleOutput"] {
        foreign.act(404, id, serde_json::json!({action: {}})).await;
    }
    foreign.act(404, id, serde_json::json!({"createImage": {"name": "mine"}})).await;
    let name = serde_json::json!({"server": {"name": "mine"}});
    foreign.expect(404, "PUT", &path, Some(name)).await;
    assert!(foreign.get("/servers").await["servers"].as_array().unwrap().is_empty());
    foreign.expect(403, "GET", "/servers?all_tenants=1", None).await;
    foreign.expect(400, "GET", &format!("/servers?marker={id}"), None).await;
    cloud.admin().get(&path).await;
    let all = cloud.admin().get("/servers?all_tenants=True").await;
    assert_eq!(all["servers"].as_array().unwrap().len(), 1);
}
