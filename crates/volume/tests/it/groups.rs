//! Groups, their snapshots, and groups made from both.

use serde_json::{Value, json};
use umbel_core::Kind;
use umbel_driver::Operation;
use umbel_workflow::Crash;
use umbel_workflow::harness::at_every_moment;

use crate::cloud::{Cloud, ids};

struct Kinds {
    group_type: String,
    volume_type: String,
}

async fn kinds(cloud: &Cloud) -> Kinds {
    let admin = cloud.admin();
    let of = cloud.post(&admin, "/group_types", json!({"group_type": {"name": "g"}})).await.expect(202);
    let body = json!({"volume_type": {"name": "v", "extra_specs": {"volume_backend_name": "fast"}}});
    let kind = cloud.post(&admin, "/types", body).await.expect(200);
    let text = |value: &Value| value["id"].as_str().unwrap().to_owned();
    Kinds { group_type: text(&of["group_type"]), volume_type: text(&kind["volume_type"]) }
}

async fn group(cloud: &Cloud, token: &str, kinds: &Kinds, name: &str) -> String {
    let body = json!({"group": {"name": name, "group_type": kinds.group_type, "volume_types": [kinds.volume_type]}});
    let made = cloud.post(token, "/groups", body).await.expect(202);
    made["group"]["id"].as_str().unwrap().to_owned()
}

async fn member(cloud: &Cloud, token: &str, kinds: &Kinds, group: &str) -> String {
    cloud.volume(token, json!({"size": 1, "volume_type": kinds.volume_type, "group_id": group})).await
}

async fn show(cloud: &Cloud, token: &str, group: &str) -> Value {
    cloud.get(token, &format!("/groups/{group}?list_volume=true")).await.expect(200)["group"].clone()
}

#[tokio::test]
async fn a_group_lives_and_goes() {
    let cloud = Cloud::new().await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let kinds = kinds(&cloud).await;
    let one = group(&cloud, &token, &kinds, "one").await;
    cloud.tick();
    let two = group(&cloud, &token, &kinds, "two").await;
    let volume = member(&cloud, &token, &kinds, &one).await;
    let shown = show(&cloud, &token, &one).await;
    assert_eq!((&shown["status"], &shown["volumes"]), (&json!("available"), &json!([volume])));
    assert_eq!(shown["volume_types"], json!([kinds.volume_type]));
    assert_eq!(shown["project_id"], Value::Null);
    assert_eq!(ids(&cloud.get(&token, "/groups?limit=1").await.expect(200)["groups"]), [two.as_str()]);
    cloud.get(&cloud.member("q"), &format!("/groups/{one}")).await.expect(404);
    let other = json!({"volume": {"size": 1, "group_id": one}});
    cloud.post(&token, "/volumes", other).await.refused(400, "must be supported");
    cloud.delete(&token, &format!("/volumes/{volume}")).await.refused(400, "belong to a group");
    let act = async |token: &str, id: &str, body: Value| cloud.post(token, &format!("/groups/{id}/action"), body).await;
    act(&token, &one, json!({"delete": {"delete-volumes": false}})).await.refused(400, "still contains volumes");
    act(&token, &one, json!({"reset_status": {"status": "error"}})).await.expect(403);
    act(&admin, &one, json!({"reset_status": {"status": "nothing"}})).await.expect(400);
    act(&admin, &one, json!({"reset_status": {"status": "creating"}})).await.expect(202);
    assert_eq!(show(&cloud, &token, &one).await["status"], "creating");
    act(&token, &one, json!({"enable_replication": {}})).await.refused(400, "not a replication group type");
    act(&token, &one, json!({"delete": {"delete-volumes": true}})).await.expect(202);
    act(&token, &two, json!({"delete": {"delete-volumes": false}})).await.expect(202);
    cloud.work().await;
    assert!(cloud.get(&token, "/groups/detail").await.expect(200)["groups"].as_array().unwrap().is_empty());
    assert!(cloud.disks().await.is_empty());
    for path in ["/consistencygroups", "/cgsnapshots"] {
        cloud.get(&token, path).await.expect(404);
    }
    cloud.call_at("3.12", &token, "GET", "/groups", Value::Null).await.expect(404);
}

#[tokio::test]
async fn volumes_come_and_go() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let kinds = kinds(&cloud).await;
    let id = group(&cloud, &token, &kinds, "one").await;
    let (first, second) = (member(&cloud, &token, &kinds, &id).await, member(&cloud, &token, &kinds, &id).await);
    let update = async |body: Value| cloud.put(&token, &format!("/groups/{id}"), json!({ "group": body })).await;
    update(json!({"name": "new", "description": "d", "remove_volumes": second})).await.expect(202);
    let shown = show(&cloud, &token, &id).await;
    assert_eq!((&shown["name"], &shown["volumes"]), (&json!("new"), &json!([first])));
    update(json!({"remove_volumes": second})).await.refused(400, "not in the group");
    update(json!({"name": "new"})).await.refused(400, "no valid name");
    update(json!({"add_volumes": second, "remove_volumes": second})).await.refused(400, "both add and remove");
    let plain = cloud.volume(&token, json!({"size": 1})).await;
    update(json!({"add_volumes": plain})).await.refused(400, "not supported by the group");
    update(json!({"add_volumes": format!("{first},{second}")})).await.expect(202);
    assert_eq!(show(&cloud, &token, &id).await["volumes"].as_array().unwrap().len(), 2);
}

async fn snapshot(cloud: &Cloud, token: &str, group: &str) -> String {
    let body = json!({"group_snapshot": {"group_id": group, "name": "s"}});
    let made = cloud.post(token, "/group_snapshots", body).await.expect(202);
    made["group_snapshot"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn snapshots_of_groups_become_groups() {
    let cloud = Cloud::new().await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let kinds = kinds(&cloud).await;
    let id = group(&cloud, &token, &kinds, "one").await;
    let both = [member(&cloud, &token, &kinds, &id).await, member(&cloud, &token, &kinds, &id).await];
    for volume in &both {
        cloud.write(volume, b"then").await;
    }
    let taken = snapshot(&cloud, &token, &id).await;
    cloud.work().await;
    let path = format!("/group_snapshots/{taken}");
    let shown = cloud.get(&token, &path).await.expect(200)["group_snapshot"].clone();
    assert_eq!((&shown["status"], &shown["group_id"]), (&json!("available"), &json!(id)));
    let parts = cloud.get(&token, "/snapshots/detail").await.expect(200)["snapshots"].clone();
    assert_eq!(parts.as_array().unwrap().len(), 2);
    assert!(parts.as_array().unwrap().iter().all(|one| one["group_snapshot_id"] == taken.as_str()));
    for volume in &both {
        cloud.write(volume, b"now!").await;
    }
    let make = async |body: Value| {
        let made = cloud.post(&token, "/groups/action", json!({ "create-from-src": body })).await.expect(202);
        let id = made["group"]["id"].as_str().unwrap().to_owned();
        cloud.work().await;
        let shown = show(&cloud, &token, &id).await;
        assert_eq!(shown["status"], "available");
        shown
    };
    for (body, want) in [
        (json!({"name": "of the snapshot", "group_snapshot_id": taken}), b"then"),
        (json!({"name": "of the group", "source_group_id": id}), b"now!"),
    ] {
        let copy = make(body).await;
        let volumes: Vec<_> = copy["volumes"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        assert_eq!(volumes.len(), 2);
        for volume in volumes {
            assert_eq!(cloud.read(volume, 4).await, want);
        }
    }
    for volume in &both {
        let info = cloud.pool.stat(&format!("volume-{volume}")).await.unwrap().unwrap();
        assert_eq!(info.snapshots.len(), 1, "only the group's snapshot is left");
    }
    let delete = json!({"delete": {"delete-volumes": true}});
    cloud.post(&token, &format!("/groups/{id}/action"), delete).await.refused(400, "has existing snapshots");
    let reset = json!({"reset_status": {"status": "error"}});
    cloud.post(&admin, &format!("{path}/action"), reset).await.expect(202);
    cloud.delete(&token, &path).await.expect(202);
    cloud.work().await;
    cloud.get(&token, &path).await.expect(404);
    assert!(ids(&cloud.get(&token, "/snapshots").await.expect(200)["snapshots"]).is_empty());
    let empty = group(&cloud, &token, &kinds, "empty").await;
    let from = json!({"create-from-src": {"source_group_id": empty}});
    cloud.post(&token, "/groups/action", from).await.refused(400, "Source Group is empty");
}

#[tokio::test]
async fn a_group_snapshot_is_finished_or_undone_by_another_process() {
    for fails in [false, true] {
        let places = at_every_moment(async |crash| {
            let cloud = Cloud::new().await;
            let token = cloud.member("p");
            let kinds = kinds(&cloud).await;
            let id = group(&cloud, &token, &kinds, "one").await;
            let volume = member(&cloud, &token, &kinds, &id).await;
            member(&cloud, &token, &kinds, &id).await;
            if fails {
                cloud.world.fail_next(Operation::Snapshot, 100, Kind::NoSpace);
            }
            let taken = snapshot(&cloud, &token, &id).await;
            cloud.work_with(&cloud.volumes, crash.clone()).await;
            let (other, _) = cloud.another().await;
            cloud.work_with(&other, Crash::never()).await;
            let place = crash.place();
            let shown = cloud.get(&token, &format!("/group_snapshots/{taken}")).await.expect(200);
            let want = if fails { "error" } else { "available" };
            assert_eq!(shown["group_snapshot"]["status"], want, "{place}");
            let info = cloud.pool.stat(&format!("volume-{volume}")).await.unwrap().unwrap();
            assert_eq!(info.snapshots.len(), usize::from(!fails), "{place}");
        })
        .await;
        assert!(places.len() > 3, "{places:?}");
    }
}

#[tokio::test]
async fn a_group_from_another_is_finished_by_another_process() {
    let places = at_every_moment(async |crash| {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let kinds = kinds(&cloud).await;
        let id = group(&cloud, &token, &kinds, "one").await;
        let volume = member(&cloud, &token, &kinds, &id).await;
        cloud.write(&volume, b"kept").await;
        let body = json!({"create-from-src": {"source_group_id": id}});
        let made = cloud.post(&token, "/groups/action", body).await.expect(202);
        cloud.work_with(&cloud.volumes, crash.clone()).await;
        let (other, _) = cloud.another().await;
        cloud.work_with(&other, Crash::never()).await;
        let place = crash.place();
        let copy = show(&cloud, &token, made["group"]["id"].as_str().unwrap()).await;
        assert_eq!(copy["status"], "available", "{place}");
        assert_eq!(cloud.read(copy["volumes"][0].as_str().unwrap(), 4).await, b"kept", "{place}");
        let info = cloud.pool.stat(&format!("volume-{volume}")).await.unwrap().unwrap();
        assert!(info.snapshots.is_empty(), "{place}");
    })
    .await;
    assert!(places.len() > 5, "{places:?}");
}
