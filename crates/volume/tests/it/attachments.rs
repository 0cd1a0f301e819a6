use serde_json::{Value, json};
use umbel_db::Engine;

use crate::cloud::Cloud;

const SERVER: &str = "6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9f0001";
const OTHER: &str = "6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9f0002";

async fn reserve(cloud: &Cloud, token: &str, volume: &str, server: &str) -> String {
    let body = json!({"attachment": {"volume_uuid": volume, "instance_uuid": server}});
    let answer = cloud.post(token, "/attachments", body).await.expect(200);
    assert_eq!(answer["attachment"]["connection_info"], json!({}));
    answer["attachment"]["id"].as_str().unwrap().to_owned()
}

async fn connect(cloud: &Cloud, attachment: &str, host: &str) -> Value {
    let body = json!({"attachment": {"connector": {"host": host, "mountpoint": "/dev/vdb"}}});
    let path = format!("/attachments/{attachment}");
    cloud.put(&cloud.service(), &path, body).await.expect(200)["attachment"].clone()
}

async fn complete(cloud: &Cloud, attachment: &str) {
    let path = format!("/attachments/{attachment}/action");
    cloud.post(&cloud.service(), &path, json!({"os-complete": null})).await.expect(204);
}

async fn status(cloud: &Cloud, volume: &str) -> String {
    cloud.show(volume).await["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_volume_goes_to_a_server_and_comes_back_on_all_engines() {
    for engine in [Engine::Sqlite, Engine::Postgres, Engine::MariaDb] {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let volume = cloud.volume(&token, json!({"size": 1})).await;
        let id = reserve(&cloud, &token, &volume, SERVER).await;
        assert_eq!(status(&cloud, &volume).await, "reserved");
        let seen = connect(&cloud, &id, "h1").await;
        let info = &seen["connection_info"];
        assert_eq!(info["driver_volume_type"], "simulated");
        assert_eq!((&info["umbel_pool"], &info["umbel_disk"]), (&json!("fast"), &json!(format!("volume-{volume}"))));
        assert_eq!((&info["access_mode"], &seen["status"]), (&json!("rw"), &json!("attaching")));
        assert_eq!(status(&cloud, &volume).await, "attaching");
        complete(&cloud, &id).await;
        let shown = cloud.show(&volume).await;
        assert_eq!((&shown["status"], &shown["attachments"][0]["server_id"]), (&json!("in-use"), &json!(SERVER)));
        // Another host of the same server: what is complete stays so.
        assert_eq!(connect(&cloud, &id, "h2").await["status"], "attached");
        let path = format!("/attachments/detail?all_tenants=1&instance_id={SERVER}");
        let listed = cloud.get(&cloud.service(), &path).await.expect(200);
        assert_eq!(listed["attachments"].as_array().unwrap().len(), 1);
        let none = cloud.get(&cloud.member("q"), "/attachments").await.expect(200);
        assert_eq!(none["attachments"], json!([]));
        let path = format!("/attachments/{id}");
        cloud.get(&cloud.member("q"), &path).await.refused(404, "could not be found");
        cloud.delete(&token, &path).await.refused(409, "using the Compute API");
        cloud.delete(&cloud.admin(), &path).await.refused(409, "using the Compute API");
        cloud.act(&token, &volume, json!({"os-detach": {}})).await.refused(409, "using the Compute API");
        cloud.delete(&cloud.service(), &path).await.expect(200);
        assert_eq!(status(&cloud, &volume).await, "available");
        cloud.get(&token, &path).await.refused(404, "could not be found");
    }
}

#[tokio::test]
async fn a_user_ends_an_attachment_that_compute_does_not_know() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    let nobody = json!({"attachment": {"volume_uuid": volume, "instance_uuid": "nobody"}});
    cloud.post(&token, "/attachments", nobody).await.refused(400, "instance_uuid. Value: nobody.");
    let id = reserve(&cloud, &token, &volume, SERVER).await;
    connect(&cloud, &id, "h1").await;
    complete(&cloud, &id).await;
    cloud.servers.gone.lock().push(SERVER.to_owned());
    cloud.delete(&cloud.member("q"), &format!("/attachments/{id}")).await.refused(404, "could not be found");
    cloud.delete(&token, &format!("/attachments/{id}")).await.expect(200);
    assert_eq!(status(&cloud, &volume).await, "available");
}

#[tokio::test]
async fn one_server_has_a_volume_unless_its_type_allows_more() {
    let cloud = Cloud::new().await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    let id = reserve(&cloud, &token, &volume, SERVER).await;
    // The same server twice: it moves to another host.
    let twice = reserve(&cloud, &token, &volume, SERVER).await;
    let body = json!({"attachment": {"volume_uuid": volume, "instance_uuid": OTHER}});
    cloud.post(&token, "/attachments", body).await.refused(400, "to reserve, but the current status is reserved");
    connect(&cloud, &id, "h1").await;
    complete(&cloud, &id).await;
    connect(&cloud, &twice, "h2").await;
    complete(&cloud, &twice).await;
    cloud.delete(&cloud.service(), &format!("/attachments/{id}")).await.expect(200);
    assert_eq!(status(&cloud, &volume).await, "in-use");

    let kind = json!({"volume_type": {"name": "shared", "extra_specs": {"multiattach": "<is> True"}}});
    cloud.post(&admin, "/types", kind).await.expect(200);
    let volume = cloud.volume(&token, json!({"size": 1, "volume_type": "shared"})).await;
    for server in [SERVER, OTHER] {
        let id = reserve(&cloud, &token, &volume, server).await;
        connect(&cloud, &id, server).await;
        complete(&cloud, &id).await;
    }
    assert_eq!(cloud.show(&volume).await["attachments"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn hosts_attach_in_the_old_way() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    let attach = json!({"os-attach": {"instance_uuid": SERVER, "mountpoint": "/dev/vdc"}});
    cloud.act(&token, &volume, attach.clone()).await.expect(202);
    let shown = cloud.show(&volume).await;
    let held = &shown["attachments"][0];
    assert_eq!((&shown["status"], &held["device"]), (&json!("in-use"), &json!("/dev/vdc")));
    assert_eq!((&held["server_id"], &held["id"]), (&json!(SERVER), &json!(volume)));
    cloud.act(&token, &volume, attach).await.expect(202);
    let other = json!({"os-attach": {"instance_uuid": OTHER, "mountpoint": "/dev/vdc"}});
    cloud.act(&token, &volume, other).await.refused(400, "already attached");
    cloud.act(&token, &volume, json!({"os-begin_detaching": null})).await.expect(202);
    assert_eq!(status(&cloud, &volume).await, "detaching");
    cloud.act(&token, &volume, json!({"os-roll_detaching": null})).await.expect(202);
    cloud.act(&token, &volume, json!({"os-detach": {}})).await.expect(202);
    assert_eq!(status(&cloud, &volume).await, "available");
    cloud.act(&token, &volume, json!({"os-begin_detaching": null})).await.refused(400, "Unable to detach");

    cloud.act(&token, &volume, json!({"os-reserve": {}})).await.expect(202);
    assert_eq!(status(&cloud, &volume).await, "attaching");
    cloud.act(&token, &volume, json!({"os-reserve": {}})).await.refused(400, "to reserve");
    cloud.act(&token, &volume, json!({"os-unreserve": {}})).await.expect(202);
    assert_eq!(status(&cloud, &volume).await, "available");
    let connection = json!({"os-initialize_connection": {"connector": {"host": "h"}}});
    let info = cloud.act(&token, &volume, connection).await.expect(200);
    assert_eq!(info["connection_info"]["data"]["umbel_pool"], "fast");
    cloud.act(&token, &volume, json!({"os-terminate_connection": {"connector": null}})).await.expect(202);
}

#[tokio::test]
async fn a_transfer_needs_its_key_on_all_engines() {
    for engine in [Engine::Sqlite, Engine::Postgres, Engine::MariaDb] {
        let cloud = Cloud::on(engine).await;
        let (giver, taker) = (cloud.member("p"), cloud.member("q"));
        let volume = cloud.volume(&giver, json!({"size": 1})).await;
        let snapshot = cloud.snapshot(&giver, &volume).await;
        let body = json!({"transfer": {"volume_id": volume, "name": "t"}});
        let made = cloud.post(&giver, "/volume-transfers", body.clone()).await.expect(202)["transfer"].clone();
        assert_eq!((&made["accepted"], &made["source_project_id"]), (&json!(false), &json!("p")));
        assert_eq!(status(&cloud, &volume).await, "awaiting-transfer");
        cloud.post(&giver, "/volume-transfers", body).await.refused(400, "must be available");
        let path = format!("/volume-transfers/{}", made["id"].as_str().unwrap());
        assert_eq!(cloud.get(&giver, &path).await.expect(200)["transfer"].get("auth_key"), None);
        cloud.get(&taker, &path).await.refused(404, "could not be found");
        let accept = format!("{path}/accept");
        cloud.post(&taker, &accept, json!({"accept": {"auth_key": "0"}})).await.refused(400, "invalid auth key");
        let key = json!({"accept": {"auth_key": made["auth_key"]}});
        cloud.post(&taker, &accept, key.clone()).await.expect(202);
        cloud.post(&taker, &accept, key).await.refused(404, "could not be found");
        let shown = cloud.show(&volume).await;
        assert_eq!((&shown["status"], &shown["user_id"]), (&json!("available"), &json!("user-of-q")));
        cloud.get(&taker, &format!("/snapshots/{snapshot}")).await.expect(200);
        cloud.get(&giver, &format!("/volumes/{volume}")).await.refused(404, "could not be found");

        let old = json!({"transfer": {"volume_id": volume}});
        let made = cloud.call_at("3.0", &taker, "POST", "/os-volume-transfer", old).await.expect(202);
        assert_eq!(made["transfer"].get("no_snapshots"), None);
        let path = format!("/os-volume-transfer/{}", made["transfer"]["id"].as_str().unwrap());
        let listed = cloud.get(&taker, "/os-volume-transfer/detail").await.expect(200);
        assert_eq!(listed["transfers"][0]["volume_id"], volume);
        cloud.delete(&taker, &path).await.expect(202);
        assert_eq!(status(&cloud, &volume).await, "available");
    }
}
