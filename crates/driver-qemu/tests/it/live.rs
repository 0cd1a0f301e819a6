//! Guests that go over from files to overlays while they write.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::TryStreamExt;
use umbel_core::{MIB, SystemRng};
use umbel_driver::{Attachment, DomainDisk, DomainSpec, Hypervisor, LiveDisks, LocalPool, LocalStore, Pool, Power};
use umbel_driver_qemu::QemuHypervisor;

use crate::support::{Host, eventually, says, spec};

pub const SIZE: u64 = 64 * MIB;

/// Writes ever higher numbers into the first sector of the second disk, and says so.
const COUNTS: &str = "#!/bin/sh
n=10000000
while :; do
    n=$((n + 1))
    echo $n | dd of=/dev/vdb bs=512 conv=notrunc,fsync 2>/dev/null && echo \"wrote $n\"
done
";

pub fn path_of(disk: &DomainDisk) -> PathBuf {
    match &disk.attachment {
        Attachment::File { path, .. } => path.clone(),
        other => panic!("{other:?} is no file"),
    }
}

fn overlay(host: &Host, name: &str, file: &Path) -> PathBuf {
    let path = host.dir.path().join(format!("{name}.qcow2"));
    let format = if file.extension().is_some_and(|end| end == "qcow2") { "qcow2" } else { "raw" };
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .args([file, &path])
        .status()
        .expect("qemu-img is missing: install qemu-utils");
    assert!(made.success());
    path
}

/// The number on the disk, read as a guest would find it.
pub fn number_on(disk: &Path) -> u64 {
    let out = disk.with_extension("first");
    let read = Command::new("qemu-img")
        .args(["dd", "-U", "-O", "raw", "bs=512", "count=1"])
        .args([format!("if={}", disk.display()), format!("of={}", out.display())])
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    String::from_utf8_lossy(&std::fs::read(out).unwrap()[..8]).parse().unwrap_or(0)
}

pub async fn newest(hypervisor: &QemuHypervisor, guest: &DomainSpec) -> u64 {
    let console = hypervisor.console(guest.id, 4 << 10).await.unwrap();
    let console = String::from_utf8_lossy(&console).into_owned();
    let numbers = console.lines().filter_map(|line| line.trim().strip_prefix("wrote ")?.parse().ok());
    numbers.max().unwrap_or(0)
}

pub async fn writes_beyond(hypervisor: &QemuHypervisor, guest: &DomainSpec, number: u64) -> u64 {
    eventually("the guest writes on", async || newest(hypervisor, guest).await > number).await;
    newest(hypervisor, guest).await
}

pub fn counting(host: &Host, name: &str) -> (DomainSpec, PathBuf) {
    let disk = host.blank(name, SIZE);
    let path = path_of(&disk);
    (spec(vec![host.boot_disk(), disk, host.script(COUNTS)]), path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_goes_over_while_it_writes() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let (guest, file) = counting(&host, "data");
    assert!(!hypervisor.is_live(&file).await.unwrap());
    hypervisor.start(&guest).await.unwrap();
    assert!(hypervisor.is_live(&file).await.unwrap());
    // By whatever name it is asked for.
    let link = host.dir.path().join("head");
    std::os::unix::fs::symlink("data.raw", &link).unwrap();
    assert!(hypervisor.is_live(&link).await.unwrap());

    let before = writes_beyond(&hypervisor, &guest, 0).await;
    let first = overlay(&host, "first", &file);
    hypervisor.switch(&[(file.clone(), first.clone())]).await.unwrap();
    let in_file = number_on(&file);
    assert!(in_file >= before, "what was written before is in the file: {in_file} {before}");
    let after = writes_beyond(&hypervisor, &guest, in_file + 1).await;
    assert_eq!(number_on(&file), in_file, "the file is written no more");
    assert!(!hypervisor.is_live(&file).await.unwrap() && hypervisor.is_live(&first).await.unwrap());
    // Once more, for a guest that has done it already, and for files that nobody has.
    hypervisor.switch(&[(file.clone(), first.clone())]).await.unwrap();
    assert_eq!(hypervisor.disks(guest.id).await.unwrap(), ["data"]);

    // A second overlay, by a new driver, and growth.
    drop(hypervisor);
    let hypervisor = host.open().await;
    assert!(hypervisor.is_live(&first).await.unwrap());
    let second = overlay(&host, "second", &first);
    hypervisor.switch(&[(first.clone(), second.clone())]).await.unwrap();
    hypervisor.grow(&second, 2 * SIZE).await.unwrap();
    says(&hypervisor, guest.id, &format!("serial=data bytes={}", 2 * SIZE)).await;
    let last = writes_beyond(&hypervisor, &guest, after).await;
    let definition = std::fs::read_to_string(host.guests().join(guest.id.to_string()).join("domain.json")).unwrap();
    assert!(definition.contains("second.qcow2") && !definition.contains("data.raw"), "{definition}");

    hypervisor.detach_disk(guest.id, "data").await.unwrap();
    assert!(!hypervisor.is_live(&second).await.unwrap());
    assert!(number_on(&second) >= last && number_on(&first) >= after && number_on(&file) == in_file);
    // All of its nodes are closed: the names are free.
    hypervisor.attach_disk(guest.id, &host.blank("data", SIZE)).await.unwrap();
    says(&hypervisor, guest.id, &format!("serial=data bytes={SIZE}")).await;
}

/// As a local pool asks for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_takes_snapshots_under_a_guest() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let store = LocalStore::open(&host.dir.path().join("pools"), &SystemRng::new()).await.unwrap();
    store.set_live(hypervisor.clone());
    let pool = LocalPool::open(&store, "vms", "vms").await.unwrap();
    pool.create("data", SIZE).await.unwrap();
    let data = || DomainDisk {
        attachment: pool.attachment("data"),
        serial: "data".into(),
        boot_index: None,
        read_only: false,
        cdrom: false,
    };
    let number_in = async |snapshot: Option<&str>| {
        let bytes: Vec<_> = pool.read("data", snapshot, 0, 8).await.unwrap().try_collect().await.unwrap();
        String::from_utf8_lossy(&bytes.concat()).parse::<u64>().unwrap()
    };
    let mut guest = spec(vec![host.boot_disk(), data(), host.script(COUNTS)]);
    hypervisor.start(&guest).await.unwrap();
    let before = writes_beyond(&hypervisor, &guest, 0).await;
    pool.snapshot("data", "one").await.unwrap();
    let one = number_in(Some("one")).await;
    assert!(one >= before);
    writes_beyond(&hypervisor, &guest, one + 1).await;
    pool.snapshot("data", "two").await.unwrap();
    let two = number_in(Some("two")).await;
    assert!(two > one && number_in(Some("one")).await == one);

    pool.resize("data", 2 * SIZE).await.unwrap();
    says(&hypervisor, guest.id, &format!("serial=data bytes={}", 2 * SIZE)).await;
    hypervisor.resize_disk(guest.id, "data", 2 * SIZE).await.unwrap();
    let last = writes_beyond(&hypervisor, &guest, two + 1).await;
    hypervisor.destroy(guest.id).await.unwrap();
    assert!(number_in(None).await >= last);
    guest.disks[1] = data();
    hypervisor.start(&guest).await.unwrap();
    says(&hypervisor, guest.id, "umbel-guest: ready").await;
    hypervisor.detach_disk(guest.id, "data").await.unwrap();
    assert_eq!(number_in(Some("two")).await, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_guests_go_over_together_or_not_at_all() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let ((one, file_one), (two, file_two)) = (counting(&host, "one"), counting(&host, "two"));
    hypervisor.start(&one).await.unwrap();
    hypervisor.start(&two).await.unwrap();
    writes_beyond(&hypervisor, &one, 0).await;
    writes_beyond(&hypervisor, &two, 0).await;

    let (over_one, bad) = (overlay(&host, "over-one", &file_one), host.dir.path().join("bad.qcow2"));
    std::fs::write(&bad, "not qcow2").unwrap();
    let error = hypervisor.switch(&[(file_one.clone(), over_one.clone()), (file_two.clone(), bad)]).await.unwrap_err();
    assert!(error.cause().unwrap().contains("qcow2 format"), "{}", error.for_log());
    assert!(hypervisor.is_live(&file_one).await.unwrap() && hypervisor.is_live(&file_two).await.unwrap());
    // Nobody has the overlay open, so it can be made anew.
    let over_one = {
        std::fs::remove_file(&over_one).unwrap();
        overlay(&host, "over-one", &file_one)
    };

    let mut events = hypervisor.subscribe();
    let over_two = overlay(&host, "over-two", &file_two);
    hypervisor.switch(&[(file_one.clone(), over_one.clone()), (file_two.clone(), over_two)]).await.unwrap();
    let (in_one, in_two) = (number_on(&file_one), number_on(&file_two));
    writes_beyond(&hypervisor, &one, in_one + 1).await;
    writes_beyond(&hypervisor, &two, in_two + 1).await;
    assert_eq!((number_on(&file_one), number_on(&file_two)), (in_one, in_two));
    for guest in [&one, &two] {
        assert_eq!(hypervisor.state(guest.id).await.unwrap(), Some(Power::Running));
    }
    assert!(events.try_recv().is_err(), "that they stood still is nobody's business");
}

/// A driver that dies while it holds guests.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_was_held_goes_on() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let (guest, _) = counting(&host, "data");
    hypervisor.start(&guest).await.unwrap();
    let before = writes_beyond(&hypervisor, &guest, 0).await;
    hypervisor.pause(guest.id).await.unwrap();
    drop(hypervisor);
    std::fs::write(host.guests().join(guest.id.to_string()).join("held"), "").unwrap();

    let hypervisor = host.open().await;
    assert_eq!(hypervisor.state(guest.id).await.unwrap(), Some(Power::Running));
    writes_beyond(&hypervisor, &guest, before + 1).await;
}

/// A driver that dies while a guest is frozen. A script that writes cannot go on before it is thawed.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_was_left_frozen_is_thawed() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let writes = "#!/bin/sh\nn=0\nwhile :; do n=$((n + 1)); echo $n >/number; sync; echo \"wrote $n\"; done\n";
    let guest = spec(vec![host.boot_disk(), host.script(writes)]);
    hypervisor.start(&guest).await.unwrap();
    eventually("the agent freezes", async || hypervisor.freeze(guest.id).await.is_ok()).await;
    let frozen = host.guests().join(guest.id.to_string()).join("frozen");
    assert!(frozen.exists());
    drop(hypervisor);

    // The one before may not be gone yet: what it was asked is done to the end.
    let hypervisor = host.open().await;
    eventually("the guest is thawed", async || !frozen.exists()).await;
    let before = newest(&hypervisor, &guest).await;
    writes_beyond(&hypervisor, &guest, before + 1).await;
}
