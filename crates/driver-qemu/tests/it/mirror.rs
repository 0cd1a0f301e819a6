//! Disks that go to another place while their guests write.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use umbel_core::{Kind, MIB};
use umbel_driver::{Attachment, DiskFormat, DomainSpec, Hypervisor, LiveDisks, Mirroring, Power};
use umbel_driver_qemu::QemuHypervisor;

use crate::live::{SIZE, counting, newest, number_on, writes_beyond};
use crate::rbd::Image;
use crate::support::{Host, eventually, says, spec};

const SERIAL: &str = "data";

fn raw(host: &Host, name: &str, size: u64) -> Attachment {
    let path = host.dir.path().join(name);
    File::create(&path).unwrap().set_len(size).unwrap();
    Attachment::File { path, format: DiskFormat::Raw }
}

fn qcow2(host: &Host, name: &str, size: u64) -> Attachment {
    let path = host.dir.path().join(name);
    let size = size.to_string();
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg(&size).status();
    assert!(made.expect("qemu-img is missing: install qemu-utils").success());
    Attachment::File { path, format: DiskFormat::Qcow2 }
}

fn file(place: &Attachment) -> &Path {
    match place {
        Attachment::File { path, .. } => path,
        other => panic!("{other:?} is no file"),
    }
}

/// Noise, here and there, behind what the guest writes.
fn fill(path: &Path) {
    let mut noise = vec![0; 3 * 1024 * 1024];
    File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    let disk = File::options().write(true).open(path).unwrap();
    for at in [MIB, 20 * MIB + 512, 61 * MIB] {
        disk.write_all_at(&noise, at).unwrap();
    }
}

/// The bytes of a raw file behind the sector that the guest writes to, up to the old size.
fn rest(path: &Path) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap() - 512];
    File::open(path).unwrap().read_exact_at(&mut bytes, 512).unwrap();
    bytes
}

fn as_raw(host: &Host, from: &Path) -> PathBuf {
    let to = host.dir.path().join("converted");
    let made = Command::new("qemu-img").args(["convert", "-O", "raw"]).args([from, &to]).status().unwrap();
    assert!(made.success());
    to
}

async fn goes_to(hypervisor: &QemuHypervisor, guest: &DomainSpec, to: &Attachment) {
    eventually("the disk is there", async || {
        let so_far = hypervisor.mirror_disk(guest.id, SERIAL, to).await;
        so_far.unwrap_or_else(|error| panic!("{}", error.for_log())) == Mirroring::There
    })
    .await;
    assert!(hypervisor.is_at(guest.id, SERIAL, to).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_moves_while_its_guest_writes() {
    let (host, image) = (Host::new(), Image::blank(64));
    let hypervisor = host.open().await;
    let (mut guest, first) = counting(&host, SERIAL);
    fill(&first);
    let noise = rest(&first);
    hypervisor.start(&guest).await.unwrap();
    let before = writes_beyond(&hypervisor, &guest, 0).await;
    let mut events = hypervisor.subscribe();

    // From a file into Ceph: the old file stands still, and nobody holds it.
    let rbd = image.disk().attachment;
    goes_to(&hypervisor, &guest, &rbd).await;
    assert!(!hypervisor.is_live(&first).await.unwrap());
    let left = number_on(&first);
    assert!(left >= before);
    let now = writes_beyond(&hypervisor, &guest, left + 1).await;
    assert_eq!(number_on(&first), left);
    let resized = Command::new("qemu-img").args(["resize", "-q", "-f", "raw"]).arg(&first).arg("65M").status();
    assert!(resized.unwrap().success(), "the file is free");

    // Back into files, of both formats, and a larger one.
    let packed = qcow2(&host, "packed.qcow2", SIZE);
    goes_to(&hypervisor, &guest, &packed).await;
    let exported = host.dir.path().join("exported");
    image.export(&exported);
    assert!(number_on(&exported) >= now && rest(&exported) == noise, "what is left in Ceph is whole");
    let large = raw(&host, "large.raw", 2 * SIZE);
    goes_to(&hypervisor, &guest, &large).await;
    assert!(rest(&as_raw(&host, file(&packed))) == noise, "what is left in the file is whole");
    assert!(hypervisor.is_live(file(&large)).await.unwrap());
    hypervisor.resize_disk(guest.id, SERIAL, 2 * SIZE).await.unwrap();
    says(&hypervisor, guest.id, &format!("serial={SERIAL} bytes={}", 2 * SIZE)).await;
    assert!(events.try_recv().is_err(), "that it stood still is nobody's business");

    let last = newest(&hypervisor, &guest).await;
    writes_beyond(&hypervisor, &guest, last).await;
    hypervisor.destroy(guest.id).await.unwrap();
    assert!(number_on(file(&large)) > last && rest(file(&large)) == noise);
    assert!(hypervisor.is_at(guest.id, SERIAL, &large).await.unwrap(), "its definition names the new place");

    // It starts from there, and can be taken away: nothing else is open.
    guest.disks[1].attachment = large.clone();
    hypervisor.start(&guest).await.unwrap();
    says(&hypervisor, guest.id, "umbel-guest: ready").await;
    hypervisor.detach_disk(guest.id, SERIAL).await.unwrap();
    assert!(!hypervisor.is_live(file(&large)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_outlives_the_driver_that_began_it() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let (guest, first) = counting(&host, SERIAL);
    fill(&first);
    let (noise, to) = (rest(&first), raw(&host, "to.raw", SIZE));
    hypervisor.start(&guest).await.unwrap();
    let before = writes_beyond(&hypervisor, &guest, 0).await;
    let begun = hypervisor.mirror_disk(guest.id, SERIAL, &to).await.unwrap();
    assert!(matches!(begun, Mirroring::Copying { .. }), "{begun:?}");
    drop(hypervisor);

    let hypervisor = host.open().await;
    goes_to(&hypervisor, &guest, &to).await;
    writes_beyond(&hypervisor, &guest, before + 1).await;
    assert!(rest(&first) == noise && !hypervisor.is_live(&first).await.unwrap());

    // One that died while the guest stood still for it: the guest goes on, where it was.
    let packed = qcow2(&host, "packed.qcow2", SIZE);
    hypervisor.mirror_disk(guest.id, SERIAL, &packed).await.unwrap();
    hypervisor.pause(guest.id).await.unwrap();
    drop(hypervisor);
    std::fs::write(host.guests().join(guest.id.to_string()).join("held"), "").unwrap();
    let hypervisor = host.open().await;
    assert_eq!(hypervisor.state(guest.id).await.unwrap(), Some(Power::Running));
    assert!(hypervisor.is_at(guest.id, SERIAL, &to).await.unwrap());
    let last = newest(&hypervisor, &guest).await;
    writes_beyond(&hypervisor, &guest, last).await;
    goes_to(&hypervisor, &guest, &packed).await;
    hypervisor.destroy(guest.id).await.unwrap();
    assert!(rest(&as_raw(&host, file(&packed))) == noise);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_leaves_the_disk_where_it_is() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let disk = host.blank(SERIAL, SIZE);
    let from = disk.attachment.clone();
    let guest = spec(vec![host.boot_disk(), disk]);
    hypervisor.start(&guest).await.unwrap();
    let (small, absent) = (raw(&host, "small.raw", MIB), host.dir.path().join("absent.raw"));
    let error = hypervisor.mirror_disk(guest.id, SERIAL, &small).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadRequest, "{}", error.for_log());
    let absent = Attachment::File { path: absent, format: DiskFormat::Raw };
    let error = hypervisor.mirror_disk(guest.id, SERIAL, &absent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal, "{}", error.for_log());
    assert!(!error.message().contains("absent.raw"), "paths are for the operator");
    assert!(hypervisor.is_at(guest.id, SERIAL, &from).await.unwrap());

    // On its way to one place it is sent to another; the first is closed.
    let (one, other) = (raw(&host, "one.raw", SIZE), raw(&host, "other.raw", SIZE));
    hypervisor.mirror_disk(guest.id, SERIAL, &one).await.unwrap();
    hypervisor.mirror_disk(guest.id, SERIAL, &other).await.unwrap();
    let resized = Command::new("qemu-img").args(["resize", "-q", "-f", "raw"]).arg(file(&one)).arg("65M").status();
    assert!(resized.unwrap().success(), "the file is free");
    says(&hypervisor, guest.id, "umbel-guest: ready").await;
    // A disk that is on its way can be taken away.
    hypervisor.detach_disk(guest.id, SERIAL).await.unwrap();
    for place in [&from, &other] {
        let resized = Command::new("qemu-img").args(["resize", "-q", "-f", "raw"]).arg(file(place)).arg("66M").status();
        assert!(resized.unwrap().success(), "the file is free");
    }
    // A guest that ends has no disk on its way.
    hypervisor.attach_disk(guest.id, &guest.disks[1]).await.unwrap();
    hypervisor.mirror_disk(guest.id, SERIAL, &raw(&host, "end.raw", 2 * SIZE)).await.unwrap();
    hypervisor.destroy(guest.id).await.unwrap();
    assert!(hypervisor.is_at(guest.id, SERIAL, &from).await.unwrap());
    let error = hypervisor.mirror_disk(guest.id, SERIAL, &other).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{}", error.for_log());
}
