//! Images of servers: what the API asks, writes and refuses. The flow that makes them is the conductor's.

use serde_json::{Value, json};
use umbel_compute::model::{BlockDevice, BlockDeviceId, DiskSource, Phase, Server, ServerId};
use umbel_compute::store::disks::{self, DiskRow};
use umbel_compute::store::servers;
use umbel_compute::{ImageCatalog, flows};
use umbel_core::{Clock, Kind};
use umbel_db::{args, read, tx};
use umbel_placement::PoolId;
use uuid::Uuid;

use crate::cloud::{Cloud, IMAGE, message, new_server};

/// A running server with its disk's row, as the conductor leaves it.
async fn with_disk(cloud: &Cloud, name: &str) -> ServerId {
    let id = cloud.running(name).await;
    let cell = &cloud.cells.with_hosts()[0];
    let now = cloud.clock.now();
    let disk = DiskRow {
        server_id: id,
        name: format!("{id}_disk"),
        pool_id: PoolId::from_uuid(Uuid::nil()),
        pool: "local".into(),
        size_bytes: 1 << 30,
        source: DiskSource::Image,
        boot_index: Some(0),
    };
    tx!(cell.db, "disk", |tx| disks::insert(tx, &disk, now).await).unwrap();
    id
}

/// A running server with a root volume and another.
async fn with_volumes(cloud: &Cloud, name: &str) -> (ServerId, [Uuid; 2]) {
    let id = cloud.running(name).await;
    let volumes = [cloud.volumes.add(2, |_| {}).await, cloud.volumes.add(3, |_| {}).await];
    let now = cloud.clock.now();
    change(cloud, id, |server| {
        for (at, volume) in volumes.into_iter().enumerate() {
            let device = BlockDeviceId::from_uuid(Uuid::new_v4());
            let mut device = BlockDevice::planned(device, Some(volume), 1 << 30, now);
            device.phase = Phase::Attached;
            device.boot_index = (at == 0).then_some(0);
            device.device_name = format!("/dev/vd{}", ["a", "b"][at]);
            server.state.volumes.push(device);
        }
    })
    .await;
    (id, volumes)
}

async fn change(cloud: &Cloud, id: ServerId, change: impl Fn(&mut Server)) {
    let cell = &cloud.cells.with_hosts()[0];
    tx!(cell.db, "change", |tx| {
        let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
        change(&mut server);
        servers::update_volumes(tx, &mut server).await
    })
    .unwrap();
}

/// What the flow of an image starts from.
async fn flow_text(cloud: &Cloud, kind: &str, image_id: &str) -> String {
    let cell = &cloud.cells.with_hosts()[0];
    let sql = "SELECT state FROM workflows WHERE kind = ? AND id = ?";
    let row = read!(cell.db, "flow", |tx| tx.fetch_one(sql, args![kind, image_id]).await).unwrap();
    row.text("state").unwrap()
}

async fn flow(cloud: &Cloud, image_id: &str) -> flows::ServerImage {
    serde_json::from_str(&flow_text(cloud, flows::SERVER_IMAGE, image_id).await).unwrap()
}

fn create_image(metadata: Value) -> Value {
    json!({"createImage": {"name": "snap", "metadata": metadata}})
}

#[tokio::test]
async fn an_image_is_named_as_its_server_has_it() {
    let cloud = Cloud::new().await;
    let id = with_disk(&cloud, "vm").await;
    let answer = cloud.member().act(202, id, create_image(json!({"purpose": "test"}))).await;
    let image_id = answer["image_id"].as_str().unwrap();
    let made = cloud.images.get(image_id).unwrap();
    assert_eq!((made.status.as_str(), made.name.as_deref()), ("queued", Some("snap")));
    assert_eq!((made.disk_format.as_deref(), made.container_format.as_deref()), (Some("raw"), Some("bare")));
    let property = |name: &str| made.properties.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(
        [property("image_type"), property("base_image_ref"), property("instance_uuid"), property("user_id")],
        ["snapshot".to_owned(), IMAGE.to_owned(), id.to_string(), "p-user".to_owned()]
    );
    assert_eq!([property("os_distro"), property("purpose"), property("schema")], ["linux", "test", ""]);
    assert_eq!(made.min_disk, 1, "the flavor's");
    let server = cloud.member().get(&format!("/servers/{id}")).await;
    assert_eq!(server["server"]["OS-EXT-STS:task_state"], "image_snapshot_pending");
    let begun = flow(&cloud, image_id).await;
    assert_eq!((begun.disk.pool.as_str(), begun.disk.name, begun.quiesce), ("local", format!("{id}_disk"), false));
    let actions = cloud.member().get(&format!("/servers/{id}/os-instance-actions")).await;
    assert_eq!(actions["instanceActions"][0]["action"], "createImage");

    // One at a time; but a delete takes precedence.
    let refused = cloud.member().act(409, id, create_image(json!({}))).await;
    assert!(message(&refused).contains("while it is in task_state image_snapshot_pending"), "{refused}");
    cloud.member().act(409, id, json!({"os-stop": null})).await;
    cloud.member().expect(204, "DELETE", &format!("/servers/{id}"), None).await;
}

#[tokio::test]
async fn old_versions_are_told_the_place() {
    let cloud = Cloud::new().await;
    let id = with_disk(&cloud, "vm").await;
    let path = format!("/servers/{id}/action");
    let answer = cloud.member().at("2.44").call("POST", &path, Some(create_image(json!({"image_type": "test"})))).await;
    assert_eq!((answer.status, &answer.body), (202, &Value::Null));
    let image_id = answer.headers["location"].rsplit('/').next().unwrap().to_owned();
    assert_eq!(cloud.images.get(&image_id).unwrap().properties["image_type"], "test");
}

#[tokio::test]
async fn what_is_wrong_with_an_image_is_said() {
    let cloud = Cloud::new().await;
    let id = with_disk(&cloud, "vm").await;
    for bad in [
        json!({"createImage": {}}),
        json!({"createImage": {"name": ""}}),
        json!({"createImage": {"name": "x".repeat(256)}}),
        json!({"createImage": {"name": "x", "more": 1}}),
        json!({"createImage": {"name": "x", "metadata": {"": "1"}}}),
        json!({"createImage": {"name": "x", "metadata": {"a": 1}}}),
        json!({"createImage": {"name": "x", "metadata": {"disk_format": "qcow2"}}}),
        json!({"createBackup": {"name": "x", "backup_type": "daily"}}),
        json!({"createBackup": {"name": "x", "rotation": 1}}),
        json!({"createBackup": {"name": "x", "backup_type": "daily", "rotation": -1}}),
    ] {
        cloud.member().act(400, id, bad).await;
    }
    let many: serde_json::Map<String, Value> = (0..129).map(|at| (format!("k{at}"), json!("v"))).collect();
    cloud.member().at("2.38").act(403, id, create_image(Value::Object(many))).await;
    // Refused by the image service: the server is as it was.
    cloud.images.fail_next("create", 1, Kind::OverQuota);
    cloud.member().act(403, id, create_image(json!({}))).await;
    let server = cloud.member().get(&format!("/servers/{id}")).await;
    assert_eq!(server["server"]["OS-EXT-STS:task_state"], Value::Null);
    let building = cloud.member().create("new").await;
    cloud.member().act(409, building, create_image(json!({}))).await;
    cloud.client("other", "member").act(404, id, create_image(json!({}))).await;
    cloud.client("p", "reader").act(403, id, create_image(json!({}))).await;
    assert_eq!(cloud.images.all().len(), 1);
}

#[tokio::test]
async fn a_backup_has_its_type_and_rotation() {
    let cloud = Cloud::new().await;
    let id = with_disk(&cloud, "vm").await;
    let body = json!({"createBackup": {"name": "b", "backup_type": "daily", "rotation": 2}});
    let answer = cloud.member().act(202, id, body).await;
    let image_id = answer["image_id"].as_str().unwrap();
    let properties = cloud.images.get(image_id).unwrap().properties;
    assert_eq!((&properties["image_type"], &properties["backup_type"]), (&json!("backup"), &json!("daily")));
    assert_eq!(flow(&cloud, image_id).await.rotation.unwrap().keep, 2);
    let server = cloud.member().get(&format!("/servers/{id}")).await;
    assert_eq!(server["server"]["OS-EXT-STS:task_state"], "image_backup");
}

#[tokio::test]
async fn the_image_of_volumes_is_their_snapshots_and_boots() {
    let cloud = Cloud::new().await;
    let (id, volumes) = with_volumes(&cloud, "vm").await;
    let body = json!({"createBackup": {"name": "b", "backup_type": "daily", "rotation": 2}});
    let refused = cloud.member().act(400, id, body).await;
    assert_eq!(message(&refused), "Backup is not supported for volume-backed instances.");

    let answer = cloud.member().act(202, id, create_image(json!({"purpose": "test"}))).await;
    let image_id = answer["image_id"].as_str().unwrap();
    let made = cloud.images.get(image_id).unwrap();
    assert_eq!((made.status.as_str(), made.min_disk), ("queued", 0));
    let names: Vec<_> = made.properties.keys().map(String::as_str).collect();
    assert!(names.contains(&"purpose") && !names.contains(&"image_type"), "{names:?}");
    let server = cloud.member().get(&format!("/servers/{id}")).await;
    assert_eq!(server["server"]["OS-EXT-STS:task_state"], "image_snapshot_pending");
    let text = flow_text(&cloud, flows::VOLUMES_IMAGE, image_id).await;
    let begun: flows::VolumesImage = serde_json::from_str(&text).unwrap();
    assert_eq!((begun.name.as_str(), begun.quiesce), ("snap", false));
    assert_eq!((begun.behalf.project_id.as_str(), begun.behalf.user_id.as_str()), ("p", "p-user"));
    assert!(!text.contains("token"), "nobody's token is kept: {text}");

    // As the flow leaves it.
    let drawn: Vec<flows::DrawnSnapshot> = volumes
        .iter()
        .zip(&begun_devices(&cloud, id).await)
        .zip([2, 3])
        .map(|((_, device), size_gib)| flows::DrawnSnapshot {
            id: cloud.volumes.add_snapshot(size_gib),
            device: device.clone(),
            size_gib,
        })
        .collect();
    let properties = umbel_compute::devices_of(&drawn, &[]).unwrap();
    let who = umbel_compute::Who::For(&begun.behalf);
    cloud.images.set_properties(who, image_id, &properties).await.unwrap();
    cloud.images.complete_empty(who, image_id).await.unwrap();

    let mut body = new_server("again");
    body["server"]["imageRef"] = json!(made.id);
    body["server"]["block_device_mapping_v2"][0]["uuid"] = json!(made.id);
    let answer = cloud.member().expect(202, "POST", "/servers", Some(body)).await;
    let again: ServerId = answer["server"]["id"].as_str().unwrap().parse().unwrap();
    let again = cloud.place(again, 0).await;
    assert!(again.is_volume_backed() && again.spec.image.is_none());
    let sizes: Vec<u64> = again.state.volumes.iter().map(|device| device.size_bytes >> 30).collect();
    assert_eq!(sizes, [2, 3]);
    assert!(again.spec.disks.iter().all(|disk| disk.boot_index.is_none()));
}

async fn begun_devices(cloud: &Cloud, id: ServerId) -> Vec<BlockDevice> {
    let cell = &cloud.cells.with_hosts()[0];
    read!(cell.db, "devices", |tx| Ok(servers::get_many(tx, &[id]).await?.pop().unwrap().state.volumes)).unwrap()
}

#[tokio::test]
async fn the_image_of_volumes_is_named_or_not_begun() {
    let cloud = Cloud::new().await;
    let (id, _) = with_volumes(&cloud, "vm").await;
    cloud.images.fail_next("create", 1, Kind::OverQuota);
    cloud.member().act(403, id, create_image(json!({}))).await;
    let server = cloud.member().get(&format!("/servers/{id}")).await;
    assert_eq!(server["server"]["OS-EXT-STS:task_state"], Value::Null);
    let actions = cloud.member().get(&format!("/servers/{id}/os-instance-actions")).await;
    assert_eq!(actions["instanceActions"][0]["message"], "Error");
}

#[tokio::test]
async fn a_root_volume_says_whether_its_server_must_be_quiesced() {
    for (agent, status) in [("no", 409), ("yes", 202)] {
        let cloud = Cloud::new().await;
        let (id, volumes) = with_volumes(&cloud, "vm").await;
        let metadata = [("os_require_quiesce", "yes"), ("hw_qemu_guest_agent", agent)];
        let metadata = metadata.map(|(name, value)| (name.into(), json!(value)));
        let strict = cloud.volumes.add(2, |volume| volume.volume_image_metadata = metadata.into()).await;
        change(&cloud, id, |server| {
            let root = server.state.volumes.iter_mut().find(|device| device.volume_id == Some(volumes[0]));
            root.unwrap().volume_id = Some(strict);
        })
        .await;
        let answer = cloud.member().act(status, id, create_image(json!({}))).await;
        if status == 409 {
            assert!(message(&answer).contains("os_require_quiesce"), "{answer}");
            continue;
        }
        let text = flow_text(&cloud, flows::VOLUMES_IMAGE, answer["image_id"].as_str().unwrap()).await;
        assert!(serde_json::from_str::<flows::VolumesImage>(&text).unwrap().quiesce);
    }
}

#[tokio::test]
async fn old_versions_see_images_here() {
    let cloud = Cloud::new().await;
    let client = cloud.member().at("2.35");
    let list = client.get("/images").await;
    assert_eq!(crate::cloud::keys(&list["images"][0]), ["id", "links", "name"]);
    let detail = client.get("/images/detail?limit=1").await;
    assert_eq!(detail["images"][0]["status"], "ACTIVE");
    assert_eq!(detail["images_links"][0]["rel"], "next");
    let path = format!("/images/{IMAGE}");
    let shown = client.get(&path).await;
    assert_eq!(
        (&shown["image"]["progress"], &shown["image"]["metadata"]),
        (&json!(100), &json!({"os_distro": "linux"}))
    );

    let client = cloud.member().at("2.38");
    let metadata = format!("{path}/metadata");
    let set = async |method: &str, path: &str, body: Value| client.expect(200, method, path, Some(body)).await;
    let merged = set("POST", &metadata, json!({"metadata": {"a": "1"}})).await;
    assert_eq!(merged, json!({"metadata": {"a": "1", "os_distro": "linux"}}));
    assert_eq!(set("PUT", &metadata, json!({"metadata": {"b": "2"}})).await, json!({"metadata": {"b": "2"}}));
    let item = format!("{metadata}/b");
    assert_eq!(set("PUT", &item, json!({"meta": {"b": "3"}})).await, json!({"meta": {"b": "3"}}));
    client.expect(400, "PUT", &item, Some(json!({"meta": {"c": "3"}}))).await;
    assert_eq!(client.get(&item).await, json!({"meta": {"b": "3"}}));
    client.expect(204, "DELETE", &item, None).await;
    client.expect(404, "DELETE", &item, None).await;
    assert_eq!(client.get(&metadata).await, json!({"metadata": {}}));
    client.expect(404, "GET", "/images", None).await;

    let client = cloud.member().at("2.1");
    client.expect(204, "DELETE", &path, None).await;
    for gone in [path.as_str(), "/images/x"] {
        client.expect(404, "GET", gone, None).await;
    }
}
