//! Images that are not where disks are: what cannot be cloned is copied, and says so; and images that are in several places
//! are cloned from the one that can be.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;
use umbel_core::Kind;
use umbel_testkit::{Ceph, ceph_conf, guest_image, until};

use crate::site::{SLOW, SWEEPS, Site, id, local_pool, rbd_pool};

const MIB: usize = 1 << 20;

/// Images are files and disks are in Ceph: flows A.3, A.4 and A.5, the slow ways.
#[tokio::test]
async fn what_cannot_be_cloned_is_copied() {
    let pools = [local_pool("images"), rbd_pool("vms", "vms"), rbd_pool("volumes", "volumes")].concat();
    let config =
        format!("[image.options]\nsweep_seconds = 1\ntwin = 'off'\n[volume.options]\nsweep_seconds = 1\n{pools}");
    let site = Site::start(&config, Some(Ceph::new())).await;
    let guest = site.guest_and_flavor("guest").await;
    let packed = site.dir().join("guest.qcow2");
    convert(&["-c", "-f", "raw", "-O", "qcow2"], &guest_image(), &packed).await;
    let packed = site.make(&format!("image create --file {} --disk-format qcow2 packed", packed.display())).await;

    let web = site.boot("--image packed web").await;
    let disk = format!("{web}_disk");
    let ceph = site.ceph.as_ref().unwrap();
    assert_eq!(ceph.parent("vms", &disk).await, None);
    assert_eq!(ceph.info("vms", &disk).await["size"], 1 << 30);
    let steps = site.steps(&web, "create").await;
    assert!(steps.contains("disk_import") && !steps.contains("disk_clone"), "{steps}");
    assert!(steps.contains("imported into pool vms: image is qcow2"), "{steps}");
    let plain = site.boot("--image guest plain").await;
    let steps = site.steps(&plain, "create").await;
    assert!(steps.contains("imported into pool vms: The image is kept in 'local' storage"), "{steps}");
    assert_eq!(ceph.parent("vms", &format!("{plain}_disk")).await, None);
    site.delete_servers(&[&plain]).await;
    site.says(&web, "umbel-guest: ready hostname=web").await;

    let shot = image_by_export(&site, &web).await;
    let mut mine = volumes_by_copying(&site).await;
    site.delete_servers(&[&web]).await;
    site.run("image delete guest packed shot").await;
    mine.extend([guest, packed, web, plain, shot]);
    let mine: Vec<&str> = mine.iter().map(String::as_str).collect();
    site.nothing_left(&mine).await;
    site.stop().await;
}

/// Off, so that its disk stands still and can be compared.
async fn image_by_export(site: &Site, web: &str) -> String {
    site.run("server stop web").await;
    until::yes("the server is off", SLOW, async || site.cloud.server(web).await.unwrap().status == "SHUTOFF").await;
    let shot = site.make("server image create --name shot web").await;
    let image = site.image_active(&shot).await;
    assert_eq!((&image["disk_format"], image["size"].as_u64()), (&"raw".into(), Some(1 << 30)));
    let disk = format!("{web}_disk");
    site.are_equal(site.file("images", &shot).to_str().unwrap(), &site.disk("vms", &disk)).await;
    let ceph = site.ceph.as_ref().unwrap();
    until::none("snapshots of the server's disk", SLOW, async || ceph.snapshots("vms", &disk).await).await;
    shot
}

/// From a raw image and from one that is converted, and back to images of both kinds.
async fn volumes_by_copying(site: &Site) -> Vec<String> {
    let ceph = site.ceph.as_ref().unwrap();
    let original = guest_image();
    let original = original.to_str().unwrap();
    let mut mine = Vec::new();
    for image in ["guest", "packed"] {
        let volume = site.volume(&format!("--size 1 --image {image} of-{image}")).await;
        let disk = format!("volume-{volume}");
        assert_eq!(ceph.parent("volumes", &disk).await, None);
        site.are_equal(original, &site.disk("volumes", &disk)).await;
        mine.push(volume);
    }
    for format in ["raw", "qcow2"] {
        let made = site.json(&format!("image create --volume of-guest --disk-format {format} up-{format}")).await;
        let id = made["image_id"].as_str().unwrap().to_owned();
        assert_eq!(site.image_active(&id).await["disk_format"], format);
        site.available("volume", &mine[0]).await;
        let stored = match format {
            "raw" => site.file("images", &id),
            _ => {
                let saved = site.dir().join("saved.qcow2");
                site.run(&format!("image save --file {} {id}", saved.display())).await;
                saved
            }
        };
        site.are_equal(original, stored.to_str().unwrap()).await;
        mine.push(id);
    }
    site.run("image delete up-raw up-qcow2").await;
    site.delete_volumes(&[&mine[0], &mine[1]]).await;
    mine
}

async fn convert(options: &[&str], from: &Path, to: &Path) {
    let status = Command::new("qemu-img").arg("convert").args(options).arg(from).arg(to).status().await.unwrap();
    assert!(status.success());
}

/// A cephx user with rights to the pools of disks alone; it goes with the test.
struct Limited {
    name: String,
    dir: tempfile::TempDir,
}

impl Limited {
    async fn new() -> Limited {
        let mark = umbel_core::Id::<Limited>::random(&umbel_core::SystemRng::new()).simple();
        let (name, dir) = (format!("e2e-{}", &mark[..8]), tempfile::tempdir().unwrap());
        let caps = "profile rbd pool=vms, profile rbd pool=volumes";
        let user = format!("client.{name}");
        let keyring = ceph(&["auth", "get-or-create", &user, "mon", "profile rbd", "osd", caps, "mgr", caps]).await;
        std::fs::write(dir.path().join("keyring"), keyring).unwrap();
        let mut conf = ceph(&["config", "generate-minimal-conf"]).await;
        conf.push_str(&format!("\nkeyring = {}\n", dir.path().join("keyring").display()));
        std::fs::write(dir.path().join("ceph.conf"), conf).unwrap();
        Limited { name, dir }
    }

    fn pool(&self, name: &str) -> String {
        let (conf, user) = (self.dir.path().join("ceph.conf"), &self.name);
        format!("[[pools]]\nname = '{name}'\ndriver = 'rbd'\nconf = '{}'\nuser = '{user}'\n", conf.display())
    }

    async fn remove(&self) {
        ceph(&["auth", "del", &format!("client.{}", self.name)]).await;
    }
}

async fn ceph(args: &[&str]) -> String {
    let output = Command::new("ceph").arg("-c").arg(ceph_conf()).args(args).output().await.unwrap();
    assert!(output.status.success(), "ceph {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The image is raw, in the same cluster and has its snapshot, but the user of the disks' pools may not open it: flow A.3's
/// last condition.
#[tokio::test]
async fn who_may_not_open_an_image_copies_it() {
    let user = std::sync::Arc::new(Limited::new().await);
    // The user goes however it ends.
    let outcome = tokio::spawn(copied_for(user.clone())).await;
    user.remove().await;
    outcome.unwrap();
}

async fn copied_for(user: std::sync::Arc<Limited>) {
    let pools = [rbd_pool("images", "images"), user.pool("vms"), user.pool("volumes")].concat();
    let site = Site::start(&format!("{SWEEPS}[agent]\nhypervisor = 'simulated'\n{pools}"), Some(Ceph::new())).await;
    let ceph = site.ceph.as_ref().unwrap();
    let bytes = (0..9 * MIB).map(|at| (at / 4096 % 251) as u8).collect::<Vec<_>>();
    let file = site.dir().join("image.raw");
    std::fs::write(&file, bytes).unwrap();
    site.run("flavor create --ram 128 --vcpus 1 --disk 1 tiny").await;
    let image = site.make(&format!("image create --file {} --disk-format raw closed", file.display())).await;

    let server = site.boot("--image closed web").await;
    let steps = site.steps(&server, "create").await;
    assert!(steps.contains("disk_import: \"imported into pool vms: Pool 'vms' cannot clone:"), "{steps}");
    let volume = site.volume("--size 1 --image closed copied").await;
    for (pool, disk) in [("vms", format!("{server}_disk")), ("volumes", format!("volume-{volume}"))] {
        assert_eq!(ceph.parent(pool, &disk).await, None);
        site.are_equal(file.to_str().unwrap(), &site.disk(pool, &disk)).await;
    }
    site.delete_servers(&[&server]).await;
    site.delete_volumes(&[&volume]).await;
    site.run("image delete closed").await;
    site.nothing_left(&[&image, &server, &volume]).await;
    site.stop().await;
}

/// Two pools of a cluster and files: an image comes into one by choice, into others by copy-image, leaves one, and is always
/// cloned from where its copy can be.
#[tokio::test]
async fn an_image_in_several_stores() {
    let pools = ["images", "vms", "volumes"].map(|name| rbd_pool(name, name)).concat();
    let more = [rbd_pool("fast", "volumes"), local_pool("files")].concat();
    let stores = "[image]\npool = 'files'\nstores = ['images', 'fast']\n";
    let config = format!("{SWEEPS}{stores}[agent]\nhypervisor = 'simulated'\n{pools}{more}");
    let site = Site::start(&config, Some(Ceph::new())).await;
    let ceph = site.ceph.as_ref().unwrap();
    let listed = site.json("image stores list").await;
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["ID"]), (Some(3), &"files".into()), "{listed}");

    let file = site.dir().join("image.raw");
    std::fs::write(&file, vec![0x5a; 6 * MIB]).unwrap();
    let file = file.to_str().unwrap();
    site.run("flavor create --ram 128 --vcpus 1 --disk 1 tiny").await;
    // By HTTP: the client, which has no terminal here, would take the image's bytes from its standard input.
    let body = json!({"name": "wide", "disk_format": "raw", "container_format": "bare"});
    let image: Value = site.cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let image = id(&image);
    site.run(&format!("image stage --file {file} wide")).await;
    site.run("image import wide --method glance-direct --store fast").await;
    in_stores(&site, &image, &["fast"]).await;
    assert!(ceph.has("volumes", &image).await && !ceph.has("images", &image).await);

    site.run("image import wide --method copy-image --all-stores").await;
    in_stores(&site, &image, &["fast", "files", "images"]).await;
    site.are_equal(file, site.file("files", &image).to_str().unwrap()).await;
    until::yes("the copy stands alone", SLOW, async || ceph.parent("images", &image).await.is_none()).await;
    site.are_equal(file, &site.disk("images", &image)).await;

    // The default store's copy is no parent for a disk in Ceph.
    let first = site.boot("--image wide first").await;
    let parent = ceph.parent("vms", &format!("{first}_disk")).await.unwrap();
    assert!([format!("images/{image}@snap"), format!("volumes/{image}@snap")].contains(&parent), "{parent}");
    let (pool, store) = if parent.starts_with("images") { ("images", "images") } else { ("volumes", "fast") };
    let (other, kept) = if pool == "images" { ("volumes", "fast") } else { ("images", "images") };

    delete_from(&site, store, &image).await;
    in_stores(&site, &image, &["files", kept]).await;
    until::yes("its data are hidden", SLOW, async || ceph.hides(pool, &image).await).await;
    let second = site.boot("--image wide second").await;
    assert_eq!(ceph.parent("vms", &format!("{second}_disk")).await, Some(format!("{other}/{image}@snap")));
    delete_from(&site, kept, &image).await;
    in_stores(&site, &image, &["files"]).await;
    let third = site.boot("--image wide third").await;
    let steps = site.steps(&third, "create").await;
    assert!(steps.contains("disk_import"), "no copy is left that could be cloned: {steps}");
    let last = format!("/v2/stores/files/{image}");
    let error = site.cloud.delete("image", &last).await.unwrap_err();
    assert!(error.is(Kind::Forbidden), "the last copy goes with the image: {error}");

    site.delete_servers(&[&first, &second, &third]).await;
    site.run("image delete wide").await;
    site.nothing_left(&[&image, &first, &second, &third]).await;
    site.stop().await;
}

/// Waits until the image is active and in these stores, in whatever order.
async fn in_stores(site: &Site, image: &str, want: &[&str]) {
    let mut want = want.to_vec();
    want.sort_unstable();
    site.image_is(image, &format!("in {want:?}"), |image| {
        let mut stores: Vec<&str> = image["stores"].as_str().unwrap_or_default().split(',').collect();
        stores.sort_unstable();
        assert!(image["os_glance_failed_import"].as_str().unwrap_or_default().is_empty(), "{image}");
        let importing = image["os_glance_importing_to_stores"].as_str().unwrap_or_default();
        image["status"] == "active" && stores == want && importing.is_empty()
    })
    .await;
}

/// The client has no command for it.
async fn delete_from(site: &Site, store: &str, image: &str) {
    site.cloud.delete("image", &format!("/v2/stores/{store}/{image}")).await.unwrap();
}
