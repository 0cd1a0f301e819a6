//! The conductor dies at every moment of every step, and the agent before each operation of its drivers; what is left
//! of the cloud finishes the work and leaves no orphan.

use umbel_compute::model::*;
use umbel_compute::store::build_requests;
use umbel_core::Kind;
use umbel_db::{args, read, tx};
use umbel_driver::{HostSize, Mode, Operation};
use umbel_workflow::Crash;
use umbel_workflow::harness::at_every_moment;

use crate::world::{DEADLINE, World};

const HOSTS: [&str; 2] = ["h1", "h2"];

/// Creates a server with a conductor that dies at the given moment; then another takes over.
async fn created(world: &World, crash: &Crash) -> (crate::world::Conducting, ServerId) {
    let first = world.doomed(crash.clone());
    world.hosts(2).await;
    let id = world.create(&world.server()).await;
    first.conductor.run_until_idle(DEADLINE).await.unwrap();
    drop(first);
    (world.conductor().await, id)
}

async fn ended(world: &World, id: ServerId, status: Status, context: &str) {
    world.status(id, status).await;
    world.quiet(context).await;
    world.assert_no_orphans(&HOSTS, context).await;
}

#[tokio::test]
async fn a_create_survives_a_crash_at_every_moment() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let _agents = HOSTS.map(|host| world.agent(host));
        let (conducting, id) = created(&world, &crash).await;
        ended(&world, id, Status::Active, &crash.place()).await;
        world.delete(&conducting.conductor, id).await;
        ended(&world, id, Status::Deleted, &crash.place()).await;
    })
    .await;
    println!("create: {places:#?}");
    assert!(places.len() >= 6, "{places:?}");
}

#[tokio::test]
async fn a_second_try_survives_a_crash_at_every_moment() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let _agents = HOSTS.map(|host| world.agent(host));
        world.sim.fail_next(Operation::Start, 1, Kind::Internal);
        let (_conducting, id) = created(&world, &crash).await;
        ended(&world, id, Status::Active, &crash.place()).await;
    })
    .await;
    println!("second try: {places:#?}");
    assert!(places.len() >= 12, "{places:?}");
}

#[tokio::test]
async fn a_create_that_fails_everywhere_leaves_nothing_whenever_it_crashes() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let _agents = HOSTS.map(|host| world.agent(host));
        world.sim.fail_next(Operation::Clone, 9, Kind::Internal);
        let (conducting, id) = created(&world, &crash).await;
        ended(&world, id, Status::Error, &crash.place()).await;
        let server = world.row(id).await.unwrap();
        assert!(server.state.fault.unwrap().message.contains("told to fail"), "{}", crash.place());
        world.delete(&conducting.conductor, id).await;
        ended(&world, id, Status::Deleted, &crash.place()).await;
    })
    .await;
    println!("failure: {places:#?}");
    assert!(places.len() >= 15, "{places:?}");
}

#[tokio::test]
async fn a_create_without_room_ends_in_cell0_whenever_it_crashes() {
    let places = at_every_moment(async |crash| {
        let mut world = World::new().await;
        world.size = HostSize { vcpus: 1, memory_mib: 1 };
        let _agents = HOSTS.map(|host| world.agent(host));
        let (_conducting, id) = created(&world, &crash).await;
        ended(&world, id, Status::Error, &crash.place()).await;
        assert_eq!(world.mapped(id).await.unwrap().cell, Some(umbel_compute::Cells::ZERO), "{}", crash.place());
    })
    .await;
    println!("no room: {places:#?}");
    assert!(places.len() >= 4, "{places:?}");
}

/// The owner deletes the server while no conductor lives, wherever the one before died.
#[tokio::test]
async fn a_delete_in_the_midst_of_a_create_leaves_nothing_whenever_it_crashes() {
    for fails in [0, 1, 9] {
        let places = at_every_moment(async |crash| {
            let world = World::new().await;
            let _agents = HOSTS.map(|host| world.agent(host));
            world.sim.fail_next(Operation::Start, fails, Kind::Internal);
            let first = world.doomed(crash.clone());
            world.hosts(2).await;
            let id = world.create(&world.server()).await;
            first.conductor.run_until_idle(DEADLINE).await.unwrap();
            world.delete(&first.conductor, id).await;
            drop(first);
            let _conducting = world.conductor().await;
            let context = format!("{} fails, {}", fails, crash.place());
            world.quiet(&context).await;
            world.assert_no_orphans(&HOSTS, &context).await;
            assert!(world.mapped(id).await.unwrap().queued_for_delete, "{context}");
            let row = world.row(id).await;
            assert!(row.is_none_or(|server| server.state.life == Life::Deleted), "{context}");
        })
        .await;
        println!("delete with {fails} faults: {places:#?}");
    }
}

/// The agent is killed before the `nth` operation of its drivers; a new one comes.
async fn agent_dies(nth: usize) -> Option<Operation> {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let agent = world.agent("h1");
    world.hosts(1).await;
    world.sim.set_mode(Mode::Stepped);
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let (mut done, mut deleting) = (0, false);
    let died = loop {
        let status = if deleting { Status::Deleted } else { Status::Active };
        tokio::select! {
            waiting = world.sim.next_waiting() => {
                if done == nth {
                    break Some(waiting.operation);
                }
                done += 1;
                world.sim.release(waiting.ticket);
            }
            _ = world.status(id, status) => {
                if deleting {
                    break None;
                }
                world.delete(&conducting.conductor, id).await;
                deleting = true;
            }
        }
    };
    agent.kill().await;
    world.sim.set_mode(Mode::default());
    let _agent = world.agent("h1");
    let context = format!("agent killed before {died:?}");
    if !deleting {
        world.status(id, Status::Active).await;
        world.assert_no_orphans(&["h1"], &context).await;
        world.delete(&conducting.conductor, id).await;
    }
    world.status(id, Status::Deleted).await;
    world.quiet(&context).await;
    world.assert_no_orphans(&["h1"], &context).await;
    died
}

#[tokio::test]
async fn servers_survive_the_death_of_their_agent_before_each_operation() {
    let mut seen = Vec::new();
    while let Some(operation) = agent_dies(seen.len()).await {
        seen.push(operation);
    }
    let want = [
        Operation::Clone,
        Operation::Write,
        Operation::Start,
        Operation::Undefine,
        Operation::Remove,
        Operation::Remove,
    ];
    assert_eq!(seen, want);
}

/// A host that has room for no second server of this size.
const FULL: HostSize = HostSize { vcpus: 64, memory_mib: 512 };

/// Whoever goes on with a server that has its room must not look for room a second time.
#[tokio::test]
async fn a_create_that_fills_its_host_and_fails_there_ends_whenever_it_crashes() {
    let places = at_every_moment(async |crash| {
        let mut world = World::new().await;
        world.size = FULL;
        let _agent = world.agent("h1");
        world.sim.fail_next(Operation::Start, 9, Kind::Internal);
        let first = world.doomed(crash.clone());
        world.hosts(1).await;
        let id = world.create(&world.server()).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let conducting = world.conductor().await;
        let context = crash.place();
        world.status(id, Status::Error).await;
        world.quiet(&context).await;
        world.assert_no_orphans(&["h1"], &context).await;
        let server = world.row(id).await.unwrap();
        assert!(server.state.fault.unwrap().message.contains("told to fail"), "{context}");
        world.delete(&conducting.conductor, id).await;
        world.status(id, Status::Deleted).await;
    })
    .await;
    assert!(places.len() >= 12, "{places:?}");
}

/// The process dies between the commit in the cell and the one in the global database: a place that is inside a step.
#[tokio::test]
async fn a_crash_between_the_two_databases_is_found_by_running_the_step_again() {
    for (deleted, size) in [(false, HostSize::default()), (true, HostSize::default()), (false, FULL), (true, FULL)] {
        let mut world = World::new().await;
        world.size = size;
        let hosts: &[&str] = if size == FULL { &["h1"] } else { &HOSTS };
        let _agents: Vec<_> = hosts.iter().map(|host| world.agent(host)).collect();
        let first = world.doomed(Crash::at(4));
        world.hosts(hosts.len()).await;
        let server = world.server();
        let id = world.create(&server).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        assert!(world.mapped(id).await.unwrap().cell.is_some());
        tx!(world.api.db, "as if it had not been placed", |tx| {
            tx.execute("UPDATE server_map SET cell_id = NULL WHERE server_id = ?", args![id]).await?;
            build_requests::insert(tx, &server).await
        })
        .unwrap();
        if deleted {
            world.delete(&first.conductor, id).await;
        }
        drop(first);
        let _conducting = world.conductor().await;
        let context = format!("deleted: {deleted}, {size:?}");
        world.quiet(&context).await;
        if !deleted {
            world.status(id, Status::Active).await;
        }
        world.assert_no_orphans(hosts, &context).await;
        let requests = read!(world.api.db, "requests", |tx| build_requests::ids(tx).await).unwrap();
        assert_eq!(requests, [], "{context}");
        if !deleted {
            assert_eq!(world.mapped(id).await.unwrap().cell, Some(crate::world::CELL), "{context}");
        }
    }
}
