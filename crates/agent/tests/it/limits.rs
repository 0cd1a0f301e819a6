//! Bounds on guests' disks: those of the document, and those that a pool keeps.

use umbel_bus::{Domain, Limited, Target};
use umbel_driver::{Limits, Pool};
use uuid::Uuid;

use crate::world::{World, at, disk_name, domain, present};

fn limited(id: Uuid, name: &str, value: u64) -> Vec<Limited> {
    vec![Limited { at: at("vms", disk_name(id)), limits: [(name.to_owned(), value)].into() }]
}

#[tokio::test]
async fn a_disk_is_bounded_as_its_document_and_its_pool_say() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let (image, _agent) = (world.image().await, world.agent());
    let plain = domain(id, "vms", umbel_bus::DiskSource::Image(image));
    let serial = plain.disks[0].serial.clone();
    let limits = || world.hypervisor.limits(id, &serial);
    world.want(id, present(Domain { limits: limited(id, "total_iops_sec", 500), ..plain.clone() })).await;
    assert_eq!(world.cell.done(id).await.fault, None);
    assert_eq!(limits(), Limits { iops: Some(500), ..Limits::default() }, "from its start on");

    // The pool says less, and nobody tells: the next heartbeat finds it.
    let pool = Limits { iops: Some(200), read_bytes: Some(4096), ..Limits::default() };
    world.pool.limit(&disk_name(id), &pool).await.unwrap();
    eventually(async || limits() == pool).await;
    world.pool.limit(&disk_name(id), &Limits::default()).await.unwrap();
    eventually(async || limits() == Limits { iops: Some(500), ..Limits::default() }).await;

    // Another document; and after a restart all of it again.
    let wider = Domain { limits: limited(id, "read_iops_sec", 900), first_start: false, ..plain.clone() };
    world.want(id, present(wider.clone())).await;
    eventually(async || limits() == Limits { read_iops: Some(900), ..Limits::default() }).await;
    world.want(id, present(Domain { power: Target::Off, ..wider.clone() })).await;
    assert_eq!(world.cell.done(id).await.power, Some(umbel_bus::Power::Shutdown));
    world.want(id, present(wider)).await;
    eventually(async || limits() == Limits { read_iops: Some(900), ..Limits::default() }).await;
    world.want(id, present(Domain { first_start: false, ..plain })).await;
    eventually(async || limits() == Limits::default()).await;
}

async fn eventually(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.expect("it never came to be");
}
