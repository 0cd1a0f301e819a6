use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::tags::{Tags, TagsRequest};
use umbel_core::{Ctx, Error, Result};
use umbel_http::{Reply, Req};

use super::{here, no_content};
use crate::Identity;
use crate::service::projects::{self, As};
use crate::service::tags;

fn no_tag(tag: &str) -> Error {
    Error::not_found(format!("Could not find project tag: {tag}."))
}

fn reply(req: &Req, tags: Vec<String>) -> Reply {
    Reply::json(200, &Tags { links: SelfLink { href: here(req) }, tags })
}

async fn standing(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<Vec<String>> {
    Ok(projects::show(identity, ctx, policy, id, As::Project).await?.tags)
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let tags = standing(&identity, &req.ctx, req.route.policy, req.param("project_id")?).await?;
    Ok(reply(&req, tags))
}

pub(super) async fn check(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (id, tag) = (req.param("project_id")?, req.param("tag")?);
    let tags = standing(&identity, &req.ctx, req.route.policy, id).await?;
    match tags.iter().any(|known| known == tag) {
        true => Ok(no_content()),
        false => Err(no_tag(tag)),
    }
}

pub(super) async fn replace(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let body: TagsRequest = req.json().await?;
    let id = req.param("project_id")?;
    let tags = tags::change(&identity, &req.ctx, req.route.policy, id, |_| Ok(body.tags.clone())).await?;
    Ok(reply(&req, tags))
}

pub(super) async fn clear(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let id = req.param("project_id")?;
    tags::change(&identity, &req.ctx, req.route.policy, id, |_| Ok(Vec::new())).await?;
    Ok(no_content())
}

pub(super) async fn add(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (id, tag) = (req.param("project_id")?, req.param("tag")?);
    let with = |mut tags: Vec<String>| {
        tags.push(tag.to_owned());
        Ok(tags)
    };
    tags::change(&identity, &req.ctx, req.route.policy, id, with).await?;
    Ok(Reply::empty(201).header("location", here(&req)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (id, tag) = (req.param("project_id")?, req.param("tag")?);
    let without = |tags: Vec<String>| match tags.iter().any(|known| known == tag) {
        true => Ok(tags.into_iter().filter(|known| known != tag).collect()),
        false => Err(no_tag(tag)),
    };
    tags::change(&identity, &req.ctx, req.route.policy, id, without).await?;
    Ok(no_content())
}
