//! Volumes that go from one disk to another under their guests.

use std::time::Duration;

use futures_util::TryStreamExt;
use umbel_bus::{DiskSource, Domain, Move, Moved, Restart, Target, Task, TaskReply, ToAgents, Volume};
use umbel_core::Kind;
use umbel_driver::{Mode, Operation, Pool, SimulatedPool, Timings};
use uuid::Uuid;

use crate::world::{HOST, MIB, Running, VOLUMES, World, at, domain, present};

const SIZE: u64 = 8 * MIB;

/// A server with a volume, and a disk in another pool that its bytes are to go to.
struct Server {
    world: World,
    id: Uuid,
    volume: Volume,
    source: SimulatedPool,
    agent: Option<Running>,
}

impl Server {
    async fn new() -> Server {
        let (world, volume_id) = (World::new(), Uuid::new_v4());
        let source = SimulatedPool::new(&world.sim, VOLUMES);
        let at_source = at(VOLUMES, format!("volume-{volume_id}"));
        let to = at("vms", format!("volume-{volume_id}"));
        source.create(&at_source.name, SIZE).await.unwrap();
        world.pool.create(&to.name, SIZE).await.unwrap();
        // What a copy that broke off may have left.
        world.pool.guest_writes(&to.name, 5 * MIB, &[9; 512]).unwrap();
        source.guest_writes(&at_source.name, MIB, &[1; 1_024]).unwrap();
        let (size_bytes, boot_index, read_only) = (SIZE, None, false);
        let volume = Volume { volume_id, seen_as: None, at: at_source, to: None, size_bytes, boot_index, read_only };
        let agent = Some(world.agent());
        let server = Server { world, id: Uuid::new_v4(), volume, source, agent };
        server.want(Target::On, None, false).await;
        server
    }

    /// As the conductor has it, before a move or while one is under way.
    async fn want(&self, power: Target, restart: Option<Restart>, moving: bool) {
        let to = self.wanted().to;
        let volume = Volume { to: moving.then_some(to), ..self.volume.clone() };
        let disk = domain(self.id, "vms", DiskSource::Blank);
        self.world.want(self.id, present(Domain { power, restart, volumes: vec![volume], ..disk })).await;
        assert_eq!(self.world.cell.done(self.id).await.fault, None);
    }

    fn wanted(&self) -> Move {
        let to = at("vms", self.volume.at.name.clone());
        Move { server_id: self.id, seen_as: self.volume.volume_id, from: self.volume.at.clone(), to }
    }

    async fn ask(&self, task: Task) -> Moved {
        match self.world.hub.task(HOST, task, Duration::from_secs(60)).await.unwrap() {
            TaskReply::Moved(moved) => moved,
            other => panic!("{other:?}"),
        }
    }

    /// Asks until it has ended.
    async fn moves(&self) -> Moved {
        loop {
            match self.ask(Task::Move(self.wanted())).await {
                Moved::Copying { .. } => {}
                ended => return ended,
            }
        }
    }

    /// What the guest was started with, or has gone over to.
    fn pool_of_guest(&self) -> String {
        let spec = self.world.hypervisor.spec(self.id).unwrap();
        let serial = self.volume.volume_id.to_string()[..20].to_owned();
        let disk = spec.disks.into_iter().find(|disk| disk.serial == serial).unwrap();
        match disk.attachment {
            umbel_driver::Attachment::Simulated { pool, .. } => pool,
            other => panic!("{other:?}"),
        }
    }

    async fn assert_copied(&self) {
        let name = &self.volume.at.name;
        let mut bytes = Vec::new();
        for pool in [&self.source, &self.world.pool] {
            let read = pool.read(name, None, 0, SIZE).await.unwrap();
            bytes.push(read.try_collect::<Vec<_>>().await.unwrap().concat());
        }
        assert!(bytes[0] == bytes[1] && bytes[0][MIB as usize] == 1, "all bytes are there, and no others");
    }

    async fn agent_dies(&mut self) {
        self.agent.take().unwrap().kill().await;
        self.agent = Some(self.world.agent());
        let desired = self.world.cell.desired.lock()[&self.id].clone();
        self.world.hub.desire(HOST, desired).await.unwrap();
    }
}

#[tokio::test]
async fn a_guest_that_runs_goes_over() {
    let server = Server::new().await;
    server.want(Target::On, None, true).await;
    assert_eq!(server.moves().await, Moved::There);
    server.assert_copied().await;
    assert_eq!(server.pool_of_guest(), "vms");
    assert_eq!(server.moves().await, Moved::There, "again");
    // Started anew before anybody has written down that it is there, it is there.
    server.want(Target::On, Some(Restart::Hard), true).await;
    assert_eq!(server.pool_of_guest(), "vms");
    assert_eq!(server.ask(Task::StopMove(server.wanted())).await, Moved::There);
    let observed = server.world.cell.done(server.id).await;
    assert_eq!(observed.volumes, [server.volume.volume_id]);
}

#[tokio::test]
async fn a_guest_that_is_off_has_its_bytes_copied() {
    let mut server = Server::new().await;
    server.want(Target::Off, None, true).await;
    assert_eq!(server.moves().await, Moved::There);
    server.assert_copied().await;
    server.agent_dies().await;
    // Nothing is copied over what the guest has written since.
    server.want(Target::On, None, true).await;
    assert_eq!(server.pool_of_guest(), "vms");
    server.world.pool.guest_writes(&server.volume.at.name, 0, &[3; 512]).unwrap();
    server.world.hypervisor.guest_powers_off(server.id).unwrap();
    assert_eq!(server.moves().await, Moved::There);
    let read = server.world.pool.read(&server.volume.at.name, None, 0, 1).await.unwrap();
    assert_eq!(read.try_collect::<Vec<_>>().await.unwrap().concat(), [3]);
}

#[tokio::test]
async fn a_start_does_not_wait_for_a_copy() {
    let server = Server::new().await;
    server.want(Target::Off, None, true).await;
    let forever = Timings { of: [(Operation::Patch, Duration::from_secs(3_600))].into(), ..Timings::default() };
    server.world.sim.set_mode(Mode::Timed(forever));
    assert!(matches!(server.ask(Task::Move(server.wanted())).await, Moved::Copying { .. }));
    server.want(Target::On, None, true).await;
    assert_eq!(server.moves().await, Moved::There);
    assert_eq!(server.pool_of_guest(), "vms");
    server.assert_copied().await;
}

#[tokio::test]
async fn a_move_that_fails_or_is_stopped_leaves_the_volume() {
    let server = Server::new().await;
    server.want(Target::On, None, true).await;
    server.world.sim.fail_next(Operation::Mirror, 1, Kind::Internal);
    let Moved::NotThere { reason: Some(reason) } = server.moves().await else { panic!("it was told to fail") };
    assert!(reason.contains("told to fail"), "{reason}");
    let stuck = Timings { of: [(Operation::Mirror, Duration::from_secs(2))].into(), ..Timings::default() };
    server.world.sim.set_mode(Mode::Timed(stuck));
    assert!(matches!(server.ask(Task::Move(server.wanted())).await, Moved::Copying { .. }));
    assert_eq!(server.ask(Task::StopMove(server.wanted())).await, Moved::NotThere { reason: None });
    assert_eq!(server.pool_of_guest(), VOLUMES);
    let mut nowhere = server.wanted();
    nowhere.to.pool = "nowhere".into();
    let Moved::NotThere { reason: Some(reason) } = server.ask(Task::Move(nowhere)).await else {
        panic!("there is no such pool")
    };
    assert!(reason.contains("no pool 'nowhere'"), "{reason}");
    server.world.sim.set_mode(Mode::default());
    assert_eq!(server.moves().await, Moved::There);
}

/// Killed before each step of the hypervisor's, and before the copy of one that is off.
#[tokio::test]
async fn a_move_survives_the_death_of_its_agent() {
    for (power, operation, times) in [(Target::On, Operation::Mirror, 2), (Target::Off, Operation::Patch, 1)] {
        for before in 0..times {
            let mut server = Server::new().await;
            server.want(power, None, true).await;
            server.world.sim.set_mode(Mode::Stepped);
            let asked = async { server.ask(Task::Move(server.wanted())).await };
            let dies = async {
                let mut seen = 0;
                loop {
                    let waiting = server.world.sim.next_waiting().await;
                    if waiting.operation == operation {
                        if seen == before {
                            return;
                        }
                        seen += 1;
                    }
                    server.world.sim.release(waiting.ticket);
                }
            };
            tokio::join!(asked, dies);
            server.agent_dies().await;
            server.world.sim.set_mode(Mode::default());
            assert_eq!(server.moves().await, Moved::There, "{operation:?} {before}");
            server.assert_copied().await;
            server.want(Target::On, None, true).await;
            assert_eq!(server.pool_of_guest(), "vms");
        }
    }
}
