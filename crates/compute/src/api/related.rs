use std::sync::Arc;

use umbel_api::compute::related::{
    Addresses, DIAGNOSTICS, Diagnostics, INTERFACES, IPS, IPS_OF, Interfaces, MemoryDetails, SECURITY_GROUPS,
    SecurityGroups,
};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};

use super::input::server_id;
use crate::Compute;
use crate::model::Power;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes
        .on(&IPS, ips)
        .on(&IPS_OF, ips_of)
        .on(&INTERFACES, interfaces)
        .on(&SECURITY_GROUPS, security_groups)
        .on(&DIAGNOSTICS, diagnostics)
}

async fn ips(state: Arc<Compute>, req: Req) -> Result<Reply> {
    state.server_of(&req.ctx, server_id(&req)?).await?;
    Ok(Reply::json(200, &Addresses::default()))
}

async fn ips_of(state: Arc<Compute>, req: Req) -> Result<Reply> {
    state.server_of(&req.ctx, server_id(&req)?).await?;
    Err(Error::not_found("Instance is not a member of specified network"))
}

async fn interfaces(state: Arc<Compute>, req: Req) -> Result<Reply> {
    state.server_of(&req.ctx, server_id(&req)?).await?;
    Ok(Reply::json(200, &Interfaces::default()))
}

async fn security_groups(state: Arc<Compute>, req: Req) -> Result<Reply> {
    state.server_of(&req.ctx, server_id(&req)?).await?;
    Ok(Reply::json(200, &SecurityGroups::default()))
}

async fn diagnostics(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let server = state.server_of(&req.ctx, server_id(&req)?).await?;
    if server.state.host.is_none() {
        return Err(Error::conflict(format!("Instance {} is not ready", server.id)));
    }
    if req.version.minor < 48 {
        return Ok(Reply::json(200, &serde_json::json!({})));
    }
    let power = match server.state.power {
        None => "pending",
        Some(Power::Running) => "running",
        Some(Power::Paused) => "paused",
        Some(Power::Shutdown) => "shutdown",
        Some(Power::Crashed) => "crashed",
    };
    let body = Diagnostics {
        state: power,
        driver: "libvirt",
        hypervisor: None,
        hypervisor_os: None,
        uptime: None,
        config_drive: server.spec.config_drive,
        num_cpus: server.spec.flavor.vcpus,
        num_nics: 0,
        num_disks: u32::try_from(server.spec.disks.len() + server.state.volumes.len()).unwrap_or(u32::MAX),
        memory_details: MemoryDetails { maximum: Some(server.spec.flavor.memory_mib), used: None },
        cpu_details: Vec::new(),
        nic_details: Vec::new(),
        disk_details: Vec::new(),
    };
    Ok(Reply::json(200, &body))
}
