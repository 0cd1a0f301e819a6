//! Many at once.

use std::time::{Duration, Instant};

use umbel_compute::model::*;

use crate::world::{World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_servers_at_once() {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let names: Vec<String> = (0..10).map(|at| format!("h{at}")).collect();
    let _agents: Vec<_> = names.iter().map(|host| world.agent(host)).collect();
    world.hosts(10).await;
    let start = Instant::now();
    let mut servers = Vec::new();
    for _ in 0..200 {
        servers.push(world.create(&world.server()).await);
        conducting.nudge();
    }
    let asked = start.elapsed();
    world.quiet("200 creates").await;
    let made = start.elapsed();
    for id in &servers {
        assert_eq!(project(&world.row(*id).await.unwrap()).status, Status::Active);
    }
    let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
    world.assert_no_orphans(&hosts, "200 creates").await;
    let start = Instant::now();
    for id in &servers {
        world.delete(&conducting.conductor, *id).await;
    }
    world.quiet("200 deletes").await;
    let gone = start.elapsed();
    until("all are gone", async || {
        let row = world.row(servers[199]).await.unwrap();
        (row.state.life == Life::Deleted).then_some(())
    })
    .await;
    world.assert_no_orphans(&hosts, "200 deletes").await;
    println!("200 servers: asked for in {asked:?}, active after {made:?}, deleted in {gone:?}");
}

/// What the control plane adds to the time that disks and guests take, which here is none. Printed; the limit only
/// catches a wait for a period where there should be a nudge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_after_another() {
    let mut world = World::new().await;
    world.config.sweep = Duration::from_secs(60);
    world.config.runner.sweep = Duration::from_secs(60);
    let conducting = world.conductor().await;
    let _agent = world.agent("h1");
    world.hosts(1).await;
    let (mut creates, mut deletes) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let server = world.server();
        let start = Instant::now();
        let id = world.create(&server).await;
        conducting.nudge();
        world.status(id, Status::Active).await;
        creates.push(start.elapsed());
        let start = Instant::now();
        world.delete(&conducting.conductor, id).await;
        world.status(id, Status::Deleted).await;
        deletes.push(start.elapsed());
    }
    creates.sort();
    deletes.sort();
    println!("create {:?} to {:?}, delete {:?} to {:?}", creates[10], creates[19], deletes[10], deletes[19]);
    assert!(creates[10] < Duration::from_secs(1) && deletes[10] < Duration::from_secs(1), "{creates:?} {deletes:?}");
}
