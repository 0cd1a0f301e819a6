use std::sync::Arc;

use umbel_core::{Error, Result};
use umbel_http::{Reply, Req};

use super::{no_content, roles, whole};
use crate::Identity;
use crate::service::grants as service;
use crate::service::grants::Pair;
use crate::store::assignments::{ActorKind, SYSTEM, TargetKind};

/// Who and on what, as the path says.
fn pair(req: &Req) -> Result<Pair> {
    let path = req.route.path;
    let has = |name: &str| path.contains(&format!("{{{name}}}"));
    let (actor_kind, actor_id) = match (has("user_id"), has("group_id")) {
        (true, false) => (ActorKind::User, req.param("user_id")?),
        (false, true) => (ActorKind::Group, req.param("group_id")?),
        _ => return Err(Error::internal(format!("route {path} names no actor"))),
    };
    let (target_kind, target_id) = match (has("project_id"), has("domain_id")) {
        (true, false) => (TargetKind::Project, req.param("project_id")?),
        (false, true) => (TargetKind::Domain, req.param("domain_id")?),
        _ => (TargetKind::System, SYSTEM),
    };
    Ok(Pair {
        actor_kind,
        actor_id: actor_id.to_owned(),
        target_kind,
        target_id: target_id.to_owned(),
        inherited: path.starts_with("/v3/OS-INHERIT/"),
    })
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let rows = service::list(&identity, &req.ctx, req.route.policy, &pair(&req)?).await?;
    Ok(whole(&req, "roles", rows.into_iter().map(|row| roles::body(&req, row)).collect()))
}

pub(super) async fn check(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::check(&identity, &req.ctx, req.route.policy, &pair(&req)?, req.param("role_id")?).await?;
    Ok(no_content())
}

pub(super) async fn create(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::create(&identity, &req.ctx, req.route.policy, &pair(&req)?, req.param("role_id")?).await?;
    Ok(no_content())
}

pub(super) async fn revoke(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::revoke(&identity, &req.ctx, req.route.policy, &pair(&req)?, req.param("role_id")?).await?;
    Ok(no_content())
}
