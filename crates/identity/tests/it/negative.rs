//! Nothing that a client can send makes the service fail: 4xx, never 5xx.

use serde_json::{Value, json};
use umbel_api::Method;
use umbel_identity::service;

use crate::cloud::{Cloud, call_raw};

/// Bodies that no route takes.
fn malformed() -> Vec<Vec<u8>> {
    let texts = ["", "{", "[]", "null", "5", "\"x\"", "{}", "{\"x\": 1}", "{\"user\": {\"name\": \"\\ud800\"}}"];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.push(vec![0xff, 0xfe, b'{', b'}']);
    all.push(format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes());
    all
}

const ENTITIES: [&str; 12] = [
    "trust",
    "auth",
    "user",
    "project",
    "domain",
    "group",
    "role",
    "region",
    "service",
    "endpoint",
    "credential",
    "application_credential",
];

#[tokio::test]
async fn malformed_bodies_are_refused() {
    let cloud = Cloud::new().await;
    let token = cloud.admin().await;
    for route in service(cloud.identity.clone()).table() {
        let takes_body = match route.method {
            Method::Post | Method::Patch => true,
            Method::Put => route.path.ends_with("/tags") || route.path.starts_with("/v3/regions"),
            _ => false,
        };
        if !takes_body {
            continue;
        }
        let path = format!("/identity{}", route.path.replace(['{', '}'], ""));
        for body in malformed() {
            let headers = [("x-auth-token", token.as_str()), ("content-type", "application/json")];
            let answer = call_raw(&cloud.router, route.method.name(), &path, &headers, body.clone()).await;
            let text = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert_eq!(answer.status, 400, "{} {path} {text}: {}", route.method.name(), answer.body);
        }
    }
}

/// Wrong types in every place of every body.
#[tokio::test]
async fn wrong_types_are_refused() {
    let cloud = Cloud::new().await;
    let token = cloud.admin().await;
    let wrong = [json!(5), json!(true), json!([]), json!({}), json!([{}]), json!({"x": []}), json!("")];
    let attributes = [
        "name",
        "id",
        "enabled",
        "password",
        "domain_id",
        "parent_id",
        "options",
        "tags",
        "type",
        "blob",
        "url",
        "interface",
        "service_id",
        "region_id",
        "description",
        "user_id",
        "roles",
        "expires_at",
        "access_rules",
        "identity",
        "scope",
        "default_project_id",
        "is_domain",
        "parent_region_id",
        "trustor_user_id",
        "trustee_user_id",
        "project_id",
        "impersonation",
        "remaining_uses",
    ];
    for route in service(cloud.identity.clone()).table() {
        if !matches!(route.method, Method::Post | Method::Patch) {
            continue;
        }
        let path = format!("/identity{}", route.path.replace(['{', '}'], ""));
        for entity in ENTITIES {
            for attribute in attributes {
                for value in &wrong {
                    let body = json!({ entity: {attribute: value} });
                    let answer = cloud.call(route.method.name(), &path, &token, body.clone()).await;
                    assert!(
                        answer.status < 500,
                        "{} {path} {body}: {} {}",
                        route.method.name(),
                        answer.status,
                        answer.body
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn bad_values_are_named() {
    let cloud = Cloud::new().await;
    let token = cloud.admin().await;
    let refused = async |path: &str, body: Value| {
        let answer = cloud.call("POST", &format!("/identity/v3/{path}"), &token, body).await.expect(400);
        assert_eq!(answer["error"]["code"], 400);
        answer["error"]["message"].as_str().unwrap().to_owned()
    };
    let said = refused("users", json!({"user": {}})).await;
    assert_eq!(said, "Invalid input for field/attribute user. 'name' is a required property");
    for name in ["".to_owned(), "  ".to_owned(), "x".repeat(256)] {
        let said = refused("users", json!({"user": {"name": name}})).await;
        assert!(said.starts_with("Invalid input for field/attribute name. "), "{said}");
    }
    refused("projects", json!({"project": {"name": "x".repeat(65)}})).await;
    refused("users", json!({"user": {"name": "x", "enabled": "yes"}})).await;
    refused("users", json!({"user": {"name": "x", "password": ""}})).await;
    refused("users", json!({"user": {"name": "x", "password": "x".repeat(4097)}})).await;
    let rules = json!({"multi_factor_auth_rules": ["password"]});
    refused("users", json!({"user": {"name": "x", "options": rules}})).await;
    refused("roles", json!({"role": {"name": "x", "options": {"immutable": "yes"}}})).await;
    refused("regions", json!({"region": {"id": "a/b"}})).await;
    refused("domains", json!({"domain": {"name": "x", "explicit_domain_id": "short"}})).await;
    for query in ["limit=x", "limit=-1"] {
        cloud.get(&format!("/identity/v3/users?{query}"), &token).await.expect(400);
    }
    for limit in [0, 1] {
        let found = cloud.get(&format!("/identity/v3/users?limit={limit}"), &token).await.expect(200);
        assert_eq!(found["users"].as_array().unwrap().len(), limit);
    }
    let long = json!({"user": {"name": "x", "description": "y".repeat(200_000)}});
    cloud.call("POST", "/identity/v3/users", &token, long).await.expect(413);
    let auth = |methods: Value| json!({"auth": {"identity": methods}});
    for bad in [
        auth(json!({"methods": ["password"]})),
        auth(json!({"methods": ["token"]})),
        auth(json!({"methods": "password"})),
        auth(json!({"methods": ["password"], "password": {"user": {"name": "admin", "password": "x"}}})),
        auth(json!({"methods": ["password"], "password": {"user": {"password": "x"}}})),
        auth(json!({"methods": ["application_credential"], "application_credential": {"secret": "x"}})),
        auth(json!({"methods": ["application_credential"], "application_credential": {"name": "x", "secret": "x"}})),
    ] {
        refused("auth/tokens", bad).await;
    }
}

/// What a client may not set stays unset, and appears once.
#[tokio::test]
async fn reserved_attributes_cannot_be_made_up() {
    let cloud = Cloud::new().await;
    let token = cloud.admin().await;
    let fields = json!({
        "name": "x", "links": "l", "password_expires_at": "never", "password_hash": "h", "generation": 7, "id": "mine"
    });
    let body = cloud.call("POST", "/identity/v3/users", &token, json!({ "user": fields })).await.expect(201);
    assert_eq!(body["user"]["password_expires_at"], Value::Null);
    assert!(body["user"]["links"]["self"].is_string());
    assert_eq!(body["user"]["password_hash"], Value::Null);
    assert_ne!(body["user"]["id"], "mine");
}
