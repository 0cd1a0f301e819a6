//! A guest whose disk is an image of a real cluster.

use std::path::PathBuf;
use std::process::Command;

use umbel_core::Kind;
use umbel_driver::{Attachment, DomainDisk, Hypervisor, Power};
use uuid::Uuid;

use crate::support::{Host, image, says, spec};

const POOL: &str = "vms";

fn conf() -> PathBuf {
    match std::env::var_os("UMBEL_TEST_CEPH_CONF") {
        Some(conf) => conf.into(),
        None => panic!(
            "UMBEL_TEST_CEPH_CONF is not set. Run: make ceph-up DIR=/tmp/ceph; export UMBEL_TEST_CEPH_CONF=/tmp/ceph/ceph.conf"
        ),
    }
}

/// An image that is gone with the test.
pub struct Image(String);

impl Image {
    /// A blank one of so many MiB.
    pub fn blank(size: u64) -> Image {
        let name = format!("{}_disk", Uuid::new_v4());
        rbd(&["create", "--size", &format!("{size}M"), &format!("{POOL}/{name}")]);
        Image(name)
    }

    /// What it holds, as a file.
    pub fn export(&self, file: &std::path::Path) {
        rbd(&["export", "--no-progress", &format!("{POOL}/{}", self.0), file.to_str().unwrap()]);
    }

    fn new() -> Image {
        let name = format!("{}_disk", Uuid::new_v4());
        rbd(&["import", "--no-progress", image().to_str().unwrap(), &format!("{POOL}/{name}")]);
        Image(name)
    }

    pub fn disk(&self) -> DomainDisk {
        let attachment =
            Attachment::Rbd { pool: POOL.into(), image: self.0.clone(), user: "umbel".into(), conf: conf() };
        DomainDisk { attachment, serial: "rbd-disk".into(), boot_index: Some(0), read_only: false, cdrom: false }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        rbd(&["rm", "--no-progress", &format!("{POOL}/{}", self.0)]);
    }
}

fn rbd(arguments: &[&str]) {
    let output = Command::new("rbd").arg("-c").arg(conf()).args(["--id", "umbel"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "rbd {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The image's removal at the end shows that nobody watches it any more, so QEMU closed it.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_boots_from_an_rbd_image() {
    let image = Image::new();
    let host = Host::new();
    let hypervisor = host.open().await;
    let spec = spec(vec![image.disk()]);
    hypervisor.start(&spec).await.unwrap();
    says(&hypervisor, spec.id, "umbel-guest: ready").await;
    hypervisor.undefine(spec.id).await.unwrap();
    drop(image);
}

/// Whoever grows the image tells the guest afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_plugged_in_and_grows() {
    let (image, host) = (Image::new(), Host::new());
    let hypervisor = host.open().await;
    let spec = spec(vec![host.boot_disk()]);
    hypervisor.start(&spec).await.unwrap();
    says(&hypervisor, spec.id, "umbel-guest: ready").await;
    hypervisor.attach_disk(spec.id, &DomainDisk { boot_index: None, ..image.disk() }).await.unwrap();
    says(&hypervisor, spec.id, "serial=rbd-disk").await;
    rbd(&["resize", "--no-progress", "--size", "64M", &format!("{POOL}/{}", image.0)]);
    hypervisor.resize_disk(spec.id, "rbd-disk", 64 << 20).await.unwrap();
    says(&hypervisor, spec.id, &format!("serial=rbd-disk bytes={}", 64 << 20)).await;
    hypervisor.detach_disk(spec.id, "rbd-disk").await.unwrap();
    assert_eq!(hypervisor.disks(spec.id).await.unwrap(), Vec::<String>::new());
    drop(image);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_fails_the_start() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let mut spec = spec(vec![DomainDisk {
        attachment: Attachment::Rbd { pool: POOL.into(), image: "absent".into(), user: "umbel".into(), conf: conf() },
        serial: String::new(),
        boot_index: None,
        read_only: false,
        cdrom: false,
    }]);
    let error = hypervisor.start(&spec).await.unwrap_err();
    assert!(error.is(Kind::Internal) && error.cause().unwrap().contains("absent"), "{}", error.for_log());
    assert_eq!(hypervisor.state(spec.id).await.unwrap(), Some(Power::Shutdown));

    spec.disks.clear();
    hypervisor.start(&spec).await.unwrap();
    assert_eq!(hypervisor.state(spec.id).await.unwrap(), Some(Power::Running), "a failed start can be mended");
}
