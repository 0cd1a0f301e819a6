//! Every way in which pools and databases can come to differ, made for real behind a cloud's back on each kind of pool:
//! `umbel storage audit` names each of them and nothing else, `--fix` mends what can be mended and leaves what was
//! unmanaged, and what is left goes when its owner deletes it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use umbel::storage::AuditConfig;
use umbel_client::{Body, Call, Cloud, HttpTransport, NewServer, Transport, collect};
use umbel_core::Kind;
use umbel_db::{Db, Migration, Schema, args, tx};
use umbel_testkit::{Process, TestCloud, until};

use crate::audit::{Pools, prepare, refused, storage, tool};

const LIMIT: Duration = Duration::from_secs(120);

/// The volume service's database, as somebody sees it who changes it by hand.
struct ByHand;

impl Schema for ByHand {
    const NAME: &'static str = "volume";
    const MIGRATIONS: &'static [Migration] = &[];
}

#[tokio::test]
async fn what_differs_on_local_disks_is_named_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    Story::tell(dir.path(), None).await;
}

#[tokio::test]
async fn what_differs_in_ceph_is_named_and_mended() {
    let pools = Arc::new(Pools::new().await);
    let story = {
        let pools = pools.clone();
        tokio::spawn(async move {
            let dir = tempfile::tempdir().unwrap();
            Story::tell(dir.path(), Some(&pools)).await;
        })
    };
    // The pools go however it ends.
    let outcome = story.await;
    pools.remove().await;
    outcome.unwrap();
}

#[tokio::test]
async fn a_cloud_compares_by_itself_and_tells_its_metrics() {
    let test = TestCloud::start(|config| {
        config.listen.metrics = Some(([127, 0, 0, 1], 0).into());
        config.audit = AuditConfig { hours: 0.001, grace_seconds: 0, hidden_seconds: 0 };
    })
    .await;
    let body = json!({"volume": {"size": 1}});
    let made: Value = test.admin.post("block-storage", "/volumes", Some("3.60"), &body).await.unwrap();
    let id = made["volume"]["id"].as_str().unwrap();
    let disk = test.running.dir().join("pools/volumes").join(format!("volume-{id}"));
    until::yes("the volume is available", LIMIT, async || {
        let path = format!("/volumes/{id}");
        let shown: Value = test.admin.get("block-storage", &path, Some("3.60")).await.unwrap();
        shown["volume"]["status"] == "available"
    })
    .await;
    let http = HttpTransport::new(false).unwrap();
    let tells = async |line: &str| {
        let url = format!("http://{}/metrics", test.running.metrics.unwrap());
        let answer = http.send(http::Request::get(url).body(Body::Empty).unwrap()).await.unwrap();
        let text = collect(answer.into_body(), 16 << 20).await.unwrap();
        String::from_utf8(text.to_vec()).unwrap().lines().any(|have| have == line)
    };
    let lost = |count: u32| format!("umbel_storage_audit_findings{{kind=\"lost\"}} {count}");
    until::yes("a comparison is told", LIMIT, async || tells(&lost(0)).await).await;
    std::fs::remove_dir_all(&disk).unwrap();
    until::yes("a missing disk is counted", LIMIT, async || tells(&lost(1)).await).await;
    assert!(!disk.exists(), "nothing is mended unasked");
    let root = test.admin.endpoint("image").unwrap().replace("/image", "/storage");
    let request = http::Request::get(format!("{root}/v1/audit/last")).header("x-auth-token", test.admin.token());
    let answer = http.send(request.body(Body::Empty).unwrap()).await.unwrap();
    let last: Value = serde_json::from_slice(&collect(answer.into_body(), 1 << 20).await.unwrap()).unwrap();
    assert_eq!((&last["findings"]["lost"], &last["findings"]["orphan"]), (&json!(1), &json!(0)), "{last}");
    test.stop().await;
}

/// Users who come and go while it is compared again and again: a row comes before its disk and goes after it, and what a
/// workflow works on is not judged, so that nothing of it looks left over or lost.
#[tokio::test]
async fn what_is_under_way_is_no_difference() {
    let test = TestCloud::start(|config| {
        config.audit = AuditConfig { hours: 0.0, grace_seconds: 1, hidden_seconds: 10 };
        config.volume.options.sweep_seconds = 1;
    })
    .await;
    let churn = async {
        let users = (0..USERS).map(|_| async {
            for _ in 0..ROUNDS {
                come_and_go(&test.admin).await;
            }
        });
        futures_util::future::join_all(users).await;
    };
    let http = HttpTransport::new(false).unwrap();
    let root = test.admin.endpoint("image").unwrap().replace("/image", "/storage");
    let audit = async || {
        let request = http::Request::get(format!("{root}/v1/audit")).header("x-auth-token", test.admin.token());
        let answer = http.send(request.body(Body::Empty).unwrap()).await.unwrap();
        let audit: Value = serde_json::from_slice(&collect(answer.into_body(), 1 << 20).await.unwrap()).unwrap();
        assert_eq!(audit["findings"], json!([]), "{audit}");
    };
    let again_and_again = async {
        loop {
            audit().await;
        }
    };
    tokio::select! {
        () = churn => {}
        () = again_and_again => {}
    }
    audit().await;
    test.stop().await;
}

const USERS: usize = 3;
const ROUNDS: usize = 3;

/// A volume, a snapshot, a clone, a backup; and all of it deleted, children last.
async fn come_and_go(cloud: &Cloud) {
    let made = async |kind: &str, body: Value| {
        let noun = kind.trim_end_matches('s');
        let body = json!({ noun: body });
        let made: Value = cloud.post("block-storage", &format!("/{kind}"), Some("3.60"), &body).await.unwrap();
        let path = format!("/{kind}/{}", made[noun]["id"].as_str().unwrap());
        until::yes(&format!("{path} is available"), LIMIT, async || {
            let shown: Value = cloud.get("block-storage", &path, Some("3.60")).await.unwrap();
            shown[noun]["status"] == "available"
        })
        .await;
        made[noun]["id"].as_str().unwrap().to_owned()
    };
    let volume = made("volumes", json!({"size": 1})).await;
    let snapshot = made("snapshots", json!({"volume_id": volume})).await;
    let clone = made("volumes", json!({"snapshot_id": snapshot, "size": 1})).await;
    let backup = made("backups", json!({"volume_id": volume})).await;
    for path in [
        format!("/backups/{backup}"),
        format!("/snapshots/{snapshot}"),
        format!("/volumes/{volume}"),
        format!("/volumes/{clone}"),
    ] {
        until::yes(&format!("{path} may be deleted"), LIMIT, async || {
            cloud.delete("block-storage", &path).await.is_ok()
        })
        .await;
        until::yes(&format!("{path} is gone"), LIMIT, async || {
            cloud.get::<Value>("block-storage", &path, Some("3.60")).await.is_err()
        })
        .await;
    }
}

struct Story<'a> {
    dir: &'a Path,
    ceph: Option<&'a Pools>,
    umbel: Option<Process>,
    cloud: Cloud,
    db: Db<ByHand>,
}

async fn start(dir: &Path) -> Process {
    Process::up(dir, &["--config", dir.join("umbel.toml").to_str().unwrap()]).await
}

/// Nothing but the audit takes away what is left over.
const NO_SWEEPS: &str = "[image.options]\nsweep_seconds = 3600\n[volume.options]\nsweep_seconds = 3600\n";

impl<'a> Story<'a> {
    async fn tell(dir: &'a Path, ceph: Option<&'a Pools>) {
        // Backups in a pool on Ceph, in files elsewhere.
        let config = match ceph {
            Some(pools) => format!("{}{NO_SWEEPS}[volume.options.backup]\npool = 'volumes'\n", pools.config()),
            None => format!(
                "[agent]\nhypervisor = 'simulated'\n[audit]\ngrace_seconds = 1\nhidden_seconds = 2\n{NO_SWEEPS}"
            ),
        };
        std::fs::write(dir.join("umbel.toml"), config).unwrap();
        let umbel = start(dir).await;
        let cloud = umbel.admin().await;
        let db = Db::open(&format!("sqlite:{}", dir.join("db/volume.sqlite").display()), 1).await.unwrap();
        let mut story = Story { dir, ceph, umbel: Some(umbel), cloud, db };
        story.lineage().await;
        story.disks_and_snapshots().await;
        story.backups().await;
        story.hidden_parents().await;
        story.unmanaged().await;
        story.deleted_rows().await;
        story.missing_parents().await;
        story.db.close().await;
        story.umbel.take().unwrap().stop().await;
    }

    /// Image to server, and image to volume to snapshot to volume, whoever of them is asked for.
    async fn lineage(&self) {
        let (image, flavor) = prepare(&self.cloud).await;
        let new = NewServer { name: "tracked", image_id: &image, flavor_id: &flavor, count: 1 };
        let server = self.cloud.create_server(&new).await.unwrap();
        self.cloud.wait_active(&server, Duration::from_millis(50), LIMIT).await.unwrap();
        let first = self.volume(json!({"imageRef": image, "name": "first"})).await;
        let snapshot = self.snapshot(&first).await;
        let second = self.volume(json!({"snapshot_id": snapshot, "name": "second"})).await;
        for asked in ["audited", "tracked", "first", "second", &image, &server, &first, &second] {
            let (good, told) = storage(self.dir, &["tree", asked]).await;
            assert!(good, "{asked}: {told}");
            let lines: Vec<&str> = told.lines().collect();
            assert!(lines[0].starts_with(&format!("image audited ({image})  images/{image}  4 MiB, ")), "{told}");
            let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{told}"));
            assert_eq!(lines[at("server tracked")].find("server"), lines[at("volume first")].find("volume"), "{told}");
            let volume = at(&format!("volume first ({first})  volumes/volume-{first}  1 GiB, "));
            assert!(lines[volume + 1].contains(&format!("   └─ @snapshot-{snapshot}  ")), "{told}");
            let clone = format!("      └─ volume second ({second})  volumes/volume-{second}  1 GiB, ");
            assert!(lines[volume + 2].contains(&clone), "{told}");
            assert!(lines.iter().all(|line| line.contains(" used")), "{told}");
            let marked: Vec<_> = lines.iter().filter(|line| line.ends_with("<--")).collect();
            // A server has a disk with its configuration too.
            assert!(!marked.is_empty() && marked.iter().all(|line| line.contains(asked)), "{asked}: {told}");
        }
        assert!(refused(self.dir, &["tree", "nobody"]).await.contains("Nothing here has the id or name 'nobody'."));
        assert!(refused(self.dir, &["tree", "x", "--kind", "disc"]).await.contains("'disc' is none of any, image"));
        let said = refused(self.dir, &["tree", "tracked", "--kind", "volume"]).await;
        assert!(said.contains("Nothing here has the id or name 'tracked'."), "{said}");
        let other = self.volume(json!({"name": "first"})).await;
        let said = refused(self.dir, &["tree", "first"]).await;
        assert!(said.contains("is the name of several things") && said.contains(&other), "{said}");
        assert!(storage(self.dir, &["progress"]).await.0);
        self.delete("volumes", &other).await;
        self.delete("volumes", &second).await;
        self.delete("snapshots", &snapshot).await;
        self.delete("volumes", &first).await;
        self.cloud.delete("compute", &format!("/servers/{server}")).await.unwrap();
        self.cloud.wait_gone(&server, Duration::from_millis(50), LIMIT).await.unwrap();
        self.cloud.delete("image", &format!("/v2/images/{image}")).await.unwrap();
    }

    async fn disks_and_snapshots(&self) {
        let (orphan, lost, held) =
            (self.volume(json!({})).await, self.volume(json!({})).await, self.volume(json!({})).await);
        let (stray, missing, kept) =
            (self.snapshot(&held).await, self.snapshot(&held).await, self.snapshot(&held).await);
        self.is_clean().await;
        self.forget("volumes", &orphan).await;
        self.forget("snapshots", &stray).await;
        self.remove_disk(&format!("volume-{lost}")).await;
        self.remove_snapshot(&format!("volume-{held}"), &format!("snapshot-{missing}")).await;
        let differs = [
            format!("orphan volumes/volume-{orphan}"),
            format!("lost volumes/volume-{lost}"),
            format!("snapshot volumes/volume-{held}@snapshot-{stray}"),
            format!("lost volumes/volume-{held}@snapshot-{missing}"),
        ];
        self.differs(&differs).await;
        self.fix(&[&differs[1], &differs[3]]).await;
        // What is lost is its owner's to delete.
        self.delete("volumes", &lost).await;
        self.delete("snapshots", &missing).await;
        self.is_clean().await;
        self.delete("snapshots", &kept).await;
        self.delete("volumes", &held).await;
    }

    async fn backups(&self) {
        let volume = self.volume(json!({})).await;
        let lost = self.backup(&volume, false).await;
        let chained = self.backup(&volume, true).await;
        // Where increments are files they are nothing without the data before them.
        let orphan = self.volume(json!({})).await;
        let left = self.backup(&orphan, false).await;
        self.is_clean().await;
        self.forget("backups", &left).await;
        let differs = match self.ceph {
            Some(pools) => {
                let chain = format!("volume-{volume}.backup.{lost}");
                let pool = pools.of("volumes");
                tool("rbd", &["snap", "rm", "--no-progress", &format!("{pool}/{chain}@backup.{chained}")]).await;
                vec![
                    format!("lost volumes/{chain}@backup.{chained}"),
                    format!("orphan volumes/volume-{orphan}.backup.{left}"),
                    format!("snapshot volumes/volume-{orphan}@backup.{left}"),
                ]
            }
            None => {
                let data = |id: &str| self.dir.join("backups").join(&id[..2]).join(id);
                std::fs::remove_dir_all(data(&lost)).unwrap();
                // One that was being written when the power failed.
                let torn = umbel_core::Id::<Pools>::random(&umbel_core::SystemRng::new()).to_string();
                let part = data(&torn).with_file_name(format!("{torn}.part"));
                std::fs::create_dir_all(&part).unwrap();
                std::fs::create_dir_all(self.dir.join("backups/lost+found")).unwrap();
                vec![
                    format!("lost backups/directory/{lost}"),
                    format!("orphan backups/directory/{left}"),
                    format!("orphan backups/directory/{torn}.part"),
                    format!("snapshot volumes/volume-{orphan}@backup.{left}"),
                ]
            }
        };
        self.differs(&differs).await;
        self.fix(&[&differs[0]]).await;
        self.delete("backups", &chained).await;
        self.delete("backups", &lost).await;
        self.is_clean().await;
        self.delete("volumes", &volume).await;
        self.delete("volumes", &orphan).await;
    }

    /// A parent that is out of sight, and whose last clone went without the services.
    async fn hidden_parents(&self) {
        let parent = self.volume(json!({})).await;
        let snapshot = self.snapshot(&parent).await;
        let clone = self.volume(json!({"snapshot_id": snapshot})).await;
        self.delete("snapshots", &snapshot).await;
        self.delete("volumes", &parent).await;
        self.is_clean().await;
        self.forget("volumes", &clone).await;
        self.remove_disk(&format!("volume-{clone}")).await;
        self.differs(&[format!("hidden volumes/volume-{parent} (")]).await;
        self.fix(&[]).await;
        self.is_clean().await;
    }

    /// What has left the books, and what never was in them.
    async fn unmanaged(&self) {
        let (volume, holder) = (self.volume(json!({})).await, self.volume(json!({})).await);
        let snapshot = self.snapshot(&holder).await;
        self.act("volumes", &volume, json!({"os-unmanage": {}})).await;
        self.act("snapshots", &snapshot, json!({"os-unmanage": {}})).await;
        if let Some(pools) = self.ceph {
            tool("rbd", &["create", "--size", "8M", &format!("{}/golden", pools.of("volumes"))]).await;
        }
        self.fix(&[]).await;
        let told = storage(self.dir, &["audit", "--json"]).await.1;
        let told: Value = serde_json::from_str(&told).unwrap();
        let names = |list: &str| {
            let list = told[list].as_array().unwrap().clone();
            list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
        };
        let (disk, of_holder) = (format!("volume-{volume}"), format!("volume-{holder}@snapshot-{snapshot}"));
        assert_eq!(names("unmanaged"), [disk.clone(), of_holder].into());
        assert_eq!(names("foreign").contains("golden"), self.ceph.is_some(), "{told}");
        let host = self.show("volumes", &holder).await["os-vol-host-attr:host"].clone();
        let body = json!({"volume": {"host": host, "ref": {"source-name": disk}, "name": "back"}});
        let back = self.post("/os-volume-manage", &body).await["volume"]["id"].as_str().unwrap().to_owned();
        self.available("volumes", &back).await;
        let body = json!({"snapshot": {"volume_id": holder, "ref": {"source-name": format!("snapshot-{snapshot}")}}});
        let kept = self.post("/os-snapshot-manage", &body).await["snapshot"]["id"].as_str().unwrap().to_owned();
        self.available("snapshots", &kept).await;
        let told = storage(self.dir, &["audit", "--json"]).await.1;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&told["unmanaged"], &told["findings"]), (&json!([]), &json!([])));
        self.delete("volumes", &back).await;
        self.delete("snapshots", &kept).await;
        self.delete("volumes", &holder).await;
    }

    /// The row of something that was deleted, left by a process that died: the next one finishes it.
    async fn deleted_rows(&mut self) {
        let volume = self.volume(json!({})).await;
        tx!(self.db, "by hand", |tx| {
            tx.execute("UPDATE volumes SET deleted = 1 WHERE id = ?", args![&volume]).await
        })
        .unwrap();
        self.is_clean().await;
        self.restart().await;
        let gone = async || {
            let rows = tx!(self.db, "look", |tx| {
                tx.fetch_all("SELECT id FROM volumes WHERE id = ?", args![&volume]).await
            });
            rows.unwrap().is_empty()
        };
        until::yes("the deletion is finished", LIMIT, gone).await;
        self.is_clean().await;
    }

    /// The end: nothing can be made whole of this.
    async fn missing_parents(&self) {
        let parent = self.volume(json!({})).await;
        let snapshot = self.snapshot(&parent).await;
        let clone = self.volume(json!({"snapshot_id": snapshot})).await;
        self.is_clean().await;
        match self.ceph {
            Some(pools) => {
                let pool = pools.of("volumes");
                let info = tool("rbd", &["info", "--format", "json", &format!("{pool}/volume-{parent}")]).await;
                let info: Value = serde_json::from_slice(&info).unwrap();
                let header = format!("rbd_header.{}", info["id"].as_str().unwrap());
                tool("rados", &["-p", &pool, "rm", &header]).await;
            }
            None => {
                let link = self.dir.join(format!("pools/volumes/volume-{parent}/@snapshot-{snapshot}"));
                std::fs::remove_file(link.canonicalize().unwrap()).unwrap();
            }
        }
        let (good, told) = storage(self.dir, &["audit"]).await;
        assert!(!good, "{told}");
        // Local pools do not follow a clone's chain to its end to look at it.
        let named = if self.ceph.is_some() { &[&parent, &clone][..] } else { &[&parent][..] };
        for disk in named {
            assert!(told.lines().any(|line| line.contains(&format!("volumes/volume-{disk}"))), "{disk}: {told}");
        }
        assert!(!told.contains("orphan") && !told.contains("--fix removes"), "{told}");
    }

    async fn restart(&mut self) {
        // One process at a time holds the directory.
        self.umbel.take().unwrap().stop().await;
        let umbel = start(self.dir).await;
        self.cloud = umbel.admin().await;
        self.umbel = Some(umbel);
    }

    /// The audit prints 0, asked twice.
    async fn is_clean(&self) {
        for _ in 0..2 {
            assert_eq!(storage(self.dir, &["audit"]).await, (true, "0\n".to_owned()));
        }
    }

    /// It names these, as `kind pool/name`, and nothing else.
    async fn differs(&self, want: &[String]) {
        let (good, told) = storage(self.dir, &["audit"]).await;
        assert!(!good && told.lines().count() == want.len(), "{want:?}: {told}");
        for one in want {
            assert!(told.lines().any(|line| line.starts_with(one)), "{one}: {told}");
        }
    }

    /// Mends all that can be mended; these are left.
    async fn fix(&self, left: &[&String]) {
        let (good, told) = storage(self.dir, &["audit", "--fix", "--yes"]).await;
        assert_eq!(good, left.is_empty(), "{told}");
        let (_, told) = storage(self.dir, &["audit"]).await;
        match left.len() {
            0 => assert_eq!(told, "0\n"),
            count => assert_eq!(told.lines().count(), count, "{told}"),
        }
        left.iter().for_each(|one| assert!(told.contains(one.as_str()), "{one}: {told}"));
    }

    async fn remove_disk(&self, disk: &str) {
        match self.ceph {
            Some(pools) => {
                drop(tool("rbd", &["rm", "--no-progress", &format!("{}/{disk}", pools.of("volumes"))]).await)
            }
            None => {
                let disk = self.dir.join("pools/volumes").join(disk);
                std::fs::remove_file(disk.join("head").canonicalize().unwrap()).unwrap();
                std::fs::remove_dir_all(disk).unwrap();
            }
        }
    }

    async fn remove_snapshot(&self, disk: &str, snapshot: &str) {
        match self.ceph {
            Some(pools) => {
                let of = format!("{}/{disk}@{snapshot}", pools.of("volumes"));
                tool("rbd", &["snap", "rm", "--no-progress", &of]).await;
            }
            None => {
                let link = self.dir.join("pools/volumes").join(disk).join(format!("@{snapshot}"));
                std::fs::remove_file(link).unwrap();
            }
        }
    }

    /// The row goes, and nothing else.
    async fn forget(&self, table: &str, id: &str) {
        let sql = format!("DELETE FROM {table} WHERE id = ?");
        let gone = tx!(self.db, "by hand", |tx| tx.execute(&sql, args![id]).await).unwrap();
        assert_eq!(gone, 1, "{table} {id}");
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.cloud.post("block-storage", path, Some("3.60"), body).await.unwrap()
    }

    async fn act(&self, kind: &str, id: &str, action: Value) {
        let path = format!("/{kind}/{id}/action");
        let body = Body::Bytes(serde_json::to_vec(&action).unwrap().into());
        let call = Call::new("block-storage", http::Method::POST, &path);
        self.cloud.bytes(call.headers(&[("content-type", "application/json")]).body(body)).await.unwrap();
    }

    async fn volume(&self, more: Value) -> String {
        let mut volume = json!({"size": 1});
        volume.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        self.made("volumes", "volume", volume).await
    }

    async fn snapshot(&self, volume: &str) -> String {
        self.made("snapshots", "snapshot", json!({"volume_id": volume})).await
    }

    async fn backup(&self, volume: &str, incremental: bool) -> String {
        self.made("backups", "backup", json!({"volume_id": volume, "incremental": incremental})).await
    }

    async fn made(&self, kind: &str, noun: &str, body: Value) -> String {
        let made = self.post(&format!("/{kind}"), &json!({ noun: body })).await;
        let id = made[noun]["id"].as_str().unwrap().to_owned();
        self.available(kind, &id).await;
        id
    }

    async fn show(&self, kind: &str, id: &str) -> Value {
        let shown: Value = self.cloud.get("block-storage", &format!("/{kind}/{id}"), Some("3.60")).await.unwrap();
        shown.as_object().unwrap().values().next().unwrap().clone()
    }

    async fn available(&self, kind: &str, id: &str) {
        until::yes(&format!("{kind} {id} is available"), LIMIT, async || {
            let shown = self.show(kind, id).await;
            let status = shown["status"].as_str().unwrap();
            assert!(!status.starts_with("error"), "{shown}");
            status == "available"
        })
        .await;
    }

    /// Deletes it, and waits until its row is gone.
    async fn delete(&self, kind: &str, id: &str) {
        self.cloud.delete("block-storage", &format!("/{kind}/{id}")).await.unwrap();
        let sql = format!("SELECT id FROM {kind} WHERE id = ?");
        until::yes(&format!("{kind} {id} is gone"), LIMIT, async || {
            if let Err(error) = self.cloud.get::<Value>("block-storage", &format!("/{kind}/{id}"), Some("3.60")).await {
                assert!(error.is(Kind::NotFound), "{}", error.for_log());
            }
            tx!(self.db, "look", |tx| tx.fetch_all(&sql, args![id]).await).unwrap().is_empty()
        })
        .await;
    }
}
