use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::regions::{Region, RegionRequest};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{no_content, one, page, window};
use crate::Identity;
use crate::service::regions as service;
use crate::store::regions::RegionRow;

const ONE: &str = "region";

fn body(req: &Req, row: RegionRow) -> Region {
    Region {
        links: SelfLink::new(&req.root, &format!("regions/{}", row.id)),
        id: row.id,
        description: row.description,
        parent_region_id: row.parent_id,
        extra: row.extra,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let parent_id = Query::of(&req).given("parent_region_id");
    let rows = service::list(&identity, parent_id.as_deref(), &window).await?;
    Ok(page(&req, &window, "regions", rows, |row| &row.id, |row| body(&req, row)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let RegionRequest { region } = req.json().await?;
    let row = service::create(&identity, None, region).await?;
    Ok(one(201, ONE, body(&req, row)))
}

pub(super) async fn put(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let RegionRequest { region } = req.json().await?;
    let row = service::create(&identity, Some(req.param("region_id")?), region).await?;
    Ok(one(201, ONE, body(&req, row)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let row = service::show(&identity, req.param("region_id")?).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let RegionRequest { region } = req.json().await?;
    let row = service::update(&identity, req.param("region_id")?, region).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, req.param("region_id")?).await?;
    Ok(no_content())
}
