//! Power: as desired once, then the guest's own.

use umbel_bus::{Power, Restart, Target, ToAgents};
use uuid::Uuid;

use crate::world::{HOST, World, names, on, powered, runs};

fn boots(world: &World, id: Uuid) -> usize {
    let Ok(console) =
        futures_util::FutureExt::now_or_never(umbel_driver::Hypervisor::console(&world.hypervisor, id, 1 << 16))
            .expect("a query is answered at once")
    else {
        return 0;
    };
    String::from_utf8_lossy(&console).matches("is up").count()
}

#[tokio::test]
async fn power_follows_each_wish() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let (image, _agent) = (world.image().await, world.agent());
    world.want(id, on(id, &image)).await;
    world.cell.done(id).await;
    let check = |power, restart, want: Power, steps: &'static [&'static str], boot_count| {
        let (world, image) = (&world, &image);
        async move {
            world.want(id, powered(id, image, power, restart)).await;
            let observed = world.cell.done(id).await;
            assert_eq!(observed.fault, None);
            assert_eq!((observed.power, names(&observed).as_slice()), (Some(want), steps), "{power:?} {restart:?}");
            assert_eq!(boots(world, id), boot_count, "{power:?} {restart:?}");
        }
    };
    check(Target::On, None, Power::Running, &[], 1).await;
    check(Target::Off, None, Power::Shutdown, &["domain_stop"], 1).await;
    check(Target::Off, None, Power::Shutdown, &[], 1).await;
    check(Target::On, None, Power::Running, &["domain_start"], 2).await;
    check(Target::Paused, None, Power::Paused, &["domain_pause"], 2).await;
    check(Target::On, None, Power::Running, &["domain_resume"], 2).await;
    check(Target::On, Some(Restart::Soft), Power::Running, &["domain_stop", "domain_restart"], 3).await;
    check(Target::On, Some(Restart::Hard), Power::Running, &["domain_stop", "domain_restart"], 4).await;
    check(Target::Off, None, Power::Shutdown, &["domain_stop"], 4).await;
    check(Target::On, Some(Restart::Hard), Power::Running, &["domain_start"], 5).await;
    check(Target::Off, None, Power::Shutdown, &["domain_stop"], 5).await;
    check(Target::Paused, None, Power::Paused, &["domain_start", "domain_pause"], 6).await;
}

#[tokio::test]
async fn a_restart_is_done_once_however_often_it_is_told() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let (image, agent) = (world.image().await, world.agent());
    world.want(id, on(id, &image)).await;
    world.cell.done(id).await;
    let restart = world.set(id, powered(id, &image, Target::On, Some(Restart::Hard)));
    for _ in 0..5 {
        world.hub.desire(HOST, restart.clone()).await.unwrap();
        world.cell.done(id).await;
    }
    assert_eq!(boots(&world, id), 2);
    // A new process is told that the generation is reached.
    agent.kill().await;
    let heard = world.cell.heard(id).len();
    let _agent = world.agent();
    while world.cell.heard(id).len() < heard + 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(boots(&world, id), 2);
}

#[tokio::test]
async fn a_guest_that_shuts_itself_down_stays_off() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let (image, agent) = (world.image().await, world.agent());
    world.want(id, on(id, &image)).await;
    world.cell.done(id).await;
    world.hypervisor.guest_powers_off(id).unwrap();
    let off = world.cell.until(id, "the guest is off", |observed| observed.power == Some(Power::Shutdown)).await;
    assert_eq!((off.generation.0, off.fault), (1, None));
    agent.kill().await;

    let heard = world.cell.heard(id).len();
    let agent = world.agent();
    while world.cell.heard(id).len() < heard + 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.power(id).await, Some(umbel_driver::Power::Shutdown));
    world.want(id, powered(id, &image, Target::On, None)).await;
    assert!(runs(&world.cell.done(id).await));
    world.hypervisor.guest_crashes(id).unwrap();
    world.cell.until(id, "the crash", |observed| observed.power == Some(Power::Crashed)).await;
    agent.stop().await;
}

#[tokio::test]
async fn guests_outlive_agents_and_are_adopted() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let (image, agent) = (world.image().await, world.agent());
    world.want(id, on(id, &image)).await;
    world.cell.done(id).await;
    agent.stop().await;
    assert_eq!(world.power(id).await, Some(umbel_driver::Power::Running));
    let heard = world.cell.heard(id).len();
    let _agent = world.agent();
    loop {
        let all = world.cell.heard(id);
        if let Some(told) = all[heard..].iter().find(|observed| observed.generation.0 == 1) {
            assert!(runs(told) && told.steps.is_empty(), "{told:?}");
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(boots(&world, id), 1);
}
