//! Snapshots of several volumes at one point, as compute asks for them; and volumes that compute makes for somebody.

use serde_json::{Value, json};
use umbel_core::{Kind, Rng, SystemRng};
use umbel_driver::Operation;
use umbel_http::Body;
use umbel_workflow::Crash;
use umbel_workflow::harness::at_every_moment;

use crate::cloud::{Cloud, send};

fn asked(volumes: &[String]) -> (Vec<String>, Value) {
    let ids: Vec<String> = volumes.iter().map(|_| SystemRng::new().uuid().to_string()).collect();
    let of: Vec<Value> = ids.iter().zip(volumes).map(|(id, volume)| json!({"id": id, "volume_id": volume})).collect();
    (ids, json!({"user_id": "someone", "name": "snapshot for x", "snapshots": of}))
}

async fn two(cloud: &Cloud) -> Vec<String> {
    let token = cloud.member("p");
    vec![cloud.volume(&token, json!({"size": 1})).await, cloud.volume(&token, json!({"size": 2})).await]
}

async fn on_disks(cloud: &Cloud) -> usize {
    let mut all = 0;
    for disk in cloud.pool.list().await.unwrap() {
        all += cloud.pool.stat(&disk).await.unwrap().unwrap().snapshots.len();
    }
    all
}

#[tokio::test]
async fn volumes_without_a_group_have_one_point_too() {
    let cloud = Cloud::new().await;
    let volumes = two(&cloud).await;
    let (ids, body) = asked(&volumes);
    let (member, service) = (cloud.member("p"), cloud.service());
    cloud.post(&member, "/snapshots/together", body.clone()).await.expect(403);
    for _ in 0..2 {
        let made = cloud.post(&service, "/snapshots/together", body.clone()).await.expect(202);
        assert_eq!((&made["snapshots"][0]["id"], &made["snapshots"][1]["size"]), (&json!(ids[0]), &json!(2)));
        cloud.work().await;
    }
    for id in &ids {
        let shown = cloud.get(&member, &format!("/snapshots/{id}")).await.expect(200)["snapshot"].clone();
        assert_eq!([&shown["status"], &shown["name"], &shown["user_id"]], ["available", "snapshot for x", "someone"]);
    }
    assert_eq!(on_disks(&cloud).await, 2);
    // They are the project's as all others are.
    cloud.delete(&member, &format!("/snapshots/{}", ids[0])).await.expect(202);
    cloud.work().await;
    cloud.post(&service, "/snapshots/together", body.clone()).await.refused(409, "some are not");
    let refused = |of: Vec<String>| asked(&of).1;
    cloud.post(&service, "/snapshots/together", refused(vec![])).await.refused(400, "No volume");
    let twice = refused(vec![volumes[0].clone(), volumes[0].clone()]);
    cloud.post(&service, "/snapshots/together", twice).await.refused(400, "named twice");
    let unknown = refused(vec![volumes[0].clone(), SystemRng::new().uuid().to_string()]);
    cloud.post(&service, "/snapshots/together", unknown).await.expect(404);
    assert_eq!(on_disks(&cloud).await, 1);
}

#[tokio::test]
async fn one_point_is_made_or_undone_by_another_process() {
    for fails in [false, true] {
        let places = at_every_moment(async |crash| {
            let cloud = Cloud::new().await;
            let volumes = two(&cloud).await;
            if fails {
                cloud.world.fail_next(Operation::Snapshot, 100, Kind::NoSpace);
            }
            let (ids, body) = asked(&volumes);
            cloud.post(&cloud.service(), "/snapshots/together", body).await.expect(202);
            cloud.work_with(&cloud.volumes, crash.clone()).await;
            let (other, _) = cloud.another().await;
            cloud.work_with(&other, Crash::never()).await;
            for id in &ids {
                let want = if fails { "error" } else { "available" };
                assert_eq!(cloud.show_snapshot(id).await["status"], want, "{}", crash.place());
            }
            assert_eq!(on_disks(&cloud).await, if fails { 0 } else { 2 }, "{}", crash.place());
        })
        .await;
        assert!(places.len() > 3, "{places:?}");
    }
}

/// Without its token: compute's flow goes on when that has long ended.
#[tokio::test]
async fn a_service_makes_volumes_for_a_user_whom_it_names() {
    let cloud = Cloud::new().await;
    let service = cloud.service();
    let ask = async |token: (&str, &str), volume: Value| {
        let headers = [
            token,
            ("x-umbel-project-id", "p"),
            ("x-umbel-user-id", "user-of-p"),
            ("content-type", "application/json"),
            ("openstack-api-version", "volume 3.60"),
        ];
        send(&cloud.router, "POST", "/volume/v3/volumes", &headers, Body::from(json!({ "volume": volume }).to_string()))
            .await
    };
    let plain = json!({"size": 1, "name": "for p"});
    let made = ask(("x-service-token", &service), plain.clone()).await.expect(202)["volume"].clone();
    assert_eq!(made["user_id"], "user-of-p");
    cloud.work().await;
    let path = format!("/volumes/{}", made["id"].as_str().unwrap());
    assert_eq!(cloud.get(&cloud.member("p"), &path).await.expect(200)["volume"]["status"], "available");
    cloud.get(&cloud.member("q"), &path).await.expect(404);
    // Of any type: compute has looked it up with its user's token, who may have been an administrator.
    let private = json!({"volume_type": {"name": "own", "os-volume-type-access:is_public": false}});
    cloud.post(&cloud.admin(), "/types", private).await.expect(200);
    let own = json!({"size": 1, "volume_type": "own"});
    assert_eq!(ask(("x-service-token", &service), own.clone()).await.expect(202)["volume"]["volume_type"], "own");
    ask(("x-auth-token", &cloud.member("p")), own).await.expect(404);
    // A member who names somebody is nobody.
    ask(("x-service-token", &cloud.member("q")), plain).await.expect(401);
}
