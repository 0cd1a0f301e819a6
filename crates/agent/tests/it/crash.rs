//! The agent is killed before each operation of its drivers in turn, and a new one finishes the work.

use std::time::Duration;

use bytes::Bytes;
use umbel_bus::{DiskSource, Domain, ImageSource, Restart, Target, Volume};
use umbel_driver::{Mode, Operation, Pool};
use uuid::Uuid;

use crate::world::{MIB, VOLUMES, World, absent, at, disk_name, domain, on, powered, present};

/// Lets `count` operations happen, then kills the agent before the next; `None` if there were not so many. With
/// `lose`, the last of them happens and its answer does not arrive.
async fn killed_after(world: &World, id: Uuid, count: usize) -> Option<Operation> {
    world.sim.set_mode(Mode::Stepped);
    let agent = world.agent();
    let mut done = 0;
    let at = loop {
        tokio::select! {
            waiting = world.sim.next_waiting() => {
                if done == count {
                    break Some(waiting.operation);
                }
                done += 1;
                world.sim.release(waiting.ticket);
            }
            _ = world.cell.done(id) => break None,
        }
    };
    agent.kill().await;
    world.sim.set_mode(Mode::default());
    at
}

/// Runs the scenario with a kill before operation 0, 1, 2, … and checks how a second agent ends it.
async fn at_every_operation<Fut: Future<Output = ()>>(
    want: &[Operation],
    prepare: impl AsyncFn(&World, Uuid),
    check: impl Fn(&'static World, Uuid, String) -> Fut,
) {
    let mut seen = Vec::new();
    loop {
        let (world, id): (&'static World, _) = (Box::leak(Box::new(World::new())), Uuid::new_v4());
        prepare(world, id).await;
        let Some(at) = killed_after(world, id, seen.len()).await else {
            break;
        };
        seen.push(at);
        let agent = world.agent();
        let ended = world.cell.done(id).await;
        assert_eq!(ended.fault, None, "killed before {at:?}");
        check(world, id, format!("killed before {at:?}")).await;
        world.want(id, absent(id, "vms")).await;
        assert_eq!(world.cell.done(id).await.fault, None);
        world.assert_gone(id, &format!("deleted, after killed before {at:?}")).await;
        agent.stop().await;
    }
    assert_eq!(seen, want);
}

#[tokio::test]
async fn spawn_by_clone() {
    at_every_operation(
        &[Operation::Clone, Operation::Write, Operation::Start],
        async |world, id| {
            let image = world.image().await;
            world.set(id, on(id, &image));
        },
        |world, id, context| async move { world.assert_runs(id, &context).await },
    )
    .await;
}

#[tokio::test]
async fn spawn_by_import() {
    at_every_operation(
        &[Operation::Write, Operation::Write, Operation::Start],
        async |world, id| {
            world.images.bytes.lock().insert("image".into(), Bytes::from(vec![7; MIB as usize]));
            let image = ImageSource { locations: Vec::new(), ..world.image().await };
            world.set(id, present(domain(id, "vms", DiskSource::Image(image))));
        },
        |world, id, context| async move { world.assert_runs(id, &context).await },
    )
    .await;
}

#[tokio::test]
async fn removal() {
    at_every_operation(
        &[Operation::Undefine, Operation::Remove, Operation::Remove],
        async |world, id| {
            let image = world.image().await;
            world.set(id, on(id, &image));
            let agent = world.agent();
            world.cell.done(id).await;
            agent.kill().await;
            world.set(id, absent(id, "vms"));
        },
        |world, id, context| async move { world.assert_gone(id, &context).await },
    )
    .await;
}

#[tokio::test]
async fn restart() {
    at_every_operation(
        &[Operation::Destroy, Operation::Start],
        async |world, id| {
            let image = world.image().await;
            world.set(id, on(id, &image));
            let agent = world.agent();
            world.cell.done(id).await;
            agent.kill().await;
            world.set(id, powered(id, &image, Target::On, Some(Restart::Hard)));
        },
        |world, id, context| async move { world.assert_runs(id, &context).await },
    )
    .await;
}

#[tokio::test]
async fn volumes() {
    let volume = |number: u128| {
        let volume_id = Uuid::from_u128(number << 96);
        let at = at(VOLUMES, format!("volume-{volume_id}"));
        Volume { volume_id, seen_as: None, at, to: None, size_bytes: MIB, boot_index: None, read_only: false }
    };
    let with = move |id: Uuid, image: &ImageSource, number: u128| {
        let domain = domain(id, "vms", DiskSource::Image(image.clone()));
        present(Domain { volumes: vec![volume(number)], ..domain })
    };
    at_every_operation(
        &[Operation::Detach, Operation::Attach],
        async |world, id| {
            let image = world.image().await;
            world.set(id, with(id, &image, 1));
            let agent = world.agent();
            assert_eq!(world.cell.done(id).await.volumes, [volume(1).volume_id]);
            agent.kill().await;
            world.set(id, with(id, &image, 2));
        },
        |world, id, context| async move {
            world.assert_runs(id, &context).await;
            assert_eq!(world.cell.done(id).await.volumes, [volume(2).volume_id], "{context}");
        },
    )
    .await;
}

/// What a process leaves that is killed while it fills a disk, on a pool that cannot hide the half.
#[tokio::test]
async fn half_an_import_is_not_taken_for_a_disk() {
    let (world, id) = (World::new(), Uuid::new_v4());
    world.images.bytes.lock().insert("image".into(), Bytes::from(vec![7; MIB as usize]));
    let image = ImageSource { locations: Vec::new(), ..world.image().await };
    world.pool.create(&disk_name(id), 4 * MIB).await.unwrap();
    let _agent = world.agent();
    world.want(id, present(domain(id, "vms", DiskSource::Image(image.clone())))).await;
    assert_eq!(world.cell.done(id).await.fault, None);
    let read = world.pool.read(&disk_name(id), None, 0, 1).await.unwrap();
    let first: Vec<_> = futures_util::TryStreamExt::try_collect(read).await.unwrap();
    assert_eq!(first, [Bytes::from_static(&[7])]);

    // Once it has run, nothing makes the disk anew.
    world.pool.guest_writes(&disk_name(id), 0, &[9]).unwrap();
    world.want(id, powered(id, &image, Target::Off, None)).await;
    world.cell.done(id).await;
    world.want(id, powered(id, &image, Target::On, None)).await;
    world.cell.done(id).await;
    let read = world.pool.read(&disk_name(id), None, 0, 1).await.unwrap();
    let first: Vec<_> = futures_util::TryStreamExt::try_collect(read).await.unwrap();
    assert_eq!(first, [Bytes::from_static(&[9])]);
}

#[tokio::test]
async fn a_late_document_does_not_raise_the_dead() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let (image, agent) = (world.image().await, world.agent());
    let late = world.set(id, on(id, &image));
    umbel_bus::OnHost::desire(&*agent.agent, late.clone()).await;
    world.cell.done(id).await;
    world.want(id, absent(id, "vms")).await;
    world.cell.done(id).await;
    umbel_bus::OnHost::desire(&*agent.agent, late).await;
    let other = Uuid::new_v4();
    world.want(other, on(other, &image)).await;
    tokio::time::timeout(Duration::from_secs(20), world.cell.done(other)).await.unwrap();
    world.assert_gone(id, "late document").await;
}
