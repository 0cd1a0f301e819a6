//! `kill -9` of the real process, over a real hypervisor: what was acknowledged comes to its end, and guests live on.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use umbel_client::{Body, Call, Cloud, NewServer};
use umbel_core::Kind;
use umbel_testkit::{Ceph, Process, ceph_conf, guest_image, until};

const LIMIT: Duration = Duration::from_secs(120);

/// Uploads the guest image; (image, flavor).
async fn prepare(cloud: &Cloud) -> (String, String) {
    let body = json!({"name": "guest", "disk_format": "raw", "container_format": "bare"});
    let image: serde_json::Value = cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let image = image["id"].as_str().unwrap().to_owned();
    let bytes = tokio::fs::read(guest_image()).await.unwrap();
    let path = format!("/v2/images/{image}/file");
    let call = Call::new("image", http::Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Bytes(bytes.into()));
    cloud.bytes(call).await.unwrap();
    let flavor = json!({"flavor": {"name": "tiny", "ram": 128, "vcpus": 1, "disk": 1}});
    let flavor: serde_json::Value = cloud.post("compute", "/flavors", None, &flavor).await.unwrap();
    (image, flavor["flavor"]["id"].as_str().unwrap().to_owned())
}

fn new<'a>(image: &'a str, flavor: &'a str) -> NewServer<'a> {
    NewServer { name: "victim", image_id: image, flavor_id: flavor, count: 1 }
}

/// ACTIVE, ERROR with a reason, or gone.
async fn settled(cloud: &Cloud, id: &str) -> String {
    until::some("the server settles", LIMIT, async || match cloud.server(id).await {
        Ok(server) if server.status == "ACTIVE" => Some("ACTIVE".to_owned()),
        Ok(server) if server.status == "ERROR" => {
            let reason = server.fault.map(|fault| fault.message).unwrap_or_default();
            assert!(!reason.is_empty(), "ERROR without a reason");
            Some(format!("ERROR: {reason}"))
        }
        Err(error) if error.is(Kind::NotFound) => Some("gone".to_owned()),
        _ => None,
    })
    .await
}

/// Guests of this cloud, by QEMU processes whose command line names its directory.
fn guests(dir: &Path) -> Vec<u32> {
    let needle = dir.join("guests").to_str().unwrap().to_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        if command.contains("qemu") && command.contains(&needle) {
            found.push(pid);
        }
    }
    found
}

#[tokio::test]
async fn guests_outlive_the_process_and_are_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let process = Process::up(&dir, &[]).await;
    let cloud = process.admin().await;
    let (image, flavor) = prepare(&cloud).await;
    let id = cloud.create_server(&new(&image, &flavor)).await.unwrap();
    cloud.wait_active(&id, Duration::from_millis(20), LIMIT).await.unwrap();
    let before = guests(&dir);
    assert_eq!(before.len(), 1);
    process.kill().await;
    assert_eq!(guests(&dir), before, "the guest died with umbel");

    let process = Process::up(&dir, &[]).await;
    let cloud = process.admin().await;
    assert_eq!(cloud.server(&id).await.unwrap().status, "ACTIVE");
    assert_eq!(guests(&dir), before, "the guest was started again");
    cloud.delete_server(&id).await.unwrap();
    cloud.wait_gone(&id, Duration::from_millis(20), LIMIT).await.unwrap();
    until::yes("the guest ends with its server", LIMIT, async || guests(&dir).is_empty()).await;
    process.stop().await;
}

/// Kills umbel a little later each time, first in creates and then in deletes, until both have run to their end before
/// the kill; at each start everything settles, and after the deletes nothing is left.
#[tokio::test]
async fn a_kill_at_any_moment_orphans_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let conf = ceph_conf();
    let args = ["--ceph", conf.to_str().unwrap()];
    let ceph = Ceph::new();
    let mut process = Process::up(&dir, &args).await;
    let (image, flavor) = prepare(&process.admin().await).await;
    let at_first = used(&process.admin().await).await;
    for round in 0..12 {
        let cloud = process.admin().await;
        let wait = Duration::from_millis(8 * round * round);
        let id = cloud.create_server(&new(&image, &flavor)).await.unwrap();
        killed_after(process, wait).await;
        process = Process::up(&dir, &args).await;
        let cloud = process.admin().await;
        let end = settled(&cloud, &id).await;
        assert_eq!(end, "ACTIVE", "round {round}: an acknowledged server is not lost");
        cloud.delete_server(&id).await.unwrap();
        killed_after(process, wait).await;
        process = Process::up(&dir, &args).await;
        let cloud = process.admin().await;
        cloud.wait_gone(&id, Duration::from_millis(50), LIMIT).await.unwrap();
        until::yes("the guest's process is gone", LIMIT, async || guests(&dir).is_empty()).await;
        until::yes("the disk is gone", LIMIT, async || {
            !ceph.images("vms").await.iter().any(|name| name.starts_with(&id))
        })
        .await;
    }
    // No claim is left either: the host has the capacity that it had.
    let cloud = process.admin().await;
    assert_eq!(used(&cloud).await, at_first);
    cloud.delete("image", &format!("/v2/images/{image}")).await.unwrap();
    process.stop().await;
}

/// vCPUs and MiB that servers hold on the only host.
async fn used(cloud: &Cloud) -> (Option<i64>, Option<i64>) {
    let all: serde_json::Value = cloud.get("compute", "/os-hypervisors/detail", Some("2.53")).await.unwrap();
    let host = &all["hypervisors"][0];
    (host["vcpus_used"].as_i64(), host["memory_mb_used"].as_i64())
}

async fn killed_after(process: Process, wait: Duration) {
    // A moment in the work of another process cannot be waited for by a condition; each one is a case of its own.
    let until = Instant::now() + wait;
    while Instant::now() < until {
        tokio::task::yield_now().await;
    }
    process.kill().await;
}
