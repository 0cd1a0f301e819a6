use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::domains::{Domain, DomainRequest};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{no_content, one, page, window};
use crate::Identity;
use crate::service::projects as service;
use crate::service::projects::{As, Changes};
use crate::store::projects::{ProjectFilter, ProjectRow};

const ONE: &str = "domain";

pub(super) fn body(req: &Req, row: ProjectRow) -> Domain {
    Domain {
        links: SelfLink::new(&req.root, &format!("domains/{}", row.id)),
        id: row.id,
        name: row.name,
        description: row.description,
        enabled: row.enabled,
        tags: row.tags,
        options: row.options,
        extra: row.extra,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (query, window) = (Query::of(&req), window(&identity, &req)?);
    let filter = ProjectFilter {
        is_domain: true,
        name: query.text_filter("name"),
        enabled: query.truth("enabled"),
        ..ProjectFilter::default()
    };
    let rows = service::list(&identity, &req.ctx, req.route.policy, &filter, &window).await?;
    Ok(page(&req, &window, "domains", rows, |row| &row.id, |row| body(&req, row)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let DomainRequest { domain } = req.json().await?;
    let row = service::create_domain(&identity, &req.ctx, req.route.policy, domain).await?;
    Ok(one(201, ONE, body(&req, row)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let id = req.param("domain_id")?;
    let row = service::show(&identity, &req.ctx, req.route.policy, id, As::Domain).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let DomainRequest { domain } = req.json().await?;
    let id = req.param("domain_id")?;
    let changes = |_: &ProjectRow| Changes::of_domain(id, domain.clone());
    let row = service::update(&identity, &req.ctx, req.route.policy, id, As::Domain, changes).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete_domain(&identity, &req.ctx, req.route.policy, req.param("domain_id")?).await?;
    Ok(no_content())
}
