//! Volumes of servers go to other disks: to another pool, or to the place of another volume.

use umbel_compute::flows::{self, NewVolume};
use umbel_compute::model::*;
use umbel_compute::testing::POOL;
use umbel_conductor::Conductor;
use umbel_core::{Clock, Kind, SystemClock};
use umbel_db::tx;
use umbel_driver::{Attachment, Operation, Pool, SimulatedPool};
use umbel_workflow::harness::at_every_moment;
use uuid::Uuid;

use crate::volume_world::GIB;
use crate::world::{Conducting, DEADLINE, Running, SECOND, World};

const HOST: &str = "h1";

/// A server that has a volume, which is filled.
struct Site {
    world: World,
    id: ServerId,
    device: BlockDeviceId,
    volume: Uuid,
    _agent: Running,
}

impl Site {
    /// Nobody conducts any more.
    async fn new() -> Site {
        let world = World::new().await;
        let conducting = world.conductor().await;
        let agent = world.agent(HOST);
        world.hosts(1).await;
        let id = world.create(&world.server()).await;
        conducting.nudge();
        world.status(id, Status::Active).await;
        let volume = world.volumes.add(1, |_| {}).await;
        let device = world.attach(&conducting.conductor, id, volume).await;
        world.volume_is(volume, "in-use").await;
        world.quiet("attached").await;
        conducting.stop().await;
        let site = Site { world, id, device, volume, _agent: agent };
        site.pool(POOL).guest_writes(&site.disk(), 0, b"mine").unwrap();
        site
    }

    fn pool(&self, name: &str) -> SimulatedPool {
        SimulatedPool::new(&self.world.sim, name)
    }

    fn disk(&self) -> String {
        format!("volume-{}", self.volume)
    }

    /// As the volume service begins a migration.
    async fn migrate(&self, conductor: &Conductor, pool: &str) {
        self.pool(pool).remove(&self.disk()).await.unwrap();
        self.pool(pool).create(&self.disk(), GIB).await.unwrap();
        self.world.volumes.migrate(self.volume, pool);
        self.begin(conductor, None).await;
    }

    /// `PUT /servers/{id}/os-volume_attachments/{volume}`.
    async fn swap(&self, conductor: &Conductor, volume_id: Uuid) {
        self.begin(conductor, Some(NewVolume { volume_id, size_bytes: GIB })).await;
    }

    async fn begin(&self, conductor: &Conductor, new: Option<NewVolume>) {
        let now = SystemClock.now();
        let (server_id, device) = (self.id, self.device);
        let state = flows::VolumeSwap { server_id, device, new, old_attachment: None, moved: false };
        tx!(self.world.cell.db, "swap", |tx| flows::swap_volume(tx, &state, "req-swap", now).await).unwrap();
        conductor.cell(crate::world::CELL).unwrap().changed(self.id).await.unwrap();
    }

    /// Pool and disk that the guest has.
    fn has(&self) -> (String, String) {
        let spec = self.world.hypervisor(HOST).spec(self.id.uuid()).unwrap();
        let serial = self.volume.to_string()[..20].to_owned();
        match spec.disks.into_iter().find(|disk| disk.serial == serial).unwrap().attachment {
            Attachment::Simulated { pool, disk } => (pool, disk),
            other => panic!("{other:?}"),
        }
    }

    async fn reads(&self, pool: &str, disk: &str) -> Vec<u8> {
        let read = self.pool(pool).read(disk, None, 0, 4).await.unwrap();
        futures_util::TryStreamExt::try_collect::<Vec<_>>(read).await.unwrap().concat()
    }

    async fn done(&self, context: &str) -> BlockDevice {
        self.world.quiet(context).await;
        let server = self.world.status(self.id, Status::Active).await;
        assert!(!server.has_moving_volumes(), "{context}");
        server.state.volumes[0].clone()
    }

    async fn agree(&self, context: &str) {
        self.world.assert_volumes_agree(HOST, context).await;
        self.world.assert_no_orphans(&[HOST], context).await;
    }
}

#[tokio::test]
async fn a_migration_survives_a_crash_at_every_moment() {
    let site = Site::new().await;
    let places = at_every_moment(async |crash| {
        let (from, _) = site.world.volumes.place(site.volume);
        let to = if from == POOL { SECOND } else { POOL };
        let first = site.world.doomed(crash.clone());
        site.migrate(&first.conductor, to).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let conducting = site.world.conductor().await;
        let context = crash.place();
        let device = site.done(&context).await;
        assert_eq!(device.connection.unwrap().pool, to, "{context}");
        assert_eq!((site.world.volumes.place(site.volume), site.has().0), ((to.to_owned(), false), to.to_owned()));
        assert_eq!(site.reads(to, &site.disk()).await, b"mine", "{context}");
        assert_eq!(site.world.volumes.status(site.volume).as_deref(), Some("in-use"), "{context}");
        site.agree(&context).await;
        conducting.stop().await;
    })
    .await;
    println!("migration: {places:#?}");
    assert!(places.len() >= 8, "{places:?}");
}

#[tokio::test]
async fn a_swap_survives_a_crash_at_every_moment() {
    let site = Site::new().await;
    let other = site.world.volumes.add(1, |_| {}).await;
    let places = at_every_moment(async |crash| {
        let server = site.world.row(site.id).await.unwrap();
        let before = server.state.volumes[0].volume_id.unwrap();
        let after = if before == other { site.volume } else { other };
        let first = site.world.doomed(crash.clone());
        site.swap(&first.conductor, after).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let conducting = site.world.conductor().await;
        let context = crash.place();
        let device = site.done(&context).await;
        assert_eq!((device.id, device.volume_id), (site.device, Some(after)), "{context}");
        assert_eq!(site.has().1, format!("volume-{after}"), "{context}");
        assert_eq!(site.reads(POOL, &format!("volume-{after}")).await, b"mine", "{context}");
        let statuses = [before, after].map(|volume| site.world.volumes.status(volume).unwrap());
        assert_eq!(statuses, ["available", "in-use"], "{context}");
        assert_eq!(site.world.volumes.attachments().len(), 1, "{context}");
        conducting.stop().await;
    })
    .await;
    println!("swap: {places:#?}");
    assert!(places.len() >= 8, "{places:?}");
}

#[tokio::test]
async fn a_move_that_fails_leaves_all_as_it_was_whenever_it_crashes() {
    for swapping in [false, true] {
        let site = Site::new().await;
        let other = site.world.volumes.add(1, |_| {}).await;
        let places = at_every_moment(async |crash| {
            let first = site.world.doomed(crash.clone());
            site.world.sim.fail_next(Operation::Mirror, 99, Kind::Internal);
            match swapping {
                true => site.swap(&first.conductor, other).await,
                false => site.migrate(&first.conductor, SECOND).await,
            }
            first.conductor.run_until_idle(DEADLINE).await.unwrap();
            drop(first);
            let conducting = site.world.conductor().await;
            let context = format!("swapping {swapping}: {}", crash.place());
            let device = site.done(&context).await;
            assert_eq!((device.volume_id, device.connection.unwrap().pool), (Some(site.volume), POOL.into()));
            assert_eq!(site.has(), (POOL.into(), site.disk()), "{context}");
            assert_eq!(site.world.volumes.place(site.volume), (POOL.into(), false), "{context}");
            let statuses = [site.volume, other].map(|volume| site.world.volumes.status(volume).unwrap());
            assert_eq!(statuses, ["in-use", "available"], "{context}");
            site.agree(&context).await;
            conducting.stop().await;
        })
        .await;
        println!("failed, swapping {swapping}: {places:#?}");
        assert!(places.len() >= 8, "{places:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_deleted_while_its_volume_moves_says_where_it_is() {
    for swapping in [false, true] {
        at_every_moment(async |crash| {
            let site = Site::new().await;
            let other = site.world.volumes.add(1, |_| {}).await;
            let first = site.world.doomed(crash.clone());
            match swapping {
                true => site.swap(&first.conductor, other).await,
                false => site.migrate(&first.conductor, SECOND).await,
            }
            first.conductor.run_until_idle(DEADLINE).await.unwrap();
            let (place, _) = site.has();
            site.world.delete(&first.conductor, site.id).await;
            drop(first);
            let _conducting: Conducting = site.world.conductor().await;
            let context = format!("swapping {swapping}: {}", crash.place());
            site.world.status(site.id, Status::Deleted).await;
            site.world.quiet(&context).await;
            for volume in [site.volume, other] {
                site.world.volume_is(volume, "available").await;
            }
            if !swapping {
                // One that never began is ended by the volume service, which sees that nobody has the volume.
                assert_eq!(site.world.volumes.place(site.volume).0, place, "{context}");
                assert_eq!(site.reads(&place, &site.disk()).await, b"mine", "{context}");
            }
            assert_eq!(site.world.volumes.attachments().len(), 0, "{context}");
            site.world.assert_no_orphans(&[HOST], &context).await;
        })
        .await;
    }
}
