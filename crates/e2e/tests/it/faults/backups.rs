//! An OSD that dies, or stands still, in the middle of a backup and of what is restored from it.

use std::path::Path;

use serde_json::{Value, json};
use umbel_testkit::until;

use super::site::{OwnCeph, SLOW, Site, VOLUME};
use super::{all_is_gone, config, types, volume};
use crate::integrity::{qemu_io, reads};

/// What is backed up: 12 chunks, far enough from the start that the first one is a percent.
const DATA: &str = "16M 48M";

const LIMIT: &str = "rbd_qos_bps_limit";

/// Each for when the one before was too fast for who looks.
const LIMITS: [&str; 3] = ["16777216", "4194304", "1048576"];

/// What becomes of the OSD.
#[derive(Clone, Copy, Debug)]
enum Hurt {
    Killed,
    /// As behind a cut network: connections stay, and nothing comes.
    Stopped,
}

struct Test {
    site: Site,
    ceph: OwnCeph,
    dir: tempfile::TempDir,
}

#[tokio::test]
async fn an_osd_that_dies_in_the_middle_of_a_backup_loses_nothing() {
    let ceph = OwnCeph::up().await;
    let dir = tempfile::tempdir().unwrap();
    let backups = format!("[volume.options.backup]\ndirectory = '{}'\n", dir.path().join("backups").display());
    let site = Site::start(dir.path(), &format!("{}{backups}", config(&ceph))).await;
    types(&site).await;
    let test = Test { site, ceph, dir };
    let data = volume(&test.site, json!({"size": 1, "volume_type": "ceph"})).await;
    let target = volume(&test.site, json!({"size": 1, "volume_type": "ceph"})).await;

    test.write(&data, 0xa1).await;
    let full = test.backed_up(&data, Hurt::Killed).await;
    test.write(&data, 0xb1).await;
    test.restored(&full, &target, Hurt::Stopped).await;
    reads(&test.disk(&target), &[(DATA, 0xa1), ("0 16M", 0), ("64M 64M", 0)]).await;
    reads(&test.disk(&data), &[(DATA, 0xb1)]).await;
    // What an increment goes by outlived it too.
    let increment = test.site.make("backup", json!({"volume_id": data, "incremental": true})).await;
    test.site.available("backup", &increment).await;
    test.restore(&increment, &target).await;
    test.site.available("volume", &target).await;
    reads(&test.disk(&target), &[(DATA, 0xb1), ("0 16M", 0), ("64M 64M", 0)]).await;

    for (kind, id) in [("backup", &increment), ("backup", &full), ("volume", &target), ("volume", &data)] {
        test.site.remove(kind, id).await;
    }
    all_is_gone(&test.site, &test.ceph).await;
    assert_eq!(test.stored(), 0, "of backups that are deleted, and of those that failed, nothing is kept");
    test.site.stop().await;
}

impl Test {
    fn disk(&self, volume: &str) -> String {
        format!("rbd:volumes/volume-{volume}:id=admin:conf={}", self.ceph.conf().display())
    }

    async fn write(&self, volume: &str, byte: u8) {
        qemu_io(&self.disk(volume), &[format!("write -P {byte:#x} {DATA}")], &[]).await;
    }

    /// Bytes that are kept as backups.
    fn stored(&self) -> u64 {
        bytes_below(&self.dir.path().join("backups"))
    }

    /// A backup that is good although the OSD is hurt while it is made. One that is not made in the end says why, and takes
    /// nothing away from the next.
    async fn backed_up(&self, volume: &str, hurt: Hurt) -> String {
        for limit in LIMITS {
            let before = self.stored();
            self.slow(volume, limit).await;
            let id = self.site.make("backup", json!({"volume_id": volume})).await;
            let met = self.hurt(hurt, (&id, "creating"), || self.stored() > before).await;
            self.fast(volume).await;
            let status = self.site.settled("backup", &id).await;
            self.site.available("volume", volume).await;
            match status.as_str() {
                "available" if met => return id,
                "available" => eprintln!("the backup was made before anybody had looked"),
                _ => {
                    let shown = self.site.show("backup", &id).await.unwrap();
                    let why = shown["fail_reason"].as_str().unwrap_or_default();
                    assert!(status == "error" && !why.is_empty(), "{hurt:?}: the backup is {status}: {shown}");
                    self.site.remove("backup", &id).await;
                    let again = self.site.make("backup", json!({"volume_id": volume})).await;
                    self.site.available("backup", &again).await;
                    return again;
                }
            }
            self.site.remove("backup", &id).await;
        }
        panic!("no backup was met at work");
    }

    /// Over what the volume had. It is whole although the OSD is hurt; if not, it says so, and can be restored again.
    async fn restored(&self, backup: &str, to: &str, hurt: Hurt) {
        for limit in LIMITS {
            self.write(to, 0xff).await;
            self.slow(to, limit).await;
            self.restore(backup, to).await;
            let met = self.hurt(hurt, (backup, "restoring"), || true).await;
            self.fast(to).await;
            self.site.available("backup", backup).await;
            match self.site.settled("volume", to).await.as_str() {
                "available" if met => return,
                "available" => eprintln!("the backup was restored before anybody had looked"),
                status => {
                    let why = self.site.reasons(to).await;
                    assert!(status == "error_restoring" && !why.is_empty(), "{hurt:?}: {to} is {status}: {why:?}");
                    self.restore(backup, to).await;
                    return self.site.available("volume", to).await;
                }
            }
        }
        panic!("no restore was met at work");
    }

    async fn restore(&self, backup: &str, to: &str) {
        let body = json!({"restore": {"volume_id": to}});
        let answer = self.site.post(VOLUME, &format!("/backups/{backup}/restore"), &body).await;
        assert!(answer.good(), "{answer:?}");
    }

    /// Waits until some of the backup's work is done, and it has begun in earnest; then the OSD goes, and comes back.
    /// Whether the work was met in its midst, and waited: it could be over before.
    async fn hurt(&self, hurt: Hurt, (backup, at_work): (&str, &str), begun: impl Fn() -> bool) -> bool {
        let show = async || self.site.show("backup", backup).await.unwrap();
        until::yes("some of the work is done", SLOW, async || {
            let shown = show().await;
            shown["status"] != at_work || (percent(&shown) > 0 && begun())
        })
        .await;
        let signal = match hurt {
            Hurt::Killed => "-KILL",
            Hurt::Stopped => "-STOP",
        };
        self.ceph.signal("osd", signal);
        let met = show().await["status"] == at_work;
        match hurt {
            Hurt::Killed => self.ceph.start().await,
            Hurt::Stopped => self.ceph.signal("osd", "-CONT"),
        }
        met
    }

    /// Bounds what Ceph's clients read from and write to the volume, in bytes a second, so that work on it is not over
    /// before somebody has looked.
    async fn slow(&self, volume: &str, limit: &str) {
        let disk = format!("volumes/volume-{volume}");
        self.ceph.tool("rbd", &["config", "image", "set", &disk, LIMIT, limit]).await;
    }

    /// Who has the volume open to write hears of it, and a reader does not.
    async fn fast(&self, volume: &str) {
        let disk = format!("volumes/volume-{volume}");
        self.ceph.tool("rbd", &["config", "image", "remove", &disk, LIMIT]).await;
    }
}

/// How far it is, as it says itself.
fn percent(shown: &Value) -> u64 {
    let text = shown["metadata"]["umbel:progress"].as_str().unwrap_or_default();
    text.trim_end_matches('%').parse().unwrap_or(0)
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
