use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::credentials::{Credential, CredentialRequest};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{no_content, one, page, window};
use crate::Identity;
use crate::service::credentials as service;
use crate::service::credentials::Opened;

const ONE: &str = "credential";

fn body(req: &Req, opened: Opened) -> Credential {
    let Opened { row, blob } = opened;
    Credential {
        links: SelfLink::new(&req.root, &format!("credentials/{}", row.id)),
        id: row.id,
        user_id: row.user_id,
        project_id: row.project_id,
        kind: row.kind,
        blob,
        extra: row.extra,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (query, window) = (Query::of(&req), window(&identity, &req)?);
    let (user_id, kind) = (query.given("user_id"), query.given("type"));
    let policy = req.route.policy;
    let rows = service::list(&identity, &req.ctx, policy, user_id.as_deref(), kind.as_deref(), &window).await?;
    Ok(page(&req, &window, "credentials", rows, |opened| &opened.row.id, |opened| body(&req, opened)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let CredentialRequest { credential } = req.json().await?;
    let opened = service::create(&identity, &req.ctx, req.route.policy, credential).await?;
    Ok(one(201, ONE, body(&req, opened)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let opened = service::show(&identity, &req.ctx, req.route.policy, req.param("credential_id")?).await?;
    Ok(one(200, ONE, body(&req, opened)))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let CredentialRequest { credential } = req.json().await?;
    let id = req.param("credential_id")?;
    let opened = service::update(&identity, &req.ctx, req.route.policy, id, credential).await?;
    Ok(one(200, ONE, body(&req, opened)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, &req.ctx, req.route.policy, req.param("credential_id")?).await?;
    Ok(no_content())
}
