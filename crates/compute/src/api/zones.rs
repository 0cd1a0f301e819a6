use std::collections::BTreeMap;
use std::sync::Arc;

use umbel_api::compute::zones::{DETAIL, LIST, Zone, ZoneService, ZoneState, Zones};
use umbel_core::Result;
use umbel_http::{Reply, Req, Routes};

use crate::Compute;
use crate::service::hosts::HostView;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&LIST, list).on(&DETAIL, detail)
}

/// A zone is available while one of its hosts takes servers.
fn zones(hosts: Vec<HostView>, with_hosts: bool) -> Zones {
    let mut by_zone: BTreeMap<String, Zone> = BTreeMap::new();
    for view in hosts {
        let host = view.host;
        let zone = by_zone.entry(host.zone.clone()).or_insert_with(|| Zone {
            name: host.zone,
            state: ZoneState { available: false },
            hosts: with_hosts.then(BTreeMap::new),
        });
        zone.state.available |= host.disabled.is_none();
        if let Some(hosts) = &mut zone.hosts {
            let service = ZoneService {
                available: host.disabled.is_none(),
                active: view.up,
                updated_at: host.last_seen.iso_naive(),
            };
            hosts.insert(host.name, BTreeMap::from([("nova-compute", service)]));
        }
    }
    Zones { zones: by_zone.into_values().collect() }
}

async fn list(state: Arc<Compute>, _: Req) -> Result<Reply> {
    Ok(Reply::json(200, &zones(state.hosts().await, false)))
}

async fn detail(state: Arc<Compute>, _: Req) -> Result<Reply> {
    Ok(Reply::json(200, &zones(state.hosts().await, true)))
}
