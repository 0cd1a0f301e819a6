//! Tables of single decisions, an oracle that decides the slow way, and what a choice among many hosts costs.

use std::time::{Duration, Instant};

use umbel_core::{GIB, Rng, SeededRng};
use umbel_scheduler::{DiskRequest, FILTERS, HostView, PoolView, Request, Resource, Scheduler, Weights};

fn pool(name: &str, tier: &str, gib: u64) -> PoolView {
    PoolView {
        name: name.into(),
        tier: tier.into(),
        cluster: format!("rbd://{name}"),
        total: gib * GIB,
        free: gib * GIB,
        claimed: 0,
        ratio: 1.0,
    }
}

fn host(name: &str) -> HostView {
    HostView {
        id: name.into(),
        name: name.into(),
        availability_zone: "nova".into(),
        enabled: true,
        up: true,
        vcpus: Resource::new(8, 16.0),
        memory_mib: Resource { reserved: 512, ..Resource::new(16_896, 1.0) },
        pools: vec![pool("local", "hdd", 100), pool("vms", "ssd", 50)],
        traits: vec!["HW_CPU_X86_AVX2".into()],
    }
}

fn hosts(count: usize) -> Vec<HostView> {
    (0..count).map(|at| host(&format!("h{at}"))).collect()
}

fn disk(gib: u64) -> DiskRequest {
    DiskRequest { bytes: gib * GIB, ..DiskRequest::default() }
}

fn request() -> Request {
    Request { vcpus: 2, memory_mib: 2_048, disks: vec![disk(10)], ..Request::default() }
}

fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn each_filter_takes_its_hosts_away() {
    let check = |name: &str, change: &dyn Fn(&mut HostView, &mut Request), want: &str| {
        let (mut hosts, mut request) = (hosts(3), request());
        change(&mut hosts[0], &mut request);
        let outcome = Scheduler::default().choose(&hosts, &request, &SeededRng::new(1));
        let funnel = outcome.map_or_else(|funnel| funnel, |choice| choice.funnel);
        assert_eq!(funnel.to_string(), want, "{name}");
    };
    check("nothing", &|_, _| {}, "3 hosts");
    check("down", &|host, _| host.up = false, "3 hosts -> 2 up");
    check("disabled", &|host, _| host.enabled = false, "3 hosts -> 2 enabled");
    check(
        "zone",
        &|host, request| {
            host.availability_zone = "az1".into();
            request.availability_zone = Some("az1".into());
        },
        "3 hosts -> 1 zone=az1",
    );
    check("forced", &|_, request| request.only = names(&["h2"]), "3 hosts -> 1 host=h2");
    check("different", &|_, request| request.different = names(&["h2"]), "3 hosts -> 2 different_host");
    check("tried", &|_, request| request.tried = names(&["h2", "h0"]), "3 hosts -> 1 not tried");
    check(
        "trait wanted",
        &|host, request| {
            host.traits.clear();
            request.required_traits = names(&["HW_CPU_X86_AVX2"]);
        },
        "3 hosts -> 2 traits",
    );
    check(
        "trait unwanted",
        &|host, request| {
            host.traits.clear();
            request.forbidden_traits = names(&["HW_CPU_X86_AVX2"]);
        },
        "3 hosts -> 1 traits",
    );
    check("vcpus used", &|host, _| host.vcpus.used = 127, "3 hosts -> 2 vCPU");
    check("more vcpus than a host has", &|_, request| request.vcpus = 9, "No valid host was found. 3 hosts -> 0 vCPU");
    check("reserved memory", &|_, request| request.memory_mib = 16_385, "No valid host was found. 3 hosts -> 0 RAM");
    check("all memory", &|_, request| request.memory_mib = 16_384, "3 hosts");
    check(
        "tier",
        &|host, request| {
            host.pools.pop();
            host.up = false;
            request.disks[0].tier = Some("pcie_ssd".into());
        },
        "No valid host was found. 3 hosts -> 2 up -> 0 tier=pcie_ssd",
    );
    check(
        "pool",
        &|host, request| {
            host.pools.remove(0);
            request.disks[0].pool = Some("local".into());
        },
        "3 hosts -> 2 pool=local",
    );
    check(
        "room",
        &|_, request| request.disks[0].bytes = 101 * GIB,
        "No valid host was found. 3 hosts -> 0 disk 101 GiB",
    );
    check(
        "room claimed",
        &|host, _| host.pools.iter_mut().for_each(|pool| pool.claimed = 95 * GIB),
        "3 hosts -> 2 disk 10 GiB",
    );
    check("room full", &|host, _| host.pools.iter_mut().for_each(|pool| pool.free = GIB), "3 hosts -> 2 disk 10 GiB");
    check(
        "two disks that fit only one by one",
        &|_, request| {
            request.disks = vec![disk(60), disk(60)];
            request.disks.iter_mut().for_each(|disk| disk.tier = Some("hdd".into()));
        },
        "No valid host was found. 3 hosts -> 0 disk 120 GiB",
    );
}

#[test]
fn no_hosts_at_all() {
    let funnel = Scheduler::default().choose(&[], &request(), &SeededRng::new(1)).unwrap_err();
    assert_eq!(funnel.to_string(), "No valid host was found. 0 hosts");
    assert!(funnel.waits_for_hosts());
}

#[test]
fn funnels_of_cells_add_up() {
    let all = |mut hosts: Vec<HostView>| {
        hosts.iter_mut().for_each(|host| host.up = host.name != "h0");
        Scheduler::default().choose(&hosts, &Request { memory_mib: 1 << 20, ..request() }, &SeededRng::new(1))
    };
    let mut funnel = umbel_scheduler::Funnel::default();
    funnel.add(all(hosts(3)).unwrap_err());
    funnel.add(all(hosts(1)).unwrap_err());
    assert_eq!(funnel.to_string(), "No valid host was found. 4 hosts -> 2 up -> 0 RAM");
    assert!(funnel.waits_for_hosts());
    let text = serde_json::to_string(&funnel).unwrap();
    assert_eq!(serde_json::from_str::<umbel_scheduler::Funnel>(&text).unwrap(), funnel);
}

#[test]
fn disks_go_where_they_are_wanted() {
    let check = |name: &str, disks: Vec<DiskRequest>, want: &[&str]| {
        let request = Request { disks, ..request() };
        let choice = Scheduler::default().choose(&hosts(1), &request, &SeededRng::new(1)).unwrap();
        assert_eq!(choice.pools, want, "{name}");
    };
    let near = |gib| DiskRequest { near: names(&["rbd://vms"]), ..disk(gib) };
    check("the first", vec![disk(10)], &["local"]);
    check("by tier", vec![DiskRequest { tier: Some("ssd".into()), ..disk(10) }], &["vms"]);
    check("where it can be cloned", vec![near(10)], &["vms"]);
    check("where it can be cloned, if there is room", vec![near(60)], &["local"]);
    check("the second where the first is full", vec![disk(60), disk(50)], &["local", "vms"]);
    check("both", vec![near(10), disk(10)], &["vms", "local"]);
    check("none", vec![], &[]);
}

#[test]
fn weights_decide() {
    let check = |name: &str, weights: Weights, want: &str| {
        let mut hosts = hosts(3);
        hosts[0].memory_mib.used = 4_096;
        hosts[1].vcpus.used = 8;
        hosts[2].pools[0].claimed = 90 * GIB;
        hosts[2].vcpus.used = 1;
        hosts[2].memory_mib.used = 1;
        hosts[0].pools[1].cluster.clear();
        hosts[1].pools[1].cluster.clear();
        let mut request = request();
        request.disks[0].near = names(&["rbd://vms"]);
        let scheduler = Scheduler { weights, ..Scheduler::default() };
        let choice = scheduler.choose(&hosts, &request, &SeededRng::new(1)).unwrap();
        assert_eq!(hosts[choice.host].name, want, "{name}");
        assert_eq!(choice.alternates.len(), 2, "{name}");
    };
    let none = Weights { ram: 0.0, cpu: 0.0, disk: 0.0, clone: 0.0 };
    check("memory", Weights { ram: 1.0, ..none }, "h1");
    check("stack by memory", Weights { ram: -1.0, ..none }, "h0");
    check("processors", Weights { cpu: 1.0, ..none }, "h0");
    check("stack by disk", Weights { disk: -1.0, ..none }, "h2");
    check("clone before all", Weights::default(), "h2");
}

#[test]
fn equal_hosts_get_equal_shares() {
    let (hosts, rng) = (hosts(10), SeededRng::new(3));
    let mut counts = [0; 10];
    for _ in 0..1_000 {
        counts[Scheduler::default().choose(&hosts, &request(), &rng).unwrap().host] += 1;
    }
    assert!(counts.iter().all(|count| (60..150).contains(count)), "{counts:?}");
}

#[test]
fn taking_and_giving_back_leaves_nothing() {
    let mut hosts = hosts(2);
    let before = hosts.clone();
    let mut placed = Vec::new();
    let request = Request { memory_mib: 8_192, ..request() };
    while let Ok(choice) = Scheduler::default().choose(&hosts, &request, &SeededRng::new(1)) {
        hosts[choice.host].take(&request, &choice.pools);
        placed.push(choice);
    }
    assert_eq!(placed.len(), 4, "two on each host");
    for choice in &placed {
        hosts[choice.host].give_back(&request, &choice.pools);
    }
    assert_eq!(hosts, before);
}

/// Random hosts and requests; the answer must be that of the definition, computed filter by filter with full sorts.
#[test]
fn an_oracle_agrees() {
    let rng = SeededRng::new(42);
    for round in 0..400 {
        let mut views = hosts(rng.below(40));
        views.iter_mut().for_each(|host| shake(host, &rng));
        let request = any_request(&rng);
        let scheduler = Scheduler { subset: 1 + rng.below(4), alternates: rng.below(4), ..Scheduler::default() };
        let mut left: Vec<&HostView> = views.iter().collect();
        let mut counts = Vec::new();
        for filter in FILTERS {
            left.retain(|host| (filter.passes)(host, &request));
            counts.push(left.len());
        }
        match scheduler.choose(&views, &request, &rng) {
            Err(funnel) => {
                assert!(left.is_empty(), "round {round}: {funnel}");
                assert_eq!(funnel.stages.iter().map(|stage| stage.left).collect::<Vec<_>>(), counts, "round {round}");
            }
            Ok(choice) => {
                let mut weights: Vec<(f64, &str)> =
                    left.iter().map(|host| (slow_weight(host, &left), host.name.as_str())).collect();
                weights.sort_by(|a, b| b.0.total_cmp(&a.0));
                let worst = weights[scheduler.subset.min(weights.len()) - 1].0 - 1e-9;
                let chosen = &views[choice.host];
                let weight = weights.iter().find(|(_, name)| *name == chosen.name).map(|(weight, _)| *weight);
                assert!(weight.is_some_and(|weight| weight >= worst), "round {round}: {} of {weights:?}", chosen.name);
                assert_eq!(choice.alternates.len(), scheduler.alternates.min(left.len() - 1), "round {round}");
                let mut named = choice.alternates.clone();
                named.push(choice.host);
                named.sort_unstable();
                named.dedup();
                assert_eq!(named.len(), choice.alternates.len() + 1, "round {round}: a host is named twice");
                let mut after = chosen.clone();
                after.take(&request, &choice.pools);
                assert!(after.pools.iter().all(|pool| pool.claimed <= pool.total), "round {round}");
            }
        }
    }
}

fn shake(host: &mut HostView, rng: &SeededRng) {
    host.up = rng.below(10) > 0;
    host.enabled = rng.below(10) > 0;
    host.vcpus.used = rng.below(130) as u64;
    host.memory_mib.used = rng.below(16_384) as u64;
    if rng.below(4) == 0 {
        host.pools.remove(rng.below(2));
    }
    for pool in &mut host.pools {
        pool.claimed = rng.below(50) as u64 * GIB;
    }
}

fn any_request(rng: &SeededRng) -> Request {
    let disks = (0..rng.below(4)).map(|_| DiskRequest {
        tier: [None, Some("ssd".to_owned()), Some("hdd".to_owned())][rng.below(3)].clone(),
        ..disk(rng.below(30) as u64)
    });
    Request {
        vcpus: rng.below(10) as u64,
        memory_mib: rng.below(8_192) as u64,
        disks: disks.collect(),
        tried: (0..rng.below(3)).map(|_| format!("h{}", rng.below(40))).collect(),
        ..Request::default()
    }
}

fn slow_weight(host: &HostView, left: &[&HostView]) -> f64 {
    let properties: [fn(&HostView) -> f64; 3] = [
        |host| host.memory_mib.free() as f64,
        |host| host.vcpus.free() as f64,
        |host| host.pools.iter().map(|pool| pool.room() as f64).sum(),
    ];
    let scaled = properties.iter().map(|property| {
        let low = left.iter().map(|host| property(host)).fold(f64::INFINITY, f64::min);
        let high = left.iter().map(|host| property(host)).fold(f64::NEG_INFINITY, f64::max);
        if high > low { (property(host) - low) / (high - low) } else { 0.0 }
    });
    scaled.sum()
}

/// Loose by an order of magnitude, since the build is unoptimised and the machine shared: it catches an allocation or a
/// sort for every host, not a slow day.
#[test]
fn ten_thousand_hosts_are_chosen_from_in_milliseconds() {
    let mut views = hosts(10_000);
    let rng = SeededRng::new(5);
    views.iter_mut().for_each(|host| shake(host, &rng));
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        Scheduler::default().choose(&views, &request(), &rng).unwrap();
        best = best.min(start.elapsed());
    }
    println!("one of 10,000 hosts: {best:?}");
    assert!(best < Duration::from_millis(100), "{best:?}");
}
