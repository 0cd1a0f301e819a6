use serde_json::json;
use umbel_bus::Power;
use umbel_compute::store::actions::{self, EventRow};
use umbel_core::{Clock, Timestamp};
use umbel_db::tx;

use crate::cloud::{Cloud, keys, message};

#[tokio::test]
async fn a_server_is_stopped_started_and_rebooted() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    let id = cloud.running("vm").await;
    let status = async || member.get(&format!("/servers/{id}")).await["server"]["status"].clone();
    for (action, during, power, after) in [
        (json!({"os-stop": null}), "ACTIVE", Power::Shutdown, "SHUTOFF"),
        (json!({"os-start": null}), "SHUTOFF", Power::Running, "ACTIVE"),
        (json!({"reboot": {"type": "SOFT"}}), "REBOOT", Power::Running, "ACTIVE"),
        (json!({"reboot": {"type": "HARD"}}), "HARD_REBOOT", Power::Running, "ACTIVE"),
        (json!({"pause": null}), "ACTIVE", Power::Paused, "PAUSED"),
        (json!({"unpause": null}), "PAUSED", Power::Running, "ACTIVE"),
    ] {
        member.act(202, id, action).await;
        assert_eq!(status().await, json!(during));
        cloud.reach(id, Some(power)).await;
        assert_eq!(status().await, json!(after));
    }
    assert_eq!(cloud.nudges.servers.lock().len(), 6);
    let refused = member.act(409, id, json!({"os-start": null})).await;
    assert_eq!(message(&refused), format!("Cannot 'start' instance {id} while it is in vm_state active"));
    let list = member.get(&format!("/servers/{id}/os-instance-actions")).await;
    assert_eq!(list["instanceActions"].as_array().unwrap().len(), 6);

    let building = member.create("early").await;
    member.act(409, building, json!({"os-stop": null})).await;
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    let member = cloud.member();
    let refused = member.act(409, id, json!({"resize": {"flavorRef": "2"}})).await;
    assert_eq!(message(&refused), "Action 'resize' is not supported yet.");
    member.act(400, id, json!({"dance": {}})).await;
    member.act(400, id, json!({})).await;
    member.act(400, id, json!({"os-stop": null, "os-start": null})).await;
    member.act(400, id, json!({"reboot": {"type": "GENTLE"}})).await;
    member.act(400, id, json!({"reboot": {}})).await;
    member.act(403, id, json!({"os-resetState": {"state": "error"}})).await;
    member.act(400, id, json!({"addFixedIp": {}})).await;
    let missing = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    member.act(404, missing, json!({"os-stop": null})).await;
    member.act(404, missing, json!({"resize": {"flavorRef": "2"}})).await;
}

#[tokio::test]
async fn a_locked_server_is_left_alone() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    let id = cloud.running("vm").await;
    member.act(202, id, json!({"lock": {"locked_reason": "backup"}})).await;
    let shown = member.get(&format!("/servers/{id}")).await;
    assert_eq!((&shown["server"]["locked"], &shown["server"]["locked_reason"]), (&json!(true), &json!("backup")));
    let refused = member.act(409, id, json!({"os-stop": null})).await;
    assert_eq!(message(&refused), format!("Instance {id} is locked"));
    member.expect(409, "DELETE", &format!("/servers/{id}"), None).await;
    let list = member.get("/servers?locked=true").await;
    assert_eq!(list["servers"].as_array().unwrap().len(), 1);
    member.act(202, id, json!({"unlock": null})).await;
    member.act(202, id, json!({"lock": null})).await;
    // Administrators pass, and their lock is theirs to take away.
    cloud.admin().act(202, id, json!({"os-stop": null})).await;
    cloud.admin().act(202, id, json!({"lock": null})).await;
    member.act(403, id, json!({"unlock": null})).await;
    cloud.admin().act(202, id, json!({"unlock": null})).await;
    for bad in [json!({"locked_reason": ""}), json!({"blah": 1}), json!("x")] {
        member.act(400, id, json!({"lock": bad})).await;
    }
}

#[tokio::test]
async fn an_administrator_resets_a_state() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    let status = async || cloud.member().get(&format!("/servers/{id}")).await["server"]["status"].clone();
    cloud.admin().act(202, id, json!({"os-resetState": {"state": "error"}})).await;
    assert_eq!(status().await, json!("ERROR"));
    cloud.admin().act(202, id, json!({"os-resetState": {"state": "active"}})).await;
    assert_eq!(status().await, json!("ACTIVE"));
    cloud.admin().act(400, id, json!({"os-resetState": {"state": "fine"}})).await;
    cloud.member().act(202, id, json!({"forceDelete": null})).await;
}

#[tokio::test]
async fn the_console_is_read_through_the_agent() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    let id = cloud.running("vm").await;
    let read = async |arguments| member.act(200, id, json!({"os-getConsoleOutput": arguments})).await["output"].clone();
    assert_eq!(read(json!({})).await, json!("one\ntwo\nlogin: "));
    assert_eq!(read(json!({"length": 2})).await, json!("two\nlogin: "));
    assert_eq!(read(json!({"length": "1"})).await, json!("login: "));
    assert_eq!(read(json!({"length": -1})).await, json!("one\ntwo\nlogin: "));
    member.act(400, id, json!({"os-getConsoleOutput": {"length": "x"}})).await;
    member.act(400, id, json!({"os-getConsoleOutput": {"length": -2}})).await;
    let building = member.create("early").await;
    member.act(409, building, json!({"os-getConsoleOutput": {}})).await;
}

#[tokio::test]
async fn actions_show_their_steps_by_version() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    cloud.member().act(202, id, json!({"os-stop": null})).await;
    let list = cloud.member().get(&format!("/servers/{id}/os-instance-actions")).await;
    let request_id = list["instanceActions"][0]["request_id"].as_str().unwrap().to_owned();
    let step = EventRow {
        server_id: id,
        request_id: request_id.clone(),
        name: "disk_clone".into(),
        started_at: Timestamp(cloud.clock.now().0 + 1_234),
        finished_at: Some(Timestamp(cloud.clock.now().0 + 5_678)),
        ok: Some(true),
        host: "cell1-h1".into(),
        details: Some("cloned in pool vms".into()),
    };
    let cell = &cloud.cells.with_hosts()[0];
    tx!(cell.db, "event", |tx| actions::event(tx, &step, cloud.clock.now()).await).unwrap();
    let path = format!("/servers/{id}/os-instance-actions/{request_id}");

    let newest = cloud.member().get(&path).await["instanceAction"].clone();
    assert_eq!(
        newest["events"][0],
        json!({
            "event": "disk_clone",
            "start_time": "2026-11-21T10:00:00.001234",
            "finish_time": "2026-11-21T10:00:00.005678",
            "result": "Success",
            "hostId": newest["events"][0]["hostId"],
            "details": "cloned in pool vms",
        })
    );
    let base = ["action", "instance_uuid", "message", "project_id", "request_id", "start_time", "user_id"];
    let at = async |version: &str, admin: bool| {
        let client = if admin { cloud.admin() } else { cloud.member() };
        client.at(version).get(&path).await["instanceAction"].clone()
    };
    assert_eq!(keys(&at("2.50", false).await), base);
    assert_eq!(keys(&at("2.51", false).await), {
        let mut all = base.to_vec();
        all.insert(1, "events");
        all
    });
    assert_eq!(keys(&at("2.58", false).await).len(), 9);
    assert_eq!(keys(&at("2.51", false).await["events"][0]), ["event", "finish_time", "result", "start_time"]);
    assert_eq!(
        keys(&at("2.50", true).await["events"][0]),
        ["event", "finish_time", "result", "start_time", "traceback"]
    );
    assert_eq!(keys(&at("2.62", true).await["events"][0]).len(), 7);
    assert_eq!(keys(&at("2.84", true).await["events"][0]).len(), 8);

    let page = cloud.member().get(&format!("/servers/{id}/os-instance-actions?limit=1")).await;
    assert!(page.get("links").is_none());
    cloud.clock.advance(std::time::Duration::from_secs(1));
    cloud.reach(id, Some(Power::Shutdown)).await;
    cloud.member().act(202, id, json!({"os-start": null})).await;
    let page = cloud.member().get(&format!("/servers/{id}/os-instance-actions?limit=1")).await;
    let next = page["links"][0]["href"].as_str().unwrap();
    let rest = next.split_once("/v2.1").unwrap().1;
    let second = cloud.member().get(rest).await;
    assert_eq!(second["instanceActions"][0]["request_id"], json!(request_id));
    cloud.member().expect(404, "GET", &format!("/servers/{id}/os-instance-actions/req-none"), None).await;
}
