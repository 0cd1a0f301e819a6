//! Disks that come and go, beyond what every hypervisor promises.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use umbel_core::{Kind, MIB};
use umbel_driver::{Hypervisor, Power};
use uuid::Uuid;

use crate::support::{Host, says, spec};

const READY: &str = "umbel-guest: ready";

/// Past the first bus, and up to the last slot of the bridge.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_has_room_for_48_disks() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let spec = spec(vec![host.boot_disk()]);
    let id = spec.id;
    hypervisor.start(&spec).await.unwrap();
    says(&hypervisor, id, READY).await;
    for number in 1..48 {
        hypervisor.attach_disk(id, &host.blank(&format!("volume-{number}"), MIB)).await.unwrap();
    }
    for number in [1, 15, 16, 30, 47] {
        says(&hypervisor, id, &format!("serial=volume-{number} bytes={MIB}")).await;
    }
    let error = hypervisor.attach_disk(id, &host.blank("volume-48", MIB)).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::BadRequest, "A guest may have 48 disks and volumes, not more."));
    assert_eq!(hypervisor.disks(id).await.unwrap().len(), 47);

    // A slot behind the bridge and one before it are free again.
    for number in [3, 40] {
        hypervisor.detach_disk(id, &format!("volume-{number}")).await.unwrap();
        hypervisor.attach_disk(id, &host.blank(&format!("again-{number}"), MIB)).await.unwrap();
        says(&hypervisor, id, &format!("serial=again-{number} bytes={MIB}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_boots_with_disks_behind_the_bridge() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let mut disks = vec![host.boot_disk()];
    disks.extend((1..48).map(|number| host.blank(&format!("volume-{number}"), MIB)));
    disks.push(host.script("#!/bin/sh\ncat /sys/block/vd*/serial | tr '\\n' ' '; ls /sys/block | grep -c vd\n"));
    let spec = spec(disks);
    hypervisor.start(&spec).await.unwrap();
    says(&hypervisor, spec.id, "48\r\n").await;
    says(&hypervisor, spec.id, "volume-47").await;
    hypervisor.detach_disk(spec.id, "volume-47").await.unwrap();
    says(&hypervisor, spec.id, "umbel-guest: disk gone vd").await;
}

/// What a driver leaves that is killed after it opened a disk and before it showed it.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_open_and_not_shown_is_in_nobodys_way() {
    let host = Host::new();
    let (spec, disk) = (spec(vec![]), host.blank("volume-1", MIB));
    let id = spec.id;
    host.open().await.start(&spec).await.unwrap();
    let path = host.dir.path().join("volume-1.raw");
    qmp(
        &host,
        id,
        &format!(
            r#"{{"execute": "blockdev-add", "arguments": {{"driver": "raw", "node-name": "node-volume-1",
            "file": {{"driver": "file", "filename": "{}"}}}}}}"#,
            path.display()
        ),
    );

    let hypervisor = host.open().await;
    assert_eq!(hypervisor.disks(id).await.unwrap(), Vec::<String>::new());
    hypervisor.attach_disk(id, &disk).await.unwrap();
    assert_eq!(hypervisor.disks(id).await.unwrap(), ["volume-1"]);
    // As the definition has it, too.
    hypervisor.destroy(id).await.unwrap();
    assert_eq!(hypervisor.disks(id).await.unwrap(), ["volume-1"]);
}

/// One command on a connection of its own, and its answer. Nobody else may be connected.
pub fn qmp(host: &Host, id: Uuid, command: &str) -> String {
    let socket = host.guests().join(id.to_string()).join("qmp.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut next = || loop {
        let line = lines.next().unwrap().unwrap();
        if line.contains("\"return\"") || line.contains("\"QMP\"") {
            return line;
        }
        assert!(!line.contains("\"error\""), "{line}");
    };
    let mut answer = next();
    for command in [r#"{"execute": "qmp_capabilities"}"#, command] {
        stream.write_all(format!("{}\n", command.replace('\n', " ")).as_bytes()).unwrap();
        answer = next();
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_attached_leaves_nothing() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let (one, other) = (spec(vec![]), spec(vec![]));
    let disk = host.blank("volume-1", MIB);
    hypervisor.start(&one).await.unwrap();
    hypervisor.start(&other).await.unwrap();
    hypervisor.attach_disk(one.id, &disk).await.unwrap();
    let error = hypervisor.attach_disk(other.id, &disk).await.unwrap_err();
    assert!(error.is(Kind::Conflict), "{}", error.for_log());
    assert!(!error.message().contains("volume-1.raw"), "paths are for the operator");
    std::fs::remove_file(host.dir.path().join("volume-1.raw")).unwrap();
    let error = hypervisor.attach_disk(other.id, &disk).await.unwrap_err();
    assert!(error.is(Kind::Internal) && error.cause().unwrap().contains("volume-1.raw"), "{}", error.for_log());
    assert_eq!(hypervisor.disks(other.id).await.unwrap(), Vec::<String>::new());
    hypervisor.destroy(other.id).await.unwrap();
    assert_eq!(hypervisor.disks(other.id).await.unwrap(), Vec::<String>::new());
}

/// A kernel that boots does not hear that a disk is to go: it is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_boots_lets_go_once_it_listens() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let spec = spec(vec![host.boot_disk(), host.blank("volume-1", MIB)]);
    hypervisor.start(&spec).await.unwrap();
    let mut tries = 0;
    while let Err(error) = hypervisor.detach_disk(spec.id, "volume-1").await {
        assert!(error.is(Kind::Timeout) && tries < 5, "{}", error.for_log());
        tries += 1;
    }
    assert_eq!(hypervisor.disks(spec.id).await.unwrap(), Vec::<String>::new());
    assert_eq!(hypervisor.state(spec.id).await.unwrap(), Some(Power::Running));
    // It is off the definition as well, and its file free.
    hypervisor.destroy(spec.id).await.unwrap();
    assert_eq!(hypervisor.disks(spec.id).await.unwrap(), Vec::<String>::new());
}

/// A guest that ends while it is asked has let go of everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ends_holds_nothing() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let spec = spec(vec![host.blank("volume-1", MIB)]);
    hypervisor.start(&spec).await.unwrap();
    let (detached, destroyed) = tokio::join!(hypervisor.detach_disk(spec.id, "volume-1"), hypervisor.destroy(spec.id));
    destroyed.unwrap();
    detached.unwrap();
    assert_eq!(hypervisor.disks(spec.id).await.unwrap(), Vec::<String>::new());
}
