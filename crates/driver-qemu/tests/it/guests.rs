//! What a guest finds, and how it goes.

use std::time::{Duration, Instant};

use umbel_core::Kind;
use umbel_driver::{Hypervisor, Power, config_drive};

use crate::support::{Host, disk, says, spec, told};

const READY: &str = "umbel-guest: ready";

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_obeys_the_power_button() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let spec = spec(vec![host.boot_disk()]);
    let mut events = hypervisor.subscribe();
    let begin = Instant::now();
    hypervisor.start(&spec).await.unwrap();
    let started = begin.elapsed();
    says(&hypervisor, spec.id, READY).await;
    println!("started after {started:?}, ready after {:?}", begin.elapsed());

    let begin = Instant::now();
    hypervisor.shutdown(spec.id, Duration::from_secs(60)).await.unwrap();
    println!("powered off after {:?}", begin.elapsed());
    told(&mut events, spec.id, Power::Shutdown).await;
    says(&hypervisor, spec.id, "umbel-guest: power button").await;
    assert_eq!(hypervisor.state(spec.id).await.unwrap(), Some(Power::Shutdown));
    assert_eq!(host.pids(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_pressed_too_early_is_pressed_again() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let spec = spec(vec![host.boot_disk()]);
    hypervisor.start(&spec).await.unwrap();
    hypervisor.shutdown(spec.id, Duration::from_secs(100)).await.unwrap();
    says(&hypervisor, spec.id, "umbel-guest: power button").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_drive_is_read_as_disk_and_as_cd() {
    let host = Host::new();
    let hypervisor = host.open().await;
    for cdrom in [false, true] {
        let hostname = format!("from-drive-{cdrom}");
        let documents = [
            (
                "openstack/latest/meta_data.json",
                format!(r#"{{"uuid": "u", "hostname": "{hostname}.example"}}"#).into_bytes(),
            ),
            ("openstack/latest/user_data", b"#!/bin/sh\necho script runs on $(hostname)\n".to_vec()),
        ];
        let path = host.dir.path().join(&hostname);
        std::fs::write(&path, config_drive::iso9660(&documents)).unwrap();
        let mut drive = disk(&path, None);
        drive.cdrom = cdrom;
        drive.read_only = true;
        let spec = spec(vec![host.boot_disk(), drive]);
        hypervisor.start(&spec).await.unwrap();
        says(&hypervisor, spec.id, &format!("{READY} hostname={hostname} config-drive=yes")).await;
        says(&hypervisor, spec.id, &format!("script runs on {hostname}")).await;
        hypervisor.undefine(spec.id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_a_config_drive_says_so() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let spec = spec(vec![host.boot_disk()]);
    hypervisor.start(&spec).await.unwrap();
    says(&hypervisor, spec.id, &format!("{READY} hostname=umbel-guest config-drive=no")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why_and_leaves_nothing() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let missing = spec(vec![disk(&host.dir.path().join("no-such-disk"), Some(0))]);
    let error = hypervisor.start(&missing).await.unwrap_err();
    assert!(error.cause().unwrap().contains("no-such-disk"), "{}", error.for_log());
    assert!(!error.message().contains("no-such-disk"), "paths are for the operator");
    assert_eq!(hypervisor.state(missing.id).await.unwrap(), Some(Power::Shutdown));
    assert_eq!(host.pids(), [0; 0]);

    let mut refused = spec(vec![disk(&host.dir.path().join("d"), None)]);
    refused.disks[0].serial = "a serial number that is too long".to_owned();
    assert!(hypervisor.start(&refused).await.unwrap_err().is(Kind::BadRequest));
    assert_eq!(hypervisor.state(refused.id).await.unwrap(), None);
}
