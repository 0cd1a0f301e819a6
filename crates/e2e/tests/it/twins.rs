//! Images of every format that QEMU's tools make: what was uploaded comes back byte for byte, and servers and volumes are
//! clones of the raw twin.

use std::path::PathBuf;

use tokio::process::Command;
use umbel_testkit::guest_image;

use crate::site::Site;

/// The image service's name of the format, `qemu-img`'s, and its options. Compressed qcow2 is in [`crate::storage`].
const FORMATS: [(&str, &str, &[&str]); 4] = [
    ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
    ("vdi", "vdi", &[]),
    ("vhd", "vpc", &[]),
    ("vhdx", "vhdx", &[]),
];

/// The guest image as a file of this format.
async fn converted(site: &Site, (name, format, options): (&str, &str, &[&str])) -> PathBuf {
    let file = site.dir().join(format!("guest.{name}"));
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", format]).args(options).arg(guest_image()).arg(&file);
    assert!(convert.status().await.unwrap().success(), "{format}");
    file
}

#[tokio::test]
async fn every_format_is_cloned_and_given_back() {
    let site = Site::on_ceph().await;
    let ceph = site.ceph.as_ref().unwrap();
    site.run("flavor create --ram 128 --vcpus 1 --disk 1 tiny").await;
    let mut images = Vec::new();
    for one in FORMATS {
        let (name, file) = (one.0, converted(&site, one).await);
        let id = site.make(&format!("image create --file {} --disk-format {name} {name}", file.display())).await;
        images.push((name, file, id));
    }
    let mut volumes = Vec::new();
    for (name, file, id) in &images {
        let image = site.twin_ready(id).await;
        assert_eq!(
            (&image["disk_format"], image["size"].as_u64()),
            (&(*name).into(), Some(file.metadata().unwrap().len()))
        );
        let twin = format!("{id}.raw");
        assert_eq!(
            (ceph.parent("images", &twin).await, ceph.snapshots("images", &twin).await),
            (None, vec!["snap".into()])
        );

        let volume = site.volume(&format!("--size 1 --image {name} of-{name}")).await;
        let disk = format!("volume-{volume}");
        assert_eq!(ceph.parent("volumes", &disk).await, Some(format!("images/{twin}@snap")), "{name}");
        site.are_equal(guest_image().to_str().unwrap(), &site.disk("volumes", &disk)).await;
        volumes.push(volume);

        let saved = site.dir().join(format!("saved.{name}"));
        site.run(&format!("image save --file {} {name}", saved.display())).await;
        assert!(std::fs::read(file).unwrap() == std::fs::read(&saved).unwrap(), "{name}: what was uploaded comes back");
    }
    let (name, _, id) = images.last().unwrap();
    let server = site.boot(&format!("--image {name} web")).await;
    assert_eq!(ceph.parent("vms", &format!("{server}_disk")).await, Some(format!("images/{id}.raw@snap")));
    site.says(&server, "umbel-guest: ready hostname=web").await;
    let steps = site.steps(&server, "create").await;
    assert!(steps.contains("disk_clone") && !steps.contains("disk_import"), "{steps}");

    site.delete_servers(&[&server]).await;
    let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
    site.delete_volumes(&volumes).await;
    let ids: Vec<&str> = images.iter().map(|(_, _, id)| id.as_str()).collect();
    site.run(&format!("image delete {}", ids.join(" "))).await;
    site.nothing_left(&[&volumes[..], &ids[..], &[&server]].concat()).await;
    site.stop().await;
}
