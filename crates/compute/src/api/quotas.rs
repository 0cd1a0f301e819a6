use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use umbel_api::compute::quotas::{
    CLASS_SHOW, CLASS_UPDATE, ClassUpdateRequest, DEFAULTS, DELETE, DETAIL, Detail, QuotaClassBody, QuotaSet,
    QuotaSetBody, Resource, SHOW, UPDATE, UpdateRequest, class_resources, resources,
};
use umbel_core::Result;
use umbel_http::{Reply, Req, Routes};

use super::input::{boolean, integer, need_admin, parameter, unexpected};
use crate::Compute;
use crate::store::quotas::Limits;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes
        .on(&SHOW, show)
        .on(&DEFAULTS, defaults)
        .on(&DETAIL, detail)
        .on(&UPDATE, update)
        .on(&DELETE, delete)
        .on(&CLASS_SHOW, class_show)
        .on(&CLASS_UPDATE, class_update)
}

fn shown(limits: &Limits, resources: impl Iterator<Item = &'static Resource>) -> BTreeMap<&'static str, i64> {
    resources.map(|one| (one.name, limits.get(one.name).copied().unwrap_or(-1))).collect()
}

/// Everybody may see their own project's.
fn project(req: &Req) -> Result<&str> {
    let project = req.param("project_id")?;
    if req.ctx.project_id() != Some(project) {
        need_admin(&req.ctx, req.route.policy)?;
    }
    Ok(project)
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let project = project(&req)?;
    let user = parameter(&req.query_pairs(), "user_id");
    let limits = state.limits(project, user.as_deref()).await?;
    let limits = shown(&limits, resources(req.version));
    Ok(Reply::json(200, &QuotaSetBody { quota_set: QuotaSet { id: Some(project.to_owned()), limits } }))
}

async fn defaults(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let limits = shown(&state.default_limits().await?, resources(req.version));
    let id = Some(req.param("project_id")?.to_owned());
    Ok(Reply::json(200, &QuotaSetBody { quota_set: QuotaSet { id, limits } }))
}

async fn detail(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let project = project(&req)?;
    let user = parameter(&req.query_pairs(), "user_id");
    let (limits, usage) =
        tokio::try_join!(state.limits(project, user.as_deref()), state.usage(project, user.as_deref()))?;
    let one = |name: &str| Detail {
        limit: limits.get(name).copied().unwrap_or(-1),
        in_use: usage.get(name).copied().unwrap_or(0),
        reserved: 0,
    };
    let limits = resources(req.version).map(|resource| (resource.name, one(resource.name))).collect();
    Ok(Reply::json(200, &QuotaSetBody { quota_set: QuotaSet { id: Some(project.to_owned()), limits } }))
}

/// The limits in a request. A resource that this version does not have is refused.
fn new_limits(
    body: &BTreeMap<String, Value>,
    resources: impl Iterator<Item = &'static Resource>,
) -> Result<BTreeMap<&'static str, i64>> {
    let known: Vec<&'static str> = resources.map(|resource| resource.name).collect();
    let mut limits = BTreeMap::new();
    for (name, value) in body {
        let Some(resource) = known.iter().find(|known| *known == name) else {
            return Err(unexpected(name));
        };
        limits.insert(*resource, integer(name, value, -1)?);
    }
    Ok(limits)
}

async fn update(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let mut body = req.json::<UpdateRequest>().await?.quota_set;
    let force = match body.remove("force") {
        Some(value) => boolean("force", &value)?,
        None => false,
    };
    // Some clients send back what they read.
    body.remove("tenant_id");
    let project = req.param("project_id")?;
    let user = parameter(&req.query_pairs(), "user_id");
    let new = new_limits(&body, resources(req.version))?;
    state.set_limits(project, user.as_deref(), &new, force).await?;
    let limits = state.limits(project, user.as_deref()).await?;
    let limits = shown(&limits, resources(req.version));
    Ok(Reply::json(200, &QuotaSetBody { quota_set: QuotaSet { id: None, limits } }))
}

async fn delete(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let user = parameter(&req.query_pairs(), "user_id");
    state.clear_limits(req.param("project_id")?, user.as_deref()).await?;
    Ok(Reply::empty(202))
}

async fn class_show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let class = req.param("class")?;
    let limits = shown(&state.class_limits(class).await?, class_resources(req.version));
    Ok(Reply::json(200, &QuotaClassBody { quota_class_set: QuotaSet { id: Some(class.to_owned()), limits } }))
}

async fn class_update(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let body = req.json::<ClassUpdateRequest>().await?.quota_class_set;
    let class = req.param("class")?;
    let new = new_limits(&body, class_resources(req.version))?;
    state.set_class_limits(class, &new).await?;
    let limits = shown(&state.class_limits(class).await?, class_resources(req.version));
    Ok(Reply::json(200, &QuotaClassBody { quota_class_set: QuotaSet { id: None, limits } }))
}
