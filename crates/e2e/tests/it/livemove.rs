//! Volumes of a running guest go to another pool while it writes: by migration and by a change of type, on Ceph, to
//! another of its pools and to a local one; and to the place of another volume.

use serde_json::json;
use umbel_client::{Body, Call};
use umbel_testkit::{Ceph, until};

use crate::audit::storage;
use crate::site::{SLOW, SWEEPS, Site, local_pool, rbd_pool};

/// Writes ever higher numbers onto the disk that is plugged in, and says what it reads there.
const COUNTS: &str = "#!/bin/sh
while ! [ -b /dev/vdb ]; do sleep 1; done
n=10000000
while :; do
    n=$((n + 1))
    echo $n | dd of=/dev/vdb bs=512 conv=notrunc,fsync 2>/dev/null
    echo 3 >/proc/sys/vm/drop_caches
    echo \"holds $(dd if=/dev/vdb bs=8 count=1 2>/dev/null)\"
    sleep 1
done
";

/// The pools of the shared cluster as they are called there, one of them by another name too, and one of files.
fn config() -> String {
    let pools = [("images", "images"), ("vms", "vms"), ("volumes", "volumes"), ("second", "vms")];
    let pools: String = pools.map(|(name, ceph_pool)| rbd_pool(name, ceph_pool)).concat();
    let (sweeps, files) = (
        SWEEPS.replace("[volume.options]", "[volume]\npools = ['volumes', 'second', 'files']\n[volume.options]"),
        local_pool("files"),
    );
    format!("{sweeps}{pools}{files}")
}

#[tokio::test]
async fn volumes_move_under_a_running_guest() {
    let site = Site::start(&config(), Some(Ceph::new())).await;
    let ceph = site.ceph.as_ref().unwrap();
    let (server, volume) = prepare(&site).await;
    let disk = format!("volume-{volume}");

    // From one RBD pool into another.
    let host = host(&site, &volume).await;
    let at = |pool: &str| format!("{}@{pool}#{pool}", host.split('@').next().unwrap());
    assert_eq!(host, at("volumes"));
    site.run(&format!("volume migrate --host {} {volume}", at("second"))).await;
    moved(&site, &volume, &at("second")).await;
    left(ceph, "volumes", &disk).await;
    assert!(ceph.has("vms", &disk).await);
    writes_on(&site, &server).await;

    // Into files.
    site.run(&format!("volume set --type on-files --retype-policy on-demand {volume}")).await;
    moved(&site, &volume, &at("files")).await;
    left(ceph, "vms", &disk).await;
    writes_on(&site, &server).await;
    let shown = site.shown("volume", &volume).await;
    assert_eq!((&shown["name"], &shown["volume_type"]), (&json!("data"), &json!("on-files")));

    // Its place is taken by another volume.
    let other = site.volume("--size 1 other").await;
    let body = serde_json::to_vec(&json!({"volumeAttachment": {"volumeId": other}})).unwrap();
    let path = format!("/servers/{server}/os-volume_attachments/{volume}");
    let call = Call::new("compute", http::Method::PUT, &path)
        .headers(&[("content-type", "application/json")])
        .body(Body::Bytes(body.into()));
    site.cloud.bytes(call).await.unwrap();
    site.available("volume", &volume).await;
    site.status("volume", &other, "in-use").await;
    writes_on(&site, &server).await;

    site.delete_servers(&[&server]).await;
    for volume in [&volume, &other] {
        site.available("volume", volume).await;
    }
    site.delete_volumes(&[&volume, &other]).await;
    site.run("image delete guest").await;
    site.nothing_left(&[&volume, &other, &server]).await;
    // Files have no other cloud's disks among them.
    let (_, told) = storage(site.dir(), &["audit"]).await;
    assert!(!told.contains(&volume) && !told.contains(&other) && !told.contains(" files/"), "{told}");
    site.stop().await;
}

/// A guest that has a volume and writes to it. (server, volume)
async fn prepare(site: &Site) -> (String, String) {
    let script = site.dir().join("counts.sh");
    std::fs::write(&script, COUNTS).unwrap();
    site.guest_and_flavor("guest").await;
    site.run("volume type create --property volume_backend_name=files on-files").await;
    let volume = site.volume("--size 1 data").await;
    let server = format!("--image guest --user-data {} --config-drive True web", script.display());
    let server = site.boot(&server).await;
    // A disk that is plugged in before the guest has counted its own gets another name than the one that the script knows.
    site.says(&server, "umbel-guest: ready hostname=web").await;
    site.run("server add volume web data").await;
    site.status("volume", &volume, "in-use").await;
    writes_on(site, &server).await;
    (server, volume)
}

async fn host(site: &Site, volume: &str) -> String {
    site.shown("volume", volume).await["os-vol-host-attr:host"].as_str().unwrap().to_owned()
}

/// It is there, and nothing of it is on its way any more.
async fn moved(site: &Site, volume: &str, to: &str) {
    until::yes(&format!("the volume is at {to}"), SLOW, async || host(site, volume).await == to).await;
    site.status("volume", volume, "in-use").await;
}

async fn left(ceph: &Ceph, pool: &str, disk: &str) {
    until::yes(&format!("{disk} has left {pool}"), SLOW, async || !ceph.has(pool, disk).await).await;
}

/// The highest number that the guest found on its disk.
async fn number(site: &Site, server: &str) -> u64 {
    let console = site.console(server).await;
    let numbers = console.lines().filter_map(|line| line.trim().strip_prefix("holds ")?.parse().ok());
    numbers.max().unwrap_or(0)
}

/// It goes on writing, and finds what it wrote.
async fn writes_on(site: &Site, server: &str) {
    let before = number(site, server).await;
    until::yes("the guest writes on", SLOW, async || number(site, server).await > before.max(10_000_000)).await;
}
