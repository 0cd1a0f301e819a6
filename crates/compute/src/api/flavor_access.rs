use std::sync::Arc;

use umbel_api::compute::flavors::{ACCESS, ACTION, Access, AccessList, AccessRequest};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};

use super::input::{invalid, need_admin};
use crate::Compute;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&ACCESS, list).on(&ACTION, change)
}

fn answer(flavor_id: &str, projects: &[String]) -> Reply {
    let flavor_access = projects.iter().map(|tenant_id| Access { flavor_id, tenant_id }).collect();
    Reply::json(200, &AccessList { flavor_access })
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let id = req.param("flavor_id")?;
    Ok(answer(id, &state.flavor_projects(id).await?))
}

async fn change(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let body: AccessRequest = req.json().await?;
    let id = req.param("flavor_id")?;
    let project = |tenant: &str| match tenant.is_empty() {
        true => Err(invalid("tenant", tenant, "'' is too short")),
        false => Ok(()),
    };
    let projects = match (body.add, body.remove) {
        (Some(add), None) => {
            project(&add.tenant)?;
            state.add_flavor_project(id, &add.tenant).await?
        }
        (None, Some(remove)) => {
            need_admin(&req.ctx, "os_compute_api:os-flavor-access:remove_tenant_access")?;
            project(&remove.tenant)?;
            state.remove_flavor_project(id, &remove.tenant).await?
        }
        _ => return Err(Error::bad_request("A request for an action has exactly one member, its name.")),
    };
    Ok(answer(id, &projects))
}
