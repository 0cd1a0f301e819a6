use std::sync::Arc;

use umbel_api::compute::limits::{Absolute, Limits, LimitsBody, Network, Personality, SHOW};
use umbel_core::Result;
use umbel_http::{Reply, Req, Routes};

use super::input::{need_admin, parameter};
use crate::Compute;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&SHOW, show)
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let own = req.ctx.project_id().unwrap_or_default();
    let asked = parameter(&req.query_pairs(), "tenant_id").filter(|project| project != own);
    let project = match asked {
        Some(other) => {
            need_admin(&req.ctx, "os_compute_api:limits:other_project")?;
            other
        }
        None => own.to_owned(),
    };
    let (limits, usage) = tokio::try_join!(state.limits(&project, None), state.usage(&project, None))?;
    let limit = |name: &str| limits.get(name).copied().unwrap_or(-1);
    let used = |name: &str| usage.get(name).copied().unwrap_or(0);
    let absolute = Absolute {
        max_total_instances: limit("instances"),
        max_total_cores: limit("cores"),
        max_total_ram_size: limit("ram"),
        max_total_keypairs: limit("key_pairs"),
        max_server_meta: limit("metadata_items"),
        max_server_groups: limit("server_groups"),
        max_server_group_members: limit("server_group_members"),
        total_instances_used: used("instances"),
        total_cores_used: used("cores"),
        total_ram_used: used("ram"),
        total_server_groups_used: 0,
        max_image_meta: Some(limit("metadata_items")),
        personality: Some(Personality {
            max_personality: limit("injected_files"),
            max_personality_size: limit("injected_file_content_bytes"),
        }),
        network: Some(Network {
            max_security_groups: limit("security_groups"),
            max_security_group_rules: limit("security_group_rules"),
            max_total_floating_ips: limit("floating_ips"),
            total_floating_ips_used: 0,
            total_security_groups_used: 0,
        }),
    };
    Ok(Reply::versioned(200, req.version, LimitsBody { limits: Limits { rate: [], absolute } }))
}
