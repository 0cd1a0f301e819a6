//! Images in one Ceph cluster and disks in another, as sites have it that share images: flow A.3's "other cluster", and
//! what follows for A.4 and A.5. Nothing can be cloned from the one into the other, and both speak the same language to the
//! same library: whatever mistook one cluster for the other would find a pool of the right name there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use umbel_testkit::{Ceph, guest_image, until};

use crate::audit::{Pools, storage};
use crate::faults::site::OwnCeph;
use crate::site::{SLOW, SWEEPS, Site, rbd_pool};

/// Nothing of the second cluster takes longer to come up.
const START: Duration = Duration::from_secs(180);

#[tokio::test]
async fn an_image_in_another_cluster_is_copied() {
    let second = tokio::time::timeout(START, OwnCeph::up());
    let (pools, second) = tokio::join!(Pools::new(), second);
    let pools = Arc::new(pools);
    // The pools go however it ends, and the second cluster with the story.
    let outcome = tokio::spawn(story(pools.clone(), second.expect("a second cluster comes up"))).await;
    pools.remove().await;
    outcome.unwrap();
}

/// The cloud, and what is behind it.
struct Sites {
    site: Site,
    /// Where images are, in a pool of this name.
    far: Ceph,
    images: String,
    /// Where disks are.
    near: Ceph,
}

impl Sites {
    /// A disk of either, as QEMU's tools open it.
    fn image(&self, disk: &str) -> String {
        place(&self.far, &self.images, disk)
    }

    fn disk(&self, pool: &str, disk: &str) -> String {
        place(&self.near, pool, disk)
    }

    /// Everything in every pool, trash and all.
    async fn contents(&self) -> Vec<String> {
        let mut all = self.far.left(&[&self.images], &[""]).await;
        all.extend(self.near.left(&["images", "vms", "volumes"], &[""]).await);
        all
    }
}

fn place(ceph: &Ceph, pool: &str, disk: &str) -> String {
    format!("rbd:{pool}/{disk}:id=admin:conf={}", ceph.conf().display())
}

async fn story(pools: Arc<Pools>, own: OwnCeph) {
    let conf = own.conf();
    let disks = ["vms", "volumes"]
        .map(|name| format!("[[pools]]\nname = '{name}'\ndriver = 'rbd'\nconf = '{}'\n", conf.display()));
    let images = pools.of("images");
    let config = format!(
        "{SWEEPS}[audit]\ngrace_seconds = 1\nhidden_seconds = 2\n{}{}",
        rbd_pool("images", &images),
        disks.concat()
    );
    let site = Site::start(&config, None).await;
    let all = Sites { site, far: Ceph::new(), images, near: Ceph::at(&conf) };
    let site = &all.site;
    let (far, near) = (fsid(&all.far).await, fsid(&all.near).await);
    assert_ne!(far, near);

    let guest = site.guest_and_flavor("guest").await;
    let packed = packed(&all).await;
    let web = site.boot("--image guest web").await;
    let disk = format!("{web}_disk");
    assert_eq!(all.near.parent("vms", &disk).await, None);
    assert_eq!(all.near.info("vms", &disk).await["size"], 1 << 30);
    let steps = site.steps(&web, "create").await;
    let why = format!(
        "imported into pool vms: The image is in the Ceph cluster {far}, and pool 'vms' is in the cluster {near}."
    );
    assert!(steps.contains(&format!("disk_import: \"{why}")) && !steps.contains("disk_clone"), "{steps}");
    site.says(&web, "umbel-guest: ready hostname=web").await;
    until::yes("the guest has its disk open", SLOW, async || all.near.watchers("vms", &disk).await > 0).await;

    let volumes = volumes(&all).await;
    let shot = image_of_a_server(&all, &web).await;
    audit_is_clean(site).await;

    site.delete_servers(&[&web]).await;
    site.delete_volumes(&volumes.each_ref().map(String::as_str)).await;
    site.run(&format!("image delete {guest} {packed} {shot}")).await;
    until::none("disks are left in either cluster", SLOW, async || all.contents().await).await;
    audit_is_clean(site).await;
    all.site.stop().await;
}

/// Waits for it: what was made on the way goes behind the requests.
async fn audit_is_clean(site: &Site) {
    until::none("pools and databases differ", SLOW, async || {
        let (_, told) = storage(site.dir(), &["audit"]).await;
        told.lines().filter(|line| *line != "0").map(str::to_owned).collect()
    })
    .await;
}

async fn fsid(ceph: &Ceph) -> String {
    let output = Command::new("ceph").arg("-c").arg(ceph.conf()).arg("fsid").output().await.unwrap();
    assert!(output.status.success(), "ceph fsid: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A compressed image of the guest, with its twin.
async fn packed(all: &Sites) -> String {
    let file = all.site.dir().join("guest.qcow2");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]).arg(guest_image()).arg(&file);
    assert!(convert.status().await.unwrap().success());
    let image = all.site.make(&format!("image create --file {} --disk-format qcow2 packed", file.display())).await;
    all.site.twin_ready(&image).await;
    image
}

/// From a raw image, and from one that is converted.
async fn volumes(all: &Sites) -> [String; 2] {
    let (site, original) = (&all.site, guest_image());
    let made = ["guest", "packed"].map(async |image| {
        let volume = site.volume(&format!("--size 1 --image {image} of-{image}")).await;
        let disk = format!("volume-{volume}");
        assert_eq!(all.near.parent("volumes", &disk).await, None);
        assert_eq!(all.near.info("volumes", &disk).await["size"], 1 << 30);
        site.are_equal(text(&original), &all.disk("volumes", &disk)).await;
        assert_eq!(site.shown("volume", &volume).await["bootable"], "true");
        volume
    });
    let [raw, converted] = made;
    tokio::join!(raw, converted).into()
}

/// By export: no snapshot of the disks' cluster can be cloned into the images' one. Off, so that its disk stands still and
/// can be compared.
async fn image_of_a_server(all: &Sites, web: &str) -> String {
    let site = &all.site;
    site.run("server stop web").await;
    until::yes("the server is off", SLOW, async || site.cloud.server(web).await.unwrap().status == "SHUTOFF").await;
    let shot = site.make("server image create --name shot web").await;
    let image = site.image_active(&shot).await;
    assert_eq!((&image["disk_format"], image["size"].as_u64()), (&"raw".into(), Some(1 << 30)));
    let disk = format!("{web}_disk");
    stands_alone(all, &shot).await;
    site.are_equal(&all.image(&shot), &all.disk("vms", &disk)).await;
    until::none("snapshots of the server's disk", SLOW, async || all.near.snapshots("vms", &disk).await).await;
    shot
}

/// In the images' cluster, with the snapshot that others there would clone; and not in the other one.
async fn stands_alone(all: &Sites, image: &str) {
    assert_eq!(all.far.parent(&all.images, image).await, None);
    assert_eq!(all.far.snapshots(&all.images, image).await, ["snap"]);
    assert_eq!(all.near.images("images").await, Vec::<String>::new());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
