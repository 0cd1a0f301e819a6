//! Many at once.

use std::time::Instant;

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
