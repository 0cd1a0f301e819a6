//! The default network rows, as a client without a network service in its catalog meets them.

use serde_json::{Value, json};
use umbel_compute::model::{Networks, ServerId};
use umbel_compute::store::build_requests;
use umbel_db::read;

use crate::cloud::{Client, Cloud, keys, message, new_server};

const NONE: &str = "11cdd046-5477-4aee-bff2-a31b6cafa5b1";
const AUTO: &str = "50a5612c-2668-4d4e-973d-0506b99bf159";

const MEMBERS: [&str; 11] =
    ["broadcast", "cidr", "cidr_v6", "dns1", "dns2", "gateway", "gateway_v6", "id", "label", "netmask", "netmask_v6"];

/// What the command line does with a name: show, and where that finds nothing, the list.
async fn find(client: &Client<'_>, name: &str) -> Option<String> {
    let shown = client.call("GET", &format!("/os-networks/{name}"), None).await;
    if shown.status != 404 {
        assert_eq!(shown.status, 200, "{}", shown.body);
        return shown.body["network"]["id"].as_str().map(str::to_owned);
    }
    let list = client.get("/os-networks").await;
    let found = list["networks"].as_array().unwrap().iter().find(|network| network["label"] == name)?;
    found["id"].as_str().map(str::to_owned)
}

fn with(networks: Value) -> Value {
    let mut body = new_server("vm");
    body["server"]["networks"] = networks;
    body
}

async fn networks_of(cloud: &Cloud, created: &Value) -> Networks {
    let id: ServerId = created["server"]["id"].as_str().unwrap().parse().unwrap();
    read!(cloud.api, "request", |tx| build_requests::get(tx, id).await).unwrap().unwrap().server.spec.networks
}

#[tokio::test]
async fn the_default_rows_are_found_by_label_and_by_id() {
    let cloud = Cloud::new().await;
    let reader = cloud.client("p", "reader");
    for version in ["2.1", "2.35"] {
        let client = reader.at(version);
        for (label, id) in [("none", NONE), ("auto", AUTO)] {
            assert_eq!(find(&client, label).await.as_deref(), Some(id));
            assert_eq!(find(&client, id).await.as_deref(), Some(id));
            let shown = client.get(&format!("/os-networks/{id}")).await;
            assert_eq!(
                (keys(&shown), keys(&shown["network"])),
                (vec!["network".into()], MEMBERS.map(Into::into).into())
            );
            assert_eq!((&shown["network"]["label"], &shown["network"]["cidr"]), (&json!(label), &Value::Null));
        }
        assert_eq!(client.get("/os-networks").await["networks"].as_array().unwrap().len(), 2);
        assert_eq!(find(&client, "private").await, None);
        assert_eq!(find(&client, "11111111-2222-3333-4444-555555555555").await, None);
        let missing = client.expect(404, "GET", "/os-networks/none", None).await;
        assert_eq!(message(&missing), "Network not found.");
    }
}

#[tokio::test]
async fn the_proxy_ends_with_2_35() {
    let cloud = Cloud::new().await;
    for version in ["2.36", "2.104"] {
        let client = cloud.member().at(version);
        client.expect(404, "GET", "/os-networks", None).await;
        client.expect(404, "GET", &format!("/os-networks/{NONE}"), None).await;
    }
}

#[tokio::test]
async fn the_id_of_a_default_row_is_as_good_as_its_word() {
    let cloud = Cloud::new().await;
    let cases = [("none", NONE, Networks::None), ("auto", AUTO, Networks::Auto)];
    for (word, id, want) in cases {
        for (version, networks) in [
            ("2.100", json!([{"uuid": id}])),
            ("2.100", json!([{"uuid": id.to_uppercase()}])),
            ("2.1", json!([{"uuid": id}])),
            ("2.100", json!(word)),
        ] {
            let client = cloud.member().at(version);
            let mut body = with(networks.clone());
            body["server"].as_object_mut().unwrap().remove("block_device_mapping_v2");
            let created = client.expect(202, "POST", "/servers", Some(body)).await;
            assert_eq!(networks_of(&cloud, &created).await, want, "{networks} at {version}");
        }
    }
}

#[tokio::test]
async fn a_default_row_stands_alone() {
    let cloud = Cloud::new().await;
    let other = "11111111-2222-3333-4444-555555555555";
    let refused = [
        json!([{"uuid": other}]),
        json!([{"port": NONE}]),
        json!([{"uuid": NONE}, {"uuid": NONE}]),
        json!([{"uuid": NONE}, {"uuid": AUTO}]),
        json!([{"uuid": AUTO}, {"uuid": other}]),
        json!([{"uuid": AUTO, "port": other}]),
        json!([{"uuid": AUTO, "fixed_ip": "192.0.2.7"}]),
        json!([{"uuid": AUTO, "tag": "nic0"}]),
        json!([{}]),
    ];
    for networks in refused {
        let answer = cloud.member().call("POST", "/servers", Some(with(networks.clone()))).await;
        assert_eq!(answer.status, 400, "{networks} {}", answer.body);
        assert!(message(&answer.body).contains("network service is not available"), "{}", answer.body);
    }
    assert!(cloud.member().get("/servers").await["servers"].as_array().unwrap().is_empty());
}
