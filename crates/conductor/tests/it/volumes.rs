//! Servers get volumes, lose them, and take them along.

use std::time::Duration;

use umbel_compute::model::*;
use umbel_compute::{Cells, VolumeCatalog, Who, flows};
use umbel_core::{Clock, Kind, SystemClock};
use umbel_db::tx;
use umbel_driver::{HostSize, Operation};
use umbel_workflow::harness::at_every_moment;
use umbel_workflow::{NewFlow, enqueue};
use uuid::Uuid;

use crate::volume_world::made;
use crate::world::{Conducting, DEADLINE, Running, World, until};

const HOST: &str = "h1";

/// A server that boots from a volume that is made for it, and has another that was there.
pub async fn volume_backed(world: &World, delete_on_termination: bool) -> (Server, Uuid) {
    let mut server = world.server();
    let mut spec = (*server.spec).clone();
    (spec.image, spec.disks) = (None, Vec::new());
    server.spec = spec.into();
    let data = world.reserved(&server).await;
    let data_id = data.volume_id.unwrap();
    server.state.volumes = vec![made(Some(0), delete_on_termination), data];
    (server, data_id)
}

/// An agent and an active server, and a volume that it does not have.
async fn running(world: &World) -> (Conducting, Running, ServerId, Uuid) {
    let conducting = world.conductor().await;
    let agent = world.agent(HOST);
    world.hosts(1).await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    world.status(id, Status::Active).await;
    (conducting, agent, id, world.volumes.add(1, |_| {}).await)
}

#[tokio::test]
async fn a_server_boots_from_a_volume_that_is_made_for_it() {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let _agent = world.agent(HOST);
    world.hosts(1).await;
    world.volumes.new_ones(2, None);
    let (server, data) = volume_backed(&world, true).await;
    let id = world.create(&server).await;
    conducting.nudge();
    let server = world.status(id, Status::Active).await;
    assert!(server.is_volume_backed() && server.state.volumes.iter().all(|device| device.phase == Phase::Attached));
    let root = server.state.volumes[0].volume_id.unwrap();
    for volume in [root, data] {
        assert_eq!(world.volumes.status(volume).as_deref(), Some("in-use"));
    }
    let spec = world.hypervisor(HOST).spec(id.uuid()).unwrap();
    let boots: Vec<_> = spec.disks.iter().filter(|disk| disk.boot_index == Some(0)).collect();
    assert_eq!((boots.len(), boots[0].serial.as_str()), (1, &root.to_string()[..20]));
    assert_eq!(spec.disks.len(), 3, "two volumes and the config drive");
    let bounded = async || {
        let limits = world.hypervisor(HOST).limits(id.uuid(), &root.to_string()[..20]);
        (limits.iops == Some(500)).then_some(())
    };
    until("the volume's type bounds it", bounded).await;
    world.assert_volumes_agree(HOST, "active").await;
    world.assert_no_orphans(&[HOST], "active").await;

    world.delete(&conducting.conductor, id).await;
    world.status(id, Status::Deleted).await;
    assert_eq!(world.volumes.status(root), None, "it goes with the server");
    assert_eq!(world.volumes.status(data).as_deref(), Some("available"));
    world.assert_volumes_agree(HOST, "deleted").await;
    world.assert_no_orphans(&[HOST], "deleted").await;
}

#[tokio::test]
async fn a_create_with_volumes_survives_a_crash_at_every_moment() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let _agent = world.agent(HOST);
        let first = world.doomed(crash.clone());
        world.hosts(1).await;
        let (server, data) = volume_backed(&world, false).await;
        let id = world.create(&server).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let conducting = world.conductor().await;
        let context = crash.place();
        world.status(id, Status::Active).await;
        assert_eq!(world.volumes.all().len(), 2, "{context}: one volume is made, once");
        world.assert_volumes_agree(HOST, &context).await;
        world.delete(&conducting.conductor, id).await;
        world.status(id, Status::Deleted).await;
        assert!(world.volumes.all().iter().all(|volume| volume.status == "available"), "{context}");
        assert_eq!((world.volumes.all().len(), world.volumes.attachments().len()), (2, 0), "{context}");
        assert_eq!(world.volumes.status(data).as_deref(), Some("available"), "{context}");
        world.assert_no_orphans(&[HOST], &context).await;
    })
    .await;
    println!("create with volumes: {places:#?}");
    assert!(places.len() >= 10, "{places:?}");
}

#[tokio::test]
async fn a_create_that_fails_takes_the_volumes_away_that_it_made() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let _agent = world.agent(HOST);
        world.sim.fail_next(Operation::Start, 99, Kind::Internal);
        let first = world.doomed(crash.clone());
        world.hosts(1).await;
        let (server, data) = volume_backed(&world, false).await;
        let id = world.create(&server).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let conducting = world.conductor().await;
        let context = crash.place();
        let server = world.status(id, Status::Error).await;
        assert!(server.state.fault.as_ref().unwrap().message.contains("told to fail"), "{context}");
        assert_eq!(world.volumes.all().len(), 1, "{context}: what was made is gone");
        assert_eq!(world.volumes.status(data).as_deref(), Some("in-use"), "{context}: it is the server's still");
        world.delete(&conducting.conductor, id).await;
        world.status(id, Status::Deleted).await;
        assert_eq!(world.volumes.status(data).as_deref(), Some("available"), "{context}");
        world.assert_volumes_agree(HOST, &context).await;
        world.assert_no_orphans(&[HOST], &context).await;
    })
    .await;
    println!("failed create with volumes: {places:#?}");
}

#[tokio::test]
async fn a_delete_in_the_midst_of_a_create_lets_all_volumes_go() {
    at_every_moment(async |crash| {
        let world = World::new().await;
        let _agent = world.agent(HOST);
        let first = world.doomed(crash.clone());
        world.hosts(1).await;
        let (server, data) = volume_backed(&world, true).await;
        let id = world.create(&server).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        world.delete(&first.conductor, id).await;
        drop(first);
        let _conducting = world.conductor().await;
        let context = crash.place();
        until(&context, async || (world.flows().await == 0 && world.volumes.attachments().is_empty()).then_some(()))
            .await;
        world.quiet(&context).await;
        assert_eq!(world.volumes.all().len(), 1, "{context}");
        assert_eq!(world.volumes.status(data).as_deref(), Some("available"), "{context}");
        world.assert_volumes_agree(HOST, &context).await;
        world.assert_no_orphans(&[HOST], &context).await;
    })
    .await;
}

#[tokio::test]
async fn a_volume_that_cannot_be_made_is_the_fault_of_the_server() {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let _agent = world.agent(HOST);
    world.hosts(1).await;
    world.volumes.new_ones(1, Some("error"));
    let (server, _) = volume_backed(&world, true).await;
    let id = world.create(&server).await;
    conducting.nudge();
    let server = world.status(id, Status::Error).await;
    let fault = server.state.fault.unwrap().message;
    assert!(fault.contains("did not finish being created: its status is error"), "{fault}");
    assert_eq!(world.volumes.all().len(), 1, "the broken one is gone");
    world.assert_no_orphans(&[HOST], "error").await;
}

#[tokio::test]
async fn a_server_that_finds_no_host_lets_its_volumes_go_when_it_is_deleted() {
    let mut world = World::new().await;
    world.size = HostSize { vcpus: 1, memory_mib: 1 };
    let conducting = world.conductor().await;
    let _agent = world.agent(HOST);
    world.hosts(1).await;
    let (server, data) = volume_backed(&world, true).await;
    let id = world.create(&server).await;
    conducting.nudge();
    let server = world.status(id, Status::Error).await;
    assert_eq!(world.mapped(id).await.unwrap().cell, Some(Cells::ZERO));
    assert_eq!((server.state.volumes.len(), world.volumes.all().len()), (2, 1), "none was made");
    assert_eq!(world.volumes.status(data).as_deref(), Some("reserved"));
    world.delete(&conducting.conductor, id).await;
    world.status(id, Status::Deleted).await;
    assert_eq!(world.volumes.status(data).as_deref(), Some("available"));
    world.assert_volumes_agree(HOST, "deleted").await;
}

#[tokio::test]
async fn volumes_come_to_servers_and_leave_them() {
    let world = World::new().await;
    let (conducting, _agent, id, volume) = running(&world).await;
    for on in [true, false] {
        if !on {
            world.act(&conducting.conductor, id, Action::Stop).await.unwrap();
            world.status(id, Status::Shutoff).await;
        }
        let device = world.attach(&conducting.conductor, id, volume).await;
        world.volume_is(volume, "in-use").await;
        world.quiet("attached").await;
        let server = world.row(id).await.unwrap();
        assert_eq!((server.state.volumes[0].phase, server.state.volumes[0].id), (Phase::Attached, device));
        world.assert_volumes_agree(HOST, "attached").await;
        world.detach(&conducting.conductor, id, device).await;
        world.volume_is(volume, "available").await;
        world.quiet("detached").await;
        assert!(world.row(id).await.unwrap().state.volumes.is_empty());
        world.assert_volumes_agree(HOST, "detached").await;
    }
    let (attach, events) = world.action(id, "volume_attach").await;
    assert_eq!((attach.finished_at.is_some(), attach.message), (true, None));
    let mut names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["compute_attach_volume", "volume_attach"]);
    assert!(world.action(id, "volume_detach").await.0.finished_at.is_some());
}

#[tokio::test]
async fn attaching_and_detaching_survive_a_crash_at_every_moment() {
    let world = World::new().await;
    let (conducting, _agent, id, volume) = running(&world).await;
    conducting.stop().await;
    for detaching in [false, true] {
        let places = at_every_moment(async |crash| {
            let device = world.row(id).await.unwrap().state.volumes.first().map(|device| device.id);
            let first = world.doomed(crash.clone());
            match (detaching, device) {
                (true, None) | (false, Some(_)) => panic!("the round before left it so: {device:?}"),
                (true, Some(device)) => world.detach(&first.conductor, id, device).await,
                (false, None) => drop(world.attach(&first.conductor, id, volume).await),
            }
            first.conductor.run_until_idle(DEADLINE).await.unwrap();
            drop(first);
            let context = format!("detaching {detaching}: {}", crash.place());
            // What its owner sees at rest may be taken up at once: nothing of the flow may come after that.
            let now = world.row(id).await.unwrap().state.volumes.first().map(|device| device.phase);
            if now == (!detaching).then_some(Phase::Attached) {
                assert_eq!(world.flows().await, 0, "{context}: it is at rest");
            }
            let conducting = world.conductor().await;
            world.volume_is(volume, if detaching { "available" } else { "in-use" }).await;
            world.quiet(&context).await;
            world.assert_volumes_agree(HOST, &context).await;
            // Back to where it began.
            match world.row(id).await.unwrap().state.volumes.first() {
                Some(device) if !detaching => world.detach(&conducting.conductor, id, device.id).await,
                None if detaching => drop(world.attach(&conducting.conductor, id, volume).await),
                other => panic!("{context}: {other:?}"),
            }
            world.volume_is(volume, if detaching { "in-use" } else { "available" }).await;
            world.quiet(&context).await;
            conducting.stop().await;
        })
        .await;
        println!("detaching {detaching}: {places:#?}");
        assert!(places.len() >= 8, "{places:?}");
        // What is detached next has to be attached first.
        let conducting = world.conductor().await;
        if !detaching {
            world.attach(&conducting.conductor, id, volume).await;
            world.volume_is(volume, "in-use").await;
            world.quiet("for the second round").await;
        }
        conducting.stop().await;
    }
}

/// The volume says that it is in use before the flow that attached it has ended.
#[tokio::test]
async fn a_detach_that_comes_early_waits_for_the_attach_whenever_it_crashes() {
    let world = World::new().await;
    let (conducting, _agent, id, volume) = running(&world).await;
    conducting.stop().await;
    let places = at_every_moment(async |crash| {
        let first = world.doomed(crash.clone());
        let device = world.attach(&first.conductor, id, volume).await;
        world.detach(&first.conductor, id, device).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let context = crash.place();
        let conducting = world.conductor().await;
        world.volume_is(volume, "available").await;
        world.quiet(&context).await;
        assert_eq!(world.row(id).await.unwrap().state.volumes, [], "{context}");
        for action in ["volume_attach", "volume_detach"] {
            let (action, _) = world.action(id, action).await;
            assert_eq!((action.finished_at.is_some(), action.message), (true, None), "{context}");
        }
        world.assert_volumes_agree(HOST, &context).await;
        conducting.stop().await;
    })
    .await;
    println!("{places:#?}");
    assert!(places.len() >= 8, "{places:?}");
}

#[tokio::test]
async fn a_failed_attach_leaves_server_and_volume_as_they_were() {
    let world = World::new().await;
    let (conducting, _agent, id, volume) = running(&world).await;
    world.sim.fail_next(Operation::Attach, 1, Kind::Internal);
    world.attach(&conducting.conductor, id, volume).await;
    world.volume_is(volume, "available").await;
    world.quiet("failed").await;
    let server = world.status(id, Status::Active).await;
    assert_eq!((server.state.volumes.len(), server.state.fault.as_ref()), (0, None));
    let (attach, events) = world.action(id, "volume_attach").await;
    assert_eq!((attach.finished_at.is_some(), attach.message.as_deref()), (true, Some("Error")));
    assert!(events.iter().any(|event| event.name == "compute_attach_volume" && event.ok == Some(false)), "{events:?}");
    world.assert_volumes_agree(HOST, "failed").await;
    // And the next one is as good as any.
    world.attach(&conducting.conductor, id, volume).await;
    world.volume_is(volume, "in-use").await;
}

#[tokio::test]
async fn what_fails_to_attach_or_detach_is_as_it_was_whenever_it_crashes() {
    for (operation, action) in [(Operation::Attach, "volume_attach"), (Operation::Detach, "volume_detach")] {
        let places = at_every_moment(async |crash| {
            let world = World::new().await;
            let (conducting, _agent, id, volume) = running(&world).await;
            let detaching = operation == Operation::Detach;
            let device = if detaching { Some(world.attach(&conducting.conductor, id, volume).await) } else { None };
            world.quiet("prepared").await;
            conducting.stop().await;
            let first = world.doomed(crash.clone());
            world.sim.fail_next(operation, 99, Kind::Internal);
            match device {
                Some(device) => world.detach(&first.conductor, id, device).await,
                None => drop(world.attach(&first.conductor, id, volume).await),
            }
            first.conductor.run_until_idle(DEADLINE).await.unwrap();
            drop(first);
            let context = format!("{operation:?}: {}", crash.place());
            if world.action(id, action).await.0.finished_at.is_some() {
                assert_eq!(world.flows().await, 0, "{context}: it has ended");
            }
            let conducting = world.conductor().await;
            world.volume_is(volume, if detaching { "in-use" } else { "available" }).await;
            world.quiet(&context).await;
            assert_eq!(world.row(id).await.unwrap().state.volumes.len(), usize::from(detaching), "{context}");
            assert_eq!(world.action(id, action).await.0.message.as_deref(), Some("Error"), "{context}");
            world.assert_volumes_agree(HOST, &context).await;
            conducting.stop().await;
        })
        .await;
        println!("{operation:?}: {places:#?}");
        assert!(places.len() >= 10, "{places:?}");
    }
}

#[tokio::test]
async fn a_volume_that_the_guest_does_not_let_go_stays_attached() {
    let world = World::new().await;
    let (conducting, _agent, id, volume) = running(&world).await;
    let device = world.attach(&conducting.conductor, id, volume).await;
    world.volume_is(volume, "in-use").await;
    world.quiet("attached").await;
    world.sim.fail_next(Operation::Detach, 1, Kind::Internal);
    world.detach(&conducting.conductor, id, device).await;
    world.quiet("kept").await;
    let server = world.status(id, Status::Active).await;
    assert_eq!(server.state.volumes[0].phase, Phase::Attached);
    assert_eq!(world.volumes.status(volume).as_deref(), Some("in-use"));
    assert!(world.volumes.calls().iter().any(|(call, _)| *call == "roll_detaching"));
    assert_eq!(world.action(id, "volume_detach").await.0.message.as_deref(), Some("Error"));
    world.assert_volumes_agree(HOST, "kept").await;
}

#[tokio::test]
async fn a_server_that_is_deleted_while_it_gets_a_volume_lets_it_go() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let (conducting, _agent, id, volume) = running(&world).await;
        conducting.stop().await;
        let first = world.doomed(crash.clone());
        world.attach(&first.conductor, id, volume).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        world.delete(&first.conductor, id).await;
        drop(first);
        let _conducting = world.conductor().await;
        let context = crash.place();
        world.status(id, Status::Deleted).await;
        world.volume_is(volume, "available").await;
        world.quiet(&context).await;
        world.assert_volumes_agree(HOST, &context).await;
        world.assert_no_orphans(&[HOST], &context).await;
    })
    .await;
    assert!(places.len() >= 8, "{places:?}");
}

#[tokio::test]
async fn the_volume_service_may_be_away_for_a_while() {
    let world = World::new().await;
    let (conducting, _agent, id, volume) = running(&world).await;
    world.volumes.fail_next("connect", 2, Kind::Unavailable);
    world.volumes.fail_next("complete", 2, Kind::Unavailable);
    let device = world.attach(&conducting.conductor, id, volume).await;
    world.volume_is(volume, "in-use").await;
    world.quiet("attached").await;
    world.volumes.fail_next("begin_detaching", 2, Kind::Unavailable);
    world.volumes.fail_next("release", 2, Kind::Unavailable);
    world.detach(&conducting.conductor, id, device).await;
    world.volume_is(volume, "available").await;
    world.volumes.fail_next("release", 3, Kind::Unavailable);
    world.attach(&conducting.conductor, id, volume).await;
    world.volume_is(volume, "in-use").await;
    world.quiet("attached again").await;
    world.delete(&conducting.conductor, id).await;
    world.status(id, Status::Deleted).await;
    world.volume_is(volume, "available").await;
}

/// The process died in the request, between the reservation and the server.
#[tokio::test]
async fn what_was_reserved_for_a_server_that_never_came_is_let_go() {
    let world = World::new().await;
    let server = world.server();
    let volume = world.reserved(&server).await.volume_id.unwrap();
    let began = SystemClock.now().minus(flows::RESERVING + Duration::from_secs(1));
    tx!(world.api.db, "guard", |tx| {
        let flow = NewFlow {
            id: &server.id.to_string(),
            kind: flows::SERVER_RESERVE,
            first_step: flows::SERVER_RESERVE_FIRST,
            state: &flows::ServerReserve { server_id: server.id },
            request_id: "req-1",
            now: began,
            deadline: began.plus(flows::FOREVER),
        };
        enqueue(tx, flow).await
    })
    .unwrap();
    let conducting = world.conductor().await;
    conducting.nudge();
    world.volume_is(volume, "available").await;
    world.quiet("let go").await;
}

/// The process died in the request, before or after the volume was reserved.
#[tokio::test]
async fn a_request_that_dies_while_it_attaches_leaves_nothing() {
    for reserved in [false, true] {
        let world = World::new().await;
        let (conducting, _agent, id, volume) = running(&world).await;
        if reserved {
            world.volumes.reserve(Who::Compute, &volume.to_string(), id).await.unwrap();
        }
        let began = SystemClock.now().minus(Duration::from_secs(61));
        let device = BlockDevice::planned(BlockDeviceId::from_uuid(Uuid::new_v4()), Some(volume), 1 << 30, began);
        world.plan(&conducting.conductor, id, device).await;
        world.quiet("taken back").await;
        assert_eq!(world.volumes.status(volume).as_deref(), Some("available"));
        assert!(world.row(id).await.unwrap().state.volumes.is_empty());
        assert_eq!(world.action(id, "volume_attach").await.0.message.as_deref(), Some("Error"));
    }
}
