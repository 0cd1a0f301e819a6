//! Volumes of a running guest go to another pool while it writes: by migration and by a change of type, on Ceph, to
//! another of its pools and to a local one; and to the place of another volume.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use umbel_testkit::{Ceph, Openstack, Process, ceph_conf, guest_image, until};

use crate::audit::storage;

const SLOW: Duration = Duration::from_secs(180);

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

/// The pools of the shared cluster as they are called there, and one of files.
fn config() -> String {
    let conf = ceph_conf();
    let rbd = |name: &str, pool: &str| {
        format!("[[pools]]\nname = '{name}'\ndriver = 'rbd'\nconf = '{}'\nceph_pool = '{pool}'\n", conf.display())
    };
    let pools = [rbd("images", "images"), rbd("vms", "vms"), rbd("volumes", "volumes"), rbd("second", "vms")].concat();
    format!("[volume]\npools = ['volumes', 'second', 'files']\n{pools}[[pools]]\nname = 'files'\ndriver = 'local'\n")
}

struct Site {
    openstack: Openstack,
    ceph: Ceph,
}

#[tokio::test]
async fn volumes_move_under_a_running_guest() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("umbel.toml");
    std::fs::write(&file, config()).unwrap();
    let process = Process::up(dir.path(), &["--config", file.to_str().unwrap()]).await;
    let site = Site { openstack: Openstack::new(&process.clouds_yaml()), ceph: Ceph::new() };
    let volume = site.prepare(dir.path()).await;
    let disk = format!("volume-{volume}");

    // From one RBD pool into another.
    let host = site.host(&volume).await;
    let at = |pool: &str| format!("{}@{pool}#{pool}", host.split('@').next().unwrap());
    assert_eq!(host, at("volumes"));
    site.openstack.run(&["volume", "migrate", "--host", &at("second"), &volume]).await;
    site.moved(&volume, &at("second")).await;
    site.left("volumes", &disk).await;
    assert!(site.ceph.has("vms", &disk).await);
    site.writes_on().await;

    // Into files.
    let retype = ["volume", "set", "--type", "on-files", "--retype-policy", "on-demand", &volume];
    site.openstack.run(&retype).await;
    site.moved(&volume, &at("files")).await;
    site.left("vms", &disk).await;
    site.writes_on().await;
    let shown = site.openstack.json(&["volume", "show", &volume]).await;
    assert_eq!((&shown["name"], &shown["type"]), (&json!("data"), &json!("on-files")));

    // Its place is taken by another volume.
    site.openstack.run(&["volume", "create", "--size", "1", "other"]).await;
    site.status("other", "available").await;
    let server = site.openstack.json(&["server", "show", "web"]).await["id"].as_str().unwrap().to_owned();
    let other = site.openstack.json(&["volume", "show", "other"]).await["id"].as_str().unwrap().to_owned();
    let body = serde_json::to_vec(&json!({"volumeAttachment": {"volumeId": other}})).unwrap();
    let path = format!("/servers/{server}/os-volume_attachments/{volume}");
    let call = umbel_client::Call::new("compute", http::Method::PUT, &path)
        .headers(&[("content-type", "application/json")])
        .body(umbel_client::Body::Bytes(body.into()));
    process.admin().await.bytes(call).await.unwrap();
    site.status("data", "available").await;
    site.status("other", "in-use").await;
    site.writes_on().await;

    site.openstack.run(&["server", "delete", "--wait", "web"]).await;
    for name in ["data", "other"] {
        site.status(name, "available").await;
        site.openstack.run(&["volume", "delete", name]).await;
    }
    site.openstack.run(&["image", "delete", "guest"]).await;
    until::yes("nothing of it is left in Ceph", SLOW, async || {
        site.ceph.left(&["images", "vms", "volumes"], &[&volume, &other, &server]).await.is_empty()
    })
    .await;
    // Files have no other cloud's disks among them.
    let (_, told) = storage(dir.path(), &["audit"]).await;
    assert!(!told.contains(&volume) && !told.contains(&other) && !told.contains(" files/"), "{told}");
    process.stop().await;
}

impl Site {
    /// A guest that has a volume and writes to it.
    async fn prepare(&self, scratch: &Path) -> String {
        let run = async |args: &[&str]| self.openstack.run(args).await;
        let (guest, script) = (guest_image(), scratch.join("counts.sh"));
        std::fs::write(&script, COUNTS).unwrap();
        run(&["image", "create", "--file", guest.to_str().unwrap(), "--disk-format", "raw", "guest"]).await;
        run(&["flavor", "create", "--ram", "128", "--vcpus", "1", "--disk", "1", "tiny"]).await;
        run(&["volume", "type", "create", "--property", "volume_backend_name=files", "on-files"]).await;
        run(&["volume", "create", "--size", "1", "data"]).await;
        let data = script.to_str().unwrap();
        let create = ["server", "create", "--image", "guest", "--flavor", "tiny", "--nic", "none", "--user-data", data];
        run(&[&create[..], &["--config-drive", "True", "--wait", "web"]].concat()).await;
        self.status("data", "available").await;
        run(&["server", "add", "volume", "web", "data"]).await;
        self.status("data", "in-use").await;
        self.writes_on().await;
        self.openstack.json(&["volume", "show", "data"]).await["id"].as_str().unwrap().to_owned()
    }

    async fn host(&self, volume: &str) -> String {
        let shown = self.openstack.json(&["volume", "show", volume]).await;
        shown["os-vol-host-attr:host"].as_str().unwrap().to_owned()
    }

    async fn moved(&self, volume: &str, host: &str) {
        // The client does not show how far a migration is; a failed one leaves the volume where it is.
        until::yes(&format!("the volume is at {host}"), SLOW, async || self.host(volume).await == host).await;
        self.status(volume, "in-use").await;
    }

    async fn left(&self, pool: &str, disk: &str) {
        until::yes(&format!("{disk} has left {pool}"), SLOW, async || !self.ceph.has(pool, disk).await).await;
    }

    async fn status(&self, volume: &str, want: &str) {
        until::yes(&format!("volume {volume} is {want}"), SLOW, async || {
            let status = self.openstack.json(&["volume", "show", volume]).await["status"].clone();
            assert!(!status.as_str().unwrap_or_default().starts_with("error"), "volume {volume} is {status}");
            status == want
        })
        .await;
    }

    /// The highest number that the guest found on its disk.
    async fn number(&self) -> u64 {
        let console = self.openstack.run(&["console", "log", "show", "web"]).await;
        let numbers = console.lines().filter_map(|line| line.trim().strip_prefix("holds ")?.parse().ok());
        numbers.max().unwrap_or(0)
    }

    /// It goes on writing, and finds what it wrote.
    async fn writes_on(&self) {
        let before = self.number().await;
        until::yes("the guest writes on", SLOW, async || self.number().await > before.max(10_000_000)).await;
    }
}
