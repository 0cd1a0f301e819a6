//! `kill -9` of the real process with every storage operation under way at once, a little later in each round, on both
//! kinds of pool: each comes to its end after the restart, everything can be deleted, and pools and databases agree.

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use umbel_testkit::until;

use crate::faults::site::{self, Answer, IMAGE, MIB, OwnCeph, SLOW, Site, VOLUME, is_final, noise};

/// How many of a round's operations have ended when the process is killed.
const ENDED: [usize; 4] = [0, 3, 6, 9];

#[tokio::test]
async fn a_kill_in_any_storage_operation_leaves_nothing_on_ceph() {
    let ceph = OwnCeph::up().await;
    let conf = ceph.conf();
    let pool = |name: &str| format!("driver = 'rbd'\nconf = '{}'\nuser = 'umbel'\nname = '{name}'\n", conf.display());
    check(&pool, Some(&ceph)).await;
}

#[tokio::test]
async fn a_kill_in_any_storage_operation_leaves_nothing_on_local_disks() {
    check(&|name| format!("driver = 'local'\nname = '{name}'\n"), None).await;
}

async fn check(pool: &dyn Fn(&str) -> String, ceph: Option<&OwnCeph>) {
    let dir = tempfile::tempdir().unwrap();
    let pools: String = ["images", "vms", "volumes", "fast"].map(|name| format!("[[pools]]\n{}", pool(name))).concat();
    let config = format!(
        "[agent]\nhypervisor = 'simulated'\n[audit]\ngrace_seconds = 1\n[image.options]\nsweep_seconds = 1\n\
         [volume]\npools = ['volumes', 'fast']\n[volume.options]\nsweep_seconds = 1\n\
         [volume.options.quota]\nvolumes = -1\nsnapshots = -1\ngigabytes = -1\nbackups = -1\n{pools}"
    );
    let mut site = Site::start(dir.path(), &config).await;
    let cast = Cast::new(&site).await;
    for (round, ended) in ENDED.into_iter().enumerate() {
        let mut begun = cast.begin(&site, round).await;
        until::yes("enough has ended", SLOW, async || begun.ended(&site).await >= ended).await;
        site.kill_and_restart().await;
        begun.settle(&site).await;
        site.audit_is_clean().await;
        begun.remove(&site).await;
    }
    cast.remove(&site).await;
    site.audit_is_clean().await;
    until::yes("no disk is left", SLOW, async || {
        let found: Value = serde_json::from_str(&site.audit(&["--json"]).await).unwrap_or_default();
        found["disks"] == 0
    })
    .await;
    if let Some(ceph) = ceph {
        until::yes("nothing is hidden either", SLOW, async || ceph.contents().await.is_empty()).await;
    }
    site.stop().await;
}

/// What is worked on in every round.
struct Cast {
    image: String,
    packed: Vec<u8>,
    still: String,
    grown: String,
    reverted: String,
    point: String,
    sent: String,
    saved: String,
    backup: String,
    moved: String,
    group: String,
}

impl Cast {
    async fn new(site: &Site) -> Cast {
        let image = site.image("raw").await;
        assert!(site.upload(&image, None, noise(4 * MIB)).await.good());
        for (name, backend) in [("usual", "volumes"), ("other", "fast")] {
            let kind = json!({"volume_type": {"name": name, "extra_specs": {"volume_backend_name": backend}}});
            assert!(site.post(VOLUME, "/types", &kind).await.good());
        }
        let group_type = site.post(VOLUME, "/group_types", &json!({"group_type": {"name": "together"}})).await.id();
        let usual = site.get(VOLUME, "/types").await.body["volume_types"].clone();
        let usual = usual.as_array().unwrap().iter().find(|one| one["name"] == "usual").unwrap()["id"].clone();
        let group = site.make("group", json!({"group_type": group_type, "volume_types": [usual]})).await;
        site.available("group", &group).await;

        let of_image = json!({"size": 1, "imageRef": image, "volume_type": "usual"});
        let in_group = json!({"size": 1, "volume_type": "usual", "group_id": group});
        let mut volumes = Vec::new();
        for body in [[&of_image; 6].as_slice(), &[&in_group; 2]].concat() {
            volumes.push(site.make("volume", body.clone()).await);
        }
        for volume in &volumes {
            site.available("volume", volume).await;
        }
        let [still, grown, reverted, sent, saved, moved] = <[String; 6]>::try_from(volumes[..6].to_vec()).unwrap();
        let point = site.make("snapshot", json!({"volume_id": reverted})).await;
        let backup = site.make("backup", json!({"volume_id": saved})).await;
        site.available("snapshot", &point).await;
        site.available("backup", &backup).await;
        let packed = packed(&site.dir).await;
        Cast { image, packed, still, grown, reverted, point, sent, saved, backup, moved, group }
    }

    /// Asks for everything at once; each is accepted.
    async fn begin(&self, site: &Site, round: usize) -> Begun {
        let mut uploads = Vec::new();
        for (format, bytes) in [("raw", noise(16 * MIB)), ("qcow2", self.packed.clone())] {
            let image = site.image(format).await;
            let (cloud, id) = (site.cloud.clone(), image.clone());
            let sending = tokio::spawn(async move { site::upload(&cloud, &id, None, bytes).await });
            uploads.push((image, sending));
        }
        let act = async |volume: &str, body: Value| {
            let answer = site.act(volume, &body).await;
            assert!(answer.good(), "{body}: {answer:?}");
            answer.body
        };
        let other = if round.is_multiple_of(2) { "other" } else { "usual" };
        act(&self.moved, json!({"os-retype": {"new_type": other, "migration_policy": "on-demand"}})).await;
        act(&self.grown, json!({"os-extend": {"new_size": 2 + round}})).await;
        act(&self.reverted, json!({"revert": {"snapshot_id": self.point}})).await;
        let sent = act(&self.sent, json!({"os-volume_upload_image": {"image_name": "sent"}})).await;
        let sent = sent["os-volume_upload_image"]["image_id"].as_str().unwrap().to_owned();
        // An increment is of a backup that is not being restored.
        let more = site.make("backup", json!({"volume_id": self.saved, "incremental": true})).await;
        let restored = site.post(VOLUME, &format!("/backups/{}/restore", self.backup), &json!({"restore": {}})).await;
        let restored =
            restored.body["restore"]["volume_id"].as_str().unwrap_or_else(|| panic!("{restored:?}")).to_owned();
        let made = vec![
            ("volume", site.make("volume", json!({"size": 1, "imageRef": self.image})).await),
            ("volume", site.make("volume", json!({"size": 1, "source_volid": self.still})).await),
            ("snapshot", site.make("snapshot", json!({"volume_id": self.still, "force": true})).await),
            ("backup", more),
            ("group_snapshot", site.make("group_snapshot", json!({"group_id": self.group})).await),
            ("volume", restored),
        ];
        let changed = [&self.moved, &self.grown, &self.reverted, &self.sent, &self.saved];
        let mut changed = changed.map(|id| ("volume", id.clone())).to_vec();
        changed.push(("backup", self.backup.clone()));
        Begun { made, changed, sent, uploads }
    }

    async fn remove(&self, site: &Site) {
        let delete = json!({"delete": {"delete-volumes": true}});
        assert!(site.post(VOLUME, &format!("/groups/{}/action", self.group), &delete).await.good());
        let path = format!("/groups/{}", self.group);
        until::yes("the group is gone", SLOW, async || site.get(VOLUME, &path).await.status == 404).await;
        site.remove("backup", &self.backup).await;
        site.remove("snapshot", &self.point).await;
        for volume in [&self.still, &self.grown, &self.reverted, &self.sent, &self.saved, &self.moved] {
            site.remove("volume", volume).await;
        }
        site.remove("image", &self.image).await;
    }
}

/// What a round has asked for.
struct Begun {
    made: Vec<(&'static str, String)>,
    changed: Vec<(&'static str, String)>,
    /// The image of a volume.
    sent: String,
    uploads: Vec<(String, JoinHandle<Answer>)>,
}

impl Begun {
    async fn ended(&self, site: &Site) -> usize {
        let mut ended = self.uploads.iter().filter(|(_, sending)| sending.is_finished()).count();
        for (kind, id) in self.made.iter().chain(&self.changed) {
            ended += usize::from(is_final(&site.status(kind, id).await));
        }
        ended
    }

    /// What was accepted is done; what was cut off is as if it had not begun.
    async fn settle(&mut self, site: &Site) {
        for (kind, id) in self.made.iter().chain(&self.changed) {
            site.available(kind, id).await;
        }
        until::yes("the volume's image is active", SLOW, async || image(site, &self.sent).await["status"] == "active")
            .await;
        for (id, sending) in &mut self.uploads {
            let answer = sending.await.unwrap();
            let what = format!("the upload of {id} is at rest: {answer:?}");
            until::yes(&what, SLOW, async || {
                let shown = image(site, id).await;
                match shown["status"].as_str().unwrap_or_default() {
                    "active" => {
                        let packed = shown["disk_format"] == "qcow2";
                        !packed || shown["umbel_twin"].as_str().is_some_and(|twin| twin == "ready")
                    }
                    status => status == "queued" && !answer.good(),
                }
            })
            .await;
        }
    }

    async fn remove(self, site: &Site) {
        for (id, _) in &self.uploads {
            site.remove("image", id).await;
        }
        site.remove("image", &self.sent).await;
        for (kind, id) in &self.made {
            site.remove(kind, id).await;
        }
    }
}

async fn image(site: &Site, id: &str) -> Value {
    site.get(IMAGE, &format!("/v2/images/{id}")).await.body
}

/// A compressed qcow2 of some data.
async fn packed(dir: &std::path::Path) -> Vec<u8> {
    let (raw, qcow2) = (dir.join("noise.raw"), dir.join("noise.qcow2"));
    std::fs::write(&raw, noise(16 * MIB)).unwrap();
    let mut convert = tokio::process::Command::new("qemu-img");
    convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&qcow2);
    assert!(convert.status().await.unwrap().success());
    std::fs::read(&qcow2).unwrap()
}
