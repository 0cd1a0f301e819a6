use std::sync::Arc;

use serde_json::{Value, json};
use umbel_core::Kind;
use umbel_db::Engine;
use umbel_driver::{Mode, Operation, Pool, SimulatedPool, Simulation};
use umbel_volume::Config;
use umbel_workflow::Crash;
use umbel_workflow::harness::at_every_moment;

use crate::cloud::{Cloud, gib, ids, noise, read};

#[tokio::test]
async fn volumes_come_from_nothing_and_go() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.volume(&token, json!({"size": "2", "name": " v ", "metadata": {"a": "b"}})).await;
    let volume = cloud.show(&id).await;
    assert_eq!((&volume["name"], &volume["size"]), (&json!("v"), &json!(2)));
    assert_eq!(volume["volume_type"], "__DEFAULT__");
    assert_eq!(volume["metadata"], json!({"a": "b"}));
    assert_eq!(volume["os-vol-host-attr:host"], "umbel@fast#fast");
    assert_eq!(cloud.pool.stat(&format!("volume-{id}")).await.unwrap().unwrap().size, gib(2));
    let path = format!("/volumes/{id}");
    let own = cloud.get(&token, &path).await.expect(200);
    assert_eq!(own["volume"].get("os-vol-host-attr:host"), None);
    cloud.get(&cloud.member("q"), &path).await.refused(404, "could not be found");
    cloud.delete(&cloud.member("q"), &path).await.refused(404, "could not be found");
    cloud.delete(&token, &path).await.expect(202);
    cloud.get(&token, &path).await.refused(404, &id);
    cloud.work().await;
    assert!(cloud.disks().await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let none = "00000000-0000-0000-0000-000000000000";
    let check = async |volume: Value, status: u16, words: &str| {
        cloud.post(&token, "/volumes", json!({ "volume": volume })).await.refused(status, words);
    };
    check(json!({}), 400, "size").await;
    check(json!({"size": 0}), 400, "size").await;
    check(json!({"size": -1}), 400, "size").await;
    check(json!({"size": "#$%"}), 400, "size").await;
    check(json!({"size": 1, "snapshot_id": none}), 404, "Snapshot").await;
    check(json!({"size": 1, "source_volid": none}), 404, "Volume").await;
    check(json!({"size": 1, "volume_type": none}), 404, none).await;
    check(json!({"size": 1, "imageRef": none}), 400, "Invalid image identifier").await;
    check(json!({"size": 1, "availability_zone": "moon"}), 400, "'moon' is invalid").await;
    check(json!({"size": 1, "metadata": {"": "x"}}), 400, "blank").await;
    cloud.get(&token, "/volumes/detail?colour=red").await.refused(400, "colour");
    cloud.get(&token, &format!("/volumes?marker={none}")).await.refused(404, none);
    cloud.post(&token, &format!("/volumes/{none}/action"), json!({"os-fly": {}})).await.refused(400, "os-fly");
    // A list is not an object whose members come in their order.
    let id = cloud.volume(&token, json!({"size": 1})).await;
    let listed = json!({"os-volume_upload_image": ["name"]});
    cloud.post(&token, &format!("/volumes/{id}/action"), listed).await.refused(400, "must be an object");
}

#[tokio::test]
async fn volumes_are_made_from_images_by_cloning_or_copying() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let bytes = noise(1, 9_000);
    let image = cloud.images.add("raw", &bytes, json!({"min_disk": 1})).await;
    let cloned = cloud.volume(&token, json!({"size": 1, "imageRef": image})).await;
    cloud.images.hide_locations();
    let copied = cloud.volume(&token, json!({"size": 1, "imageRef": image})).await;
    for (id, parent) in [(&cloned, true), (&copied, false)] {
        let volume = cloud.show(id).await;
        assert_eq!(volume["bootable"], "true");
        assert_eq!(volume["volume_image_metadata"]["image_id"], *image);
        assert_eq!(volume["volume_image_metadata"]["os_distro"], "small");
        assert_eq!(cloud.read(id, bytes.len()).await, bytes);
        let info = cloud.pool.stat(&format!("volume-{id}")).await.unwrap().unwrap();
        assert_eq!((info.size, info.parent.is_some()), (gib(1), parent));
    }
    let large = cloud.images.add("raw", &bytes, json!({"min_disk": 3})).await;
    let body = json!({"volume": {"size": 2, "imageRef": large}});
    cloud.post(&token, "/volumes", body).await.refused(400, "minDisk");
}

#[tokio::test]
async fn what_has_clones_is_deleted_like_anything_else() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let first = cloud.volume(&token, json!({"size": 1})).await;
    let bytes = noise(2, 5_000);
    cloud.write(&first, &bytes).await;
    let snapshot = cloud.snapshot(&token, &first).await;
    let second = cloud.volume(&token, json!({"snapshot_id": snapshot, "size": 2})).await;
    let third = cloud.volume(&token, json!({"source_volid": second})).await;
    assert_eq!(cloud.show(&third).await["size"], 2);
    let disk = format!("volume-{second}");
    assert_eq!(cloud.pool.stat(&disk).await.unwrap().unwrap().snapshots, Vec::<String>::new());
    cloud.delete(&token, &format!("/volumes/{first}")).await.refused(400, "have snapshots");
    cloud.delete(&token, &format!("/snapshots/{snapshot}")).await.expect(202);
    cloud.get(&token, &format!("/snapshots/{snapshot}")).await.expect(404);
    cloud.work().await;
    for gone in [&first, &second] {
        cloud.delete(&token, &format!("/volumes/{gone}")).await.expect(202);
    }
    cloud.work().await;
    assert_eq!(cloud.read(&third, bytes.len()).await, bytes);
    cloud.delete(&token, &format!("/volumes/{third}")).await.expect(202);
    cloud.work().await;
    for _ in 0..3 {
        cloud.volumes.sweep().await;
    }
    assert!(cloud.disks().await.is_empty() && cloud.pool.hidden().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_volume_goes_with_its_snapshots_where_that_is_asked_for() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.volume(&token, json!({"size": 1})).await;
    let snapshot = cloud.snapshot(&token, &id).await;
    cloud.delete(&token, &format!("/volumes/{id}?cascade=true")).await.expect(202);
    cloud.get(&token, &format!("/snapshots/{snapshot}")).await.expect(404);
    cloud.work().await;
    assert!(cloud.disks().await.is_empty());
}

/// Force is for what got stuck in a status. It takes no disk from under a server and no data that was not named.
#[tokio::test]
async fn force_ignores_the_status_and_nothing_else() {
    let cloud = Cloud::new().await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let server = "6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9f0001";
    let id = cloud.volume(&token, json!({"size": 1})).await;
    let (path, action) = (format!("/volumes/{id}"), format!("/volumes/{id}/action"));
    let body = json!({"attachment": {
        "volume_uuid": id, "instance_uuid": server, "connector": {"host": "h", "mountpoint": "/dev/vdb"},
    }});
    let attachment = cloud.post(&cloud.service(), "/attachments", body).await.expect(200);
    let attachment = format!("/attachments/{}", attachment["attachment"]["id"].as_str().unwrap());
    let force = json!({"os-force_delete": {}});
    for way in [format!("{path}?force=true"), format!("{path}?force=true&cascade=true")] {
        cloud.delete(&admin, &way).await.refused(400, "still attached");
    }
    cloud.post(&admin, &action, force.clone()).await.refused(400, "still attached");
    cloud.delete(&cloud.service(), &attachment).await.expect(200);

    let snapshot = cloud.snapshot(&token, &id).await;
    cloud.delete(&admin, &format!("{path}?force=true")).await.refused(400, "have snapshots");
    cloud.post(&admin, &action, force.clone()).await.refused(400, "have snapshots");
    let busy = json!({"os-reset_status": {"status": "creating"}});
    cloud.post(&admin, &format!("/snapshots/{snapshot}/action"), busy.clone()).await.expect(202);
    cloud.delete(&token, &format!("{path}?cascade=true")).await.refused(400, "have snapshots");
    let moving = json!({"os-reset_status": {"migration_status": "migrating"}});
    cloud.act(&admin, &id, moving).await.expect(202);
    cloud.delete(&admin, &format!("{path}?force=true&cascade=true")).await.refused(400, "migrating");
    cloud
        .act(&admin, &id, json!({"os-reset_status": {"migration_status": "none", "status": "creating"}}))
        .await
        .expect(202);
    cloud.get(&token, &format!("/snapshots/{snapshot}")).await.expect(200);
    cloud.delete(&admin, &format!("{path}?force=true&cascade=true")).await.expect(202);
    cloud.work().await;
    assert!(cloud.disks().await.is_empty());
}

/// What was given away without its snapshots does not take them along.
#[tokio::test]
async fn a_cascade_stops_at_the_snapshots_of_others() {
    let cloud = Cloud::new().await;
    let (giver, taker) = (cloud.member("p"), cloud.member("q"));
    let id = cloud.volume(&giver, json!({"size": 1})).await;
    let snapshot = format!("/snapshots/{}", cloud.snapshot(&giver, &id).await);
    let body = json!({"transfer": {"volume_id": id, "no_snapshots": true}});
    let offer = cloud.post(&giver, "/volume-transfers", body).await.expect(202)["transfer"].clone();
    let accept = format!("/volume-transfers/{}/accept", offer["id"].as_str().unwrap());
    cloud.post(&taker, &accept, json!({"accept": {"auth_key": offer["auth_key"]}})).await.expect(202);
    for way in ["", "?cascade=true"] {
        cloud.delete(&taker, &format!("/volumes/{id}{way}")).await.refused(400, "disassociated from snapshots");
    }
    cloud.get(&giver, &snapshot).await.expect(200);
    cloud.delete(&giver, &snapshot).await.expect(202);
    cloud.delete(&taker, &format!("/volumes/{id}")).await.expect(202);
}

#[tokio::test]
async fn volumes_grow_and_go_back() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.volume(&token, json!({"size": 1})).await;
    let bytes = noise(3, 4_096);
    cloud.write(&id, &bytes).await;
    let snapshot = cloud.snapshot(&token, &id).await;
    cloud.write(&id, &noise(4, 4_096)).await;
    cloud.act(&token, &id, json!({"os-extend": {"new_size": 1}})).await.refused(400, "greater than current size");
    cloud.act(&token, &id, json!({"os-extend": {"new_size": 3}})).await.expect(202);
    assert_eq!(cloud.show(&id).await["status"], "extending");
    cloud.work().await;
    cloud.act(&token, &id, json!({"revert": {"snapshot_id": snapshot}})).await.expect(202);
    assert_eq!(cloud.show(&id).await["status"], "reverting");
    cloud.work().await;
    let volume = cloud.show(&id).await;
    assert_eq!((&volume["status"], &volume["size"]), (&json!("available"), &json!(3)));
    assert_eq!(cloud.pool.stat(&format!("volume-{id}")).await.unwrap().unwrap().size, gib(3));
    assert_eq!(cloud.read(&id, 4_096).await, bytes);
    assert_eq!(cloud.show_snapshot(&snapshot).await["status"], "available");
}

#[tokio::test]
async fn growth_that_fails_is_taken_back() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.volume(&token, json!({"size": 1})).await;
    cloud.world.fail_next(Operation::Resize, 1, Kind::NoSpace);
    cloud.act(&token, &id, json!({"os-extend": {"new_size": 3}})).await.expect(202);
    cloud.work().await;
    let volume = cloud.show(&id).await;
    assert_eq!((&volume["status"], &volume["size"]), (&json!("error_extending"), &json!(1)));
}

/// A pool promises twenty times what it has. One volume that grows beyond would leave nothing to all others.
#[tokio::test]
async fn growth_beyond_the_pool_is_refused_with_a_message() {
    let world = Simulation::new(Mode::default());
    let small = |name| Arc::new(SimulatedPool::with_capacity(&world, name, gib(2))) as Arc<dyn Pool>;
    let pools = ["fast", "slow", "images"].map(small);
    let cloud = Cloud::over(Engine::Sqlite, Config::default(), world.clone(), pools).await;
    let token = cloud.member("p");
    let id = cloud.volume(&token, json!({"size": 1})).await;
    for (size, left) in [(41, 1), (40, 40)] {
        cloud.act(&token, &id, json!({"os-extend": {"new_size": size}})).await.expect(202);
        cloud.work().await;
        let volume = cloud.show(&id).await;
        assert_eq!((&volume["status"], &volume["size"]), (&json!("available"), &json!(left)));
        assert_eq!(cloud.pool.stat(&format!("volume-{id}")).await.unwrap().unwrap().size, gib(left));
        let told = cloud.get(&token, "/messages").await.expect(200)["messages"].clone();
        let events: Vec<_> = told.as_array().unwrap().iter().map(|one| &one["event_id"]).collect();
        assert_eq!(events, ["VOLUME_VOLUME_007_003"]);
    }
}

#[tokio::test]
async fn what_users_say_of_volumes_is_kept() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.volume(&token, json!({"size": 1, "metadata": {"a": "1"}})).await;
    let path = format!("/volumes/{id}");
    let metadata = format!("{path}/metadata");
    let all = cloud.post(&token, &metadata, json!({"metadata": {"b": "2"}})).await.expect(200);
    assert_eq!(all["metadata"], json!({"a": "1", "b": "2"}));
    cloud.put(&token, &format!("{metadata}/a"), json!({"meta": {"a": "3"}})).await.expect(200);
    cloud.put(&token, &format!("{metadata}/a"), json!({"meta": {"b": "3"}})).await.refused(400, "mismatch");
    cloud.delete(&token, &format!("{metadata}/b")).await.expect(200);
    cloud.get(&token, &format!("{metadata}/b")).await.refused(404, "no metadata with key b");
    let shown = cloud.get(&token, &metadata).await.expect(200);
    assert_eq!(shown["metadata"], json!({"a": "3"}));
    let body = json!({"volume": {"name": "new", "description": "d"}});
    let volume = cloud.put(&token, &path, body).await.expect(200)["volume"].clone();
    assert_eq!((&volume["name"], &volume["metadata"]), (&json!("new"), &json!({"a": "3"})));
    cloud.act(&token, &id, json!({"os-update_readonly_flag": {"readonly": true}})).await.expect(202);
    assert_eq!(cloud.show(&id).await["metadata"], json!({"a": "3", "readonly": "True"}));
    cloud.act(&token, &id, json!({"os-set_bootable": {"bootable": "true"}})).await.expect(200);
    assert_eq!(cloud.show(&id).await["bootable"], "true");
    let set = json!({"os-set_image_metadata": {"metadata": {"k": "v"}}});
    assert_eq!(cloud.act(&token, &id, set).await.expect(200)["metadata"], json!({"k": "v"}));
    cloud.act(&token, &id, json!({"os-unset_image_metadata": {"key": "k"}})).await.expect(200);
    cloud.act(&token, &id, json!({"os-reset_status": {"status": "error"}})).await.expect(403);
    cloud.act(&cloud.admin(), &id, json!({"os-reset_status": {"status": "error"}})).await.expect(202);
    assert_eq!(cloud.show(&id).await["status"], "error");
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let mut made = Vec::new();
    for (name, size) in [("a", 3), ("b", 1), ("c", 2)] {
        made.push(cloud.volume(&token, json!({"size": size, "name": name, "metadata": {"n": name}})).await);
        cloud.tick();
    }
    let other = cloud.volume(&cloud.member("q"), json!({"size": 1, "metadata": {"n": "b"}})).await;
    let check = async |token: &str, query: &str, want: &[&String]| {
        let list = cloud.get(token, &format!("/volumes/detail?{query}")).await.expect(200);
        assert_eq!(ids(&list["volumes"]).iter().collect::<Vec<_>>(), want, "{query}");
    };
    let [a, b, c] = [&made[0], &made[1], &made[2]];
    check(&token, "", &[c, b, a]).await;
    check(&token, "sort=size:asc", &[b, c, a]).await;
    check(&token, "sort_key=name&sort_dir=asc&offset=1", &[b, c]).await;
    check(&token, "name=b", &[b]).await;
    check(&token, "all_tenants=1&metadata={'n':'b'}", &[b]).await;
    check(&cloud.service(), "all_tenants=1&metadata=%7B%27n%27%3A%27b%27%7D", &[&other, b]).await;
    check(&cloud.admin(), "all_tenants=1&project_id=q", &[&other]).await;
    check(&token, "bootable=true", &[]).await;
    check(&token, "status=available&limit=1&created_at=gt:2026-01-01", &[c]).await;
    let page = cloud.get(&token, "/volumes?limit=2&with_count=true").await.expect(200);
    assert_eq!((ids(&page["volumes"]), &page["count"]), (vec![c.clone(), b.clone()], &json!(3)));
    let next = page["volumes_links"][0]["href"].as_str().unwrap().split("/volume/v3").nth(1).unwrap();
    let last = cloud.get(&token, next).await.expect(200);
    assert_eq!((ids(&last["volumes"]), last.get("volumes_links")), (vec![a.clone()], None));
    let summary = cloud.get(&token, "/volumes/summary").await.expect(200);
    assert_eq!(
        (&summary["volume-summary"]["total_count"], &summary["volume-summary"]["total_size"]),
        (&json!(3), &json!(6))
    );
}

/// The same of each source, and of the deletion that follows.
#[tokio::test]
async fn volumes_are_made_and_deleted_by_another_process() {
    for source in ["nothing", "image", "copied-image", "snapshot", "volume"] {
        let places = at_every_moment(async |crash: Crash| {
            let cloud = Cloud::new().await;
            let token = cloud.member("p");
            let bytes = noise(5, 4_096);
            let origin = cloud.volume(&token, json!({"size": 1})).await;
            cloud.write(&origin, &bytes).await;
            let snapshot = cloud.snapshot(&token, &origin).await;
            let image = cloud.images.add("raw", &bytes, json!({})).await;
            let body = match source {
                "image" => json!({"size": 1, "imageRef": image}),
                "copied-image" => {
                    cloud.images.hide_locations();
                    json!({"size": 1, "imageRef": image})
                }
                "snapshot" => json!({"snapshot_id": snapshot}),
                "volume" => json!({"source_volid": origin}),
                _ => json!({"size": 1}),
            };
            let id = cloud.begin(&token, body).await;
            cloud.work_with(&cloud.volumes, crash.clone()).await;
            let (other, _) = cloud.another().await;
            cloud.work_with(&other, Crash::never()).await;
            let place = crash.place();
            assert_eq!(cloud.show(&id).await["status"], "available", "{source} {place}");
            let want = if source == "nothing" { vec![0; 4_096] } else { bytes };
            assert_eq!(cloud.read(&id, 4_096).await, want, "{source} {place}");
            let left = cloud.pool.stat(&format!("volume-{origin}")).await.unwrap().unwrap().snapshots;
            assert_eq!(left, [format!("snapshot-{snapshot}")], "{source} {place}");
            cloud.delete(&token, &format!("/volumes/{id}")).await.expect(202);
            cloud.work_with(&cloud.volumes, crash.clone()).await;
            cloud.work_with(&other, Crash::never()).await;
            assert_eq!(cloud.disks().await, [format!("volume-{origin}")], "{source} {place}");
        })
        .await;
        assert!(places.len() > 10, "{source}: {places:?}");
    }
}

#[tokio::test]
async fn a_creation_that_fails_leaves_nothing_but_an_error() {
    let places = at_every_moment(async |crash: Crash| {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let origin = cloud.volume(&token, json!({"size": 1})).await;
        cloud.world.fail_next(Operation::Clone, 100, Kind::NoSpace);
        let id = cloud.begin(&token, json!({"source_volid": origin})).await;
        cloud.work_with(&cloud.volumes, crash.clone()).await;
        let (other, _) = cloud.another().await;
        cloud.work_with(&other, Crash::never()).await;
        let place = crash.place();
        assert_eq!(cloud.show(&id).await["status"], "error", "{place}");
        assert_eq!(cloud.disks().await, [format!("volume-{origin}")], "{place}");
        let left = cloud.pool.stat(&format!("volume-{origin}")).await.unwrap().unwrap().snapshots;
        assert!(left.is_empty(), "{place}: {left:?}");
    })
    .await;
    assert!(places.len() > 5, "{places:?}");
}

#[tokio::test]
async fn types_choose_backends_and_clones_across_them_are_copies() {
    let cloud = Cloud::new().await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let body = json!({"volume_type": {"name": "slow", "extra_specs": {"volume_backend_name": "slow"}}});
    cloud.post(&admin, "/types", body).await.expect(200);
    let first = cloud.volume(&token, json!({"size": 1})).await;
    let bytes = noise(6, 4_096);
    cloud.write(&first, &bytes).await;
    let second = cloud.volume(&token, json!({"source_volid": first, "volume_type": "slow"})).await;
    assert_eq!(cloud.show(&second).await["os-vol-host-attr:host"], "umbel@slow#slow");
    assert_eq!(read(&*cloud.second, &format!("volume-{second}"), 4_096).await, bytes);
}
