//! That bytes stay what they were: patterns are written behind the cloud's back, into the disks themselves, and read again
//! after each operation, on both kinds of pool.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use umbel_client::Cloud;
use umbel_testkit::{Process, ceph_conf, until};

const SLOW: Duration = Duration::from_secs(240);
/// With snapshots to revert to (3.40), forced ones of anything (3.44).
const VERSION: Option<&str> = Some("3.60");

/// Where two patterns stand: near the start, and beyond what one extent of a difference would cover.
const PLACES: [&str; 2] = ["1M 8M", "600M 2M"];

struct Site {
    cloud: Cloud,
    /// None: files below this cloud's own directory.
    ceph: Option<PathBuf>,
    dir: PathBuf,
}

#[tokio::test]
async fn what_is_written_stays_on_local_disks() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::up(dir.path(), &[]).await;
    Site { cloud: process.admin().await, ceph: None, dir: dir.path().to_owned() }.check().await;
    process.stop().await;
}

#[tokio::test]
async fn what_is_written_stays_on_ceph() {
    let dir = tempfile::tempdir().unwrap();
    let conf = ceph_conf();
    let process = Process::up(dir.path(), &["--ceph", conf.to_str().unwrap()]).await;
    Site { cloud: process.admin().await, ceph: Some(conf), dir: dir.path().to_owned() }.check().await;
    process.stop().await;
}

impl Site {
    async fn check(&self) {
        let volume = self.make("volume", json!({"size": 1})).await;
        self.write(&volume, 0xa1).await;
        let first = self.make("snapshot", json!({"volume_id": volume})).await;
        self.write(&volume, 0xb1).await;
        let second = self.make("snapshot", json!({"volume_id": volume})).await;
        self.write(&volume, 0xe1).await;

        let clone = self.make("volume", json!({"size": 1, "snapshot_id": first})).await;
        self.holds(&clone, 0xa1).await;
        let copy = self.make("volume", json!({"size": 2, "source_volid": volume})).await;
        self.holds(&copy, 0xe1).await;
        self.revert(&volume, &second).await;
        self.holds(&volume, 0xb1).await;
        // The clones are none of the volume's business.
        self.holds(&clone, 0xa1).await;
        self.holds(&copy, 0xe1).await;

        // Not only to the newest one, and the newer one stays.
        self.revert(&volume, &first).await;
        self.holds(&volume, 0xa1).await;
        self.revert(&volume, &second).await;
        self.holds(&volume, 0xb1).await;
        for id in [clone, copy] {
            self.delete("volume", &id).await;
        }
        for id in [second, first] {
            self.delete("snapshot", &id).await;
        }
        self.delete("volume", &volume).await;
    }

    /// Makes one and waits for it; its id.
    async fn make(&self, kind: &str, body: Value) -> String {
        let path = format!("/{kind}s");
        let made: Value = self.cloud.post("block-storage", &path, VERSION, &json!({ kind: body })).await.unwrap();
        let id = made[kind]["id"].as_str().unwrap().to_owned();
        self.available(kind, &id).await;
        id
    }

    async fn available(&self, kind: &str, id: &str) {
        until::yes(&format!("the {kind} {id} is available"), SLOW, async || {
            let path = format!("/{kind}s/{id}");
            let shown: Value = self.cloud.get("block-storage", &path, VERSION).await.unwrap();
            let status = shown[kind]["status"].as_str().unwrap().to_owned();
            assert!(!status.starts_with("error"), "{shown}");
            status == "available"
        })
        .await;
    }

    async fn revert(&self, volume: &str, snapshot: &str) {
        let path = format!("/volumes/{volume}/action");
        let body = serde_json::to_vec(&json!({"revert": {"snapshot_id": snapshot}})).unwrap();
        let call = umbel_client::Call::new("block-storage", http::Method::POST, &path)
            .headers(&[("content-type", "application/json"), ("openstack-api-version", "volume 3.60")])
            .body(umbel_client::Body::Bytes(body.into()));
        self.cloud.bytes(call).await.unwrap();
        self.available("volume", volume).await;
    }

    async fn delete(&self, kind: &str, id: &str) {
        let path = format!("/{kind}s/{id}");
        self.cloud.delete("block-storage", &path).await.unwrap();
        until::yes(&format!("the {kind} {id} is gone"), SLOW, async || {
            match self.cloud.get::<Value>("block-storage", &path, VERSION).await {
                Ok(shown) => {
                    assert!(!shown.to_string().contains("error_deleting"), "{shown}");
                    false
                }
                Err(_) => true,
            }
        })
        .await;
    }

    async fn write(&self, volume: &str, byte: u8) {
        let commands = PLACES.map(|place| format!("write -P {byte:#x} {place}"));
        self.qemu_io(volume, &commands, &[]).await;
    }

    async fn holds(&self, volume: &str, byte: u8) {
        let mut commands = PLACES.map(|place| format!("read -P {byte:#x} {place}")).to_vec();
        // Between the patterns nothing was ever written.
        commands.push("read -P 0 100M 4M".to_owned());
        self.qemu_io(volume, &commands, &["-r"]).await;
    }

    async fn qemu_io(&self, volume: &str, commands: &[String], flags: &[&str]) {
        let disk = match &self.ceph {
            Some(conf) => format!("rbd:volumes/volume-{volume}:id=admin:conf={}", conf.display()),
            None => disk_file(&self.dir, volume).display().to_string(),
        };
        let mut command = Command::new("qemu-io");
        command.args(flags);
        for one in commands {
            command.args(["-c", one]);
        }
        let output = command.arg(&disk).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success() && !text.contains("failed"), "{commands:?} on {disk}: {text}");
    }
}

/// The layer that a guest would write; names of layers below it are relative to where it really is.
fn disk_file(dir: &Path, volume: &str) -> PathBuf {
    dir.join("pools/volumes").join(format!("volume-{volume}")).join("head").canonicalize().unwrap()
}
