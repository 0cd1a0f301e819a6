use serde_json::{Value, json};

use crate::cloud::{Cloud, keys};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0SGDJfpZnRWXm1aWA1JcOMJzPTYQmxQ6SL1sKXEuKp me@host";

fn import(name: &str) -> Value {
    json!({"keypair": {"name": name, "public_key": KEY}})
}

#[tokio::test]
async fn keys_are_made_before_2_92_and_imported_always() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    let made = member.at("2.1").expect(200, "POST", "/os-keypairs", Some(json!({"keypair": {"name": "old"}}))).await;
    assert_eq!(keys(&made["keypair"]), ["fingerprint", "name", "private_key", "public_key", "user_id"]);
    assert!(made["keypair"]["private_key"].as_str().unwrap().starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
    member.expect(400, "POST", "/os-keypairs", Some(json!({"keypair": {"name": "new"}}))).await;
    let imported = member.expect(201, "POST", "/os-keypairs", Some(import("mine"))).await;
    assert_eq!(keys(&imported["keypair"]), ["fingerprint", "name", "public_key", "type", "user_id"]);
    member.expect(409, "POST", "/os-keypairs", Some(import("mine"))).await;
    for bad in ["", " x", "a/b", &"k".repeat(256)] {
        member.expect(400, "POST", "/os-keypairs", Some(import(bad))).await;
    }
    let broken = json!({"keypair": {"name": "broken", "public_key": "ssh-rsa JUNK nova@ubuntu"}});
    member.expect(400, "POST", "/os-keypairs", Some(broken)).await;
    member.expect(400, "POST", "/os-keypairs", Some(json!({"keypair": {"name": "x", "public_key": ""}}))).await;
}

#[tokio::test]
async fn keys_are_shown_listed_and_deleted() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    for name in ["a", "b", "c"] {
        member.expect(201, "POST", "/os-keypairs", Some(import(name))).await;
    }
    let shown = member.get("/os-keypairs/a").await["keypair"].clone();
    let row = ["created_at", "deleted", "deleted_at", "fingerprint", "id", "name", "public_key", "type", "updated_at"];
    assert_eq!(keys(&shown), [row.as_slice(), &["user_id"]].concat());
    assert_eq!(keys(&member.at("2.1").get("/os-keypairs/a").await["keypair"]).len(), 9);
    let list = member.get("/os-keypairs").await;
    assert_eq!(keys(&list["keypairs"][0]["keypair"]), ["fingerprint", "name", "public_key", "type"]);
    let page = member.get("/os-keypairs?limit=2").await;
    let next = page["keypairs_links"][0]["href"].as_str().unwrap().split_once("/v2.1").unwrap().1.to_owned();
    assert_eq!(member.get(&next).await["keypairs"][0]["keypair"]["name"], json!("c"));
    assert!(cloud.client("q", "member").get("/os-keypairs").await["keypairs"].as_array().unwrap().is_empty());
    // Others' keys are for administrators, from 2.10.
    cloud.client("q", "member").expect(403, "GET", "/os-keypairs?user_id=p-user", None).await;
    let of = cloud.admin().get("/os-keypairs?user_id=p-user").await;
    assert_eq!(of["keypairs"].as_array().unwrap().len(), 3);
    member.at("2.1").expect(202, "DELETE", "/os-keypairs/a", None).await;
    member.expect(204, "DELETE", "/os-keypairs/b", None).await;
    member.expect(404, "DELETE", "/os-keypairs/b", None).await;
    member.expect(404, "GET", "/os-keypairs/b", None).await;
}

#[tokio::test]
async fn a_server_keeps_its_key() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    member.expect(201, "POST", "/os-keypairs", Some(import("mine"))).await;
    let mut body = crate::cloud::new_server("vm");
    body["server"]["key_name"] = json!("mine");
    let id = member.expect(202, "POST", "/servers", Some(body)).await["server"]["id"].as_str().unwrap().to_owned();
    member.expect(204, "DELETE", "/os-keypairs/mine", None).await;
    let shown = member.get(&format!("/servers/{id}")).await;
    assert_eq!(shown["server"]["key_name"], json!("mine"));
}

#[tokio::test]
async fn keys_have_a_quota() {
    let cloud = Cloud::new().await;
    let limit = json!({"quota_set": {"key_pairs": 1}});
    cloud.admin().expect(200, "PUT", "/os-quota-sets/p", Some(limit)).await;
    cloud.member().expect(201, "POST", "/os-keypairs", Some(import("a"))).await;
    let refused = cloud.member().expect(403, "POST", "/os-keypairs", Some(import("b"))).await;
    assert_eq!(crate::cloud::message(&refused), "Quota exceeded, too many key pairs.");
}
