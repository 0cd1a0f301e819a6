//! The storage flows as a user meets them, with the unmodified `openstack` client and real guests, on both kinds of pool:
//! images of other formats, volumes plugged into a running guest, boot from volume, snapshots, images of servers.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use umbel_testkit::{Ceph, Openstack, Process, ceph_conf, guest_image, until};

const SLOW: Duration = Duration::from_secs(240);

/// A cloud, its user, and the way into its pools.
struct Site {
    openstack: Openstack,
    ceph: Option<Ceph>,
}

#[tokio::test]
async fn every_flow_on_local_disks() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::up(dir.path(), &[]).await;
    let site = Site { openstack: Openstack::new(&process.clouds_yaml()), ceph: None };
    site.every_flow(dir.path()).await;
    process.stop().await;
}

#[tokio::test]
async fn every_flow_on_ceph() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::up(dir.path(), &["--ceph", ceph_conf().to_str().unwrap()]).await;
    let site = Site { openstack: Openstack::new(&process.clouds_yaml()), ceph: Some(Ceph::new()) };
    site.every_flow(dir.path()).await;
    process.stop().await;
}

impl Site {
    async fn every_flow(&self, scratch: &Path) {
        let run = async |args: &[&str]| self.openstack.run(args).await;
        let guest = guest_image();
        let raw = guest.to_str().unwrap();
        run(&["image", "create", "--file", raw, "--disk-format", "raw", "guest"]).await;
        run(&["flavor", "create", "--ram", "128", "--vcpus", "1", "--disk", "1", "tiny"]).await;
        let twin = self.image_of_another_format(&guest, scratch).await;
        self.boot_from_it(&twin).await;
        let data = self.plug_into_a_running_guest().await;
        let image = self.image_of_a_server().await;
        let system = self.boot_from_volume().await;
        self.snapshots(&data).await;
        self.take_all_away(&[twin, data, image, system]).await;
    }

    /// A compressed qcow2 keeps its checksum, and gets the raw twin that servers are cloned from.
    async fn image_of_another_format(&self, guest: &Path, scratch: &Path) -> String {
        let qcow2 = scratch.join("guest.qcow2");
        let mut convert = tokio::process::Command::new("qemu-img");
        convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]).arg(guest).arg(&qcow2);
        assert!(convert.status().await.unwrap().success());
        let file = qcow2.to_str().unwrap();
        self.openstack.run(&["image", "create", "--file", file, "--disk-format", "qcow2", "packed"]).await;
        let packed = self.id_of("image", "packed").await;
        let image = until::some("the twin", SLOW, async || {
            let image = self.openstack.json(&["image", "show", &packed]).await;
            image["properties"]["umbel_twin"].as_str().is_some_and(|twin| twin == "ready").then_some(image)
        })
        .await;
        assert_eq!((&image["disk_format"], image["size"].as_u64()), (&"qcow2".into(), file_size(&qcow2)));
        let saved = scratch.join("saved.qcow2");
        self.openstack.run(&["image", "save", "--file", saved.to_str().unwrap(), "packed"]).await;
        assert!(std::fs::read(&qcow2).unwrap() == std::fs::read(&saved).unwrap(), "what was uploaded comes back");
        id(&image)
    }

    async fn boot_from_it(&self, image: &str) {
        let create = ["server", "create", "--image", "packed", "--flavor", "tiny", "--nic", "none", "--wait", "web"];
        self.openstack.run(&create).await;
        let server = self.id_of("server", "web").await;
        if let Some(ceph) = &self.ceph {
            let parent = ceph.rbd(&["info", &format!("vms/{server}_disk")]).await["parent"].clone();
            assert_eq!(parent["image"].as_str(), Some(&*format!("{image}.raw")), "{parent}");
        }
        self.says("umbel-guest: ready hostname=web").await;
    }

    /// Attach, extend in use, detach; the guest sees each.
    async fn plug_into_a_running_guest(&self) -> String {
        self.openstack.run(&["volume", "create", "--size", "1", "data"]).await;
        let volume = self.id_of("volume", "data").await;
        self.status("volume", &volume, "available").await;
        self.openstack.run(&["server", "add", "volume", "web", "data"]).await;
        self.status("volume", &volume, "in-use").await;
        let serial = &volume[..20];
        self.says(&format!("serial={serial} bytes=1073741824")).await;
        self.openstack.run(&["volume", "set", "--size", "2", "data"]).await;
        self.says(&format!("serial={serial} bytes=2147483648")).await;
        // One point in time of a volume that a guest writes to.
        self.openstack.run(&["volume", "snapshot", "create", "--force", "--volume", "data", "live"]).await;
        let live = self.id_of("volume snapshot", "live").await;
        self.status("volume snapshot", &live, "available").await;
        self.openstack.run(&["server", "remove", "volume", "web", "data"]).await;
        self.status("volume", &volume, "available").await;
        self.says("umbel-guest: disk gone").await;
        volume
    }

    /// A running server's image is active at once, and boots.
    async fn image_of_a_server(&self) -> String {
        self.openstack.run(&["server", "image", "create", "--name", "shot", "--wait", "web"]).await;
        let image = self.openstack.json(&["image", "show", "shot"]).await;
        assert_eq!((&image["status"], &image["disk_format"]), (&"active".into(), &"raw".into()));
        let create = ["server", "create", "--image", "shot", "--flavor", "tiny", "--nic", "none", "--wait", "copy"];
        self.openstack.run(&create).await;
        self.openstack.run(&["server", "delete", "--wait", "copy", "web"]).await;
        id(&image)
    }

    async fn boot_from_volume(&self) -> String {
        self.openstack.run(&["volume", "create", "--size", "1", "--image", "guest", "--bootable", "system"]).await;
        let volume = self.id_of("volume", "system").await;
        self.status("volume", &volume, "available").await;
        if let Some(ceph) = &self.ceph {
            let image = self.id_of("image", "guest").await;
            let parent = ceph.rbd(&["info", &format!("volumes/volume-{volume}")]).await["parent"].clone();
            assert_eq!((parent["pool"].as_str(), parent["image"].as_str()), (Some("images"), Some(&*image)));
        }
        let create = ["server", "create", "--volume", "system", "--flavor", "tiny", "--nic", "none", "--wait", "web"];
        self.openstack.run(&create).await;
        self.says("umbel-guest: ready hostname=web").await;
        self.openstack.run(&["server", "delete", "--wait", "web"]).await;
        self.status("volume", &volume, "available").await;
        volume
    }

    /// Snapshot, volume of it, roll back, volume of a volume; the source can go before its clones.
    async fn snapshots(&self, data: &str) {
        let run = async |args: &[&str]| self.openstack.run(args).await;
        run(&["volume", "create", "--snapshot", "live", "of-snapshot"]).await;
        let first = self.id_of("volume", "of-snapshot").await;
        self.status("volume", &first, "available").await;
        run(&["volume", "create", "--source", "of-snapshot", "of-volume"]).await;
        let last = self.id_of("volume", "of-volume").await;
        self.status("volume", &last, "available").await;
        run(&["volume", "revert", "live"]).await;
        self.status("volume", data, "available").await;
        run(&["volume", "snapshot", "delete", "live"]).await;
        self.gone("volume snapshot", "live").await;
        run(&["volume", "delete", "of-snapshot"]).await;
        self.gone("volume", "of-snapshot").await;
        run(&["volume", "delete", "of-volume"]).await;
        self.gone("volume", "of-volume").await;
    }

    async fn take_all_away(&self, mine: &[String]) {
        for volume in ["data", "system"] {
            self.openstack.run(&["volume", "delete", volume]).await;
            self.gone("volume", volume).await;
        }
        for image in ["guest", "packed", "shot"] {
            self.openstack.run(&["image", "delete", image]).await;
        }
        let Some(ceph) = &self.ceph else { return };
        until::yes("nothing of it is left in Ceph", SLOW, async || {
            let mut left = String::new();
            for pool in ["images", "vms", "volumes"] {
                left.push_str(&ceph.rbd(&["ls", pool]).await.to_string());
                left.push_str(&ceph.rbd(&["trash", "ls", "--all", pool]).await.to_string());
            }
            mine.iter().all(|id| !left.contains(id.as_str()))
        })
        .await;
    }

    async fn id_of(&self, kind: &str, name: &str) -> String {
        id(&self.show(kind, name).await)
    }

    async fn show(&self, kind: &str, name: &str) -> Value {
        let mut args: Vec<&str> = kind.split(' ').collect();
        args.extend(["show", name]);
        self.openstack.json(&args).await
    }

    async fn status(&self, kind: &str, name: &str, want: &str) {
        until::yes(&format!("{kind} {name} is {want}"), SLOW, async || {
            let status = self.show(kind, name).await["status"].clone();
            assert!(!status.as_str().unwrap_or_default().starts_with("error"), "{kind} {name} is {status}");
            status == want
        })
        .await;
    }

    async fn gone(&self, kind: &str, name: &str) {
        until::yes(&format!("{kind} {name} is gone"), SLOW, async || {
            let mut args: Vec<&str> = kind.split(' ').collect();
            args.push("list");
            let list = self.openstack.json(&args).await;
            list.as_array().unwrap().iter().all(|one| one["Name"] != name)
        })
        .await;
    }

    async fn says(&self, line: &str) {
        until::yes(&format!("'{line}' on the console"), SLOW, async || {
            self.openstack.run(&["console", "log", "show", "web"]).await.contains(line)
        })
        .await;
    }
}

fn id(shown: &Value) -> String {
    shown["id"].as_str().unwrap().to_owned()
}

fn file_size(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|file| file.len())
}
