use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::policies::{Policy, PolicyRequest};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{no_content, one, page, window};
use crate::Identity;
use crate::service::policies as service;
use crate::store::policies::PolicyRow;

const ONE: &str = "policy";

fn body(req: &Req, row: PolicyRow) -> Policy {
    Policy {
        links: SelfLink::new(&req.root, &format!("policies/{}", row.id)),
        id: row.id,
        media_type: row.kind,
        blob: row.content,
        extra: row.extra,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let kind = Query::of(&req).given("type");
    let rows = service::list(&identity, &req.ctx, req.route.policy, kind.as_deref(), &window).await?;
    Ok(page(&req, &window, "policies", rows, |row| &row.id, |row| body(&req, row)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let PolicyRequest { policy } = req.json().await?;
    let row = service::create(&identity, policy).await?;
    Ok(one(201, ONE, body(&req, row)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let row = service::show(&identity, &req.ctx, req.route.policy, req.param("policy_id")?).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let PolicyRequest { policy } = req.json().await?;
    let row = service::update(&identity, req.param("policy_id")?, policy).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, req.param("policy_id")?).await?;
    Ok(no_content())
}
