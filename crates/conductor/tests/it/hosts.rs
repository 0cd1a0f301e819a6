//! Hosts and pools as agents report them.

use std::time::Duration;

use umbel_compute::model::*;
use umbel_db::read;

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
