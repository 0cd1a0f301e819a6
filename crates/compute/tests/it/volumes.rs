//! Volumes of servers, as the API has them.

use serde_json::{Value, json};
use umbel_bus::Power;
use umbel_compute::flows;
use umbel_compute::model::{DiskSource, Phase, ServerId, connect_all, edit};
use umbel_compute::store::{build_requests, servers};
use umbel_core::Kind;
use umbel_db::{read, tx};
use uuid::Uuid;

use crate::cloud::{Answer, Cloud, IMAGE, keys, message};

const GIB: u64 = 1 << 30;

fn with_devices(devices: Value) -> Value {
    json!({"server": {"name": "vm", "imageRef": "", "flavorRef": "1", "networks": "none",
                      "block_device_mapping_v2": devices}})
}

async fn create(cloud: &Cloud, devices: Value) -> Answer {
    cloud.member().call("POST", "/servers", Some(with_devices(devices))).await
}

async fn created(cloud: &Cloud, devices: Value) -> ServerId {
    let answer = create(cloud, devices).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.body["server"]["id"].as_str().unwrap().parse().unwrap()
}

fn attachments(id: ServerId) -> String {
    format!("/servers/{id}/os-volume_attachments")
}

async fn pending(cloud: &Cloud, kind: &str, id: &str) -> bool {
    read!(cloud.cells.with_hosts()[0].db, "flow", |tx| umbel_workflow::pending(tx, kind, id).await).unwrap()
}

/// Does what the flow does, without a host: the volume is plugged, and reported.
async fn settle(cloud: &Cloud, id: ServerId) {
    let cell = &cloud.cells.with_hosts()[0];
    tx!(cell.db, "settle", |tx| {
        let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
        let devices: Vec<_> = server.state.volumes.iter().map(|device| device.id).collect();
        for device in devices {
            server.state = edit(&server, device, |device| device.phase = Phase::Attached)?;
        }
        servers::update_volumes(tx, &mut server).await
    })
    .unwrap();
    complete(cloud).await;
}

/// All volumes are in use, as their service says.
async fn complete(cloud: &Cloud) {
    for attachment in cloud.volumes.attachments() {
        umbel_compute::VolumeCatalog::complete(&*cloud.volumes, &attachment.id).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_boots_from_a_volume() {
    let cloud = Cloud::new().await;
    let volume = cloud.volumes.add(3, |_| {}).await;
    let id = created(
        &cloud,
        json!([
            {"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": 0,
             "delete_on_termination": true, "tag": "system"},
            {"source_type": "blank", "destination_type": "volume", "volume_size": 2},
        ]),
    )
    .await;
    assert_eq!(cloud.volumes.status(volume).as_deref(), Some("reserved"), "at once");
    let request = read!(cloud.api, "request", |tx| build_requests::get(tx, id).await).unwrap().unwrap();
    let server = request.server;
    assert!(server.spec.image.is_none() && server.spec.disks.iter().all(|disk| disk.source != DiskSource::Image));
    let devices = &server.state.volumes;
    assert_eq!((devices[0].size_bytes, devices[0].phase), (3 * GIB, Phase::Reserved));
    assert_eq!((devices[1].size_bytes, devices[1].phase), (2 * GIB, Phase::Planned));
    let names: Vec<_> = devices.iter().map(|device| device.device_name.as_str()).collect();
    assert_eq!(names, ["/dev/vda", "/dev/vdb"]);
    let shown = &cloud.member().get(&format!("/servers/{id}")).await["server"];
    assert_eq!(shown["image"], json!(""));
    let attached = json!([{"id": volume, "delete_on_termination": true}]);
    assert_eq!(shown["os-extended-volumes:volumes_attached"], attached);
    let shown = &cloud.member().at("2.2").get(&format!("/servers/{id}")).await["server"];
    assert_eq!(shown["os-extended-volumes:volumes_attached"], json!([{"id": volume}]));
    // A second server cannot have it.
    let again = json!([{"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": 0}]);
    let answer = create(&cloud, again).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(message(&answer.body).contains("status must be 'available'"), "{}", answer.body);
}

#[tokio::test]
async fn what_is_wrong_with_volumes_is_refused_and_nothing_stays_reserved() {
    let cloud = Cloud::new().await;
    let (good, other) = (cloud.volumes.add(1, |_| {}).await, cloud.volumes.add(1, |_| {}).await);
    let unbootable = cloud.volumes.add(1, |volume| volume.bootable = Some("false".into())).await;
    let small = cloud
        .volumes
        .add(1, |volume| {
            volume.volume_image_metadata.insert("min_disk".into(), json!("2"));
        })
        .await;
    let multi = cloud.volumes.add(1, |volume| volume.multiattach = true).await;
    let device = |id: Uuid, boot: i32| json!({"uuid": id, "source_type": "volume", "destination_type": "volume", "boot_index": boot});
    let image = |size: Value, kind: Value| {
        json!({"uuid": IMAGE, "source_type": "image", "destination_type": "volume", "boot_index": 0,
               "volume_size": size, "volume_type": kind})
    };
    let cases = [
        (json!([device(Uuid::nil(), 0)]), "failed to get volume"),
        (json!([device(unbootable, 0)]), "is not bootable"),
        (json!([device(small, 0)]), "Volume is smaller than the minimum size"),
        (json!([device(good, 1)]), "Boot sequence"),
        (json!([device(good, 0), device(good, 1)]), "Invalid volume"),
        (json!([image(json!(0), Value::Null)]), "non-zero size"),
        (json!([image(json!(1), json!("slow"))]), "Volume type slow could not be found."),
    ];
    for (devices, says) in cases {
        let answer = create(&cloud, devices.clone()).await;
        assert_eq!(answer.status, 400, "{devices}: {}", answer.body);
        assert!(message(&answer.body).contains(says), "{says}: {}", answer.body);
    }
    let mut two = with_devices(json!([device(good, 0)]));
    two["server"]["max_count"] = json!(2);
    let answer = cloud.member().call("POST", "/servers", Some(two)).await;
    assert!(answer.status == 400 && message(&answer.body).contains("multiple instances"), "{}", answer.body);
    let body = with_devices(json!([device(multi, 0)]));
    let answer = cloud.member().at("2.59").call("POST", "/servers", Some(body)).await;
    assert!(answer.status == 400 && message(&answer.body).contains("2.60"), "{}", answer.body);
    cloud.volumes.fail_next("reserve", 1, Kind::OverQuota);
    assert_eq!(create(&cloud, json!([device(good, 0), device(other, -1)])).await.status, 403);
    assert!(cloud.volumes.attachments().is_empty());
    assert!(cloud.member().get("/servers").await["servers"].as_array().unwrap().is_empty());
    created(&cloud, json!([image(json!(1), json!("fast"))])).await;
}

#[tokio::test]
async fn a_volume_is_attached_and_detached() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    let (path, volume) = (attachments(id), cloud.volumes.add(1, |_| {}).await);
    let body = json!({"volumeAttachment": {"volumeId": volume, "tag": "data", "delete_on_termination": true}});
    let old = json!({"volumeAttachment": {"volumeId": volume, "device": "/dev/vdb"}});
    cloud.member().at("2.48").expect(400, "POST", &path, Some(body.clone())).await;
    cloud.member().at("2.78").expect(400, "POST", &path, Some(body.clone())).await;
    let answer = cloud.member().at("2.89").expect(200, "POST", &path, Some(body)).await;
    let shown = &answer["volumeAttachment"];
    let members = ["attachment_id", "bdm_uuid", "delete_on_termination", "device", "serverId", "tag", "volumeId"];
    assert_eq!(keys(shown), members);
    assert_eq!((&shown["device"], &shown["tag"]), (&json!("/dev/vdb"), &json!("data")));
    assert_eq!(cloud.volumes.status(volume).as_deref(), Some("reserved"));
    let device = shown["bdm_uuid"].as_str().unwrap().to_owned();
    assert!(pending(&cloud, flows::VOLUME_ATTACH, &device).await);
    assert_eq!(cloud.nudges.servers.lock().last().unwrap().1, id);
    let one = format!("{path}/{volume}");
    for (version, members) in [
        ("2.1", vec!["device", "id", "serverId", "volumeId"]),
        ("2.70", vec!["device", "id", "serverId", "tag", "volumeId"]),
        ("2.79", vec!["delete_on_termination", "device", "id", "serverId", "tag", "volumeId"]),
    ] {
        assert_eq!(keys(&cloud.member().at(version).get(&one).await["volumeAttachment"]), members, "{version}");
        assert_eq!(cloud.member().at(version).get(&path).await["volumeAttachments"].as_array().unwrap().len(), 1);
    }
    // Twice, and before it is there.
    assert!(message(&cloud.member().expect(400, "POST", &path, Some(old.clone())).await).contains("Invalid volume"));
    assert!(message(&cloud.member().expect(400, "DELETE", &one, None).await).contains("Unable to detach"));
    settle(&cloud, id).await;
    let change = |value: Value| json!({"volumeAttachment": {"volumeId": volume, "delete_on_termination": value}});
    cloud.member().at("2.84").expect(400, "PUT", &one, Some(change(json!(false)))).await;
    cloud.member().expect(202, "PUT", &one, Some(change(json!(false)))).await;
    assert_eq!(cloud.member().get(&one).await["volumeAttachment"]["delete_on_termination"], json!(false));
    let moved = json!({"volumeAttachment": {"volumeId": volume, "device": "/dev/vdz"}});
    cloud.member().expect(400, "PUT", &one, Some(moved)).await;
    cloud.member().expect(202, "DELETE", &one, None).await;
    assert!(pending(&cloud, flows::VOLUME_DETACH, &device).await);
    cloud.member().expect(400, "DELETE", &one, None).await;
    let actions = cloud.member().get(&format!("/servers/{id}/os-instance-actions")).await;
    let names: Vec<_> =
        actions["instanceActions"].as_array().unwrap().iter().map(|one| one["action"].clone()).collect();
    assert!(names.contains(&json!("attach_volume")) && names.contains(&json!("detach_volume")), "{names:?}");
    // In use, and the flow that attached it has yet to say so here.
    let quick = cloud.volumes.add(1, |_| {}).await;
    let body = json!({"volumeAttachment": {"volumeId": quick}});
    cloud.member().at("2.89").expect(200, "POST", &path, Some(body)).await;
    complete(&cloud).await;
    let one = format!("{path}/{quick}");
    cloud.member().expect(202, "DELETE", &one, None).await;
    assert!(message(&cloud.member().expect(400, "DELETE", &one, None).await).contains("detaching"), "once");
    // From 2.101 on there is nothing to see yet.
    let another = cloud.volumes.add(1, |_| {}).await;
    let body = json!({"volumeAttachment": {"volumeId": another}});
    let answer = cloud.member().call("POST", &path, Some(body)).await;
    assert_eq!((answer.status, answer.body), (202, Value::Null));
}

#[tokio::test]
async fn attaching_is_refused_where_it_cannot_be() {
    let config = umbel_compute::Config { max_disk_devices: 2, ..Default::default() };
    let cloud = Cloud::with_cells(1, config).await;
    let id = cloud.running("vm").await;
    let path = attachments(id);
    let body = |volume: Uuid| json!({"volumeAttachment": {"volumeId": volume}});
    let attach = async |status: u16, volume: Uuid| {
        let answer = cloud.member().expect(status, "POST", &path, Some(body(volume))).await;
        message(&answer).to_owned()
    };
    assert!(attach(404, Uuid::from_u128(9)).await.contains("could not be found"));
    let busy = cloud.volumes.add(1, |volume| volume.status = "error".into()).await;
    assert!(attach(400, busy).await.contains("Currently in 'error' status"));
    let text = json!({"volumeAttachment": {"volumeId": "x"}});
    cloud.member().expect(400, "POST", &path, Some(text)).await;
    let device = json!({"volumeAttachment": {"volumeId": busy, "device": "/dev/tape"}});
    cloud.member().expect(400, "POST", &path, Some(device)).await;
    let [one, two] = [cloud.volumes.add(1, |_| {}).await, cloud.volumes.add(1, |_| {}).await];
    cloud.volumes.fail_next("reserve", 1, Kind::BadRequest);
    assert!(attach(400, one).await.contains("told to fail"));
    assert!(cloud.member().get(&path).await["volumeAttachments"].as_array().unwrap().is_empty(), "nothing is left");
    cloud.member().expect(202, "POST", &path, Some(body(one))).await;
    assert!(attach(403, two).await.contains("The maximum allowed number of disk devices (2)"));
    settle(&cloud, id).await;
    // Swapping is for administrators.
    let one_path = format!("{path}/{one}");
    cloud.member().expect(403, "PUT", &one_path, Some(body(two))).await;
    let swap = async |status, volume| {
        let answer = cloud.admin().expect(status, "PUT", &one_path, Some(body(volume))).await;
        message(&answer).to_owned()
    };
    assert!(swap(404, Uuid::from_u128(9)).await.contains("could not be found"));
    assert!(swap(400, cloud.volumes.add(0, |_| {}).await).await.contains("same size or larger"));
    assert!(swap(400, busy).await.contains("must be detached"));
    cloud.admin().expect(202, "PUT", &one_path, Some(body(two))).await;
    assert!(swap(400, two).await.contains("Currently in 'migrating' status"));
    cloud.member().expect(400, "DELETE", &one_path, None).await;
    cloud.member().expect(404, "GET", &format!("{path}/{two}"), None).await;
    cloud.member().expect(404, "DELETE", &format!("{path}/{two}"), None).await;
    cloud.member().act(202, id, json!({"lock": null})).await;
    cloud.member().expect(409, "DELETE", &one_path, None).await;
    let admin_locked = cloud.running("locked").await;
    cloud.admin().act(202, admin_locked, json!({"lock": null})).await;
    let answer = cloud.member().expect(409, "POST", &attachments(admin_locked), Some(body(two))).await;
    assert!(message(&answer).contains("is locked"), "{answer}");
    let building = cloud.member().create("building").await;
    let answer = cloud.member().expect(409, "POST", &attachments(building), Some(body(two))).await;
    assert!(message(&answer).contains("vm_state building"), "{answer}");
    let foreign = cloud.client("q", "member");
    foreign.expect(404, "POST", &path, Some(body(two))).await;
    foreign.expect(404, "DELETE", &one_path, None).await;
}

#[tokio::test]
async fn a_root_volume_stays() {
    let cloud = Cloud::new().await;
    let volume = cloud.volumes.add(1, |_| {}).await;
    let device = json!([{"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": 0}]);
    let id = created(&cloud, device).await;
    let server = cloud.place(id, 0).await;
    assert_eq!(server.state.generation.0, 0, "nothing for the host before the volume is connected");
    tx!(cloud.cells.with_hosts()[0].db, "connect", |tx| {
        let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
        let at = umbel_compute::model::Connection {
            pool: "p".into(),
            disk: "d".into(),
            read_only: false,
            limits: Default::default(),
        };
        server.state = connect_all(&server, &[(server.state.volumes[0].id, at)], server.state.updated_at)?;
        servers::update(tx, &mut server).await
    })
    .unwrap();
    cloud.reach(id, Some(Power::Running)).await;
    let answer = cloud.member().expect(403, "DELETE", &format!("{}/{volume}", attachments(id)), None).await;
    assert_eq!(message(&answer), "Cannot detach a root device volume");
}

#[tokio::test]
async fn other_services_tell_of_events() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    let volume = cloud.volumes.add(1, |_| {}).await;
    let body = json!({"volumeAttachment": {"volumeId": volume}});
    cloud.member().expect(202, "POST", &attachments(id), Some(body)).await;
    settle(&cloud, id).await;
    let path = "/os-server-external-events";
    let event = |name: &str, server: &str, tag: Value| json!({"name": name, "server_uuid": server, "tag": tag});
    let send = async |status: u16, events: Value| {
        cloud.admin().expect(status, "POST", path, Some(json!({ "events": events }))).await
    };
    cloud.member().expect(403, "POST", path, Some(json!({"events": []}))).await;
    let (text, missing) = (id.to_string(), Uuid::nil().to_string());
    cloud.volumes.grow(volume, 5);
    let answer = send(200, json!([event("volume-extended", &text, json!(volume))])).await;
    assert_eq!((&answer["events"][0]["code"], &answer["events"][0]["status"]), (&json!(200), &json!("completed")));
    let rows = read!(cloud.cells.with_hosts()[0].db, "row", |tx| servers::get_many(tx, &[id]).await).unwrap();
    assert_eq!(rows[0].state.volumes[0].size_bytes, 5 * GIB);
    assert!(rows[0].is_behind(), "the host is told");
    send(200, json!([event("network-changed", &text, Value::Null)])).await;
    let answer = send(
        207,
        json!([event("network-vif-plugged", &text, json!("port")), event("network-changed", &missing, Value::Null)]),
    )
    .await;
    assert_eq!(
        answer["events"][1],
        json!({"name": "network-changed", "server_uuid": missing, "status": "failed", "code": 404})
    );
    send(404, json!([event("network-changed", &missing, Value::Null)])).await;
    for bad in [
        json!([]),
        json!([event("volume-extended", &text, Value::Null)]),
        json!([event("sun-rises", &text, Value::Null)]),
        json!([event("network-changed", "x", Value::Null)]),
    ] {
        send(400, bad).await;
    }
    let building = cloud.member().create("building").await.to_string();
    let answer = send(207, json!([event("network-changed", &building, Value::Null)])).await;
    assert_eq!(answer["events"][0]["code"], json!(422));
}

#[tokio::test]
async fn the_old_proxies_end_with_2_35() {
    let cloud = Cloud::new().await;
    let old = cloud.member().at("2.35");
    let body = json!({"volume": {"display_name": "v", "size": 1}});
    let made = old.expect(200, "POST", "/os-volumes", Some(body.clone())).await;
    let id = made["volume"]["id"].as_str().unwrap().to_owned();
    assert_eq!((&made["volume"]["displayName"], &made["volume"]["size"]), (&json!("v"), &json!(1)));
    assert_eq!(old.get("/os-volumes").await["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(old.get(&format!("/os-volumes/{id}")).await["volume"]["attachments"], json!([{}]));
    assert_eq!(old.get("/os-snapshots").await["snapshots"], json!([]));
    old.expect(400, "POST", "/os-volumes", Some(json!({"volume": {"nonsense": 1}}))).await;
    old.expect(404, "GET", "/os-volumes/x", None).await;
    old.expect(202, "DELETE", &format!("/os-volumes/{id}"), None).await;
    for path in ["/os-volumes", "/os-snapshots", "/os-volumes/detail"] {
        cloud.member().at("2.36").expect(404, "GET", path, None).await;
    }
}

#[tokio::test]
async fn a_server_on_no_host_lets_its_volumes_go_before_it_ends() {
    let cloud = Cloud::new().await;
    let volume = cloud.volumes.add(1, |_| {}).await;
    let device = json!([{"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": 0}]);
    let id = created(&cloud, device).await;
    cloud.place(id, 0).await;
    tx!(cloud.cells.with_hosts()[0].db, "off its host", |tx| {
        let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
        server.state.host = None;
        servers::update(tx, &mut server).await
    })
    .unwrap();
    cloud.member().expect(204, "DELETE", &format!("/servers/{id}"), None).await;
    assert!(pending(&cloud, flows::SERVER_RELEASE, &id.to_string()).await);
    let shown = cloud.member().get(&format!("/servers/{id}")).await;
    assert_eq!(shown["server"]["OS-EXT-STS:task_state"], json!("deleting"));
}
