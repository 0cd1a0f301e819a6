use serde_json::json;
use umbel_auth::Visible;
use umbel_compute::Cells;
use umbel_compute::model::{Fault, Life, Want, failed};
use umbel_compute::store::{build_requests, server_map, servers};
use umbel_core::Clock;
use umbel_db::{read, tx};

use crate::cloud::{Cloud, message};

#[tokio::test]
async fn names_and_descriptions_change() {
    let cloud = Cloud::new().await;
    let building = cloud.member().create("early").await;
    let id = cloud.running("vm").await;
    for id in [building, id] {
        let body = json!({"server": {"name": "new", "description": "d", "hostname": "other"}});
        let server = cloud.member().expect(200, "PUT", &format!("/servers/{id}"), Some(body)).await;
        let server = &server["server"];
        assert_eq!((&server["name"], &server["description"]), (&json!("new"), &json!("d")));
        let shown = cloud.member().get(&format!("/servers/{id}")).await;
        assert_eq!(shown["server"]["OS-EXT-SRV-ATTR:hostname"], json!("other"));
        let body = json!({"server": {"description": null}});
        let server = cloud.member().expect(200, "PUT", &format!("/servers/{id}"), Some(body)).await;
        assert_eq!(server["server"]["description"], json!(null));
    }
    for bad in [json!({"name": ""}), json!({"name": "x".repeat(256)}), json!({"flavor": 1}), json!({"name": 1})] {
        cloud.member().expect(400, "PUT", &format!("/servers/{id}"), Some(json!({"server": bad}))).await;
    }
    let missing = "/servers/11111111-2222-3333-4444-555555555555";
    cloud.member().expect(404, "PUT", missing, Some(json!({"server": {"name": "x"}}))).await;
    cloud.member().expect(404, "DELETE", "/servers/-1", None).await;
}

#[tokio::test]
async fn a_server_is_deleted_wherever_it_is() {
    let cloud = Cloud::new().await;
    let api = &cloud.api;
    let mapped = async |id| read!(api, "map", |tx| server_map::get(tx, id, &Visible::All).await).unwrap().unwrap();

    let building = cloud.member().create("building").await;
    cloud.member().expect(204, "DELETE", &format!("/servers/{building}"), None).await;
    cloud.member().expect(404, "GET", &format!("/servers/{building}"), None).await;
    let request = read!(api, "request", |tx| build_requests::get(tx, building).await).unwrap().unwrap();
    assert!(request.deleted && mapped(building).await.queued_for_delete);

    let running = cloud.running("running").await;
    let path = format!("/servers/{running}");
    cloud.member().expect(204, "DELETE", &path, None).await;
    // It is there until its agent says that it is gone.
    let shown = cloud.member().get(&path).await;
    assert_eq!(shown["server"]["OS-EXT-STS:task_state"], json!("deleting"));
    assert!(mapped(running).await.queued_for_delete);
    let nudged = cloud.nudges.servers.lock().clone();
    assert_eq!(nudged.last().unwrap().1, running);
    cloud.member().expect(204, "DELETE", &path, None).await;
    let server = cloud.reach(running, None).await;
    assert_eq!((server.state.life, server.state.want), (Life::Deleted, Want::Absent));
    cloud.member().expect(404, "GET", &path, None).await;
    cloud.member().expect(404, "DELETE", &path, None).await;
    let actions = cloud.member().get(&format!("{path}/os-instance-actions")).await;
    let names: Vec<_> =
        actions["instanceActions"].as_array().unwrap().iter().map(|one| one["action"].clone()).collect();
    assert_eq!(names, [json!("delete")]);

    let lost = cloud.member().create("lost").await;
    let zero = cloud.cells.zero();
    let mut server = read!(api, "request", |tx| build_requests::get(tx, lost).await).unwrap().unwrap().server;
    let message = "No valid host was found. 3 hosts -> 0 with 512 MiB".to_owned();
    let fault = Fault { code: 500, message, details: Some("secret".into()), created: cloud.clock.now() };
    server.state = failed(&server, fault, cloud.clock.now());
    tx!(zero.db, "bury", |tx| servers::insert(tx, &server).await).unwrap();
    tx!(api, "bury", |tx| server_map::place(tx, lost, Cells::ZERO).await).unwrap();
    let shown = cloud.member().get(&format!("/servers/{lost}")).await;
    let fault = &shown["server"]["fault"];
    assert_eq!((&shown["server"]["status"], &fault["code"]), (&json!("ERROR"), &json!(500)));
    assert!(fault["message"].as_str().unwrap().contains("3 hosts -> 0") && fault.get("details").is_none());
    let shown = cloud.admin().get(&format!("/servers/{lost}")).await;
    assert_eq!(shown["server"]["fault"]["details"], json!("secret"));
    cloud.member().expect(204, "DELETE", &format!("/servers/{lost}"), None).await;
    cloud.member().expect(404, "GET", &format!("/servers/{lost}"), None).await;
    assert!(cloud.member().get("/servers").await["servers"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_cell_that_does_not_answer_leaves_what_the_map_knows() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    cloud.cells.with_hosts()[0].db.close().await;
    let shown = cloud.member().get(&format!("/servers/{id}")).await;
    assert_eq!(crate::cloud::keys(&shown["server"]), ["created", "id", "links", "status", "tenant_id"]);
    assert_eq!(shown["server"]["status"], json!("UNKNOWN"));
    cloud.member().at("2.68").expect(503, "GET", &format!("/servers/{id}"), None).await;
    let refused = cloud.member().act(503, id, json!({"os-stop": null})).await;
    assert!(message(&refused).contains("cell"));
}

#[tokio::test]
async fn metadata_is_kept_and_bounded() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    let id = cloud.running("vm").await;
    let path = format!("/servers/{id}/metadata");
    let set = |items| Some(json!({"metadata": items}));
    let put = member.expect(200, "PUT", &path, set(json!({"a": "1", "b": "2"}))).await;
    assert_eq!(put, json!({"metadata": {"a": "1", "b": "2"}}));
    let merged = member.expect(200, "POST", &path, set(json!({"b": "3", "c": "4"}))).await;
    assert_eq!(merged, json!({"metadata": {"a": "1", "b": "3", "c": "4"}}));
    let one = member.expect(200, "PUT", &format!("{path}/a"), Some(json!({"meta": {"a": "9"}}))).await;
    assert_eq!(one, json!({"meta": {"a": "9"}}));
    assert_eq!(member.get(&format!("{path}/a")).await, json!({"meta": {"a": "9"}}));
    member.expect(204, "DELETE", &format!("{path}/b"), None).await;
    assert_eq!(member.get(&path).await, json!({"metadata": {"a": "9", "c": "4"}}));
    member.expect(404, "GET", &format!("{path}/b"), None).await;
    member.expect(404, "DELETE", &format!("{path}/b"), None).await;
    member.expect(400, "PUT", &format!("{path}/x"), Some(json!({"meta": {"y": "1"}}))).await;
    for bad in [json!({"": "x"}), json!({"k".repeat(256): "x"}), json!({"k": "x".repeat(256)}), json!({"k": null})] {
        member.expect(400, "POST", &path, set(bad)).await;
    }
    member.expect(400, "PUT", &path, Some(json!({"meta_data": {}}))).await;
    let many: serde_json::Map<_, _> = (0..129).map(|number| (format!("k{number}"), json!("v"))).collect();
    let refused = member.expect(403, "POST", &path, set(many.into())).await;
    assert!(message(&refused).contains("exceeds 128"));
    let building = cloud.member().create("early").await;
    member.expect(409, "POST", &format!("/servers/{building}/metadata"), set(json!({"a": "b"}))).await;
    cloud.member().get(&format!("/servers/{building}/metadata")).await;
}

#[tokio::test]
async fn tags_come_and_go() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    let id = cloud.running("vm").await;
    let path = format!("/servers/{id}/tags");
    let put = member.expect(200, "PUT", &path, Some(json!({"tags": ["red", "blue"]}))).await;
    assert_eq!(put, json!({"tags": ["blue", "red"]}));
    let added = member.call("PUT", &format!("{path}/green"), None).await;
    assert_eq!(added.status, 201);
    assert!(added.headers["location"].ends_with(&format!("/compute/v2.1{path}/green")), "{:?}", added.headers);
    member.expect(204, "PUT", &format!("{path}/green"), None).await;
    member.expect(204, "GET", &format!("{path}/green"), None).await;
    member.expect(204, "DELETE", &format!("{path}/red"), None).await;
    member.expect(404, "GET", &format!("{path}/red"), None).await;
    member.expect(404, "DELETE", &format!("{path}/red"), None).await;
    assert_eq!(member.get(&path).await, json!({"tags": ["blue", "green"]}));
    for bad in [json!(["a,b"]), json!(["x".repeat(61)]), json!(["a", "a"]), json!([1])] {
        member.expect(400, "PUT", &path, Some(json!({"tags": bad}))).await;
    }
    let many: Vec<String> = (0..51).map(|number| format!("t{number}")).collect();
    member.expect(400, "PUT", &path, Some(json!({"tags": many}))).await;
    member.at("2.25").expect(404, "GET", &path, None).await;
    member.expect(204, "DELETE", &path, None).await;
    assert_eq!(member.get(&path).await, json!({"tags": []}));
}

#[tokio::test]
async fn what_belongs_to_other_services_is_empty() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    let member = cloud.member();
    for (path, want) in [
        ("ips", json!({"addresses": {}})),
        ("os-interface", json!({"interfaceAttachments": []})),
        ("os-security-groups", json!({"security_groups": []})),
        ("os-volume_attachments", json!({"volumeAttachments": []})),
    ] {
        assert_eq!(member.get(&format!("/servers/{id}/{path}")).await, want);
    }
    member.expect(404, "GET", &format!("/servers/{id}/ips/private"), None).await;
    let diagnostics = cloud.admin().get(&format!("/servers/{id}/diagnostics")).await;
    assert_eq!((&diagnostics["state"], &diagnostics["num_cpus"]), (&json!("running"), &json!(1)));
    assert_eq!(crate::cloud::keys(&diagnostics).len(), 13);
}
