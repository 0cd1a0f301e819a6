use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::endpoint_groups::{EndpointGroup, EndpointGroupRequest};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::catalog::endpoint_body;
use super::query::Query;
use super::{no_content, one, page, window};
use crate::Identity;
use crate::service::endpoint_groups as service;
use crate::store::endpoint_groups::EndpointGroupRow;

const ONE: &str = "endpoint_group";
const ID: &str = "endpoint_group_id";

fn body(req: &Req, row: EndpointGroupRow) -> EndpointGroup {
    EndpointGroup {
        links: SelfLink::new(&req.root, &format!("OS-EP-FILTER/endpoint_groups/{}", row.id)),
        id: row.id,
        name: row.name,
        description: row.description,
        filters: row.filters,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let name = Query::of(&req).text_filter("name");
    let rows = service::list(&identity, &req.ctx, req.route.policy, name.as_ref(), &window).await?;
    Ok(page(&req, &window, "endpoint_groups", rows, |row| &row.id, |row| body(&req, row)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let EndpointGroupRequest { endpoint_group } = req.json().await?;
    let row = service::create(&identity, endpoint_group).await?;
    Ok(one(201, ONE, body(&req, row)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let row = service::show(&identity, &req.ctx, req.route.policy, req.param(ID)?).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let EndpointGroupRequest { endpoint_group } = req.json().await?;
    let row = service::update(&identity, req.param(ID)?, endpoint_group).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, req.param(ID)?).await?;
    Ok(no_content())
}

pub(super) async fn endpoints(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let rows = service::endpoints(&identity, &req.ctx, req.route.policy, req.param(ID)?, &window).await?;
    Ok(page(&req, &window, "endpoints", rows, |row| &row.id, |row| endpoint_body(&req, row)))
}
