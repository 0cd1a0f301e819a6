use std::borrow::Cow;

use umbel_core::GIB;

use crate::{HostView, Request};

/// One question put to every host that the filters before it left.
pub struct Filter {
    /// As the funnel shows it, for this request.
    pub name: fn(&Request) -> Cow<'static, str>,
    pub passes: fn(&HostView, &Request) -> bool,
}

/// In the order in which a host is asked: first what holds for many hosts and costs little, last the disks. `up` stays
/// the very first: [`crate::Funnel::waits_for_hosts`] reads its stage.
pub static FILTERS: &[Filter] = &[
    Filter { name: |_| "up".into(), passes: |host, _| host.up },
    Filter { name: |_| "enabled".into(), passes: |host, _| host.enabled },
    Filter {
        name: |request| match &request.availability_zone {
            Some(zone) => format!("zone={zone}").into(),
            None => "zone".into(),
        },
        passes: |host, request| request.availability_zone.as_ref().is_none_or(|zone| *zone == host.availability_zone),
    },
    Filter {
        name: |request| format!("host={}", request.only.join("|")).into(),
        passes: |host, request| request.only.is_empty() || request.only.contains(&host.name),
    },
    Filter { name: |_| "different_host".into(), passes: |host, request| !request.different.contains(&host.name) },
    Filter { name: |_| "not tried".into(), passes: |host, request| !request.tried.contains(&host.name) },
    Filter {
        name: |_| "traits".into(),
        passes: |host, request| {
            request.required_traits.iter().all(|wanted| host.traits.contains(wanted))
                && !request.forbidden_traits.iter().any(|unwanted| host.traits.contains(unwanted))
        },
    },
    Filter { name: |_| "vCPU".into(), passes: |host, request| host.vcpus.fits(request.vcpus) },
    Filter { name: |_| "RAM".into(), passes: |host, request| host.memory_mib.fits(request.memory_mib) },
    Filter {
        name: places,
        passes: |host, request| request.disks.iter().all(|disk| host.pools.iter().any(|pool| disk.may_be_in(pool))),
    },
    Filter {
        name: |request| {
            let bytes: u64 = request.disks.iter().map(|disk| disk.bytes).sum();
            match bytes {
                0..GIB => format!("disk {} MiB", bytes >> 20).into(),
                _ => format!("disk {} GiB", bytes.div_ceil(GIB)).into(),
            }
        },
        passes: |host, request| host.place(&request.disks, |_, _| {}).is_some(),
    },
];

/// `tier=ssd`, `pool=vms`: where the disks must go.
fn places(request: &Request) -> Cow<'static, str> {
    let mut places = Vec::new();
    for disk in &request.disks {
        let tier = disk.tier.as_ref().map(|tier| format!("tier={tier}"));
        let pool = disk.pool.as_ref().map(|pool| format!("pool={pool}"));
        places.extend(tier.into_iter().chain(pool).filter(|place| !places.contains(place)).collect::<Vec<_>>());
    }
    match places.is_empty() {
        true => "pools".into(),
        false => places.join(" ").into(),
    }
}
