//! Hosts and pools as agents report them.

use std::time::Duration;

use umbel_compute::model::*;
use umbel_db::{Engine, read};
use umbel_driver::Pool;
use umbel_placement::Ratio;

use crate::world::{World, until};

#[tokio::test]
async fn hosts_and_pools_come_into_the_database() {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let _agents = [world.agent("h1"), world.agent("h2")];
    world.hosts(2).await;
    let (hosts, pools) =
        read!(world.cell.db, "hosts", |tx| Ok((umbel_placement::hosts(tx).await?, umbel_placement::pools(tx).await?)))
            .unwrap();
    assert_eq!((hosts[0].name.as_str(), hosts[0].vcpus, hosts[0].zone.as_str()), ("h1", 64, "nova"));
    let facts: umbel_bus::Facts = serde_json::from_str(&hosts[0].facts).unwrap();
    assert_eq!(facts.hypervisor_type, "fake");
    assert_eq!((pools.len(), pools[0].name.as_str(), pools[0].hosts.len()), (1, "vms", 2));
    assert!(pools[0].free > 0);
    assert_eq!(conducting.conductor.cell(crate::world::CELL).unwrap().hosts_up(), 2);
}

#[tokio::test]
async fn a_silent_host_gets_no_servers_until_it_speaks() {
    let mut world = World::new().await;
    world.config.down_after = Duration::from_millis(300);
    let conducting = world.conductor().await;
    let agent = world.agent("h1");
    world.hosts(1).await;
    agent.stop().await;
    let cell = conducting.conductor.cell(crate::world::CELL).unwrap();
    until("the host is down", async || (cell.hosts_up() == 0).then_some(())).await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let server = world.status(id, Status::Error).await;
    assert_eq!(server.state.fault.unwrap().message, "No valid host was found. 1 host -> 0 up");
    let _agent = world.agent("h1");
    until("the host is up", async || (cell.hosts_up() == 1).then_some(())).await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    world.status(id, Status::Active).await;
}

#[tokio::test]
async fn heartbeats_are_written_down() {
    let world = World::new().await;
    let _conducting = world.conductor().await;
    let _agent = world.agent("h1");
    world.hosts(1).await;
    let seen = async || {
        let host = read!(world.cell.db, "host", |tx| umbel_placement::host_by_name(tx, "h1").await).unwrap();
        host.unwrap().last_seen
    };
    let first = seen().await;
    until("a later beat", async || (seen().await > first).then_some(())).await;
}

#[tokio::test]
async fn a_new_conductor_waits_for_hosts_to_speak() {
    let mut world = World::new().await;
    world.config.settle = Duration::from_secs(20);
    world.config.down_after = Duration::from_millis(200);
    let conducting = world.conductor().await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let agent = world.agent("h1");
    world.status(id, Status::Active).await;

    // The host is known by now, and not heard of by the next conductor.
    agent.stop().await;
    let cell = conducting.conductor.cell(crate::world::CELL).unwrap();
    until("the host is down", async || (cell.hosts_up() == 0).then_some(())).await;
    conducting.stop().await;
    let conducting = world.conductor().await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let _agent = world.agent("h1");
    world.status(id, Status::Active).await;
}

#[tokio::test]
async fn a_pool_that_is_reported_no_more_gets_no_disks() {
    let mut world = World::new().await;
    let conducting = world.conductor().await;
    world.system_pools = vec!["old".into(), "vms".into()];
    let agent = world.agent("h1");
    let pools = async || {
        let pools = read!(world.cell.db, "pools", |tx| umbel_placement::pools(tx).await).unwrap();
        pools.into_iter().map(|pool| (pool.name, pool.hosts.len())).collect::<Vec<_>>()
    };
    until("two pools", async || (pools().await.len() == 2).then_some(())).await;
    let mut first = world.server();
    let mut spec = (*first.spec).clone();
    // Of no cluster, so that the pool that the host prefers is as good as the one with the image.
    spec.image = None;
    spec.disks[0].source = DiskSource::Blank;
    first.spec = spec.into();
    let id = world.create(&first).await;
    conducting.nudge();
    world.status(id, Status::Active).await;
    assert_eq!(world.disks(id).await[0].pool, "old");

    agent.stop().await;
    world.system_pools = vec!["vms".into()];
    let _agent = world.agent("h1");
    let pools = async || {
        let pools = read!(world.cell.db, "pools", |tx| umbel_placement::pools(tx).await).unwrap();
        pools.into_iter().map(|pool| (pool.name, pool.hosts.len())).collect::<Vec<_>>()
    };
    // The first server has its disks there still.
    let want = vec![("old".to_owned(), 0), ("vms".to_owned(), 1)];
    until("one pool is left", async || (pools().await == want).then_some(())).await;
    let id = world.create(&Server { id: ServerId::from_uuid(uuid::Uuid::new_v4()), ..world.server() }).await;
    conducting.nudge();
    world.status(id, Status::Active).await;
    assert_eq!(world.disks(id).await[0].pool, "vms");
}

#[tokio::test]
async fn a_full_pool_is_what_the_fault_says() {
    const TOTAL: u64 = 16 << 20;
    let mut world = World::with_room(Engine::Sqlite, TOTAL).await;
    // The scheduler believes the pool to be large: it is the host that finds it full.
    world.config.ratios.disk = Ratio(1_000_000_000);
    let conducting = world.conductor().await;
    let _agent = world.agent("h1");
    world.hosts(1).await;
    world.pool.create("filler", TOTAL).await.unwrap();
    let room = world.pool.capacity().await.unwrap().free - 4_096;
    world.pool.guest_writes("filler", 0, &vec![1; usize::try_from(room).unwrap()]).unwrap();
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let server = world.status(id, Status::Error).await;
    let fault = server.state.fault.unwrap().message;
    assert!(fault.contains("The pool 'vms' is full.") && fault.contains("Tried: h1."), "{fault}");
    world.pool.remove("filler").await.unwrap();
    world.assert_no_orphans(&["h1"], "full").await;
}

#[tokio::test]
async fn a_pool_without_room_is_where_the_funnel_ends() {
    let mut world = World::with_room(Engine::Sqlite, 2 << 20).await;
    world.config.ratios.disk = Ratio(1_000);
    let conducting = world.conductor().await;
    let _agent = world.agent("h1");
    world.hosts(1).await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let server = world.status(id, Status::Error).await;
    let fault = server.state.fault.unwrap().message;
    assert!(fault.starts_with("No valid host was found. 1 host -> 0 ") && fault.contains("disk"), "{fault}");
}
