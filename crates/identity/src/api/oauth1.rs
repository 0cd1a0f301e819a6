use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::oauth1::{Consumer, ConsumerRequest};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::{no_content, one, page, window};
use crate::Identity;
use crate::service::oauth1 as service;
use crate::store::oauth1::ConsumerRow;

const ONE: &str = "consumer";

fn body(req: &Req, row: ConsumerRow, secret: Option<String>) -> Consumer {
    Consumer {
        links: SelfLink::new(&req.root, &format!("OS-OAUTH1/consumers/{}", row.id)),
        id: row.id,
        description: row.description,
        secret,
        extra: row.extra,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let rows = service::list(&identity, &req.ctx, req.route.policy, &window).await?;
    Ok(page(&req, &window, "consumers", rows, |row| &row.id, |row| body(&req, row, None)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let ConsumerRequest { consumer } = req.json().await?;
    let (row, secret) = service::create(&identity, consumer).await?;
    Ok(one(201, ONE, body(&req, row, Some(secret))))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let row = service::show(&identity, &req.ctx, req.route.policy, req.param("consumer_id")?).await?;
    Ok(one(200, ONE, body(&req, row, None)))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let ConsumerRequest { consumer } = req.json().await?;
    let row = service::update(&identity, req.param("consumer_id")?, consumer).await?;
    Ok(one(200, ONE, body(&req, row, None)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, req.param("consumer_id")?).await?;
    Ok(no_content())
}
