//! Servers that come to be, and those that do not.

use umbel_compute::model::*;
use umbel_compute::store::servers;
use umbel_compute::{Cell, CellHandle, CellId, Cells};
use umbel_core::Kind;
use umbel_db::testing::open;
use umbel_db::{Engine, read};
use umbel_driver::{HostSize, Operation};
use uuid::Uuid;

use crate::world::{World, until};

#[tokio::test]
async fn a_server_becomes_active_on_every_engine() {
    for engine in Engine::ALL {
        let world = World::on(engine).await;
        let conducting = world.conductor().await;
        let _agent = world.agent("h1");
        world.hosts(1).await;
        let asked = world.server();
        let id = world.create(&asked).await;
        conducting.nudge();
        let server = world.status(id, Status::Active).await;
        assert_eq!(server.state.host.as_ref().unwrap().name, "h1");
        assert_eq!((server.state.zone.as_deref(), server.state.fault.as_ref()), (Some("nova"), None));
        assert!(server.state.launched_at.is_some());
        world.assert_no_orphans(&["h1"], "active").await;
        let spec = world.hypervisor("h1").spec(id.uuid()).unwrap();
        assert_eq!((spec.vcpus, spec.memory_mib, spec.disks.len()), (1, 512, 2));
        assert!(spec.disks[1].cdrom);
        let disks = world.disks(id).await;
        let names: Vec<_> = disks.iter().map(|disk| disk.name.clone()).collect();
        assert_eq!(names, [format!("{id}_disk"), format!("{id}_disk.config")]);

        let all = world.actions(id).await;
        let (action, events) = &all[0];
        assert_eq!((all.len(), action.action.as_str(), action.message.as_deref()), (1, "create", None));
        assert!(action.finished_at.is_some());
        let mut names: Vec<_> = events.iter().rev().map(|event| event.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["config_drive", "disk_clone", "domain_start", "schedule"]);
        assert!(events.iter().all(|event| event.ok == Some(true) && event.finished_at.is_some()));

        world.delete(&conducting.conductor, id).await;
        world.status(id, Status::Deleted).await;
        world.assert_no_orphans(&["h1"], "deleted").await;
        let all = world.actions(id).await;
        let (action, events) = &all[0];
        assert_eq!((action.action.as_str(), action.finished_at.is_some()), ("delete", true));
        assert_eq!(events.len(), 3, "{events:?}");
        assert!(world.mapped(id).await.unwrap().queued_for_delete);
        conducting.stop().await;
    }
}

#[tokio::test]
async fn the_funnel_is_the_fault_of_a_server_that_finds_no_host() {
    let mut world = World::new().await;
    world.size = HostSize { vcpus: 4, memory_mib: 256 };
    let conducting = world.conductor().await;
    let _agents = [world.agent("h1"), world.agent("h2")];
    world.hosts(2).await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let server = world.status(id, Status::Error).await;
    let fault = server.state.fault.unwrap();
    assert_eq!((fault.code, fault.message.as_str()), (500, "No valid host was found. 2 hosts -> 0 RAM"));
    assert_eq!(world.mapped(id).await.unwrap().cell, Some(Cells::ZERO));
    let all = world.actions(id).await;
    assert_eq!((all[0].0.action.as_str(), all[0].0.message.as_deref()), ("create", Some("Error")));
    assert_eq!(all[0].1[0].name, "schedule");
    world.quiet("in cell0").await;
    world.assert_no_orphans(&["h1", "h2"], "no host").await;
}

#[tokio::test]
async fn another_host_is_tried() {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let _agents = [world.agent("h1"), world.agent("h2")];
    world.hosts(2).await;
    world.sim.fail_next(Operation::Start, 1, Kind::Internal);
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let server = world.status(id, Status::Active).await;
    assert_eq!((server.state.fault, server.state.generation.0), (None, 3));
    world.assert_no_orphans(&["h1", "h2"], "second host").await;
    let all = world.actions(id).await;
    let schedules: Vec<_> = all[0].1.iter().filter(|event| event.name == "schedule").collect();
    assert_eq!(schedules.len(), 2);
    assert_ne!(schedules[0].host, schedules[1].host);
    assert!(schedules[0].details.as_deref().unwrap().contains("2 hosts -> 1 not tried"), "{schedules:?}");
    assert!(all[0].1.iter().any(|event| event.name == "domain_start" && event.ok == Some(false)));
}

#[tokio::test]
async fn a_server_that_no_host_can_make_is_in_error_and_leaves_nothing() {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let _agents = [world.agent("h1"), world.agent("h2")];
    world.hosts(2).await;
    world.sim.fail_next(Operation::Clone, 2, Kind::Internal);
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let server = world.status(id, Status::Error).await;
    let message = server.state.fault.unwrap().message;
    assert!(message.contains("told to fail") && message.contains("Tried: h"), "{message}");
    assert_eq!(server.state.host, None);
    world.assert_no_orphans(&["h1", "h2"], "failed").await;

    world.delete(&conducting.conductor, id).await;
    world.status(id, Status::Deleted).await;
    world.quiet("deleted").await;
}

#[tokio::test]
async fn hints_and_forced_hosts_are_heeded() {
    let world = World::new().await;
    let conducting = world.conductor().await;
    let _agents = ["h1", "h2", "h3"].map(|host| world.agent(host));
    world.hosts(3).await;
    let make = async |change: &dyn Fn(&mut ServerSpec)| {
        let mut server = world.server();
        let mut spec = (*server.spec).clone();
        change(&mut spec);
        server.spec = spec.into();
        world.create(&server).await;
        conducting.nudge();
        let server = world.status(server.id, Status::Active).await;
        (server.id, server.state.host.unwrap().name)
    };
    let (first, host) = make(&|spec| spec.requested_host = Some("h2".into())).await;
    assert_eq!(host, "h2");
    let hint = |name: &'static str| {
        move |spec: &mut ServerSpec| {
            spec.scheduler_hints.insert(name.into(), first.to_string().into());
        }
    };
    assert_eq!(make(&hint("same_host")).await.1, "h2");
    for _ in 0..4 {
        assert_ne!(make(&hint("different_host")).await.1, "h2");
    }
}

#[tokio::test]
async fn a_server_deleted_before_its_cell_is_chosen_ends_at_once() {
    let world = World::new().await;
    let id = world.create(&world.server()).await;
    let conducting = world.doomed(umbel_workflow::Crash::never());
    world.delete(&conducting.conductor, id).await;
    drop(conducting);
    let _conducting = world.conductor().await;
    world.quiet("deleted unplaced").await;
    assert_eq!(world.mapped(id).await.unwrap().cell, None);
    world.assert_no_orphans(&[], "deleted unplaced").await;
}

#[tokio::test]
async fn the_cell_with_room_takes_the_server() {
    let world = World::new().await;
    let other = open::<Cell>(Engine::Sqlite).await;
    let second = CellId::from_uuid(Uuid::from_u128(2));
    world.cells.add(CellHandle { id: second, name: "cell2".into(), db: other.db.clone() });
    let hub = umbel_bus::local();
    let mut conducting = {
        let agents: Vec<(CellId, std::sync::Arc<dyn umbel_bus::ToAgents>)> =
            vec![(crate::world::CELL, world.hub.clone()), (second, hub.clone())];
        world.conductor_of(agents)
    };
    conducting.run();
    let link: std::sync::Arc<dyn umbel_bus::ToConductor> = conducting.conductor.cell(second).unwrap();
    hub.conduct(&link);
    let _agent = world.agent_on(&hub, "far");
    until("the far host", async || {
        let hosts = read!(other.db, "hosts", |tx| umbel_placement::hosts(tx).await).unwrap();
        (!hosts.is_empty()).then_some(())
    })
    .await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    let server = world.status(id, Status::Active).await;
    assert_eq!(server.state.host.unwrap().name, "far");
    assert_eq!(world.mapped(id).await.unwrap().cell, Some(second));
    let here = read!(world.cell.db, "row", |tx| servers::get_many(tx, &[id]).await).unwrap();
    assert_eq!(here, []);
}
