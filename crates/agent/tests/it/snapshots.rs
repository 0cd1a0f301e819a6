//! Snapshots of servers' disks, and their way to the image service.

use std::time::Duration;

use umbel_bus::{DiskRef, Task, TaskReply, ToAgents};
use umbel_core::{Kind, Result};
use umbel_driver::{Mode, Operation, Pool};
use uuid::Uuid;

use crate::world::{HOST, MIB, Running, World, at, disk_name, on};

struct Server {
    world: World,
    id: Uuid,
    _agent: Running,
}

impl Server {
    async fn new() -> Server {
        let (world, id) = (World::new(), Uuid::new_v4());
        let (image, agent) = (world.image().await, world.agent());
        world.want(id, on(id, &image)).await;
        assert_eq!(world.cell.done(id).await.fault, None);
        Server { world, id, _agent: agent }
    }

    fn root(&self) -> DiskRef {
        at("vms", disk_name(self.id))
    }

    async fn ask(&self, task: Task) -> Result<TaskReply> {
        self.world.hub.task(HOST, task, Duration::from_secs(20)).await
    }

    fn snapshot(&self, quiesce: bool) -> Task {
        Task::Snapshot { server_id: self.id, disks: vec![self.root()], snapshot: "snap".into(), quiesce }
    }

    async fn snapshots(&self) -> Vec<String> {
        self.world.pool.stat(&disk_name(self.id)).await.unwrap().unwrap().snapshots
    }
}

#[tokio::test]
async fn a_snapshot_is_made_once_and_told_each_time() {
    let server = Server::new().await;
    for _ in 0..2 {
        let TaskReply::Snapshot(made) = server.ask(server.snapshot(false)).await.unwrap() else {
            panic!("a snapshot was asked for")
        };
        let location = server.world.pool.location(&disk_name(server.id), "snap").to_string();
        assert_eq!((made.len(), made[0].location.as_str(), made[0].size_bytes), (1, location.as_str(), 4 * MIB));
        assert_eq!(server.snapshots().await, ["snap"]);
    }
    let remove = Task::RemoveSnapshot { server_id: server.id, disks: vec![server.root()], snapshot: "snap".into() };
    for _ in 0..2 {
        assert_eq!(server.ask(remove.clone()).await.unwrap(), TaskReply::Done);
        assert_eq!(server.snapshots().await, Vec::<String>::new());
    }
    let gone = vec![at("vms", "gone".into())];
    let remove = Task::RemoveSnapshot { server_id: server.id, disks: gone.clone(), snapshot: "snap".into() };
    assert_eq!(server.ask(remove).await.unwrap(), TaskReply::Done);
    let task = Task::Snapshot { server_id: server.id, disks: gone, snapshot: "snap".into(), quiesce: false };
    assert!(server.ask(task).await.unwrap_err().is(Kind::NotFound));
}

#[tokio::test]
async fn quiescing_that_is_required_needs_an_agent() {
    let server = Server::new().await;
    let error = server.ask(server.snapshot(true)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::Conflict, "The guest cannot be quiesced: No agent answers in the guest.")
    );
    assert_eq!(server.snapshots().await, Vec::<String>::new());
    // One that is off writes nothing.
    server.world.hypervisor.guest_powers_off(server.id).unwrap();
    server.ask(server.snapshot(true)).await.unwrap();
    assert_eq!(server.snapshots().await, ["snap"]);
}

/// The guest holds its file systems just as long as it takes.
#[tokio::test]
async fn a_guest_with_an_agent_is_held_meanwhile() {
    let server = Server::new().await;
    let (world, id) = (&server.world, server.id);
    world.hypervisor.guest_runs_agent(id).unwrap();
    world.sim.set_mode(Mode::Stepped);
    let steps = async {
        let mut steps = Vec::new();
        for _ in 0..3 {
            let waiting = world.sim.next_waiting().await;
            steps.push((waiting.operation, world.hypervisor.is_frozen(id).unwrap()));
            world.sim.release(waiting.ticket);
        }
        steps
    };
    let (made, steps) = tokio::join!(server.ask(server.snapshot(false)), steps);
    made.unwrap();
    assert_eq!(steps, [(Operation::Freeze, false), (Operation::Snapshot, true), (Operation::Thaw, true)]);
    assert!(!world.hypervisor.is_frozen(id).unwrap());
}

#[tokio::test]
async fn a_guest_is_let_go_whatever_happens() {
    let server = Server::new().await;
    let (world, id) = (&server.world, server.id);
    world.hypervisor.guest_runs_agent(id).unwrap();
    world.sim.fail_next(Operation::Snapshot, 1, Kind::NoSpace);
    assert!(server.ask(server.snapshot(true)).await.unwrap_err().is(Kind::NoSpace));
    assert!(!world.hypervisor.is_frozen(id).unwrap());
    // It froze, and the answer was lost.
    world.sim.lose_answers(Operation::Freeze, 1);
    assert!(server.ask(server.snapshot(true)).await.is_err());
    assert!(!world.hypervisor.is_frozen(id).unwrap());

    // Nobody waits any more.
    world.sim.set_mode(Mode::Stepped);
    let task = world.hub.task(HOST, server.snapshot(true), Duration::from_secs(20));
    let until_frozen = async { world.sim.step().await };
    tokio::select! {
        _ = task => panic!("nothing was released"),
        waiting = until_frozen => assert_eq!(waiting.operation, Operation::Freeze),
    }
    assert_eq!(world.sim.step().await.operation, Operation::Snapshot);
    assert_eq!(world.sim.step().await.operation, Operation::Thaw);
    world.sim.set_mode(Mode::default());
    // Waits for its turn behind the other.
    server.ask(server.snapshot(true)).await.unwrap();
    assert!(!world.hypervisor.is_frozen(id).unwrap());
}

#[tokio::test]
async fn several_disks_are_taken_at_one_point() {
    let server = Server::new().await;
    let disks = vec![server.root(), at("vms", format!("{}_disk.config", server.id))];
    let task = Task::Snapshot { server_id: server.id, disks: disks.clone(), snapshot: "snap".into(), quiesce: false };
    let TaskReply::Snapshot(made) = server.ask(task).await.unwrap() else { panic!("a snapshot was asked for") };
    let names: Vec<_> = disks.iter().map(|disk| server.world.pool.location(&disk.name, "snap").to_string()).collect();
    assert_eq!(made.iter().map(|one| one.location.clone()).collect::<Vec<_>>(), names);
}

#[tokio::test]
async fn a_snapshot_is_sent_to_the_image_service_once() {
    let server = Server::new().await;
    let world = &server.world;
    world.pool.guest_writes(&disk_name(server.id), 0, b"before").unwrap();
    server.ask(server.snapshot(false)).await.unwrap();
    world.pool.guest_writes(&disk_name(server.id), 0, b"after!").unwrap();
    // It grows meanwhile, and the snapshot does not.
    world.pool.resize(&disk_name(server.id), 6 * MIB).await.unwrap();
    let TaskReply::Snapshot(made) = server.ask(server.snapshot(false)).await.unwrap() else {
        panic!("a snapshot was asked for")
    };
    assert_eq!(made[0].size_bytes, 4 * MIB);
    let export =
        Task::Export { server_id: server.id, disk: server.root(), snapshot: "snap".into(), image_id: "new".into() };
    let (one, two) = tokio::join!(server.ask(export.clone()), server.ask(export.clone()));
    assert_eq!((one.unwrap(), two.unwrap()), (TaskReply::Done, TaskReply::Done));
    assert_eq!(*world.images.uploads.lock(), ["new"]);
    let sent = world.images.bytes.lock()["new"].clone();
    assert_eq!((sent.len() as u64, &sent[..6]), (4 * MIB, &b"before"[..]));

    let missing =
        Task::Export { server_id: server.id, disk: server.root(), snapshot: "none".into(), image_id: "other".into() };
    assert!(server.ask(missing).await.unwrap_err().is(Kind::NotFound));
}

/// For snapshots that the volume service makes.
#[tokio::test]
async fn a_guest_is_held_for_others_and_not_for_ever() {
    let server = Server::new().await;
    let (world, server_id) = (&server.world, server.id);
    let frozen = || world.hypervisor.is_frozen(server_id).unwrap();
    let freeze = |limit_ms, required| server.ask(Task::Freeze { server_id, limit_ms, required });
    let thaw = || server.ask(Task::Thaw { server_id });
    let (held, loose) = (TaskReply::Held(true), TaskReply::Held(false));
    const LONG: u64 = 600_000;

    // Without an agent in the guest it goes on, or not.
    assert_eq!(freeze(LONG, false).await.unwrap(), loose);
    assert!(freeze(LONG, true).await.unwrap_err().is(Kind::Conflict));
    assert_eq!(thaw().await.unwrap(), loose);

    world.hypervisor.guest_runs_agent(server_id).unwrap();
    for _ in 0..2 {
        assert_eq!(freeze(LONG, true).await.unwrap(), held);
        assert!(frozen());
    }
    assert_eq!(thaw().await.unwrap(), held);
    assert!(!frozen());
    assert_eq!(thaw().await.unwrap(), loose);

    // Nobody comes to let it go.
    assert_eq!(freeze(1, true).await.unwrap(), held);
    eventually(async || !frozen()).await;
    assert_eq!(thaw().await.unwrap(), loose);

    // A guest that is off writes nothing.
    world.hypervisor.guest_powers_off(server_id).unwrap();
    assert_eq!((freeze(LONG, true).await.unwrap(), thaw().await.unwrap()), (held.clone(), held));
}

async fn eventually(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it never came to be");
}
