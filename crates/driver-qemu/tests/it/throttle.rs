//! Bounds on disks, as QEMU itself tells of them. How fast a guest then is, is QEMU's business.

use serde_json::{Value, json};
use umbel_core::{Kind, MIB};
use umbel_driver::{Hypervisor, Limits};
use uuid::Uuid;

use crate::disks::qmp;
use crate::support::{Host, says, spec};

/// What QEMU says of the disk with this serial. Nobody else may be connected.
fn bounds(host: &Host, id: Uuid, serial: &str) -> Value {
    let answer: Value = serde_json::from_str(&qmp(host, id, r#"{"execute": "query-block"}"#)).unwrap();
    let blocks = answer["return"].as_array().unwrap();
    let name = format!(".{serial}/");
    let block = blocks.iter().find(|block| block["qdev"].as_str().unwrap_or_default().contains(&name));
    block.unwrap_or_else(|| panic!("no {serial} in {answer}"))["inserted"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_bounded_while_its_guest_runs() {
    let host = Host::new();
    let mut hypervisor = host.open().await;
    let first = host.blank("first", 8 * MIB);
    let guest = spec(vec![host.boot_disk(), first]);
    hypervisor.start(&guest).await.unwrap();
    says(&hypervisor, guest.id, "umbel-guest: ready").await;
    hypervisor.attach_disk(guest.id, &host.blank("second", 8 * MIB)).await.unwrap();
    let some = Limits { bytes: Some(4 << 20), bytes_burst: Some(8 << 20), ..Limits::default() };
    let others = Limits {
        read_iops: Some(100),
        read_iops_burst: Some(150),
        write_iops: Some(50),
        iops_size: Some(4096),
        ..Limits::default()
    };
    hypervisor.limit_disk(guest.id, "first", &some).await.unwrap();
    hypervisor.limit_disk(guest.id, "second", &others).await.unwrap();
    drop(hypervisor);
    let check = |serial: &str, want: Value| {
        let told = bounds(&host, guest.id, serial);
        for (name, value) in want.as_object().unwrap() {
            assert_eq!(&told[name], value, "{name} of {serial}: {told}");
        }
    };
    check("first", json!({"bps": 4 << 20, "bps_max": 8 << 20, "bps_rd": 0, "iops": 0}));
    check("second", json!({"iops_rd": 100, "iops_rd_max": 150, "iops_wr": 50, "iops_size": 4096, "iops": 0, "bps": 0}));
    assert_ne!(bounds(&host, guest.id, "first")["group"], bounds(&host, guest.id, "second")["group"]);

    // They can be changed and taken away; one that is off has none.
    hypervisor = host.open().await;
    hypervisor.limit_disk(guest.id, "first", &others).await.unwrap();
    hypervisor.limit_disk(guest.id, "second", &Limits::default()).await.unwrap();
    drop(hypervisor);
    check("first", json!({"iops_rd": 100, "bps": 0}));
    check("second", json!({"iops_rd": 0, "iops_wr": 0, "bps": 0}));

    hypervisor = host.open().await;
    assert!(hypervisor.limit_disk(guest.id, "third", &some).await.unwrap_err().is(Kind::NotFound));
    hypervisor.destroy(guest.id).await.unwrap();
    hypervisor.limit_disk(guest.id, "first", &some).await.unwrap();
}
