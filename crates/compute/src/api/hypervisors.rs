use std::sync::Arc;

use serde_json::json;
use umbel_api::compute::NextLink;
use umbel_api::compute::hypervisors::{
    DETAIL, Detail, HostService, Hypervisor, Hypervisors, LIST, OneHypervisor, SHOW, STATISTICS, ServerOnHost,
    Statistics, StatisticsBody, Usage,
};
use umbel_core::{Error, GIB, Result};
use umbel_http::{Reply, Req, Routes, next_link};

use super::input::{parameter, truth};
use super::services::service_id;
use crate::Compute;
use crate::service::hosts::{HostView, number};

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&LIST, list).on(&DETAIL, detail).on(&STATISTICS, statistics).on(&SHOW, show)
}

fn view(found: &HostView, detail: bool) -> Hypervisor {
    Hypervisor {
        id: service_id(&found.host),
        hypervisor_hostname: found.host.name.clone(),
        state: if found.up { "up" } else { "down" },
        status: if found.host.disabled.is_some() { "disabled" } else { "enabled" },
        servers: None,
        detail: detail.then(|| details(found)),
    }
}

fn details(found: &HostView) -> Detail {
    let facts = &found.facts;
    let reason = found.host.disabled.clone().filter(|reason| !reason.is_empty());
    Detail {
        host_ip: "127.0.0.1".to_owned(),
        hypervisor_type: facts.hypervisor_type.clone(),
        hypervisor_version: facts.hypervisor_version,
        service: HostService { id: service_id(&found.host), host: found.host.name.clone(), disabled_reason: reason },
        uptime: Some(None),
        usage: Some(usage(found)),
        cpu_info: Some(json!({
            "arch": facts.cpu_arch,
            "model": facts.cpu_model,
            "accelerator": facts.accelerator,
            "topology": {"sockets": 1, "cores": facts.vcpus, "threads": 1},
        })),
    }
}

fn usage(found: &HostView) -> Usage {
    let host = &found.host;
    let (memory, memory_used) = (host.memory_mib, host.memory_mib_used + host.memory_reserved_mib);
    let free = i64::try_from(found.disk_free_gib()).unwrap_or(i64::MAX);
    Usage {
        vcpus: host.vcpus,
        vcpus_used: host.vcpus_used,
        memory_mb: memory,
        memory_mb_used: memory_used,
        free_ram_mb: signed(memory) - signed(memory_used),
        local_gb: found.disk_gib(),
        local_gb_used: found.disk_used_gib(),
        free_disk_gb: signed(found.disk_gib()) - signed(found.disk_used_gib()),
        disk_available_least: free,
        running_vms: found.servers,
        current_workload: 0,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    page(&state, req, false).await
}

async fn detail(state: Arc<Compute>, req: Req) -> Result<Reply> {
    page(&state, req, true).await
}

async fn page(state: &Compute, req: Req, detail: bool) -> Result<Reply> {
    let pairs = req.query_pairs();
    let minor = req.version.minor;
    let mut hosts = state.hosts().await;
    if let Some(pattern) = parameter(&pairs, "hypervisor_hostname_pattern").filter(|_| minor >= 53) {
        hosts.retain(|found| found.host.name.contains(&pattern));
        if hosts.is_empty() {
            return Err(Error::not_found(format!("No hypervisor matching '{pattern}' could be found.")));
        }
    }
    let mut hypervisors_links = Vec::new();
    if minor >= 33 {
        let last = cut(&mut hosts, &pairs, minor, state.config.max_limit)?;
        if let Some(last) = last {
            hypervisors_links = NextLink::to(next_link(&req, &req.url(req.route.path), &last));
        }
    }
    let with_servers = with_servers(&pairs, minor)?;
    let servers = if with_servers { state.servers_on(&hosts).await } else { Default::default() };
    let hypervisors = hosts
        .iter()
        .map(|found| {
            let mut one = view(found, detail);
            one.servers = servers.get(&found.host.name).map(|servers| on_host(servers)).filter(|on| !on.is_empty());
            one
        })
        .collect();
    Ok(Reply::versioned(200, req.version, Hypervisors { hypervisors, hypervisors_links }))
}

fn on_host(servers: &[(crate::model::ServerId, String)]) -> Vec<ServerOnHost> {
    servers.iter().map(|(id, name)| ServerOnHost { name: name.clone(), uuid: id.to_string() }).collect()
}

fn with_servers(pairs: &[(String, String)], minor: u16) -> Result<bool> {
    match parameter(pairs, "with_servers").filter(|_| minor >= 53) {
        None => Ok(false),
        Some(text) => {
            truth(&text).ok_or_else(|| Error::bad_request(format!("Invalid value '{text}' for with_servers.")))
        }
    }
}

/// Cuts out the page; the marker of the next if there is one.
fn cut(hosts: &mut Vec<HostView>, pairs: &[(String, String)], minor: u16, max: usize) -> Result<Option<String>> {
    hosts.sort_by_key(|found| found.host.id);
    let id = |found: &HostView| if minor >= 53 { found.host.id.to_string() } else { number(found.host.id).to_string() };
    if let Some(marker) = parameter(pairs, "marker") {
        let at = hosts.iter().position(|found| id(found) == marker);
        let at = at.ok_or_else(|| Error::bad_request(format!("marker [{marker}] not found")))?;
        hosts.drain(..=at);
    }
    let limit = match parameter(pairs, "limit") {
        None => max,
        Some(text) => {
            let bad = || Error::bad_request(format!("Invalid input for query parameters limit. Value: {text}."));
            match text.parse::<usize>().map_err(|_| bad())? {
                0 => max,
                limit => limit.min(max),
            }
        }
    };
    let more = hosts.len() > limit;
    hosts.truncate(limit);
    Ok(hosts.last().filter(|_| more).map(id))
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let asked = req.param("hypervisor_id")?;
    let minor = req.version.minor;
    let hosts = state.hosts().await;
    let found = hosts.into_iter().find(|found| match minor >= 53 {
        true => found.host.id.to_string() == asked,
        false => number(found.host.id).to_string() == asked,
    });
    let found = found.ok_or_else(|| Error::not_found(format!("Hypervisor with ID '{asked}' could not be found.")))?;
    let mut hypervisor = view(&found, true);
    if with_servers(&req.query_pairs(), minor)? {
        let name = found.host.name.clone();
        let servers = state.servers_on(&[found]).await;
        hypervisor.servers = servers.get(&name).map(|servers| on_host(servers)).filter(|on| !on.is_empty());
    }
    Ok(Reply::versioned(200, req.version, OneHypervisor { hypervisor }))
}

/// Of all hosts together; a pool that many reach counts once.
async fn statistics(state: Arc<Compute>, _: Req) -> Result<Reply> {
    let hosts = state.hosts().await;
    let mut all = Usage::default();
    for found in &hosts {
        let one = usage(found);
        all.vcpus += one.vcpus;
        all.vcpus_used += one.vcpus_used;
        all.memory_mb += one.memory_mb;
        all.memory_mb_used += one.memory_mb_used;
        all.free_ram_mb += one.free_ram_mb;
        all.running_vms += one.running_vms;
    }
    let pools = Compute::distinct_pools(&hosts);
    all.local_gb = pools.iter().map(|pool| pool.total).sum::<u64>() / GIB;
    all.local_gb_used = pools.iter().map(|pool| pool.used).sum::<u64>() / GIB;
    all.free_disk_gb = signed(all.local_gb) - signed(all.local_gb_used);
    all.disk_available_least = signed(pools.iter().map(|pool| pool.free).sum::<u64>() / GIB);
    let count = hosts.len() as u64;
    Ok(Reply::json(200, &StatisticsBody { hypervisor_statistics: Statistics { count, usage: all } }))
}
