//! The main job with the unmodified `openstack` client: an image, a server whose disk is its clone, seen to run, stopped,
//! started, deleted; with a real guest, on both kinds of pool.

use std::path::Path;
use std::time::Duration;

use umbel_testkit::{Ceph, Openstack, Process, ceph_conf, guest_image, until};

const BOOT: Duration = Duration::from_secs(240);
const READY: &str = "umbel-guest: ready hostname=web";

#[tokio::test]
async fn the_main_job_on_local_disks() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::up(dir.path(), &[]).await;
    let openstack = Openstack::new(&process.clouds_yaml());
    let server = boot(&openstack).await;
    let disks = dir.path().join("pools/vms");
    assert!(holds(&disks, &server), "the server's disk is in {}", disks.display());
    power(&openstack).await;
    end(&openstack).await;
    assert!(!holds(&disks, &server), "the server's disk is gone from {}", disks.display());
    without_network(&openstack).await;
    process.stop().await;
}

/// Every way in which a client asks for no network, or for whatever there is.
async fn without_network(openstack: &Openstack) {
    for (name, asked) in
        [("n1", &["--network", "none"][..]), ("n2", &["--network", "auto"]), ("n3", &["--nic", "auto"]), ("n4", &[])]
    {
        let mut args = vec!["server", "create", "--image", "guest", "--flavor", "tiny", "--wait", name];
        args.extend(asked);
        assert_eq!(openstack.json(&args).await["status"], "ACTIVE", "{asked:?}");
        openstack.run(&["server", "delete", "--wait", name]).await;
    }
}

#[tokio::test]
async fn the_main_job_on_ceph() {
    let dir = tempfile::tempdir().unwrap();
    let ceph = Ceph::new();
    let process = Process::up(dir.path(), &["--ceph", ceph_conf().to_str().unwrap()]).await;
    let openstack = Openstack::new(&process.clouds_yaml());
    let server = boot(&openstack).await;
    let image = openstack.json(&["image", "show", "guest"]).await["id"].as_str().unwrap().to_owned();
    let disk = format!("{server}_disk");
    let info = ceph.rbd(&["info", &format!("vms/{disk}")]).await;
    let parent = &info["parent"];
    assert_eq!(
        (parent["pool"].as_str(), parent["image"].as_str(), parent["snapshot"].as_str()),
        (Some("images"), Some(image.as_str()), Some("snap")),
        "{info}"
    );
    power(&openstack).await;
    // An image can be deleted while a server's disk is its clone.
    openstack.run(&["image", "delete", "guest"]).await;
    assert!(!ceph.has("images", &image).await);
    end(&openstack).await;
    assert!(!ceph.has("vms", &disk).await, "the server's disk is left");
    until::yes("the deleted image's hidden parent is purged", Duration::from_secs(60), async || {
        let trash = ceph.rbd(&["trash", "ls", "--all", "images"]).await;
        !trash.to_string().contains(&image)
    })
    .await;
    process.stop().await;
}

async fn boot(openstack: &Openstack) -> String {
    let guest = guest_image();
    let file = guest.to_str().unwrap();
    openstack.run(&["image", "create", "--file", file, "--disk-format", "raw", "guest"]).await;
    openstack.run(&["flavor", "create", "--ram", "128", "--vcpus", "1", "--disk", "1", "tiny"]).await;
    let image = openstack.json(&["image", "show", "guest"]).await;
    assert_eq!(image["status"], "active");
    openstack
        .run(&["server", "create", "--image", "guest", "--flavor", "tiny", "--nic", "none", "--wait", "web"])
        .await;
    let list = openstack.json(&["server", "list"]).await;
    assert_eq!(
        (&list[0]["Name"], &list[0]["Status"], &list[0]["Image"]),
        (&"web".into(), &"ACTIVE".into(), &"guest".into())
    );
    let server = openstack.json(&["server", "show", "web"]).await;
    assert_eq!(
        server["OS-EXT-STS:power_state"].as_i64().or_else(|| server["power_state"].as_i64()),
        Some(1),
        "{server}"
    );
    ready(openstack, 1).await;
    server["id"].as_str().unwrap().to_owned()
}

/// Waits until the guest has come up as often.
async fn ready(openstack: &Openstack, times: usize) {
    until::yes("the guest's line on its console", BOOT, async || {
        openstack.run(&["console", "log", "show", "web"]).await.matches(READY).count() >= times
    })
    .await;
}

async fn power(openstack: &Openstack) {
    openstack.run(&["server", "stop", "web"]).await;
    status(openstack, "SHUTOFF").await;
    openstack.run(&["server", "start", "web"]).await;
    status(openstack, "ACTIVE").await;
    ready(openstack, 2).await;
    let events = openstack.json(&["server", "event", "list", "web"]).await;
    for action in ["create", "stop", "start"] {
        assert!(events.to_string().contains(&format!("\"{action}\"")), "{action} in {events}");
    }
    let stop =
        openstack.fails(&["server", "create", "--image", "nowhere", "--flavor", "tiny", "--nic", "none", "x"]).await;
    assert!(stop.contains("nowhere"), "{stop}");
}

async fn status(openstack: &Openstack, want: &str) {
    until::yes(want, Duration::from_secs(120), async || {
        openstack.json(&["server", "show", "web"]).await["status"] == want
    })
    .await;
}

async fn end(openstack: &Openstack) {
    openstack.run(&["server", "delete", "--wait", "web"]).await;
    assert_eq!(openstack.json(&["server", "list"]).await.as_array().map(Vec::len), Some(0));
}

/// Whether a file below the folder has the text in its name.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .any(|entry| entry.unwrap().file_name().to_string_lossy().contains(text))
}
