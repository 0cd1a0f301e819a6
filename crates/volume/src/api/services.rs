use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use umbel_api::volume::services as wire;
use umbel_core::{Error, Kind, LogFilter, LogLevel, Result};
use umbel_db::read;
use umbel_http::{Reply, Req, Routes};

use crate::Volumes;
use crate::service::services::{BACKUP, Decision, SCHEDULER, VOLUME};
use crate::store::services::{self, ServiceRow, Sums};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::LIST, list)
        .on(&wire::ENABLE, enable)
        .on(&wire::DISABLE, disable)
        .on(&wire::DISABLE_LOG_REASON, disable_log_reason)
        .on(&wire::FREEZE, freeze)
        .on(&wire::THAW, thaw)
        .on(&wire::FAILOVER_HOST, failover)
        .on(&wire::FAILOVER, failover)
        .on(&wire::SET_LOG, set_log)
        .on(&wire::GET_LOG, get_log)
        .on(&wire::HOSTS_LIST, hosts)
        .on(&wire::HOSTS_SHOW, host)
        .on(&wire::HOSTS_UPDATE, update_host)
}

fn parameter(req: &Req, name: &str) -> Option<String> {
    req.query_pairs().into_iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn invalid(reason: impl std::fmt::Display) -> Error {
    Error::bad_request(format!("Invalid input received: {reason}"))
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let (host, binary) = (parameter(&req, "host"), parameter(&req, "binary"));
    let mut all = state.services().await?;
    all.retain(|one| host.as_ref().is_none_or(|host| is_of(&one.host, host)));
    all.retain(|one| binary.as_ref().is_none_or(|binary| one.binary == *binary));
    let mut services = Vec::with_capacity(all.len());
    for one in all {
        services.push(view(&state, one).await);
    }
    Ok(Reply::versioned(200, req.version, wire::Services { services }))
}

/// A host stands for all of its backends.
fn is_of(name: &str, host: &str) -> bool {
    name == host || name.split_once('@').is_some_and(|(first, _)| first == host)
}

async fn view(state: &Volumes, one: ServiceRow) -> wire::Service {
    let up = state.service_is_up(&one, state.clock.now());
    let changed = one.modified_at.filter(|at| *at > one.seen_at).unwrap_or(one.seen_at);
    let backend = one.host.split_once('@').map(|(_, backend)| backend);
    let backend_state = match backend.map(|name| state.backend(name)) {
        Some(Ok(backend)) if backend.pool.capacity().await.is_ok() => "up",
        _ => "down",
    };
    let volume = (one.binary == VOLUME).then_some(wire::VolumePart {
        replication_status: "disabled",
        active_backend_id: None,
        frozen: one.frozen,
        backend_state: Some(backend_state),
    });
    wire::Service {
        zone: state.config.availability_zone.clone(),
        status: if one.disabled { "disabled" } else { "enabled" },
        state: if up { "up" } else { "down" },
        updated_at: Some(changed.iso_naive()),
        disabled_reason: one.disabled_reason,
        cluster: Some(None),
        volume,
        binary: one.binary,
        host: one.host,
    }
}

/// Host, `service` and `binary` as the client wrote them; the binary is one of the two.
fn named(change: &wire::Change) -> Result<(String, String, String)> {
    let host = change.host.clone().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| invalid("Host field is missing."))?;
    let (service, binary) = (change.service.clone(), change.binary.clone());
    if service.is_none() && binary.is_none() {
        return Err(invalid("'binary' or 'service' is a required property"));
    }
    Ok((host, service.unwrap_or_default(), binary.unwrap_or_default()))
}

async fn change(state: &Volumes, body: &wire::Change, decision: Decision) -> Result<Reply> {
    let (host, service, binary) = named(body)?;
    let name = if binary.is_empty() { &service } else { &binary };
    let after = state.decide(&host, name, &decision).await?;
    let disabled_reason = match decision {
        Decision::Enable => Some(None),
        Decision::Disable(Some(reason)) => Some(Some(reason)),
        _ => None,
    };
    let status = if after.disabled { "disabled" } else { "enabled" };
    Ok(Reply::json(200, &wire::Changed { host, service, binary, status, disabled: after.disabled, disabled_reason }))
}

async fn enable(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    change(&state, &req.json().await?, Decision::Enable).await
}

async fn disable(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    change(&state, &req.json().await?, Decision::Disable(None)).await
}

async fn disable_log_reason(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let body: wire::Change = req.json().await?;
    let reason = match &body.disabled_reason {
        Some(Value::String(text)) if !text.trim().is_empty() && text.chars().count() <= 255 => text.trim().to_owned(),
        _ => return Err(invalid("disabled_reason must have 1 to 255 characters.")),
    };
    change(&state, &body, Decision::Disable(Some(reason))).await
}

/// The volume services that a request is about; 400 if there are none.
async fn meant(state: &Volumes, body: &wire::HostChange) -> Result<Vec<String>> {
    let host = match (&body.host, &body.cluster) {
        (Some(host), None) => host,
        _ => return Err(invalid("One and only one of cluster and host must be set.")),
    };
    let all = state.services().await?.into_iter().filter(|one| one.binary == VOLUME && is_of(&one.host, host));
    let hosts: Vec<String> = all.map(|one| one.host).collect();
    match hosts.is_empty() {
        true => Err(invalid(format!("No service was found for host {host}."))),
        false => Ok(hosts),
    }
}

async fn freeze(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    for host in meant(&state, &req.json().await?).await? {
        state.decide(&host, VOLUME, &Decision::Freeze).await?;
    }
    Ok(Reply::empty(200))
}

async fn thaw(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    for host in meant(&state, &req.json().await?).await? {
        state.decide(&host, VOLUME, &Decision::Thaw).await?;
    }
    Ok(Reply::empty(200))
}

/// No backend has a second site to fail over to, which upstream refuses in the same way.
async fn failover(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let hosts = meant(&state, &req.json().await?).await?;
    Err(invalid(format!("replication_status in {hosts:?} must be enabled or failed-over to failover.")))
}

/// Which of the services a request about logs means, as `(host, binary)`.
async fn logged(state: &Volumes, body: &wire::LogRequest) -> Result<Vec<(String, String)>> {
    let known = ["", "*", SCHEDULER, VOLUME, BACKUP, "cinder-api"];
    let binary = body.binary.as_deref().unwrap_or_default();
    if !known.contains(&binary) {
        return Err(invalid(format!("'{binary}' is none of {known:?}")));
    }
    let server = body.server.as_deref().filter(|server| !server.is_empty());
    let api = (state.config.host.clone(), "cinder-api".to_owned());
    let all = state.services().await?.into_iter().map(|one| (one.host, one.binary)).chain([api]);
    let wanted = |(host, name): &(String, String)| {
        (matches!(binary, "" | "*") || name == binary) && server.is_none_or(|server| is_of(host, server))
    };
    Ok(all.filter(wanted).collect())
}

/// Levels are the process's, and so those of all services in it. What runs elsewhere nobody here reaches, and saying yes
/// would be a lie: 501 where any of those that are meant does. Prefixes are those of our parts: `umbel_volume`.
async fn set_log(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let body: wire::LogRequest = req.json().await?;
    let level = body.level.clone().unwrap_or_default();
    let level = LogLevel::parse(&level).ok_or_else(|| invalid(format!("{level} is not a valid log level.")))?;
    let meant = logged(&state, &body).await?;
    let elsewhere = meant.iter().find(|(host, _)| !is_of(host, &state.config.host));
    if let Some((host, binary)) = elsewhere {
        let message = format!("{binary} of {host} is another process: its log levels are set where it is started.");
        return Err(Error::new(Kind::NotImplemented, message));
    }
    let Some(filter) = umbel_core::log_filter() else {
        return Err(Error::new(Kind::NotImplemented, "Log levels are set where the process is started."));
    };
    if !meant.is_empty() {
        filter.set(body.prefix.as_deref().unwrap_or_default(), level)?;
    }
    Ok(Reply::empty(202))
}

async fn get_log(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let body: wire::LogRequest = req.json().await?;
    let prefix = body.prefix.clone().unwrap_or_default();
    let known = umbel_core::log_filter().map(LogFilter::levels).unwrap_or_default();
    let levels: BTreeMap<String, String> = known
        .into_iter()
        .filter(|(name, _)| name.starts_with(&prefix))
        .map(|(name, level)| (name, level.name().to_owned()))
        .collect();
    let own = |(host, _): &(String, String)| is_of(host, &state.config.host);
    let one = |(host, binary)| wire::LogLevel { host, binary, levels: levels.clone() };
    let log_levels = logged(&state, &body).await?.into_iter().filter(own).map(one).collect();
    Ok(Reply::json(200, &wire::LogLevels { log_levels }))
}

async fn hosts(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let zone = parameter(&req, "zone").filter(|zone| !zone.is_empty());
    let now = state.clock.now();
    let all = state.services().await?;
    let hosts = all
        .into_iter()
        .filter(|one| !one.disabled && zone.as_ref().is_none_or(|zone| *zone == state.config.availability_zone))
        .map(|one| wire::Host {
            service_status: if state.service_is_up(&one, now) { "available" } else { "unavailable" },
            service_state: if one.disabled { "disabled" } else { "enabled" },
            last_update: Some(one.seen_at.iso_naive()),
            zone: state.config.availability_zone.clone(),
            name: one.host,
            service: one.binary,
        })
        .collect();
    Ok(Reply::json(200, &wire::Hosts { hosts }))
}

fn no_host(host: &str) -> Error {
    Error::not_found(format!("Host {host} could not be found."))
}

/// What is on a backend, in all and by project.
async fn host(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let host = req.param("host")?.to_owned();
    let known = state.services().await?.into_iter().any(|one| one.host == host && one.binary == VOLUME);
    let (_, backend) = host.split_once('@').filter(|_| known).ok_or_else(|| no_host(&host))?;
    let (of_volumes, of_snapshots) = read!(state.db, "sum up a host", |tx| services::load(tx, backend).await)?;
    let line = |project: &str, volumes: (u64, u64), snapshots: (u64, u64)| wire::HostResource {
        resource: wire::HostUse {
            host: host.clone(),
            project: project.to_owned(),
            volume_count: volumes.0.to_string(),
            total_volume_gb: volumes.1.to_string(),
            snapshot_count: snapshots.0.to_string(),
            total_snapshot_gb: snapshots.1.to_string(),
        },
    };
    let total = |of: &Sums| of.values().fold((0, 0), |(count, gib), (more, larger)| (count + more, gib + larger));
    let mut lines = vec![line("(total)", total(&of_volumes), total(&of_snapshots))];
    for (project, sums) in &of_volumes {
        lines.push(line(project, *sums, of_snapshots.get(project).copied().unwrap_or_default()));
    }
    Ok(Reply::json(200, &wire::HostDetail { host: lines }))
}

async fn update_host(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let body: BTreeMap<String, String> = req.json().await?;
    let host = req.param("host")?;
    let mut decision = None;
    for (name, value) in &body {
        decision = match (name.trim().to_lowercase().as_str(), value.trim().to_lowercase().as_str()) {
            ("status", "enable") => Some(Decision::Enable),
            ("status", "disable") => Some(Decision::Disable(None)),
            ("status", _) => return Err(Error::bad_request(format!("Invalid status: '{value}'"))),
            _ => return Err(Error::bad_request(format!("Invalid update setting: '{name}'"))),
        };
    }
    let decision = decision.ok_or_else(|| invalid("Nothing is to be changed."))?;
    if !state.services().await?.iter().any(|one| one.host == host && one.binary == VOLUME) {
        return Err(no_host(host));
    }
    let after = state.decide(host, VOLUME, &decision).await?;
    let status = if after.disabled { "disabled" } else { "enabled" };
    Ok(Reply::json(200, &BTreeMap::from([("host", host), ("status", status)])))
}
