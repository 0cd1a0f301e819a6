use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::auth::{AuthRequest, CatalogReply, SUBJECT_TOKEN, SystemReply};
use umbel_core::{Error, Result, SystemScope};
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{domains, here, projects, whole};
use crate::Identity;
use crate::service::{policy, scopes, tokens};

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let body: AuthRequest = req.json().await?;
    let with_catalog = Query::of(&req).text("nocatalog").is_none();
    let (token, reply) = tokens::create(&identity, body.auth, with_catalog).await?;
    Ok(Reply::json(201, &reply).header(SUBJECT_TOKEN, token).header("vary", "X-Auth-Token"))
}

fn subject(req: &Req) -> Result<&str> {
    req.header(SUBJECT_TOKEN).ok_or_else(|| Error::not_found("No token in the request"))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let query = Query::of(&req);
    let (with_catalog, allow_expired) = (query.text("nocatalog").is_none(), query.flag("allow_expired"));
    let subject = subject(&req)?;
    let reply = tokens::show(&identity, &req.ctx, req.route.policy, subject, with_catalog, allow_expired).await?;
    Ok(Reply::json(200, &reply).header(SUBJECT_TOKEN, subject).header("vary", "X-Auth-Token"))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    tokens::revoke(&identity, &req.ctx, req.route.policy, subject(&req)?).await?;
    Ok(super::no_content())
}

pub(super) async fn catalog(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let principal = policy::principal(&req.ctx)?;
    let Some(project_id) = principal.project_id() else {
        return Err(Error::forbidden("A project-scoped token is required to produce a service catalog."));
    };
    let directory = identity.directory().await?;
    let catalog = directory.catalog(&principal.user_id, Some(project_id))?;
    Ok(Reply::json(200, &CatalogReply { catalog, links: SelfLink { href: here(&req) } }))
}

/// Where the caller could take its token to: enabled projects only, since no other gives one.
pub(super) async fn projects(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let user_id = policy::principal(&req.ctx)?.user_id.clone();
    let mut rows = scopes::projects_of(&identity, &req.ctx, req.route.policy, &user_id).await?;
    rows.retain(|row| row.enabled);
    Ok(whole(&req, "projects", rows.into_iter().map(|row| projects::body(&req, row)).collect()))
}

pub(super) async fn domains(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let mut rows = scopes::domains_of_caller(&identity, &req.ctx).await?;
    rows.retain(|row| row.enabled);
    Ok(whole(&req, "domains", rows.into_iter().map(|row| domains::body(&req, row)).collect()))
}

pub(super) async fn system(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let has = scopes::caller_has_system(&identity, &req.ctx).await?;
    let system = has.then_some(SystemScope { all: true }).into_iter().collect();
    Ok(Reply::json(200, &SystemReply { system, links: SelfLink { href: here(&req) } }))
}
