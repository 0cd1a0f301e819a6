//! Volumes come to guests and leave them.

use std::sync::Arc;

use umbel_bus::{DiskSource, Domain, ImageSource, Power, Target, Volume};
use umbel_core::Kind;
use umbel_driver::{Hypervisor, Operation, Pool, SimulatedPool};
use uuid::Uuid;

use crate::world::{MIB, Running, VOLUMES, World, at, domain, names, present};

/// A world with a volume pool, and a server that runs in it.
struct Volumes {
    world: World,
    image: ImageSource,
    pool: SimulatedPool,
    id: Uuid,
    _agent: Running,
}

fn volume(number: u128) -> Volume {
    let volume_id = Uuid::from_u128(0x0f3b_8c1e << 96 | number << 64 | 7);
    let at = at(VOLUMES, format!("volume-{volume_id}"));
    Volume { volume_id, seen_as: None, at, to: None, size_bytes: 8 * MIB, boot_index: None, read_only: false }
}

fn serial(volume: &Volume) -> String {
    volume.volume_id.to_string()[..20].to_owned()
}

impl Volumes {
    async fn new() -> Volumes {
        let world = World::new();
        let (image, pool, agent) = (world.image().await, SimulatedPool::new(&world.sim, VOLUMES), world.agent());
        for number in 1..4 {
            let volume = volume(number);
            pool.create(&volume.at.name, volume.size_bytes).await.unwrap();
        }
        Volumes { world, image, pool, id: Uuid::new_v4(), _agent: agent }
    }

    fn domain(&self, power: Target, volumes: &[&Volume]) -> Domain {
        let domain = domain(self.id, "vms", DiskSource::Image(self.image.clone()));
        Domain { power, volumes: volumes.iter().copied().cloned().collect(), ..domain }
    }

    /// Says what should be; how that went: the steps, and the fault.
    async fn want(&self, power: Target, volumes: &[&Volume]) -> (Vec<&'static str>, Option<String>) {
        self.world.want(self.id, present(self.domain(power, volumes))).await;
        let observed = self.world.cell.done(self.id).await;
        (names(&observed), observed.fault)
    }

    /// What the guest has, and what is reported of it.
    async fn assert_has(&self, volumes: &[&Volume]) {
        let observed = self.world.cell.done(self.id).await;
        let ids: Vec<Uuid> = volumes.iter().map(|volume| volume.volume_id).collect();
        assert_eq!(observed.volumes, ids);
        let serials = self.world.hypervisor.disks(self.id).await.unwrap();
        let root = self.id.to_string()[..20].to_owned();
        let want: Vec<String> = std::iter::once(root).chain(volumes.iter().map(|volume| serial(volume))).collect();
        assert_eq!(serials, want);
    }
}

#[tokio::test]
async fn volumes_are_plugged_grown_and_unplugged() {
    let test = Volumes::new().await;
    let [one, two, _] = [volume(1), volume(2), volume(3)];
    assert_eq!(test.want(Target::On, &[]).await.1, None);
    assert_eq!(test.want(Target::On, &[&one]).await, (vec!["volume_attach"], None));
    test.assert_has(&[&one]).await;
    assert_eq!(test.want(Target::On, &[&one, &two]).await, (vec!["volume_attach"], None));
    test.assert_has(&[&one, &two]).await;

    let larger = Volume { size_bytes: 16 * MIB, ..two.clone() };
    assert_eq!(test.want(Target::On, &[&one, &larger]).await, (vec!["volume_extend"], None));
    assert_eq!(test.world.hypervisor.told_size(test.id, &serial(&larger)), Some(16 * MIB));
    assert_eq!(test.want(Target::On, &[&one, &larger]).await, (vec![], None));

    assert_eq!(test.want(Target::On, &[&larger]).await, (vec!["volume_detach"], None));
    test.assert_has(&[&larger]).await;
    assert_eq!(test.want(Target::On, &[]).await, (vec!["volume_detach"], None));
    test.assert_has(&[]).await;
    assert_eq!(test.pool.list().await.unwrap().len(), 3, "volumes are not the agent's to remove");
}

#[tokio::test]
async fn steps_say_which_volume_and_where() {
    let test = Volumes::new().await;
    test.want(Target::On, &[]).await;
    let one = volume(1);
    test.want(Target::On, &[&one]).await;
    let steps = test.world.cell.done(test.id).await.steps;
    assert_eq!(steps[0].detail, format!("volume {} in pool volumes", one.volume_id));
    test.want(Target::On, &[]).await;
    let steps = test.world.cell.done(test.id).await.steps;
    assert_eq!(steps[0].detail, format!("volume {}", one.volume_id));
}

#[tokio::test]
async fn pools_of_volumes_are_not_for_system_disks() {
    let test = Volumes::new().await;
    test.want(Target::On, &[&volume(1)]).await;
    let reports = test.world.cell.reports.lock();
    for report in &*reports {
        let pools: Vec<_> = report.pools.iter().map(|pool| pool.name.as_str()).collect();
        assert_eq!(pools, ["vms"]);
    }
}

#[tokio::test]
async fn a_guest_that_is_off_finds_its_volumes_when_it_starts() {
    let test = Volumes::new().await;
    let [one, two, _] = [volume(1), volume(2), volume(3)];
    assert_eq!(test.want(Target::On, &[&one]).await.1, None);
    assert_eq!(test.want(Target::Off, &[&one, &two]).await, (vec!["domain_stop", "volume_attach"], None));
    test.assert_has(&[&one, &two]).await;
    assert_eq!(test.want(Target::Off, &[&two]).await, (vec!["volume_detach"], None));
    test.assert_has(&[&two]).await;
    assert_eq!(test.want(Target::On, &[&two, &one]).await, (vec!["domain_start"], None));
    test.assert_has(&[&two, &one]).await;
    assert_eq!(test.want(Target::Paused, &[&two]).await, (vec!["volume_detach", "domain_pause"], None));
    test.assert_has(&[&two]).await;
}

#[tokio::test]
async fn a_server_boots_from_a_volume() {
    let test = Volumes::new().await;
    let (root, data) = (Volume { boot_index: Some(0), ..volume(1) }, volume(2));
    let domain = Domain { disks: Vec::new(), ..test.domain(Target::On, &[&data, &root]) };
    test.world.want(test.id, present(domain)).await;
    let observed = test.world.cell.done(test.id).await;
    assert_eq!((observed.fault.as_deref(), observed.power), (None, Some(Power::Running)));
    assert_eq!(names(&observed), ["config_drive", "domain_start"]);
    let disks = test.world.hypervisor.spec(test.id).unwrap().disks;
    let order: Vec<_> = disks.iter().map(|disk| (disk.serial.clone(), disk.boot_index)).collect();
    assert_eq!(order, [(serial(&root), Some(0)), (serial(&data), None), (String::new(), None)]);
}

#[tokio::test]
async fn a_volume_that_cannot_be_attached_is_named_and_the_guest_runs_on() {
    let test = Volumes::new().await;
    let [one, two, _] = [volume(1), volume(2), volume(3)];
    test.want(Target::On, &[]).await;
    test.world.sim.fail_next(Operation::Attach, 1, Kind::Internal);
    let (steps, fault) = test.want(Target::On, &[&one, &two]).await;
    let fault = fault.unwrap();
    assert!(fault.starts_with(&format!("Volume {} could not be attached: ", one.volume_id)), "{fault}");
    assert_eq!(steps, ["volume_attach", "volume_attach"]);
    test.assert_has(&[&two]).await;
    assert_eq!(test.world.power(test.id).await, Some(umbel_driver::Power::Running));

    let nowhere = Volume { at: at("nowhere", "x".into()), ..one.clone() };
    let fault = test.want(Target::On, &[&two, &nowhere]).await.1.unwrap();
    assert!(fault.contains("Host 'host1' has no pool 'nowhere'."), "{fault}");
    assert_eq!(test.want(Target::On, &[&two, &one]).await, (vec!["volume_attach"], None));
    test.assert_has(&[&two, &one]).await;
}

#[tokio::test]
async fn a_guest_that_does_not_let_go_is_asked_again_and_keeps_the_volume() {
    let test = Volumes::new().await;
    let one = volume(1);
    test.want(Target::On, &[&one]).await;
    test.world.sim.fail_next(Operation::Detach, 4, Kind::Timeout);
    let fault = test.want(Target::On, &[]).await.1.unwrap();
    assert!(fault.starts_with(&format!("Volume {} could not be detached: ", one.volume_id)), "{fault}");
    test.assert_has(&[&one]).await;

    test.world.sim.fail_next(Operation::Detach, 3, Kind::Timeout);
    let (steps, fault) = test.want(Target::On, &[]).await;
    assert_eq!((steps.len(), fault), (4, None));
    test.assert_has(&[]).await;
    // An answer that is lost.
    test.world.sim.lose_answers(Operation::Attach, 1);
    assert_eq!(test.want(Target::On, &[&one]).await.1, None);
    test.assert_has(&[&one]).await;
}

#[tokio::test]
async fn a_new_agent_reports_what_the_guest_has() {
    let (test, one) = (Volumes::new().await, volume(1));
    test.want(Target::On, &[&one]).await;
    let heard = test.world.cell.heard(test.id).len();
    let Volumes { world, id, _agent: agent, .. } = test;
    agent.kill().await;
    let world = Arc::new(world);
    let _agent = world.agent();
    loop {
        let all = world.cell.heard(id);
        if let Some(told) = all[heard..].iter().find(|observed| observed.generation.0 == 1) {
            assert_eq!(told.volumes, [one.volume_id]);
            break;
        }
        tokio::task::yield_now().await;
    }
}
