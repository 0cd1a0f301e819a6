use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use umbel_core::{Kind, MIB};
use umbel_driver::{
    DomainDisk, DomainSpec, HostSize, Hypervisor, Mode, Operation, Pool, Power, Removed, SimulatedHypervisor,
    SimulatedPool, Simulation, Timings, WriteOptions, conformance,
};
use uuid::Uuid;

#[tokio::test]
async fn pool_keeps_every_promise() {
    let world = Simulation::new(Mode::default());
    conformance::pool(async || Arc::new(SimulatedPool::new(&world, "vms")) as Arc<dyn Pool>).await;
}

#[tokio::test]
async fn clones_cross_pools() {
    let world = Simulation::new(Mode::default());
    let (images, vms) = (SimulatedPool::new(&world, "images"), SimulatedPool::new(&world, "vms"));
    conformance::two_pools(&images, &vms).await;
}

#[tokio::test]
async fn guests_do_not_see_each_others_writes() {
    let world = Simulation::new(Mode::default());
    let pool = SimulatedPool::new(&world, "vms");
    let writes = async |disk: &str, offset: u64, bytes: &[u8]| pool.guest_writes(disk, offset, bytes).unwrap();
    conformance::pool_under_guest(&pool, writes).await;
}

#[tokio::test]
async fn several_disks_have_one_point_in_time() {
    let world = Simulation::new(Mode::default());
    let pool = SimulatedPool::new(&world, "vms");
    let write = async |disk: &str, offset: u64, bytes: &[u8]| {
        pool.guest_writes(disk, offset, bytes).unwrap();
        tokio::task::yield_now().await;
    };
    conformance::pool_under_writers(&pool, write, async || ()).await;
}

#[tokio::test]
async fn hypervisor_keeps_every_promise() {
    let world = Simulation::new(Mode::default());
    let make =
        async || Arc::new(SimulatedHypervisor::new(&world, "host-1", HostSize::default())) as Arc<dyn Hypervisor>;
    let pool = SimulatedPool::new(&world, "vms");
    for disk in ["first", "second"] {
        pool.create(disk, conformance::SPARE).await.unwrap();
    }
    let spare = |serial: &str| DomainDisk {
        attachment: pool.attachment(serial),
        serial: serial.into(),
        boot_index: None,
        read_only: false,
        cdrom: false,
    };
    let guest = conformance::Guest {
        says: Some("simulated guest".into()),
        lets_go: true,
        ..conformance::Guest::bare([spare("first"), spare("second")])
    };
    conformance::hypervisor(make, &guest).await;
}

#[tokio::test]
async fn a_full_pool_says_so() {
    let world = Simulation::new(Mode::default());
    let pool = SimulatedPool::with_capacity(&world, "small", MIB);
    let data = Box::pin(futures_util::stream::iter([Ok(vec![1; 2 * MIB as usize].into())]));
    let error = pool.write("large", data, WriteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace);
    assert_eq!(pool.list().await.unwrap(), Vec::<String>::new());
    assert_eq!(pool.capacity().await.unwrap().free, MIB);
}

#[tokio::test]
async fn stepped_operations_wait_for_their_release() {
    let world = Simulation::new(Mode::Stepped);
    let pool = Arc::new(SimulatedPool::new(&world, "vms"));
    let creating = tokio::spawn({
        let pool = pool.clone();
        async move { pool.create("one", MIB).await }
    });
    let waiting = world.next_waiting().await;
    assert_eq!((waiting.operation, &*waiting.subject), (Operation::Create, "one"));
    assert!(pool.stat("one").await.unwrap().is_none(), "nothing happens before the release");
    assert!(world.release(waiting.ticket));
    creating.await.unwrap().unwrap();
    assert!(pool.stat("one").await.unwrap().is_some());

    // A caller that gives up leaves neither an effect nor somebody who waits.
    let abandoned = tokio::spawn({
        let pool = pool.clone();
        async move { pool.remove("one").await }
    });
    world.next_waiting().await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    assert_eq!(world.waiting(), []);
    assert!(pool.stat("one").await.unwrap().is_some());

    let removing = tokio::spawn(async move { pool.remove("one").await });
    assert_eq!(world.step().await.operation, Operation::Remove);
    assert_eq!(removing.await.unwrap().unwrap(), Removed::Gone);
}

#[tokio::test]
async fn timed_operations_take_their_time() {
    let delay = Duration::from_millis(50);
    let timings = Timings { of: BTreeMap::from([(Operation::Clone, delay)]), ..Timings::default() };
    let world = Simulation::new(Mode::Timed(timings));
    let pool = SimulatedPool::new(&world, "vms");
    pool.create("parent", MIB).await.unwrap();
    pool.snapshot("parent", "snap").await.unwrap();
    let parent = pool.location("parent", "snap");
    let names: Vec<_> = (0..100).map(|at| format!("clone-{at}")).collect();
    let begin = Instant::now();
    for outcome in join_all(names.iter().map(|name| pool.clone_disk(&parent, name, 0))).await {
        outcome.unwrap();
    }
    assert!(begin.elapsed() >= delay, "each clone takes its time");
    assert!(begin.elapsed() < delay * 50, "clones take it side by side");
}

#[tokio::test]
async fn faults_hit_the_next_operations_of_their_kind() {
    let world = Simulation::new(Mode::default());
    let pool = SimulatedPool::new(&world, "vms");
    world.fail_next(Operation::Create, 2, Kind::NoSpace);
    for _ in 0..2 {
        assert_eq!(pool.create("one", MIB).await.unwrap_err().kind(), Kind::NoSpace);
        assert!(pool.stat("one").await.unwrap().is_none(), "a failed operation has no effect");
    }
    pool.create("one", MIB).await.unwrap();

    world.lose_answers(Operation::Remove, 1);
    assert_eq!(pool.remove("one").await.unwrap_err().kind(), Kind::Timeout);
    assert!(pool.stat("one").await.unwrap().is_none(), "an operation whose answer is lost has its effect");
    assert_eq!(pool.remove("one").await.unwrap(), Removed::Absent);
}

#[tokio::test]
async fn guests_change_by_themselves() {
    let world = Simulation::new(Mode::default());
    let host = SimulatedHypervisor::new(&world, "host-1", HostSize::default());
    let spec = DomainSpec { id: Uuid::new_v4(), name: "one".into(), vcpus: 1, memory_mib: 64, disks: vec![] };
    host.start(&spec).await.unwrap();
    assert_eq!(host.spec(spec.id), Some(spec.clone()));
    let mut events = host.subscribe();
    host.guest_says(spec.id, "login:").unwrap();
    assert!(host.console(spec.id, 8).await.unwrap().ends_with(b"login:\r\n"));
    host.guest_crashes(spec.id).unwrap();
    assert_eq!(events.recv().await.unwrap().power, Power::Crashed);
    host.start(&spec).await.unwrap();
    assert_eq!(events.recv().await.unwrap().power, Power::Running);
    host.guest_powers_off(spec.id).unwrap();
    assert_eq!(events.recv().await.unwrap().power, Power::Shutdown);
    assert!(SimulatedHypervisor::new(&world, "host-2", HostSize::default()).list().await.unwrap().is_empty());
}
