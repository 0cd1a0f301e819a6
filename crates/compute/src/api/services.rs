use std::sync::Arc;

use umbel_api::compute::services::{
    LIST, OldService, OldServiceAnswer, OldServiceChange, OneService, Service, ServiceChange, ServiceId, Services,
    UPDATE,
};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};
use umbel_placement::Host;

use super::input::{invalid, parameter};
use crate::Compute;
use crate::service::hosts::{Enabled, HostChange, HostFind, number};

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&LIST, list).on(&UPDATE, update)
}

const BINARY: &str = "nova-compute";

pub(super) fn service_id(host: &Host) -> ServiceId {
    ServiceId::Both(number(host.id), host.id.to_string())
}

fn view(host: Host, up: bool) -> Service {
    Service {
        id: service_id(&host),
        binary: BINARY,
        host: host.name,
        zone: host.zone,
        status: if host.disabled.is_some() { "disabled" } else { "enabled" },
        state: if up { "up" } else { "down" },
        updated_at: Some(host.last_seen.iso_naive()),
        disabled_reason: host.disabled.filter(|reason| !reason.is_empty()),
        forced_down: Some(host.forced_down),
    }
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let pairs = req.query_pairs();
    let (host, binary) = (parameter(&pairs, "host"), parameter(&pairs, "binary"));
    let mut hosts = state.hosts().await;
    hosts.retain(|view| host.as_ref().is_none_or(|name| view.host.name == *name));
    hosts.retain(|_| binary.as_ref().is_none_or(|name| name == BINARY));
    let services = hosts.into_iter().map(|found| view(found.host, found.up)).collect();
    Ok(Reply::versioned(200, req.version, Services { services }))
}

/// By id from 2.53; before, the path said what to do and the body to which.
async fn update(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    if req.version.minor < 53 {
        return update_by_name(&state, req).await;
    }
    let id = req.param("service_id")?.to_owned();
    let id = id.parse().map_err(|_| invalid("service_id", &id, "It is not a 'uuid'"))?;
    let body: ServiceChange = req.json().await?;
    let enabled = match (body.status.as_deref(), &body.disabled_reason) {
        (Some("disabled"), reason) => Some(Enabled::No(reason.clone().unwrap_or_default())),
        (_, Some(_)) => {
            return Err(Error::bad_request("Specifying disabled_reason requires that status is 'disabled'."));
        }
        (Some("enabled"), None) => Some(Enabled::Yes),
        (None, None) => None,
        (Some(other), None) => return Err(invalid("status", other, "It is none of ['enabled', 'disabled']")),
    };
    if enabled.is_none() && body.forced_down.is_none() {
        return Err(Error::bad_request(
            "No updates were requested. Fields 'status' or 'forced_down' should be specified.",
        ));
    }
    let change = HostChange { enabled, forced_down: body.forced_down };
    let host = state.change_host(HostFind::Id(id), &change).await?;
    let up = state.is_up(&host, state.clock.now());
    Ok(Reply::versioned(200, req.version, OneService { service: view(host, up) }))
}

async fn update_by_name(state: &Compute, mut req: Req) -> Result<Reply> {
    let body: OldServiceChange = req.json().await?;
    let what = req.param("service_id")?;
    let reason = body.disabled_reason.clone().filter(|reason| !reason.is_empty());
    let change = match what {
        "enable" => HostChange { enabled: Some(Enabled::Yes), forced_down: None },
        "disable" => HostChange { enabled: Some(Enabled::No(String::new())), forced_down: None },
        "disable-log-reason" => {
            let reason = reason.clone().ok_or_else(|| Error::bad_request("Missing disabled reason field"))?;
            HostChange { enabled: Some(Enabled::No(reason)), forced_down: None }
        }
        "force-down" if req.version.minor >= 11 => {
            let down = body.forced_down.ok_or_else(|| Error::bad_request("Missing forced_down field"))?;
            HostChange { enabled: None, forced_down: Some(down) }
        }
        other => return Err(Error::not_found(format!("Unknown action: {other}"))),
    };
    if body.binary != BINARY {
        return Err(Error::not_found(format!("Could not find binary {} on host {}.", body.binary, body.host)));
    }
    state.change_host(HostFind::Name(&body.host), &change).await?;
    let status = change.enabled.as_ref().map(|enabled| match enabled {
        Enabled::Yes => "enabled",
        Enabled::No(_) => "disabled",
    });
    let service = OldService {
        host: body.host.clone(),
        binary: body.binary.clone(),
        status,
        disabled_reason: reason.filter(|_| what == "disable-log-reason"),
        forced_down: change.forced_down,
    };
    Ok(Reply::json(200, &OldServiceAnswer { service }))
}
