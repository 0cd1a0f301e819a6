//! Snapshots of a group of volumes, of one point in time, while a guest writes to all of them: what is made of them holds
//! whatever the guest knew to be written up to that point, and nothing from after it.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use umbel_testkit::until;

use crate::audit::storage;
use crate::integrity::make;
use crate::site::{SLOW, Site};

/// Writes the numbers from 1 on, odd ones to the first disk and even ones to the second, each into a sector of its own and
/// only when the one before is known to be on its disk.
const COUNTS: &str = "#!/bin/sh
while ! [ -b /dev/vdb ] || ! [ -b /dev/vdc ]; do sleep 1; done
n=0
while :; do
    for disk in vdb vdc; do
        n=$((n + 1))
        echo $n | dd of=/dev/$disk bs=512 seek=$n conv=notrunc,fsync 2>/dev/null || exit
    done
    echo \"wrote $n\"
done
";

/// So many points are taken.
const POINTS: usize = 3;

#[tokio::test]
async fn a_group_has_one_point_under_a_guest_on_local_disks() {
    check(Site::on_local_disks().await).await;
}

#[tokio::test]
async fn a_group_has_one_point_under_a_guest_on_ceph() {
    check(Site::on_ceph().await).await;
}

async fn check(site: Site) {
    let script = site.dir().join("counts.sh");
    std::fs::write(&script, COUNTS).unwrap();
    site.guest_and_flavor("guest").await;
    let (group, volumes) = group(&site).await;
    let server = format!("--image guest --user-data {} --config-drive True web", script.display());
    let server = site.boot(&server).await;
    // Disks that are plugged in before the guest has counted its own get other names than those that the script knows.
    site.says(&server, "umbel-guest: ready hostname=web").await;
    for volume in &volumes {
        site.run(&format!("server add volume web {volume}")).await;
        site.status("volume", volume, "in-use").await;
    }

    let mut points = Vec::new();
    for _ in 0..POINTS {
        let before = writes_on(&site, &server).await;
        points.push((before, make(&site, "group_snapshot", json!({"group_id": group})).await));
    }
    writes_on(&site, &server).await;
    let (mut mine, mut last) = (vec![server.clone()], 0);
    for (before, point) in &points {
        let copy = copy(&site, point).await;
        let parts = parts(&site, &copy).await;
        let held = held(&site, &parts).await;
        // The guest had said so before anybody asked for the point.
        assert!(held >= *before && held > last, "{held} of {before} at least, and {last} before");
        last = held;
        remove_group(&site, &copy).await;
        mine.extend(parts);
    }

    site.delete_servers(&[&server]).await;
    for (_, point) in &points {
        site.ask_volumes(Method::DELETE, &format!("/group_snapshots/{point}"), None).await.unwrap();
    }
    for volume in &volumes {
        site.available("volume", volume).await;
    }
    remove_group(&site, &group).await;
    site.run("image delete guest").await;
    mine.extend(volumes);
    let mine: Vec<&str> = mine.iter().map(String::as_str).collect();
    site.nothing_left(&mine).await;
    let (_, told) = storage(site.dir(), &["audit"]).await;
    assert!(!mine.iter().any(|id| told.contains(id)), "{told}");
    site.stop().await;
}

/// A group whose snapshots are of one point, with two volumes, in the order in which the guest gets them.
async fn group(site: &Site) -> (String, Vec<String>) {
    let post = async |path: &str, body: Value| site.ask_volumes(Method::POST, path, Some(body)).await.unwrap();
    let specs = json!({"consistent_group_snapshot_enabled": "<is> True"});
    let kind = post("/group_types", json!({"group_type": {"name": "together", "group_specs": specs}})).await;
    let kind = kind["group_type"]["id"].as_str().unwrap();
    let group = make(site, "group", json!({"group_type": kind, "volume_types": ["__DEFAULT__"]})).await;
    let mut volumes = Vec::new();
    for _ in 0..2 {
        let volume = json!({"size": 1, "volume_type": "__DEFAULT__", "group_id": group});
        volumes.push(make(site, "volume", volume).await);
    }
    (group, volumes)
}

/// The highest number that the guest has said to be written.
async fn number(site: &Site, server: &str) -> u64 {
    let console = site.console(server).await;
    let numbers = console.lines().filter_map(|line| line.trim().strip_prefix("wrote ")?.parse().ok());
    numbers.max().unwrap_or(0)
}

/// Waits until it has written more; how much it has by then.
async fn writes_on(site: &Site, server: &str) -> u64 {
    let before = number(site, server).await;
    until::some("the guest writes on", SLOW, async || {
        let now = number(site, server).await;
        (now > before + 4).then_some(now)
    })
    .await
}

/// A group of volumes with what a point holds.
async fn copy(site: &Site, point: &str) -> String {
    let body = json!({"create-from-src": {"group_snapshot_id": point}});
    let made = site.ask_volumes(Method::POST, "/groups/action", Some(body)).await.unwrap();
    let id = made["group"]["id"].as_str().unwrap().to_owned();
    site.available("group", &id).await;
    id
}

async fn parts(site: &Site, group: &str) -> Vec<String> {
    let shown = site.ask_volumes(Method::GET, &format!("/groups/{group}?list_volume=true"), None).await.unwrap();
    let ids = shown["group"]["volumes"].as_array().unwrap().iter();
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// The last number that the disks hold. All before it are there, and each is where it belongs: no number has been written
/// after one that is missing.
async fn held(site: &Site, volumes: &[String]) -> u64 {
    let mut all = Vec::new();
    for volume in volumes {
        let on_disk = numbers(site, volume).await;
        assert!(on_disk.windows(2).all(|pair| pair[1] == pair[0] + 2), "{volume} has gaps: {on_disk:?}");
        all.extend(on_disk);
    }
    all.sort_unstable();
    let last = all.len() as u64;
    assert!(all.iter().copied().eq(1..=last), "the disks are of different points: {all:?}");
    last
}

/// Those on a volume's disk, which the guest wrote into the sectors of these numbers.
async fn numbers(site: &Site, volume: &str) -> Vec<u64> {
    let file = site.dir().join(volume);
    let (from, to) = (site.disk("volumes", &format!("volume-{volume}")), file.display());
    let mut read = Command::new("qemu-img");
    read.args(["dd", "-U", "-O", "raw", "bs=1M", "count=16", &format!("if={from}"), &format!("of={to}")]);
    let output = read.output().await.unwrap();
    assert!(output.status.success(), "qemu-img dd: {}", String::from_utf8_lossy(&output.stderr));
    sectors(&file)
}

fn sectors(file: &Path) -> Vec<u64> {
    let bytes = std::fs::read(file).unwrap();
    let written = bytes.chunks(512).enumerate().filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
    let number = |(at, sector): (usize, &[u8])| {
        let text = String::from_utf8_lossy(sector);
        let number: u64 = text.trim_end_matches('\0').trim_end().parse().unwrap();
        assert_eq!(number, at as u64, "a number is where it was written");
        number
    };
    written.map(number).collect()
}

/// With its volumes.
async fn remove_group(site: &Site, group: &str) {
    let body = json!({"delete": {"delete-volumes": true}});
    site.ask_volumes(Method::POST, &format!("/groups/{group}/action"), Some(body)).await.unwrap();
    site.gone("group", group).await;
}
