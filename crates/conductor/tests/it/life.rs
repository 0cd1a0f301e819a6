//! What happens to servers that are there.

use std::time::Duration;

use umbel_compute::model::*;
use umbel_compute::store::{build_requests, server_map, servers};
use umbel_core::Clock;
use umbel_core::{Kind, SystemClock};
use umbel_db::{read, tx};
use umbel_driver::{DomainSpec, Hypervisor, Operation, Pool};
use uuid::Uuid;

use crate::world::{Conducting, Running, World, until};

async fn active() -> (World, Conducting, Running, ServerId) {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let agent = world.agent("h1");
    world.hosts(1).await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    world.status(id, Status::Active).await;
    (world, conducting, agent, id)
}

#[tokio::test]
async fn actions_are_carried_out_and_closed() {
    let (world, conducting, _agent, id) = active().await;
    let check = async |action: Action, status: Status| {
        world.act(&conducting.conductor, id, action).await.unwrap();
        world.status(id, status).await;
        let all = world.actions(id).await;
        assert_eq!(all[0].0.action, action.name());
        assert!(all[0].0.finished_at.is_some() && all[0].0.message.is_none(), "{action:?}");
        assert!(!all[0].1.is_empty(), "{action:?}");
    };
    check(Action::Stop, Status::Shutoff).await;
    check(Action::Start, Status::Active).await;
    check(Action::Reboot(Restart::Soft), Status::Active).await;
    check(Action::Reboot(Restart::Hard), Status::Active).await;
    check(Action::Pause, Status::Paused).await;
    check(Action::Unpause, Status::Active).await;
    let console = world.hypervisor("h1").console(id.uuid(), 1 << 16).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&console).matches("is up").count(), 4);
    world.delete(&conducting.conductor, id).await;
    world.status(id, Status::Deleted).await;
    world.assert_no_orphans(&["h1"], "deleted").await;
}

#[tokio::test]
async fn a_guest_that_shuts_itself_down_is_shutoff() {
    let (world, conducting, _agent, id) = active().await;
    world.hypervisor("h1").guest_powers_off(id.uuid()).unwrap();
    let server = world.status(id, Status::Shutoff).await;
    assert_eq!(server.state.want, Want::Off);
    world.act(&conducting.conductor, id, Action::Start).await.unwrap();
    world.status(id, Status::Active).await;
}

#[tokio::test]
async fn an_action_that_fails_is_an_error_with_its_reason() {
    let (world, conducting, _agent, id) = active().await;
    world.sim.fail_next(Operation::Shutdown, 1, Kind::Internal);
    world.act(&conducting.conductor, id, Action::Stop).await.unwrap();
    let server = world.status(id, Status::Error).await;
    assert!(server.state.fault.unwrap().message.contains("told to fail"));
    assert_eq!(world.actions(id).await[0].0.message.as_deref(), Some("Error"));
    world.act(&conducting.conductor, id, Action::Reboot(Restart::Hard)).await.unwrap();
    world.status(id, Status::Active).await;
}

#[tokio::test]
async fn a_delete_is_never_given_up() {
    let (world, conducting, _agent, id) = active().await;
    // More than one attempt of an agent endures.
    world.sim.fail_next(Operation::Remove, 1, Kind::Internal);
    world.delete(&conducting.conductor, id).await;
    until("the owner is told", async || {
        world.row(id).await.and_then(|server| server.state.fault).filter(|fault| fault.message.contains("told to fail"))
    })
    .await;
    let server = world.row(id).await.unwrap();
    assert_eq!((server.state.want, server.state.task), (Want::Absent, Some(Task::Deleting)));
    // Asked again by its owner, it is tried again at once.
    world.delete(&conducting.conductor, id).await;
    world.status(id, Status::Deleted).await;
    world.assert_no_orphans(&["h1"], "deleted at last").await;
}

#[tokio::test]
async fn a_server_is_deleted_while_it_is_made() {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let _agent = world.agent("h1");
    world.hosts(1).await;
    world.sim.set_mode(umbel_driver::Mode::Stepped);
    let id = world.create(&world.server()).await;
    conducting.nudge();
    assert_eq!(world.sim.next_waiting().await.operation, Operation::Clone);
    until("its cell", async || world.mapped(id).await.and_then(|mapped| mapped.cell)).await;
    world.delete(&conducting.conductor, id).await;
    world.sim.set_mode(umbel_driver::Mode::default());
    world.status(id, Status::Deleted).await;
    world.quiet("deleted").await;
    world.assert_no_orphans(&["h1"], "deleted while made").await;
}

#[tokio::test]
async fn a_delete_whose_second_half_was_lost_is_completed_in_the_map() {
    let (world, conducting, _agent, id) = active().await;
    world.act(&conducting.conductor, id, Action::Delete).await.unwrap();
    world.status(id, Status::Deleted).await;
    until("the map is mended", async || world.mapped(id).await.filter(|mapped| mapped.queued_for_delete)).await;
}

#[tokio::test]
async fn what_nobody_was_told_of_is_swept() {
    let (world, _conducting, _agent, id) = active().await;
    let now = SystemClock.now();
    tx!(world.cell.db, "stop behind everybody's back", |tx| {
        let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
        server.state = transition(&server, Action::Stop, "req-quiet", now)?;
        servers::update(tx, &mut server).await
    })
    .unwrap();
    world.status(id, Status::Shutoff).await;
}

#[tokio::test]
async fn guests_are_adopted_by_new_agents_and_conductors() {
    let (world, conducting, agent, id) = active().await;
    agent.kill().await;
    conducting.stop().await;
    assert!(world.hypervisor("h1").state(id.uuid()).await.unwrap().is_some());
    let conducting = world.conductor().await;
    let _agent = world.agent("h1");
    world.act(&conducting.conductor, id, Action::Stop).await.unwrap();
    world.status(id, Status::Shutoff).await;
}

#[tokio::test]
async fn what_rises_from_the_dead_is_taken_away() {
    let (world, conducting, _agent, id) = active().await;
    world.delete(&conducting.conductor, id).await;
    world.status(id, Status::Deleted).await;
    let spec = DomainSpec { id: id.uuid(), name: "x".into(), vcpus: 1, memory_mib: 1, disks: Vec::new() };
    world.pool.create(&format!("{id}_disk"), 1).await.unwrap();
    world.hypervisor("h1").start(&spec).await.unwrap();
    let stranger = DomainSpec { id: Uuid::new_v4(), ..spec };
    world.hypervisor("h1").start(&stranger).await.unwrap();
    until("the dead is gone", async || {
        let gone = world.hypervisor("h1").state(id.uuid()).await.unwrap().is_none();
        let disk = world.pool.stat(&format!("{id}_disk")).await.unwrap();
        (gone && disk.is_none()).then_some(())
    })
    .await;
    assert!(world.hypervisor("h1").state(stranger.id).await.unwrap().is_some(), "a stranger is left alone");
}

#[tokio::test]
async fn a_host_that_goes_away_keeps_what_it_was_making() {
    let mut world = World::new().await;
    world.config.down_after = Duration::from_millis(400);
    let conducting = world.conductor().await;
    let agent = world.agent("h1");
    world.hosts(1).await;
    world.sim.set_mode(umbel_driver::Mode::Stepped);
    let id = world.create(&world.server()).await;
    conducting.nudge();
    world.sim.next_waiting().await;
    agent.kill().await;
    let server = world.status(id, Status::Error).await;
    assert_eq!(server.state.fault.unwrap().message, "Host 'h1' went away while it made the server.");
    let claims =
        read!(world.cell.db, "claims", |tx| umbel_placement::held(tx, umbel_core::Id::from_uuid(id.uuid())).await);
    assert_eq!(claims.unwrap().len(), 1, "its room is kept until the host tells");

    world.sim.set_mode(umbel_driver::Mode::default());
    let _agent = world.agent("h1");
    world.status(id, Status::Active).await;
    world.assert_no_orphans(&["h1"], "the host is back").await;
    conducting.stop().await;
}

#[tokio::test]
async fn a_build_request_that_lost_its_flow_gets_another() {
    let world = World::new().await;
    let _conducting = world.conductor().await;
    let _agent = world.agent("h1");
    world.hosts(1).await;
    let server = world.server();
    tx!(world.api.db, "restored from half a backup", |tx| {
        server_map::insert(tx, &server).await?;
        build_requests::insert(tx, &server).await
    })
    .unwrap();
    world.status(server.id, Status::Active).await;
}

#[tokio::test]
async fn a_server_deleted_long_ago_is_forgotten() {
    let mut world = World::new().await;
    world.config.keep_deleted = Duration::from_secs(3_600);
    let conducting = world.conductor().await;
    let _agent = world.agent("h1");
    world.hosts(1).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = world.create(&world.server()).await;
        conducting.nudge();
        world.status(id, Status::Active).await;
        world.delete(&conducting.conductor, id).await;
        world.status(id, Status::Deleted).await;
        ids.push(id);
    }
    let long_ago = SystemClock.now().minus(Duration::from_secs(3_700));
    tx!(world.cell.db, "as if long ago", |tx| {
        let sql = "UPDATE servers SET updated_at = ? WHERE id = ?";
        tx.execute(sql, umbel_db::args![long_ago, ids[0]]).await
    })
    .unwrap();
    until("the purge", async || world.mapped(ids[0]).await.is_none().then_some(())).await;
    let left = async || read!(world.cell.db, "rows", |tx| servers::get_many(tx, &ids).await).unwrap();
    until("its row", async || (left().await.len() == 1).then_some(())).await;
    assert_eq!((left().await[0].id, world.mapped(ids[1]).await.is_some()), (ids[1], true));
    assert_eq!(world.actions(ids[1]).await.len(), 2, "the actions of the other are there still");
}

#[tokio::test]
async fn the_guest_gets_its_password_once() {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let _agent = world.agent("h1");
    world.hosts(1).await;
    let mut server = world.server();
    server.state.admin_pass = Some("hunter2".into());
    let id = world.create(&server).await;
    conducting.nudge();
    let server = world.status(id, Status::Active).await;
    assert_eq!(server.state.admin_pass, None, "forgotten once it is built");
    let drive = format!("{id}_disk.config");
    let size = world.pool.stat(&drive).await.unwrap().unwrap().size;
    let bytes = world.pool.read(&drive, None, 0, size).await.unwrap();
    let bytes: Vec<u8> = futures_util::StreamExt::fold(bytes, Vec::new(), |mut all, chunk| async move {
        all.extend_from_slice(&chunk.unwrap());
        all
    })
    .await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(r#""admin_pass":"hunter2""#), "meta_data.json says it");
}
