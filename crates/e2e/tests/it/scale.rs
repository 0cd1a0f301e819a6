//! Many at once: simulated hypervisors over real clones in Ceph.

use std::time::Duration;

use serde_json::json;
use umbel_client::{Body, Call, NewServer};
use umbel_testkit::{Ceph, TestCloud, ceph_conf, until};

const COUNT: u32 = 200;

#[tokio::test]
async fn two_hundred_servers_at_once_are_all_active_with_their_clones() {
    let ceph = Ceph::new();
    let test = TestCloud::start(|config| {
        config.use_ceph(&ceph_conf(), "admin");
        config.agent.simulated_hosts = 10;
    })
    .await;
    let cloud = &test.admin;
    let quota = json!({"quota_set": {"instances": -1, "cores": -1, "ram": -1}}).to_string();
    let path = format!("/os-quota-sets/{}", cloud.project_id.as_ref().unwrap());
    let call = Call::new("compute", http::Method::PUT, &path)
        .headers(&[("content-type", "application/json")])
        .body(Body::Bytes(quota.into()));
    cloud.bytes(call).await.unwrap();
    let flavor = json!({"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1, "id": "f"}});
    let _: serde_json::Value = cloud.post("compute", "/flavors", None, &flavor).await.unwrap();
    let body = json!({"name": "many", "disk_format": "raw", "container_format": "bare"});
    let image: serde_json::Value = cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let image = image["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/images/{image}/file");
    let call = Call::new("image", http::Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Bytes(vec![1; 1 << 20].into()));
    cloud.bytes(call).await.unwrap();

    let new = NewServer { name: "many", image_id: &image, flavor_id: "f", count: COUNT };
    cloud.create_server(&new).await.unwrap();
    let servers = until::some("all are ACTIVE", Duration::from_secs(300), async || {
        let servers = cloud.servers("many").await.unwrap();
        assert!(servers.iter().all(|server| server.status != "ERROR"), "{servers:?}");
        servers.iter().all(|server| server.status == "ACTIVE").then_some(servers)
    })
    .await;
    assert_eq!(servers.len(), COUNT as usize);
    let disks = ceph.images("vms").await;
    for server in &servers {
        assert!(disks.contains(&format!("{}_disk", server.id)), "{} has no disk", server.id);
    }
    for server in &servers {
        cloud.delete_server(&server.id).await.unwrap();
    }
    until::yes("all are gone", Duration::from_secs(300), async || cloud.servers("many").await.unwrap().is_empty())
        .await;
    until::yes("their disks are gone", Duration::from_secs(120), async || {
        let disks = ceph.images("vms").await;
        !servers.iter().any(|server| disks.iter().any(|disk| disk.starts_with(&server.id)))
    })
    .await;
    cloud.delete("image", &format!("/v2/images/{image}")).await.unwrap();
    test.stop().await;
}
