use std::sync::Arc;

use umbel_api::identity::domain_config::ConfigRequest;
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::{no_content, one};
use crate::Identity;
use crate::service::domain_config as service;
use crate::service::domain_config::Part;

const ONE: &str = "config";
const DOMAIN: &str = "domain_id";

/// What the path names beyond the domain; the shorter paths have no such parameters.
fn part(req: &Req) -> Part<'_> {
    Part { group: req.param("group").ok(), option: req.param("option").ok() }
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let config = service::show(&identity, &req.ctx, req.route.policy, req.param(DOMAIN)?, part(&req)).await?;
    Ok(one(200, ONE, config))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let ConfigRequest { config } = req.json().await?;
    let (new, config) = service::create(&identity, req.param(DOMAIN)?, config).await?;
    Ok(one(if new { 201 } else { 200 }, ONE, config))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let ConfigRequest { config } = req.json().await?;
    let config = service::update(&identity, req.param(DOMAIN)?, part(&req), config).await?;
    Ok(one(200, ONE, config))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, req.param(DOMAIN)?, part(&req)).await?;
    Ok(no_content())
}

pub(super) async fn defaults(_: Arc<Identity>, req: Req) -> Result<Reply> {
    Ok(one(200, ONE, service::defaults(&req.ctx, req.route.policy, part(&req))?))
}
