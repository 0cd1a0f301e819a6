use serde_json::{Value, json};
use umbel_compute::model::{DiskSource, Life, Networks};
use umbel_compute::store::{build_requests, server_map};
use umbel_db::read;

use crate::cloud::{Cloud, IMAGE, image, message, new_server};

#[tokio::test]
async fn a_create_writes_request_map_and_flow_together() {
    let cloud = Cloud::new().await;
    let mut body = new_server("Web 1");
    body["server"]["metadata"] = json!({"role": "web"});
    body["server"]["tags"] = json!(["blue"]);
    body["server"]["description"] = json!("d");
    body["server"]["config_drive"] = json!(true);
    body["server"]["user_data"] = json!("aGk=");
    body["os:scheduler_hints"] = json!({"group": IMAGE});
    let answer = cloud.member().call("POST", "/servers", Some(body)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let created = &answer.body["server"];
    let id: umbel_compute::model::ServerId = created["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(crate::cloud::keys(created), ["OS-DCF:diskConfig", "adminPass", "id", "links", "security_groups"]);
    assert_eq!(answer.headers["location"], format!("http://cloud:8774/compute/v2.1/servers/{id}"));

    let (request, mapped, pending) = read!(cloud.api, "after", |tx| Ok((
        build_requests::get(tx, id).await?.unwrap(),
        server_map::get(tx, id, &umbel_auth::Visible::All).await?.unwrap(),
        umbel_workflow::pending(tx, umbel_compute::flows::SERVER_CREATE, &id.to_string()).await?
    )))
    .unwrap();
    assert!(pending);
    assert_eq!((mapped.cell, mapped.project_id.as_str()), (None, "p"));
    let server = request.server;
    assert_eq!(
        (server.state.life, server.state.name.as_str(), server.state.hostname.as_str()),
        (Life::Building, "Web 1", "web-1")
    );
    assert_eq!(server.state.admin_pass.as_deref(), created["adminPass"].as_str());
    let spec = &server.spec;
    assert_eq!(spec.image.as_ref().unwrap().locations, [format!("rbd://fsid/images/{IMAGE}/snap")]);
    assert_eq!((spec.networks, spec.user_data.as_deref()), (Networks::Auto, Some("aGk=")));
    let disks: Vec<_> = spec.disks.iter().map(|disk| (disk.name.as_str(), disk.source)).collect();
    let (root, drive) = (format!("{id}_disk"), format!("{id}_disk.config"));
    assert_eq!(disks, [(root.as_str(), DiskSource::Image), (drive.as_str(), DiskSource::ConfigDrive)]);
    assert_eq!(cloud.nudges.flows.load(std::sync::atomic::Ordering::SeqCst), 1);

    let shown = cloud.member().get(&format!("/servers/{id}")).await;
    let shown = &shown["server"];
    assert_eq!((&shown["status"], &shown["OS-EXT-STS:task_state"]), (&json!("BUILD"), &json!("scheduling")));
    assert_eq!((&shown["hostId"], &shown["scheduler_hints"]), (&json!(""), &json!({"group": IMAGE})));
    assert_eq!((&shown["metadata"], &shown["tags"]), (&json!({"role": "web"}), &json!(["blue"])));
}

/// The request with one member of the server changed; null takes it away.
fn with(name: &str, value: Value) -> Value {
    let mut body = new_server("vm");
    let server = body["server"].as_object_mut().unwrap();
    match value {
        Value::Null => server.remove(name),
        value => server.insert(name.to_owned(), value),
    };
    body
}

#[tokio::test]
async fn what_is_wrong_is_refused_in_words() {
    let cloud = Cloud::new().await;
    let unknown = "11111111-2222-3333-4444-555555555555";
    let bdm = |source: &str, destination: &str| json!([{"uuid": IMAGE, "boot_index": 0, "source_type": source, "destination_type": destination}]);
    let mut image_twice = with("imageRef", json!(unknown));
    image_twice["server"]["block_device_mapping_v2"] = bdm("image", "local");
    let mut no_image = with("imageRef", json!(""));
    no_image["server"].as_object_mut().unwrap().remove("block_device_mapping_v2");
    let mut missing_image = with("imageRef", json!(unknown));
    missing_image["server"].as_object_mut().unwrap().remove("block_device_mapping_v2");
    let cases = [
        (with("name", json!("")), "name"),
        (with("name", json!(12345)), "Invalid input"),
        (with("name", json!("a".repeat(256))), "name"),
        (with("imageRef", json!("-1")), "Invalid imageRef provided."),
        (with("imageRef", json!(-1)), "imageRef"),
        (no_image, "Invalid imageRef provided."),
        (missing_image, "Can not find requested image"),
        (image_twice, "another image"),
        (with("flavorRef", json!(-1)), "Flavor -1 could not be found."),
        (with("flavorRef", json!("")), "Invalid flavorRef provided."),
        (with("flavorRef", Value::Null), "flavorRef"),
        (with("networks", Value::Null), "networks"),
        (with("networks", json!("some")), "networks"),
        (with("networks", json!([{"uuid": unknown}])), "network service is not available"),
        (with("networks", json!([{"uuid": "a-b"}])), "uuid"),
        (with("key_name", json!("nokey")), "Invalid key_name provided."),
        (with("metadata", json!({"a": "b".repeat(256)})), "too long"),
        (with("metadata", json!({"a/b": "c"})), "metadata"),
        (with("metadata", json!({"a": 1})), "Invalid input"),
        (with("user_data", json!("%%%")), "base 64"),
        (with("user_data", json!("A".repeat(65_536))), "too large"),
        (with("accessIPv4", json!("1.1.1.1.1")), "ipv4"),
        (with("accessIPv6", json!("notvalid")), "ipv6"),
        (with("OS-DCF:diskConfig", json!("SOMETIMES")), "diskConfig"),
        (with("availability_zone", json!("atlantis")), "availability zone is not available"),
        (with("security_groups", json!([{"name": "does_not_exist"}])), "security_group"),
        (with("block_device_mapping_v2", bdm("volume", "volume")), "failed to get volume"),
        (with("block_device_mapping_v2", bdm("snapshot", "volume")), "failed to get snapshot"),
        (with("block_device_mapping_v2", bdm("image", "volume")), "need to have a non-zero size"),
        (with("block_device_mapping_v2", bdm("image", "invalid")), "destination_type"),
        (with("min_count", json!(0)), "min_count"),
        (with("min_count", json!(3)), "min_count must be <= max_count"),
        (with("tags", json!(["a/b"])), "tag"),
        (with("hostname", json!("-bad-")), "hostname"),
        (with("trusted_image_certificates", json!(["x"])), "not supported"),
        (with("personality", json!([])), "personality"),
        (with("nonsense", json!(1)), "nonsense"),
    ];
    for (body, says) in cases {
        let answer = cloud.member().call("POST", "/servers", Some(body.clone())).await;
        assert_eq!(answer.status, 400, "{body} {}", answer.body);
        assert!(message(&answer.body).contains(says), "{says}: {}", answer.body);
    }
    let oversized = with("user_data", json!("A".repeat(120_000)));
    cloud.member().expect(413, "POST", "/servers", Some(oversized)).await;
    assert!(cloud.member().get("/servers").await["servers"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn members_of_later_versions_are_unknown_to_earlier_ones() {
    let cloud = Cloud::new().await;
    for (name, value, before) in
        [("description", json!("d"), "2.18"), ("tags", json!(["a"]), "2.51"), ("hostname", json!("h"), "2.89")]
    {
        cloud.member().at(before).expect(400, "POST", "/servers", Some(with(name, value))).await;
    }
    // Before 2.37 there is no word for networks, and none is needed.
    let body = with("networks", Value::Null);
    cloud.member().at("2.36").expect(202, "POST", "/servers", Some(body)).await;
    cloud.member().at("2.36").expect(400, "POST", "/servers", Some(with("networks", json!("auto")))).await;
}

#[tokio::test]
async fn an_image_has_to_fit_its_flavor() {
    let cloud = Cloud::new().await;
    let second = "22222222-2222-3333-4444-555555555555";
    let create = async |change: &dyn Fn(&mut umbel_client::ImageView)| {
        let mut one = image(second);
        change(&mut one);
        cloud.images.add(one);
        let mut body = with("imageRef", json!(second));
        body["server"].as_object_mut().unwrap().remove("block_device_mapping_v2");
        cloud.member().call("POST", "/servers", Some(body)).await
    };
    let check = async |change: &dyn Fn(&mut umbel_client::ImageView), says: &str| {
        let answer = create(change).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(message(&answer.body).contains(says), "{}", answer.body);
    };
    check(&|image| image.min_ram = 513, "memory is too small").await;
    check(&|image| image.min_disk = 2, "minimum size").await;
    check(&|image| image.virtual_size = Some(2 << 30), "Flavor's disk is too small").await;
    check(&|image| image.status = "queued".into(), "is not active").await;
    assert_eq!(create(&|_| {}).await.status, 202);
}

#[tokio::test]
async fn many_servers_come_of_one_request() {
    let cloud = Cloud::new().await;
    let mut body = with("min_count", json!(2));
    body["server"]["max_count"] = json!("3");
    body["server"]["return_reservation_id"] = json!(true);
    let created = cloud.member().expect(202, "POST", "/servers", Some(body)).await;
    let reservation = created["reservation_id"].as_str().unwrap();
    assert!(reservation.starts_with("r-"));
    let path = format!("/servers?reservation_id={reservation}&sort_key=display_name&sort_dir=asc");
    let list = cloud.member().get(&path).await;
    let names: Vec<_> = list["servers"].as_array().unwrap().iter().map(|server| server["name"].clone()).collect();
    assert_eq!(names, [json!("vm-1"), json!("vm-2"), json!("vm-3")]);
}

#[tokio::test]
async fn only_administrators_choose_hosts() {
    let cloud = Cloud::new().await;
    for (name, value) in [("host", json!("cell1-h1")), ("availability_zone", json!("nova:cell1-h1"))] {
        cloud.member().expect(403, "POST", "/servers", Some(with(name, value.clone()))).await;
        let body = cloud.admin().expect(202, "POST", "/servers", Some(with(name, value))).await;
        let id = body["server"]["id"].as_str().unwrap().parse().unwrap();
        let request = read!(cloud.api, "request", |tx| build_requests::get(tx, id).await).unwrap().unwrap();
        assert_eq!(request.server.spec.requested_host.as_deref(), Some("cell1-h1"));
    }
    cloud.admin().expect(400, "POST", "/servers", Some(with("host", json!("nowhere")))).await;
}
