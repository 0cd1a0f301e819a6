//! A server comes and goes.

use umbel_bus::{DiskSource, Power, Task, TaskReply, ToAgents};
use umbel_core::Kind;
use umbel_driver::{DomainSpec, Hypervisor, Operation, Pool};
use uuid::Uuid;

use crate::world::{HOST, MIB, World, absent, disk_name, domain, names, on, present, runs};

#[tokio::test]
async fn a_server_is_cloned_and_started_and_removed() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let (image, _agent) = (world.image().await, world.agent());
    world.want(id, on(id, &image)).await;
    let made = world.cell.done(id).await;
    assert_eq!((made.fault.as_deref(), made.power, made.present), (None, Some(Power::Running), true));
    assert_eq!(names(&made), ["disk_clone", "config_drive", "domain_start"]);
    assert!(made.steps.iter().all(|step| step.ok && step.finished >= step.started), "{:?}", made.steps);
    world.assert_runs(id, "made").await;
    let parent = world.pool.stat(&disk_name(id)).await.unwrap().unwrap().parent;
    assert_eq!(parent.map(|parent| parent.to_string()), Some(image.locations[0].clone()));
    let spec = world.hypervisor.spec(id).unwrap();
    assert_eq!((spec.disks.len(), spec.disks[0].boot_index, spec.disks[1].cdrom), (2, Some(0), true));

    world.want(id, absent(id, "vms")).await;
    let gone = world.cell.done(id).await;
    assert_eq!((gone.fault.as_deref(), gone.power, gone.present), (None, None, false));
    assert_eq!(names(&gone), ["domain_remove", "disk_remove", "disk_remove"]);
    world.assert_gone(id, "removed").await;
}

#[tokio::test]
async fn a_blank_disk_is_made() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let _agent = world.agent();
    world.want(id, present(domain(id, "vms", DiskSource::Blank))).await;
    assert_eq!(names(&world.cell.done(id).await), ["disk_create", "config_drive", "domain_start"]);
    world.assert_runs(id, "blank").await;
}

#[tokio::test]
async fn the_host_and_its_pools_are_reported() {
    let world = World::new();
    let _agent = world.agent();
    let id = Uuid::new_v4();
    world.want(id, absent(id, "vms")).await;
    world.cell.done(id).await;
    let report = loop {
        if let Some(report) = world.cell.reports.lock().pop() {
            break report;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((report.host.as_str(), report.availability_zone.as_str()), (HOST, "nova"));
    assert_eq!((report.facts.hypervisor_type.as_str(), report.facts.vcpus), ("fake", 64));
    let pool = &report.pools[0];
    assert_eq!((pool.name.as_str(), pool.tier.as_str(), pool.shared), ("vms", "ssd", true));
    assert_eq!(pool.cluster, "simulated://simulation");
    assert!(pool.free > 0 && pool.free <= pool.total);
}

#[tokio::test]
async fn what_cannot_be_is_a_fault_and_the_next_wish_is_served() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let (image, _agent) = (world.image().await, world.agent());
    let check = |name: &'static str, want, fault: &'static str| {
        let world = &world;
        async move {
            world.want(id, want).await;
            let observed = world.cell.done(id).await;
            let told = observed.fault.unwrap_or_default();
            assert!(told.contains(fault), "{name}: {told}");
            assert!(observed.steps.is_empty() || observed.steps.iter().any(|step| !step.ok), "{name}");
        }
    };
    check("no such pool", present(domain(id, "nvme", DiskSource::Blank)), "Host 'host1' has no pool 'nvme'.").await;
    world.sim.fail_next(Operation::Clone, 1, Kind::NoSpace);
    check("full", on(id, &image), "told to fail").await;
    world.sim.fail_next(Operation::Start, 1, Kind::Internal);
    check("start", on(id, &image), "told to fail").await;
    world.want(id, absent(id, "vms")).await;
    assert_eq!(world.cell.done(id).await.fault, None);
    world.assert_gone(id, "after faults").await;
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let world = World::new();
    let (image, _agent) = (world.image().await, world.agent());
    for operation in [Operation::Clone, Operation::Write, Operation::Start, Operation::Undefine, Operation::Remove] {
        let id = Uuid::new_v4();
        world.sim.fail_next(operation, 1, Kind::Unavailable);
        world.sim.lose_answers(operation, 1);
        world.want(id, on(id, &image)).await;
        assert_eq!(world.cell.done(id).await.fault, None, "{operation:?}");
        world.assert_runs(id, &format!("{operation:?}")).await;
        world.want(id, absent(id, "vms")).await;
        assert_eq!(world.cell.done(id).await.fault, None, "{operation:?}");
        world.assert_gone(id, &format!("{operation:?}")).await;
    }
}

#[tokio::test]
async fn the_console_is_read() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let (image, _agent) = (world.image().await, world.agent());
    world.want(id, on(id, &image)).await;
    world.cell.done(id).await;
    world.hypervisor.guest_says(id, "login:").unwrap();
    let ask = |limit, server_id| world.hub.task(HOST, Task::Console { server_id, limit }, std::time::Duration::MAX);
    let TaskReply::Console(tail) = ask(8, id).await.unwrap() else { panic!("a console was asked for") };
    assert_eq!(tail.0, b"login:\r\n");
    assert!(ask(8, Uuid::nil()).await.unwrap_err().is(Kind::NotFound));
}

#[tokio::test]
async fn a_guest_of_somebody_else_is_left_alone() {
    let (world, stranger) = (World::new(), Uuid::new_v4());
    let spec = DomainSpec { id: stranger, name: "x".into(), vcpus: 1, memory_mib: 1, disks: Vec::new() };
    world.hypervisor.start(&spec).await.unwrap();
    let _agent = world.agent();
    let told = world.cell.until(stranger, "the stranger", runs).await;
    assert_eq!((told.generation.0, told.present), (0, true));
    let id = Uuid::new_v4();
    world.want(id, present(domain(id, "vms", DiskSource::Blank))).await;
    world.cell.done(id).await;
    assert!(world.power(stranger).await.is_some());
}

#[tokio::test]
async fn many_servers_side_by_side() {
    let world = World::new();
    let (image, _agent) = (world.image().await, world.agent());
    let servers: Vec<Uuid> = (0..100).map(|_| Uuid::new_v4()).collect();
    for id in &servers {
        world.want(*id, on(*id, &image)).await;
    }
    for id in &servers {
        assert_eq!(world.cell.done(*id).await.fault, None);
        world.assert_runs(*id, "one of many").await;
    }
    for id in &servers {
        world.want(*id, absent(*id, "vms")).await;
    }
    for id in &servers {
        world.cell.done(*id).await;
    }
    assert_eq!(world.pool.list().await.unwrap(), ["image"]);
    let capacity = world.pool.capacity().await.unwrap();
    assert_eq!(capacity.total - capacity.free, MIB, "the image is left");
}
