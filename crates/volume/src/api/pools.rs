use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use umbel_api::volume::pools as wire;
use umbel_core::{Error, Result};
use umbel_db::read;
use umbel_http::{Reply, Req, Routes};

use super::input::flag;
use crate::service::{Caller, capabilities};
use crate::store::{types, volumes};
use crate::{Backend, Volumes};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes.on(&wire::GET_POOLS, get_pools).on(&wire::CAPABILITIES, show_capabilities).on(&wire::ZONES, zones)
}

async fn capabilities_of(state: &Volumes, backend: &Backend) -> Result<capabilities::Capabilities> {
    let allocated = read!(state.db, "sum up a backend", |tx| volumes::allocated(tx, &backend.name).await)?;
    let capacity = match backend.pool.capacity().await {
        Ok(capacity) => Some(capacity),
        Err(error) => {
            tracing::warn!(backend = backend.name, cause = error.cause(), "a backend does not answer: {error}");
            None
        }
    };
    Ok(capabilities::of(backend, capacity, allocated, state.clock.now()))
}

/// A capability as a filter has it: numbers and truths are written as texts.
fn says(value: Option<&Value>, wanted: &str) -> bool {
    match value {
        Some(Value::String(text)) => text == wanted,
        Some(other) => other.to_string().eq_ignore_ascii_case(wanted),
        None => false,
    }
}

/// Filters are known from 3.28, and the one by type from 3.35.
async fn get_pools(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let (mut detail, mut specs, mut wanted) = (false, None, BTreeMap::new());
    for (name, value) in req.query_pairs() {
        match name.as_str() {
            "detail" => detail = flag("detail", &value.into())?,
            "volume_type" if req.version.at_least(3, 35) => {
                let found = read!(state.db, "find a type", |tx| types::find(tx, &caller.visible, &value).await)?;
                specs = Some(found.extra_specs);
            }
            _ if req.version.at_least(3, 28) => {
                wanted.insert(name, value);
            }
            _ => {}
        }
    }
    let mut pools = Vec::new();
    for backend in &state.backends {
        let name = state.host_string(&backend.name);
        let have = capabilities_of(&state, backend).await?;
        let fits = wanted.iter().all(|(by, value)| match by.as_str() {
            "name" => *value == name,
            by => says(have.get(by), value),
        });
        if fits && specs.as_ref().is_none_or(|specs| capabilities::satisfy(&have, specs)) {
            pools.push(wire::Pool { name, capabilities: detail.then_some(have) });
        }
    }
    Ok(Reply::json(200, &wire::Pools { pools }))
}

/// A host stands for its first backend. What comes behind a `#` clients send or leave away.
async fn show_capabilities(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let host = req.param("host")?;
    let (first, rest) = host.split_once('@').map_or((host, None), |(first, rest)| (first, Some(rest)));
    let name = rest.map(|rest| rest.split_once('#').map_or(rest, |(name, _)| name));
    let known = state.backends.iter().find(|backend| name.is_none_or(|name| backend.name == name));
    let backend = known.filter(|_| first == state.config.host);
    let backend = backend.ok_or_else(|| Error::not_found(format!("Can't find service: {host}")))?;
    let property = |title, description| wire::Property { title, description, kind: "boolean" };
    let properties = BTreeMap::from([
        ("thin_provisioning", property("Thin Provisioning", "Sets thin provisioning.")),
        ("compression", property("Compression", "Enables compression.")),
        ("qos", property("QoS", "Enables QoS.")),
        ("replication_enabled", property("Replication", "Enables replication.")),
    ]);
    let body = wire::Capabilities {
        namespace: format!("OS::Storage::Capabilities::{}", state.service_host(&backend.name)),
        vendor_name: capabilities::VENDOR.to_owned(),
        volume_backend_name: backend.name.clone(),
        pool_name: Some(backend.name.clone()),
        driver_version: env!("CARGO_PKG_VERSION").to_owned(),
        storage_protocol: capabilities::protocol(&backend.driver).to_owned(),
        display_name: None,
        description: None,
        visibility: None,
        replication_targets: Vec::new(),
        properties,
    };
    Ok(Reply::json(200, &body))
}

async fn zones(state: Arc<Volumes>, _req: Req) -> Result<Reply> {
    let zone_name = state.config.availability_zone.clone();
    let zone = wire::Zone { zone_name, zone_state: wire::ZoneState { available: true } };
    Ok(Reply::json(200, &wire::Zones { availability_zone_info: vec![zone] }))
}
