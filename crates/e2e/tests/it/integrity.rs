//! That bytes stay what they were: patterns are written behind the cloud's back, into the disks themselves, and read again
//! after each operation, on both kinds of pool. Backups are in [`crate::backups`].

use serde_json::{Value, json};
use tokio::process::Command;

use crate::site::Site;

/// Where two patterns stand: near the start, and beyond what one extent of a difference would cover.
pub const NEAR: &str = "1M 8M";
pub const FAR: &str = "600M 2M";

/// Where nothing is ever written.
pub const NOWHERE: &str = "100M 4M";

#[tokio::test]
async fn what_is_written_stays_on_local_disks() {
    check(Site::on_local_disks().await).await;
}

#[tokio::test]
async fn what_is_written_stays_on_ceph() {
    check(Site::on_ceph().await).await;
}

async fn check(site: Site) {
    let volume = make(&site, "volume", json!({"size": 1})).await;
    write(&site, &volume, 0xa1).await;
    let first = make(&site, "snapshot", json!({"volume_id": volume})).await;
    write(&site, &volume, 0xb1).await;
    let second = make(&site, "snapshot", json!({"volume_id": volume})).await;
    write(&site, &volume, 0xe1).await;

    let clone = make(&site, "volume", json!({"size": 1, "snapshot_id": first})).await;
    holds(&site, &clone, 0xa1).await;
    let copy = make(&site, "volume", json!({"size": 2, "source_volid": volume})).await;
    holds(&site, &copy, 0xe1).await;
    revert(&site, &volume, &second).await;
    holds(&site, &volume, 0xb1).await;
    // The clones are none of the volume's business.
    holds(&site, &clone, 0xa1).await;
    holds(&site, &copy, 0xe1).await;

    // Not only to the newest one, and the newer one stays.
    revert(&site, &volume, &first).await;
    holds(&site, &volume, 0xa1).await;
    revert(&site, &volume, &second).await;
    holds(&site, &volume, 0xb1).await;
    for id in [&clone, &copy] {
        delete(&site, "volume", id).await;
    }
    for id in [&second, &first] {
        delete(&site, "snapshot", id).await;
    }
    delete(&site, "volume", &volume).await;
    site.nothing_left(&[&volume, &clone, &copy]).await;
    site.stop().await;
}

/// Makes one and waits for it; its id.
pub async fn make(site: &Site, kind: &str, body: Value) -> String {
    let made = site.ask_volumes(http::Method::POST, &format!("/{kind}s"), Some(json!({ kind: body }))).await.unwrap();
    let id = made[kind]["id"].as_str().unwrap().to_owned();
    site.available(kind, &id).await;
    id
}

async fn revert(site: &Site, volume: &str, snapshot: &str) {
    let body = json!({"revert": {"snapshot_id": snapshot}});
    site.ask_volumes(http::Method::POST, &format!("/volumes/{volume}/action"), Some(body)).await.unwrap();
    site.available("volume", volume).await;
}

pub async fn delete(site: &Site, kind: &str, id: &str) {
    site.ask_volumes(http::Method::DELETE, &format!("/{kind}s/{id}"), None).await.unwrap();
    site.gone(kind, id).await;
}

async fn write(site: &Site, volume: &str, byte: u8) {
    let commands = [NEAR, FAR].map(|place| format!("write -P {byte:#x} {place}"));
    qemu_io(&site.disk("volumes", &format!("volume-{volume}")), &commands, &[]).await;
}

async fn holds(site: &Site, volume: &str, byte: u8) {
    reads(&site.disk("volumes", &format!("volume-{volume}")), &[(NEAR, byte), (FAR, byte), (NOWHERE, 0)]).await;
}

/// At each of the places stands this byte and no other.
pub async fn reads(disk: &str, places: &[(&str, u8)]) {
    let commands: Vec<String> = places.iter().map(|(place, byte)| format!("read -P {byte:#x} {place}")).collect();
    qemu_io(disk, &commands, &["-r"]).await;
}

pub async fn qemu_io(disk: &str, commands: &[String], flags: &[&str]) {
    let mut command = Command::new("qemu-io");
    command.args(flags);
    for one in commands {
        command.args(["-c", one]);
    }
    let output = command.arg(disk).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && !text.contains("failed"), "{commands:?} on {disk}: {text}");
}
