//! The storage flows as a user meets them, with the unmodified `openstack` client and real guests, on both kinds of pool.
//! Every one looks inside Ceph with the `rbd` tool where it is on Ceph: parents, snapshots, sizes, and that nothing is
//! left in the end.
//!
//! | Flow | What | Where |
//! |---|---|---|
//! | A.1 | an image is uploaded, and deleted while clones of it live: its hidden parent goes with the last | `main_job` (a server's disk), here (a volume) |
//! | A.2 | a server boots from a clone | `main_job` (raw), here (the twin of a qcow2) |
//! | A.3 | a server boots from what cannot be cloned, and says why it was copied | `stores`: another format in another kind of store; a cluster's user who may not read the image; `clusters`: another cluster |
//! | A.4 | an image of a server: inside Ceph by clone that is made independent later; by export where stores differ | here; `stores`; `clusters` |
//! | A.5 | a volume from an image by clone and by import; a volume's image inside Ceph by clone and by upload | here; `stores`; `clusters`; `twins` (every format) |
//! | A.6 | a volume's snapshot, a volume of it, larger; the parents may go first | here; `integrity` (their bytes); `groups` (of several at one point) |
//! | A.7 | boot from a volume, from the snapshot of a system volume, from an image into a volume that goes with its server | here |
//! | A.8 | all of it by the library | every test over [`crate::site`], whose clouds find no other program than QEMU |
//! | A.9 | the guest's disk is RBD's own, by virtio, and no secret is on its command line | here, of a guest that runs |

use std::path::Path;

use serde_json::Value;
use umbel_testkit::{Ceph, guest_image, until};

use crate::graph;
use crate::site::{SLOW, Site};

const READY: &str = "umbel-guest: ready hostname=";

#[tokio::test]
async fn images_and_servers_on_local_disks() {
    images_and_servers(Site::on_local_disks().await).await;
}

#[tokio::test]
async fn images_and_servers_on_ceph() {
    images_and_servers(Site::on_ceph().await).await;
}

#[tokio::test]
async fn servers_and_volumes_on_local_disks() {
    servers_and_volumes(Site::on_local_disks().await).await;
}

#[tokio::test]
async fn servers_and_volumes_on_ceph() {
    servers_and_volumes(Site::on_ceph().await).await;
}

async fn images_and_servers(site: Site) {
    site.run("flavor create --ram 128 --vcpus 1 --disk 1 tiny").await;
    let packed = image_of_another_format(&site).await;
    let web = site.boot("--image packed web").await;
    if let Some(ceph) = &site.ceph {
        assert_eq!(ceph.parent("vms", &format!("{web}_disk")).await, Some(format!("images/{packed}.raw@snap")));
        graph::is_rbd(&site, &web, "vms", &format!("{web}_disk")).await;
    }
    site.says(&web, &format!("{READY}web")).await;
    let data = plug_into_a_running_guest(&site, &web).await;
    let (shot, copy) = image_of_a_server(&site, &web).await;
    site.delete_servers(&[&web, &copy]).await;
    deletion_with_living_clones(&site, &shot, &data).await;
    site.run("image delete packed").await;
    site.nothing_left(&[&packed, &web, &data, &shot, &copy]).await;
    site.stop().await;
}

/// A compressed qcow2 keeps its checksum, and gets the raw twin that servers are cloned from.
async fn image_of_another_format(site: &Site) -> String {
    let qcow2 = site.dir().join("guest.qcow2");
    let mut convert = tokio::process::Command::new("qemu-img");
    convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]).arg(guest_image()).arg(&qcow2);
    assert!(convert.status().await.unwrap().success());
    let file = qcow2.to_str().unwrap();
    let packed = site.make(&format!("image create --file {file} --disk-format qcow2 packed")).await;
    let image = site.twin_ready(&packed).await;
    assert_eq!((&image["disk_format"], image["size"].as_u64()), (&"qcow2".into(), file_size(&qcow2)));
    let saved = site.dir().join("saved.qcow2");
    site.run(&format!("image save --file {} packed", saved.display())).await;
    assert!(std::fs::read(&qcow2).unwrap() == std::fs::read(&saved).unwrap(), "what was uploaded comes back");
    packed
}

/// Attach, extend in use, a snapshot in use, detach; the guest sees each.
async fn plug_into_a_running_guest(site: &Site, web: &str) -> String {
    let data = site.volume("--size 1 data").await;
    site.run("server add volume web data").await;
    let shown = site.status("volume", &data, "in-use").await;
    let path = format!("/servers/{web}/os-volume_attachments/{data}");
    let attachment: Value = site.cloud.get("compute", &path, None).await.unwrap();
    let devices = (&shown["attachments"][0]["device"], &attachment["volumeAttachment"]["device"]);
    assert_eq!(devices, (&"/dev/vdb".into(), &"/dev/vdb".into()));
    let serial = &data[..20];
    site.says(web, &format!("serial={serial} bytes=1073741824")).await;
    site.run("volume set --size 2 data").await;
    site.says(web, &format!("serial={serial} bytes=2147483648")).await;
    // One point in time of a volume that a guest writes to.
    let live = site.made("snapshot", "volume snapshot create --force --volume data live").await;
    if let Some(ceph) = &site.ceph {
        let disk = format!("volume-{data}");
        assert_eq!(ceph.info("volumes", &disk).await["size"], 2_u64 << 30);
        assert_eq!(ceph.snapshots("volumes", &disk).await, [format!("snapshot-{live}")]);
        until::yes("the guest has it open", SLOW, async || ceph.watchers("volumes", &disk).await > 0).await;
    }
    site.run("server remove volume web data").await;
    site.available("volume", &data).await;
    site.says(web, "umbel-guest: disk gone").await;
    site.run("volume revert live").await;
    site.available("volume", &data).await;
    site.run("volume delete --cascade data").await;
    site.gone("volume", &data).await;
    data
}

/// A running server's image is active at once, boots, and is nobody's clone after a while. (image, server of it)
async fn image_of_a_server(site: &Site, web: &str) -> (String, String) {
    let shot = site.make("server image create --name shot web").await;
    let image = site.image_active(&shot).await;
    assert_eq!(image["disk_format"], "raw");
    site.active(web).await;
    if let Some(ceph) = &site.ceph {
        stands_alone_later(site, ceph, &shot, &format!("vms/{web}_disk/image-")).await;
        until::none("snapshots of the server's disk", SLOW, async || {
            ceph.snapshots("vms", &format!("{web}_disk")).await
        })
        .await;
    }
    let copy = site.boot("--image shot copy").await;
    if let Some(ceph) = &site.ceph {
        assert_eq!(ceph.parent("vms", &format!("{copy}_disk")).await, Some(format!("images/{shot}@snap")));
    }
    site.says(&copy, &format!("{READY}copy")).await;
    (shot, copy)
}

/// The image came by cloning what is at `from`, in the cluster, and is made independent of it.
async fn stands_alone_later(site: &Site, ceph: &Ceph, image: &str, from: &str) {
    until::yes(&format!("image {image} stands alone"), SLOW, async || {
        let tasks: Value = site.cloud.get("image", "/v2/tasks?type=location_import", None).await.unwrap();
        let mut details = Vec::new();
        for task in tasks["tasks"].as_array().unwrap() {
            let path = format!("/v2/tasks/{}", task["id"].as_str().unwrap());
            details.push(site.cloud.get::<Value>("image", &path, None).await.unwrap());
        }
        let task = details.iter().find(|task| task["input"]["image_id"] == image);
        let task = task.unwrap_or_else(|| panic!("image {image} was not cloned: {details:?}"));
        assert!(task["input"]["loc_url"].as_str().unwrap().contains(from), "{task}");
        assert_ne!(task["status"], "failure", "{task}");
        task["status"] == "success"
    })
    .await;
    assert_eq!(ceph.parent("images", image).await, None);
    assert_eq!(ceph.snapshots("images", image).await, ["snap"]);
}

/// The image is gone at once for everybody; what was cloned from it lives on its hidden data, and the last one takes
/// these along.
async fn deletion_with_living_clones(site: &Site, shot: &str, data: &str) {
    let clone = site.volume(&format!("--size 1 --image {shot} clone-of-{data}")).await;
    site.run("image delete shot").await;
    let list = site.json("image list").await;
    assert!(!list.to_string().contains(shot), "{list}");
    let disk = format!("volume-{clone}");
    if let Some(ceph) = &site.ceph {
        until::yes("the image's data are hidden", SLOW, async || {
            ceph.hides("images", shot).await && !ceph.has("images", shot).await
        })
        .await;
        assert_eq!(ceph.parent("volumes", &disk).await, Some(format!("images/{shot}@snap (trash)")));
    }
    site.delete_volumes(&[&clone]).await;
    if let Some(ceph) = &site.ceph {
        until::yes("the hidden data are purged", SLOW, async || !ceph.hides("images", shot).await).await;
    }
}

async fn servers_and_volumes(site: Site) {
    let guest = site.guest_and_flavor("guest").await;
    if let Some(ceph) = &site.ceph {
        assert_eq!(ceph.info("images", &guest).await["size"].as_u64(), file_size(&guest_image()));
        assert_eq!(
            (ceph.parent("images", &guest).await, ceph.snapshots("images", &guest).await),
            (None, vec!["snap".into()])
        );
    }
    let system = site.volume("--size 1 --image guest --bootable system").await;
    if let Some(ceph) = &site.ceph {
        let disk = format!("volume-{system}");
        assert_eq!(ceph.parent("volumes", &disk).await, Some(format!("images/{guest}@snap")));
        assert_eq!(ceph.info("volumes", &disk).await["size"], 1 << 30);
    }
    let mut mine = vec![guest, system.clone()];
    mine.extend(boot_from_volumes(&site, &system).await);
    mine.extend(snapshots(&site, &system).await);
    mine.push(image_of_a_volume(&site, &system).await);
    site.delete_volumes(&[&system]).await;
    site.run("image delete guest").await;
    let mine: Vec<&str> = mine.iter().map(String::as_str).collect();
    site.nothing_left(&mine).await;
    site.stop().await;
}

/// From a volume, from a snapshot of a system volume, and from an image into a volume that goes with its server.
async fn boot_from_volumes(site: &Site, system: &str) -> Vec<String> {
    let first = site.boot("--volume system first").await;
    site.says(&first, &format!("{READY}first")).await;
    if let Some(ceph) = &site.ceph {
        graph::is_rbd(site, &first, "volumes", &format!("volume-{system}")).await;
        assert!(!ceph.has("vms", &format!("{first}_disk")).await, "it has no disk beside its volume");
    }
    let golden = site.made("snapshot", "volume snapshot create --force --volume system golden").await;
    site.delete_servers(&[&first]).await;
    site.available("volume", system).await;

    let second = site.boot("--snapshot golden second").await;
    site.says(&second, &format!("{READY}second")).await;
    let of_snapshot = root_volume(site, &second).await;
    // Of a type that is not opened to the administrator's project either.
    site.run("volume type create --private own").await;
    let image = site.json("image show guest").await;
    let image = image["id"].as_str().unwrap();
    let disk = format!(
        "uuid={image},source_type=image,destination_type=volume,volume_size=2,volume_type=own,boot_index=0,\
         delete_on_termination=true"
    );
    let third = site.boot(&format!("--block-device {disk} third")).await;
    let of_image = root_volume(site, &third).await;
    assert_eq!(site.shown("volume", &of_image).await["volume_type"], "own");
    if let Some(ceph) = &site.ceph {
        let golden = format!("volumes/volume-{system}@snapshot-{golden}");
        assert_eq!(ceph.parent("volumes", &format!("volume-{of_snapshot}")).await, Some(golden));
        let disk = format!("volume-{of_image}");
        assert_eq!(ceph.info("volumes", &disk).await["size"], 2_u64 << 30);
        until::yes("the guest has it open", SLOW, async || ceph.watchers("volumes", &disk).await > 0).await;
    }
    site.delete_servers(&[&second, &third]).await;
    site.gone("volume", &of_image).await;
    // Nobody said that this one should go.
    site.available("volume", &of_snapshot).await;
    site.delete_snapshots(&[&golden]).await;
    site.delete_volumes(&[&of_snapshot]).await;
    vec![first, second, third, of_snapshot, of_image]
}

async fn root_volume(site: &Site, server: &str) -> String {
    let path = format!("/servers/{server}/os-volume_attachments");
    let answer: Value = site.cloud.get("compute", &path, None).await.unwrap();
    answer["volumeAttachments"][0]["volumeId"].as_str().unwrap().to_owned()
}

/// Snapshot, a larger volume of it, a volume of a volume; sources go before their clones.
async fn snapshots(site: &Site, system: &str) -> Vec<String> {
    let point = site.made("snapshot", "volume snapshot create --volume system point").await;
    let larger = site.volume("--snapshot point --size 2 larger").await;
    let copy = site.volume("--source larger copy").await;
    if let Some(ceph) = &site.ceph {
        let (disk, snapshot) = (format!("volume-{system}"), format!("snapshot-{point}"));
        assert_eq!(ceph.children("volumes", &disk, &snapshot).await, [format!("volumes/volume-{larger}")]);
        let copied = format!("volume-{copy}");
        assert_eq!(ceph.info("volumes", &copied).await["size"], 2_u64 << 30);
        let parent = ceph.parent("volumes", &copied).await.unwrap();
        assert!(parent.starts_with(&format!("volumes/volume-{larger}@")), "{parent}");
    }
    site.delete_snapshots(&[&point]).await;
    site.delete_volumes(&[&larger]).await;
    let (disk, copied) = (format!("volume-{system}"), format!("volume-{copy}"));
    site.are_equal(&site.disk("volumes", &disk), &site.disk("volumes", &copied)).await;
    site.delete_volumes(&[&copy]).await;
    vec![point, larger, copy]
}

/// A volume as an image, inside the cluster.
async fn image_of_a_volume(site: &Site, system: &str) -> String {
    let made = site.json("image create --volume system portrait").await;
    let portrait = made["image_id"].as_str().unwrap().to_owned();
    site.image_active(&portrait).await;
    site.available("volume", system).await;
    if let Some(ceph) = &site.ceph {
        stands_alone_later(site, ceph, &portrait, &format!("volumes/volume-{system}/upload-")).await;
        assert_eq!(ceph.snapshots("volumes", &format!("volume-{system}")).await, Vec::<String>::new());
    }
    let disk = site.disk("volumes", &format!("volume-{system}"));
    site.are_equal(&site.disk("images", &portrait), &disk).await;
    site.run("image delete portrait").await;
    portrait
}

fn file_size(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|file| file.len())
}
