//! `umbel up --demo --once`: the story ends well, on both kinds of pool.

use std::process::Output;

use tokio::process::Command;
use umbel_testkit::{Ceph, ceph_conf, guest_image, process};

async fn once(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    Command::new(process::binary())
        .args(["up", "--demo", "--once", "--port", "0", "--dir"])
        .arg(dir.path())
        .arg("--guest-image")
        .arg(guest_image())
        .args(args)
        .output()
        .await
        .unwrap()
}

fn check(output: &Output, path: &str) {
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{error}");
    for word in ["umbel is up at", path, "domain_start", "the guest says: umbel-guest: ready", "DELETE to gone"] {
        assert!(told.contains(word), "'{word}' is missing in:\n{told}\n{error}");
    }
}

#[tokio::test]
async fn the_demo_ends_well_on_local_disks() {
    check(&once(&[]).await, "disk_clone");
}

#[tokio::test]
async fn the_demo_ends_well_on_ceph() {
    let ceph = Ceph::new();
    let before = ceph.images("vms").await;
    check(&once(&["--ceph", ceph_conf().to_str().unwrap()]).await, "disk_clone");
    assert_eq!(ceph.images("vms").await, before, "a system disk is left");
}

#[tokio::test]
async fn a_demo_that_cannot_work_says_why() {
    let output = once(&["--ceph", "/nonexistent/ceph.conf"]).await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/ceph.conf"));
}
