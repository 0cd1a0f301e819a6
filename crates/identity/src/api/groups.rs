use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::groups::{Group, GroupRequest};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{no_content, one, page, window};
use crate::Identity;
use crate::service::groups as service;
use crate::store::groups::{GroupFilter, GroupRow};

const ONE: &str = "group";

pub(super) fn body(req: &Req, row: GroupRow) -> Group {
    Group {
        links: SelfLink::new(&req.root, &format!("groups/{}", row.id)),
        id: row.id,
        name: row.name,
        domain_id: row.domain_id,
        description: row.description,
        membership_expires_at: None,
        extra: row.extra,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (query, window) = (Query::of(&req), window(&identity, &req)?);
    let filter = GroupFilter { domain_id: query.given("domain_id"), name: query.text_filter("name"), user_id: None };
    let rows = service::list(&identity, &req.ctx, req.route.policy, &filter, &window).await?;
    Ok(page(&req, &window, "groups", rows, |row| &row.id, |row| body(&req, row)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let GroupRequest { group } = req.json().await?;
    let row = service::create(&identity, &req.ctx, req.route.policy, group).await?;
    Ok(one(201, ONE, body(&req, row)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let row = service::show(&identity, &req.ctx, req.route.policy, req.param("group_id")?).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let GroupRequest { group } = req.json().await?;
    let row = service::update(&identity, &req.ctx, req.route.policy, req.param("group_id")?, group).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, &req.ctx, req.route.policy, req.param("group_id")?).await?;
    Ok(no_content())
}

pub(super) async fn users(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let filter = super::users::filter(&Query::of(&req))?;
    let group_id = req.param("group_id")?;
    let rows = service::users(&identity, &req.ctx, req.route.policy, group_id, filter, &window).await?;
    Ok(page(&req, &window, "users", rows, |row| &row.id, |row| super::users::body(&req, row)))
}

pub(super) async fn add_user(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (group_id, user_id) = (req.param("group_id")?, req.param("user_id")?);
    service::add_user(&identity, &req.ctx, req.route.policy, group_id, user_id).await?;
    Ok(no_content())
}

pub(super) async fn has_user(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (group_id, user_id) = (req.param("group_id")?, req.param("user_id")?);
    service::has_user(&identity, &req.ctx, req.route.policy, group_id, user_id).await?;
    Ok(no_content())
}

pub(super) async fn remove_user(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (group_id, user_id) = (req.param("group_id")?, req.param("user_id")?);
    service::remove_user(&identity, &req.ctx, req.route.policy, group_id, user_id).await?;
    Ok(no_content())
}
