use serde_json::json;

use crate::cloud::{Cloud, keys};

#[tokio::test]
async fn zones_are_of_hosts() {
    let cloud = Cloud::with_cells(2, Default::default()).await;
    let zones = cloud.member().get("/os-availability-zone").await;
    let one = json!({"zoneName": "nova", "zoneState": {"available": true}, "hosts": null});
    assert_eq!(zones, json!({"availabilityZoneInfo": [one]}));
    let detail = cloud.admin().get("/os-availability-zone/detail").await;
    let hosts = &detail["availabilityZoneInfo"][0]["hosts"];
    assert_eq!(keys(hosts), ["cell1-h1", "cell2-h1"]);
    assert_eq!(hosts["cell1-h1"]["nova-compute"]["active"], json!(true));
}

#[tokio::test]
async fn services_are_listed_and_changed_by_version() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    let list = async |version: &str| admin.at(version).get("/os-services").await["services"][0].clone();
    assert_eq!(keys(&list("2.10").await).len(), 8);
    assert_eq!(keys(&list("2.11").await).len(), 9);
    assert!(list("2.52").await["id"].is_i64() && list("2.53").await["id"].is_string());
    assert_eq!((&list("2.53").await["state"], &list("2.53").await["status"]), (&json!("up"), &json!("enabled")));
    let id = list("2.53").await["id"].as_str().unwrap().to_owned();
    let path = format!("/os-services/{id}");
    let disable = json!({"status": "disabled", "disabled_reason": "fan"});
    let changed = admin.expect(200, "PUT", &path, Some(disable)).await["service"].clone();
    assert_eq!((&changed["status"], &changed["disabled_reason"]), (&json!("disabled"), &json!("fan")));
    assert_eq!(keys(&changed).len(), 9);
    let zones = cloud.member().get("/os-availability-zone").await;
    assert_eq!(zones["availabilityZoneInfo"][0]["zoneState"]["available"], json!(false));
    for bad in [json!({}), json!({"status": "x"}), json!({"status": "enabled", "disabled_reason": "x"})] {
        admin.expect(400, "PUT", &path, Some(bad)).await;
    }
    admin.expect(400, "PUT", "/os-services/5", Some(json!({"status": "enabled"}))).await;
    let old = admin.at("2.52");
    let enable = json!({"host": "cell1-h1", "binary": "nova-compute"});
    let answer = old.expect(200, "PUT", "/os-services/enable", Some(enable)).await;
    assert_eq!(answer, json!({"service": {"host": "cell1-h1", "binary": "nova-compute", "status": "enabled"}}));
    let down = json!({"host": "cell1-h1", "binary": "nova-compute", "forced_down": true});
    old.expect(200, "PUT", "/os-services/force-down", Some(down)).await;
    assert_eq!(list("2.53").await["state"], json!("down"));
    old.expect(404, "PUT", "/os-services/enable", Some(json!({"host": "x", "binary": "nova-compute"}))).await;
}

#[tokio::test]
async fn a_host_that_is_silent_is_down() {
    let cloud = Cloud::new().await;
    cloud.clock.advance(std::time::Duration::from_secs(61));
    let list = cloud.admin().get("/os-services").await;
    assert_eq!(list["services"][0]["state"], json!("down"));
    let id = cloud.running("vm").await;
    let shown = cloud.client("p", "admin").get(&format!("/servers/{id}")).await;
    assert_eq!(shown["server"]["host_status"], json!("UNKNOWN"));
}

#[tokio::test]
async fn hypervisors_have_the_members_of_their_version() {
    let cloud = Cloud::with_cells(3, Default::default()).await;
    let id = cloud.running("vm").await;
    let admin = cloud.admin();
    let short = admin.get("/os-hypervisors").await;
    assert_eq!(short["hypervisors"].as_array().unwrap().len(), 3);
    assert_eq!(keys(&short["hypervisors"][0]), ["hypervisor_hostname", "id", "state", "status"]);
    let detail = async |version: &str| admin.at(version).get("/os-hypervisors/detail").await["hypervisors"][0].clone();
    assert_eq!(keys(&detail("2.1").await).len(), 20);
    assert_eq!(keys(&detail("2.87").await).len(), 20);
    assert_eq!(
        keys(&detail("2.88").await),
        [
            "host_ip",
            "hypervisor_hostname",
            "hypervisor_type",
            "hypervisor_version",
            "id",
            "service",
            "state",
            "status",
            "uptime"
        ]
    );
    assert!(detail("2.27").await["cpu_info"].is_string() && detail("2.28").await["cpu_info"].is_object());
    assert!(detail("2.52").await["id"].is_i64() && detail("2.53").await["id"].is_string());

    let mut path = "/os-hypervisors?limit=2".to_owned();
    let mut names = Vec::new();
    loop {
        let page = admin.get(&path).await;
        let found = page["hypervisors"].as_array().unwrap().iter();
        names.extend(found.map(|one| one["hypervisor_hostname"].as_str().unwrap().to_owned()));
        match page["hypervisors_links"][0]["href"].as_str() {
            Some(next) => path = next.split_once("/v2.1").unwrap().1.to_owned(),
            None => break,
        }
    }
    names.sort();
    assert_eq!(names, ["cell1-h1", "cell2-h1", "cell3-h1"]);

    let found = admin.get("/os-hypervisors?with_servers=true&hypervisor_hostname_pattern=cell1").await;
    let one = &found["hypervisors"][0];
    assert_eq!(one["servers"], json!([{"name": "vm", "uuid": id.to_string()}]));
    let shown = admin.get(&format!("/os-hypervisors/{}", one["id"].as_str().unwrap())).await;
    assert_eq!(shown["hypervisor"]["hypervisor_type"], json!("QEMU"));
    admin.expect(404, "GET", "/os-hypervisors/none", None).await;
    let all = admin.at("2.87").get("/os-hypervisors/statistics").await["hypervisor_statistics"].clone();
    assert_eq!((&all["count"], &all["vcpus"], &all["running_vms"]), (&json!(3), &json!(12), &json!(1)));
    assert_eq!((&all["local_gb"], keys(&all).len()), (&json!(300), 12));
    admin.expect(404, "GET", "/os-hypervisors/statistics", None).await;
}
