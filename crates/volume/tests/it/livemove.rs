//! Volumes that servers have go to another pool, and the server's host does the work.

use serde_json::{Value, json};
use umbel_driver::Operation;
use umbel_workflow::Crash;
use umbel_workflow::harness::at_every_moment;

use crate::books;
use crate::cloud::{Cloud, eventually, read};

const SERVER: &str = "11111111-2222-4333-8444-555555555555";
const BYTES: &[u8] = b"the guest's";

/// A volume of the default pool that a server has, and its attachment.
async fn in_use(cloud: &Cloud) -> (String, String) {
    for (name, specs) in [("on-slow", json!({"volume_backend_name": "slow"})), ("plain", json!({}))] {
        let body = json!({"volume_type": {"name": name, "extra_specs": specs}});
        cloud.post(&cloud.admin(), "/types", body).await.expect(200);
    }
    let token = cloud.member("p");
    let volume = cloud.volume(&token, json!({"size": 1, "name": "mine"})).await;
    cloud.write(&volume, BYTES).await;
    let new = json!({"attachment": {"volume_uuid": volume, "instance_uuid": SERVER}});
    let made = cloud.post(&token, "/attachments", new).await.expect(200);
    let attachment = made["attachment"]["id"].as_str().unwrap().to_owned();
    connect(cloud, &attachment).await;
    cloud.post(&token, &format!("/attachments/{attachment}/action"), json!({"os-complete": {}})).await.expect(204);
    assert_eq!(cloud.show(&volume).await["status"], "in-use");
    (volume, attachment)
}

/// What the host is told.
async fn connect(cloud: &Cloud, attachment: &str) -> Value {
    let body = json!({"attachment": {"connector": {"host": "h1"}}});
    let answer = cloud.put(&cloud.service(), &format!("/attachments/{attachment}"), body).await;
    answer.expect(200)["attachment"]["connection_info"].clone()
}

fn migrate(lock: bool) -> Value {
    json!({"os-migrate_volume": {"host": "umbel@slow#slow", "lock_volume": lock}})
}

fn retype() -> Value {
    json!({"os-retype": {"new_type": "on-slow", "migration_policy": "on-demand"}})
}

async fn answer(cloud: &Cloud, volume: &str, failed: bool) {
    let body = json!({"os-migrate_volume_completion": {"new_volume": volume, "error": failed}});
    let kept = cloud.act(&cloud.service(), volume, body).await.expect(200);
    assert_eq!(kept["save_volume_id"], *volume);
}

/// Works, and is compute meanwhile: it moves what it is told to move, or fails to.
async fn work(cloud: &Cloud, crash: &Crash, fails: bool) {
    let compute = async {
        eventually("the work ends first", async || {
            let told = cloud.servers.moving.lock().pop();
            if let Some((server, volume)) = told {
                assert_eq!(server, SERVER);
                let disk = format!("volume-{volume}");
                if !fails && cloud.second.stat(&disk).await.unwrap().is_some() {
                    let bytes = umbel_driver::Change::Data { offset: 0, bytes: BYTES.into() };
                    let changes = Box::pin(futures_util::stream::iter([Ok(bytes)]));
                    cloud.second.patch(&disk, changes, umbel_driver::no_progress()).await.unwrap();
                }
                answer(cloud, &volume, fails).await;
            }
            false
        })
        .await;
    };
    let working = async {
        let (volumes, _router) = cloud.another().await;
        cloud.work_with(&volumes, crash.clone()).await;
        if crash.fired() {
            cloud.work().await;
        }
    };
    tokio::select! {
        () = compute => {}
        () = working => {}
    }
}

#[tokio::test]
async fn a_migration_under_a_server_is_whole_wherever_it_breaks_off() {
    for (how, status) in [(migrate(false), "in-use"), (migrate(true), "maintenance"), (retype(), "retyping")] {
        let places = at_every_moment(async |crash| {
            let cloud = Cloud::new().await;
            let (volume, attachment) = in_use(&cloud).await;
            cloud.act(&cloud.admin(), &volume, how.clone()).await.expect(202);
            let shown = cloud.show(&volume).await;
            assert_eq!((&shown["status"], &shown["migration_status"]), (&json!(status), &json!("starting")));
            work(&cloud, &crash, false).await;
            let (shown, place) = (cloud.show(&volume).await, crash.place());
            assert_eq!((&shown["id"], &shown["name"]), (&json!(volume), &json!("mine")), "{place}");
            assert_eq!((&shown["status"], &shown["migration_status"]), (&json!("in-use"), &json!("success")));
            assert_eq!(shown["os-vol-host-attr:host"], "umbel@slow#slow", "{place}");
            let kind = if status == "retyping" { json!("on-slow") } else { shown["volume_type"].clone() };
            assert_eq!(shown["volume_type"], kind, "{place}");
            assert_eq!(read(&*cloud.second, &format!("volume-{volume}"), BYTES.len()).await, BYTES, "{place}");
            let way = connect(&cloud, &attachment).await;
            assert_eq!((&way["umbel_pool"], way.get("umbel_to_pool")), (&json!("slow"), None), "{place}");
            answer(&cloud, &volume, false).await;
            books::check(&cloud, &place).await;
        })
        .await;
        assert!(places.len() >= 6, "{places:?}");
    }
}

#[tokio::test]
async fn a_migration_that_its_host_cannot_do_leaves_the_volume_whenever_it_breaks_off() {
    let places = at_every_moment(async |crash| {
        let cloud = Cloud::new().await;
        let (volume, _) = in_use(&cloud).await;
        cloud.act(&cloud.admin(), &volume, retype()).await.expect(202);
        work(&cloud, &crash, true).await;
        let (shown, place) = (cloud.show(&volume).await, crash.place());
        assert_eq!((&shown["status"], &shown["migration_status"]), (&json!("in-use"), &json!("error")), "{place}");
        assert_eq!(shown["os-vol-host-attr:host"], "umbel@fast#fast", "{place}");
        assert_ne!(shown["volume_type"], "on-slow", "{place}");
        assert_eq!(cloud.read(&volume, BYTES.len()).await, BYTES, "{place}");
        let path = format!("/messages?resource_uuid={volume}");
        let told = cloud.get(&cloud.member("p"), &path).await.expect(200);
        assert_eq!(told["messages"].as_array().unwrap().len(), 1, "{place}: {told}");
        books::check(&cloud, &place).await;
    })
    .await;
    assert!(places.len() >= 6, "{places:?}");
}

#[tokio::test]
async fn a_volume_on_its_way_is_told_of_both_places_and_changes_in_nothing_else() {
    let cloud = Cloud::new().await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let (volume, attachment) = in_use(&cloud).await;
    cloud.act(&admin, &volume, migrate(false)).await.expect(202);
    let (volumes, _router) = cloud.another().await;
    let waiting = async {
        eventually("compute is told", async || !cloud.servers.moving.lock().is_empty()).await;
    };
    tokio::select! {
        () = waiting => {}
        () = cloud.work_with(&volumes, Crash::never()) => {}
    }
    let way = connect(&cloud, &attachment).await;
    assert_eq!((&way["umbel_pool"], &way["umbel_to_pool"]), (&json!("fast"), &json!("slow")));
    assert_eq!(cloud.show(&volume).await["migration_status"], "migrating");
    cloud.act(&admin, &volume, migrate(false)).await.refused(400, "must not be migrating");
    cloud.act(&token, &volume, json!({"os-extend": {"new_size": 2}})).await.refused(400, "is migrating");
    let snapshot = json!({"snapshot": {"volume_id": volume, "force": true}});
    cloud.post(&token, "/snapshots", snapshot).await.refused(400, "is migrating");
    let clone = json!({"volume": {"source_volid": volume, "size": 1}});
    cloud.post(&token, "/volumes", clone).await.refused(400, "is migrating");
    let upload = json!({"os-volume_upload_image": {"image_name": "i", "force": true}});
    cloud.act(&token, &volume, upload).await.refused(400, "is migrating");
    let body = json!({"os-migrate_volume_completion": {"new_volume": volume}});
    cloud.act(&token, &volume, body).await.refused(403, "migrate_volume_completion");
    work(&cloud, &Crash::never(), false).await;
    assert_eq!(cloud.show(&volume).await["migration_status"], "success");
}

#[tokio::test]
async fn what_no_server_can_move_is_refused_or_left() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    let (volume, _) = in_use(&cloud).await;
    // No room, and a server that is not there.
    cloud.world.fail_next(Operation::Create, 1, umbel_core::Kind::NoSpace);
    cloud.act(&admin, &volume, migrate(true)).await.expect(202);
    cloud.work().await;
    cloud.servers.gone.lock().push(SERVER.to_owned());
    cloud.act(&admin, &volume, migrate(true)).await.expect(202);
    cloud.work().await;
    let shown = cloud.show(&volume).await;
    assert_eq!((&shown["status"], &shown["migration_status"]), (&json!("in-use"), &json!("error")));
    assert!(cloud.second.stat(&format!("volume-{volume}")).await.unwrap().is_none());
    let told = cloud.get(&cloud.member("p"), &format!("/messages?resource_uuid={volume}")).await.expect(200);
    assert_eq!(told["messages"].as_array().unwrap().len(), 2, "{told}");
    // Attached to a host rather than to a server.
    let other = cloud.volume(&cloud.member("p"), json!({"size": 1})).await;
    let attach = json!({"os-attach": {"host_name": "h9", "mountpoint": "/dev/vdb"}});
    cloud.act(&cloud.service(), &other, attach).await.expect(202);
    cloud.act(&admin, &other, migrate(false)).await.refused(400, "attached to a host");
}
