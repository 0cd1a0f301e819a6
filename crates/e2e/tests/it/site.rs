//! A cloud with everything that tests of storage drive it and look at it with: the `openstack` client does what users do,
//! plain HTTP waits for it (a look costs a millisecond rather than a second), Ceph's and QEMU's tools look at what is
//! really in the pools.
//!
//! umbel itself finds no other program than QEMU: those that could do its work for it are traps, and one that was started
//! fails the test. That is mission's flow A.8, "by the library, never the `rbd` command", in every test that uses this.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use umbel_client::{Body, Call, Cloud};
use umbel_core::{Kind, Result};
use umbel_testkit::{Ceph, Openstack, Process, ceph_conf, guest_image, until};

/// For what takes seconds, on two busy cores.
pub const SLOW: Duration = Duration::from_secs(240);

/// Deletions, purges and what else is done behind users' backs: looked for each second.
pub const SWEEPS: &str = "[image.options]\nsweep_seconds = 1\n[volume.options]\nsweep_seconds = 1\n";

/// Programs that know disks, and shells, which start others.
const TRAPS: [&str; 10] =
    ["rbd", "rados", "ceph", "qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon", "dd", "sh", "bash"];

pub struct Site {
    pub openstack: Openstack,
    /// The administrator, by HTTP.
    pub cloud: Cloud,
    pub ceph: Option<Ceph>,
    process: Process,
    dir: tempfile::TempDir,
}

/// `[[pools]]` of a pool in the tests' Ceph.
pub fn rbd_pool(name: &str, ceph_pool: &str) -> String {
    let conf = ceph_conf();
    let conf = conf.display();
    format!("[[pools]]\nname = '{name}'\ndriver = 'rbd'\nconf = '{conf}'\nceph_pool = '{ceph_pool}'\n")
}

/// `[[pools]]` of a pool below the cloud's own directory.
pub fn local_pool(name: &str) -> String {
    format!("[[pools]]\nname = '{name}'\ndriver = 'local'\n")
}

impl Site {
    pub async fn on_local_disks() -> Site {
        Site::start(SWEEPS, None).await
    }

    /// In the usual pools of the tests' Ceph.
    pub async fn on_ceph() -> Site {
        let pools: String = ["images", "vms", "volumes"].map(|name| rbd_pool(name, name)).concat();
        Site::start(&format!("{SWEEPS}{pools}"), Some(Ceph::new())).await
    }

    pub async fn start(config: &str, ceph: Option<Ceph>) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("umbel.toml");
        std::fs::write(&path, config).unwrap();
        let programs = programs(dir.path());
        let process = Process::up_with_programs(dir.path(), &["--config", path.to_str().unwrap()], &programs).await;
        let openstack = Openstack::new(&process.clouds_yaml());
        Site { openstack, cloud: process.admin().await, ceph, process, dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends a test in which everything went well.
    pub async fn stop(self) {
        let sprung = std::fs::read_to_string(self.dir.path().join("sprung")).unwrap_or_default();
        assert!(sprung.is_empty(), "umbel started programs:\n{sprung}");
        self.process.stop().await;
    }

    /// The client, with these words.
    pub async fn run(&self, command: &str) -> String {
        self.openstack.run(&words(command)).await
    }

    pub async fn json(&self, command: &str) -> Value {
        self.openstack.json(&words(command)).await
    }

    /// What the client said when it was refused.
    pub async fn fails(&self, command: &str) -> String {
        self.openstack.fails(&words(command)).await
    }

    /// Something new; its id.
    pub async fn make(&self, command: &str) -> String {
        id(&self.json(command).await)
    }

    /// The raw guest image under this name, and the flavor `tiny`.
    pub async fn guest_and_flavor(&self, name: &str) -> String {
        let guest = guest_image();
        self.run("flavor create --ram 128 --vcpus 1 --disk 1 tiny").await;
        self.make(&format!("image create --file {} --disk-format raw {name}", guest.display())).await
    }

    /// A server that runs; its id.
    pub async fn boot(&self, command: &str) -> String {
        let server = self.make(&format!("server create --flavor tiny --nic none {command}")).await;
        self.active(&server).await;
        server
    }

    pub async fn active(&self, server: &str) {
        self.cloud.wait_active(server, Duration::from_millis(50), SLOW).await.unwrap();
    }

    pub async fn delete_servers(&self, servers: &[&str]) {
        self.run(&format!("server delete {}", servers.join(" "))).await;
        for server in servers {
            self.cloud.wait_gone(server, Duration::from_millis(50), SLOW).await.unwrap();
        }
    }

    /// What a guest has written on its console.
    pub async fn console(&self, server: &str) -> String {
        let body = json!({"os-getConsoleOutput": {}});
        let path = format!("/servers/{server}/action");
        let answer: Value = self.cloud.post("compute", &path, None, &body).await.unwrap();
        answer["output"].as_str().unwrap_or_default().to_owned()
    }

    pub async fn says(&self, server: &str, line: &str) {
        until::yes(&format!("'{line}' on the console of {server}"), SLOW, async || {
            self.console(server).await.contains(line)
        })
        .await;
    }

    /// The action's events as the client shows them, as `name: details`.
    pub async fn steps(&self, server: &str, action: &str) -> String {
        let list = self.json(&format!("server event list {server}")).await;
        let all = list.as_array().unwrap();
        let one = all.iter().find(|one| one["Action"] == action).unwrap_or_else(|| panic!("no {action} in {list}"));
        let shown = self.json(&format!("server event show {server} {}", one["Request ID"].as_str().unwrap())).await;
        let step = |event: &Value| format!("{}: {}\n", event["event"].as_str().unwrap(), event["details"]);
        shown["events"].as_array().unwrap().iter().map(step).collect()
    }

    pub async fn image(&self, id: &str) -> Value {
        self.cloud.get("image", &format!("/v2/images/{id}"), None).await.unwrap()
    }

    pub async fn image_is(&self, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until::some(&format!("image {id} is {what}"), SLOW, async || {
            let image = self.image(id).await;
            assert!(!matches!(image["status"].as_str(), Some("killed" | "deleted")), "{image}");
            is(&image).then_some(image)
        })
        .await
    }

    pub async fn image_active(&self, id: &str) -> Value {
        self.image_is(id, "active", |image| image["status"] == "active").await
    }

    /// Waits until what clones are made of is there.
    pub async fn twin_ready(&self, id: &str) -> Value {
        self.image_is(id, "with its twin", |image| image["umbel_twin"] == "ready").await
    }

    /// A `volume`, `snapshot` or `backup` as it is shown.
    pub async fn shown(&self, kind: &str, id: &str) -> Value {
        self.ask_volumes(http::Method::GET, &format!("/{kind}s/{id}"), None).await.unwrap()[kind].clone()
    }

    /// The volume service, in a version with snapshots to revert to (3.40), volumes of backups (3.47) and groups (3.14).
    /// Null where the answer has no body.
    pub async fn ask_volumes(&self, method: http::Method, path: &str, body: Option<Value>) -> Result<Value> {
        let bytes = body.map_or_else(Vec::new, |body| serde_json::to_vec(&body).unwrap());
        let call = Call::new("block-storage", method, path)
            .headers(&[("content-type", "application/json"), ("openstack-api-version", "volume 3.60")])
            .body(Body::Bytes(bytes.into()));
        let answer = self.cloud.bytes(call).await?;
        Ok(if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).unwrap() })
    }

    /// Waits for the status; no error must come in its place.
    pub async fn status(&self, kind: &str, id: &str, want: &str) -> Value {
        until::some(&format!("{kind} {id} is {want}"), SLOW, async || {
            let shown = self.shown(kind, id).await;
            let status = shown["status"].as_str().unwrap_or_default();
            assert!(!status.starts_with("error"), "{shown}");
            (status == want).then_some(shown)
        })
        .await
    }

    pub async fn available(&self, kind: &str, id: &str) -> Value {
        self.status(kind, id, "available").await
    }

    /// A new volume, when it is there; its id.
    pub async fn volume(&self, command: &str) -> String {
        self.made("volume", &format!("volume create {command}")).await
    }

    /// What the command makes, when it is there; its id.
    pub async fn made(&self, kind: &str, command: &str) -> String {
        let id = self.make(command).await;
        self.available(kind, &id).await;
        id
    }

    /// Waits until the thing is in no API any more.
    pub async fn gone(&self, kind: &str, id: &str) {
        let path = format!("/{kind}s/{id}");
        until::yes(&format!("{kind} {id} is gone"), SLOW, async || {
            match self.ask_volumes(http::Method::GET, &path, None).await {
                Ok(shown) => {
                    assert!(!shown.to_string().contains("error_deleting"), "{shown}");
                    false
                }
                Err(error) => {
                    assert!(error.is(Kind::NotFound), "{}", error.for_log());
                    true
                }
            }
        })
        .await;
    }

    pub async fn delete_volumes(&self, volumes: &[&str]) {
        self.run(&format!("volume delete {}", volumes.join(" "))).await;
        for volume in volumes {
            self.gone("volume", volume).await;
        }
    }

    pub async fn delete_snapshots(&self, snapshots: &[&str]) {
        self.run(&format!("volume snapshot delete {}", snapshots.join(" "))).await;
        for snapshot in snapshots {
            self.gone("snapshot", snapshot).await;
        }
    }

    /// Waits until none of the pools of the tests' Ceph, or of this cloud's directory, has a disk whose name has one of
    /// these ids in it, hidden ones included. Local pools must be empty altogether.
    pub async fn nothing_left(&self, ids: &[&str]) {
        self.nothing_left_in(&["images", "vms", "volumes"], ids).await;
    }

    pub async fn nothing_left_in(&self, ceph_pools: &[&str], ids: &[&str]) {
        until::none("disks are left in the pools", SLOW, async || {
            let mut left = match &self.ceph {
                Some(ceph) => ceph.left(ceph_pools, ids).await,
                None => Vec::new(),
            };
            left.extend(files(&self.dir().join("pools")));
            left
        })
        .await;
    }

    /// A disk as QEMU's tools open it. The layer that a guest would write: names of layers below it are relative to
    /// where it really is.
    pub fn disk(&self, pool: &str, disk: &str) -> String {
        match &self.ceph {
            Some(_) => format!("rbd:{pool}/{disk}:id=admin:conf={}", ceph_conf().display()),
            None => self.file(pool, disk).display().to_string(),
        }
    }

    pub fn file(&self, pool: &str, disk: &str) -> PathBuf {
        self.dir().join("pools").join(pool).join(disk).join("head").canonicalize().unwrap()
    }

    /// Both have the same bytes; where one is longer, it has zeros there.
    pub async fn are_equal(&self, one: &str, other: &str) {
        let output = Command::new("qemu-img").args(["compare", "-U", one, other]).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{one} and {other}: {}", String::from_utf8_lossy(&text));
    }
}

/// The folder that is umbel's PATH.
fn programs(dir: &Path) -> PathBuf {
    let folder = dir.join("programs");
    std::fs::create_dir(&folder).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let qemu = std::env::split_paths(&path).map(|folder| folder.join("qemu-system-x86_64")).find(|file| file.exists());
    symlink(qemu.expect("qemu-system-x86_64 is installed"), folder.join("qemu-system-x86_64")).unwrap();
    for name in TRAPS {
        let trap = folder.join(name);
        let note = dir.join("sprung");
        std::fs::write(&trap, format!("#!/bin/sh\necho \"{name} $*\" >>'{}'\nexit 1\n", note.display())).unwrap();
        std::fs::set_permissions(&trap, PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

pub fn id(shown: &Value) -> String {
    shown["id"].as_str().or_else(|| shown["ID"].as_str()).unwrap_or_else(|| panic!("no id in {shown}")).to_owned()
}

/// Disks and layers in local pools, hidden ones too.
fn files(pools: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let list = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().collect::<Vec<_>>();
    for pool in list(pools) {
        for entry in list(&pool.path()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.as_str() {
                ".layers" | ".hidden" => {
                    let inside = list(&entry.path());
                    found.extend(inside.iter().map(|one| one.path().display().to_string()));
                }
                _ if name.starts_with('.') => {}
                _ => found.push(entry.path().display().to_string()),
            }
        }
    }
    found
}
