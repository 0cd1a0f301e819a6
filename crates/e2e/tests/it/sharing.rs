//! Two real guests with one volume, and backups of a server that replace each other.

use serde_json::Value;
use umbel_testkit::until;

use crate::site::{SLOW, Site};

#[tokio::test]
async fn two_guests_share_a_volume_and_backups_rotate() {
    let site = Site::on_ceph().await;
    let guest = site.guest_and_flavor("guest").await;
    let left = site.boot("--image guest left").await;
    let right = site.boot("--image guest right").await;
    for (server, name) in [(&left, "left"), (&right, "right")] {
        site.says(server, &format!("umbel-guest: ready hostname={name}")).await;
    }
    let shared = share(&site, [&left, &right]).await;
    let backups = rotate(&site, &left).await;
    site.delete_servers(&[&left, &right]).await;
    site.run("image delete guest").await;
    let mine = [guest, left, right, shared].into_iter().chain(backups).collect::<Vec<_>>();
    let mine: Vec<&str> = mine.iter().map(String::as_str).collect();
    site.nothing_left(&mine).await;
    site.stop().await;
}

/// A volume of a type that allows it is in both guests at once, and in one when the other has let go.
async fn share(site: &Site, [left, right]: [&str; 2]) -> String {
    let spec = ["volume", "type", "create", "--property", "multiattach=<is> True", "shared"];
    site.openstack.run(&spec).await;
    let volume = site.volume("--size 1 --type shared board").await;
    site.run("server add volume left board").await;
    site.run("server add volume right board").await;
    for server in [left, right] {
        site.says(server, &format!("serial={} bytes=1073741824", &volume[..20])).await;
    }
    until::yes("both are attached", SLOW, async || {
        let shown = site.status("volume", &volume, "in-use").await;
        shown["attachments"].as_array().map(Vec::len) == Some(2)
    })
    .await;
    let ceph = site.ceph.as_ref().unwrap();
    let disk = format!("volume-{volume}");
    until::yes("both have it open", SLOW, async || ceph.watchers("volumes", &disk).await >= 2).await;
    site.run("server remove volume left board").await;
    site.says(left, "umbel-guest: disk gone").await;
    until::yes("one is attached", SLOW, async || {
        let shown = site.shown("volume", &volume).await;
        shown["attachments"].as_array().map(Vec::len) == Some(1) && shown["status"] == "in-use"
    })
    .await;
    assert!(!site.console(right).await.contains("umbel-guest: disk gone"), "the other keeps it");
    site.run("server remove volume right board").await;
    site.available("volume", &volume).await;
    site.delete_volumes(&[&volume]).await;
    volume
}

/// Of three daily backups the newest two are kept, of another type its own; all of them, in the order they were made.
async fn rotate(site: &Site, server: &str) -> Vec<String> {
    let mut made = Vec::new();
    for (kind, name) in [("daily", "first"), ("weekly", "other"), ("daily", "second"), ("daily", "third")] {
        let command = format!("server backup create --name {name} --type {kind} --rotate 2 left");
        made.push(site.make(&command).await);
        let image = site.image_active(made.last().unwrap()).await;
        assert_eq!((&image["image_type"], &image["backup_type"]), (&"backup".into(), &kind.into()));
        site.active(server).await;
        until::yes("the server is idle", SLOW, async || {
            let path = format!("/servers/{server}");
            let shown: Value = site.cloud.get("compute", &path, None).await.unwrap();
            shown["server"]["OS-EXT-STS:task_state"].is_null()
        })
        .await;
    }
    until::yes("the oldest is gone", SLOW, async || {
        let list: Value = site.cloud.get("image", "/v2/images", None).await.unwrap();
        !list.to_string().contains(&made[0])
    })
    .await;
    for kept in &made[1..] {
        assert_eq!(site.image(kept).await["status"], "active");
    }
    site.run(&format!("image delete {}", made[1..].join(" "))).await;
    made
}
