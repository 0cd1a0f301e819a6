use std::sync::Arc;

use umbel_driver::Hypervisor;
use umbel_driver::conformance::{self, Guest};

use crate::support::Host;

#[tokio::test(flavor = "multi_thread")]
async fn without_disks() {
    let host = Host::new();
    conformance::hypervisor(async || host.open().await as Arc<dyn Hypervisor>, &Guest::bare(host.spare())).await;
    assert_eq!(host.pids(), [0; 0], "no process is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_real_guest() {
    let host = Host::new();
    let guest = Guest {
        disks: vec![host.boot_disk()],
        says: Some("umbel-guest: ready".to_owned()),
        lets_go: true,
        says_disk: Some(|serial, bytes| format!("serial={serial} bytes={bytes}")),
        agent: true,
        ..Guest::bare(host.spare())
    };
    conformance::hypervisor(async || host.open().await as Arc<dyn Hypervisor>, &guest).await;
}
