use std::sync::Arc;

use umbel_api::compute::tags::{ADD, CHECK, CLEAR, LIST, REMOVE, REPLACE, Tags};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};

use super::input::{invalid, server_id};
use crate::Compute;
use crate::model::ServerId;

const MOST: usize = 50;
const LONGEST: usize = 60;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&LIST, list).on(&REPLACE, replace).on(&CLEAR, clear).on(&CHECK, check).on(&ADD, add).on(&REMOVE, remove)
}

fn check_tag(tag: &str) -> Result<()> {
    let length = tag.chars().count();
    match length == 0 || length > LONGEST || tag.contains(['/', ',']) {
        true => Err(invalid("tag", tag, "A tag has 1 to 60 characters, without '/' and ','")),
        false => Ok(()),
    }
}

pub(super) fn check_tags(tags: &[String]) -> Result<()> {
    if tags.len() > MOST {
        return Err(Error::bad_request(format!("The number of tags exceeded the per-server limit {MOST}")));
    }
    for (at, tag) in tags.iter().enumerate() {
        check_tag(tag)?;
        if tags[..at].contains(tag) {
            return Err(invalid("tags", tag, "It has non-unique elements"));
        }
    }
    Ok(())
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let server = state.server_of(&req.ctx, server_id(&req)?).await?;
    Ok(Reply::json(200, &Tags { tags: server.state.tags }))
}

async fn replace(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let new: Tags = req.json().await?;
    check_tags(&new.tags)?;
    let changed = state.change_tags(&req.ctx, server_id(&req)?, |tags| {
        tags.clone_from(&new.tags);
        Ok(())
    });
    Ok(Reply::json(200, &Tags { tags: changed.await?.state.tags }))
}

async fn clear(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let changed = state.change_tags(&req.ctx, server_id(&req)?, |tags| {
        tags.clear();
        Ok(())
    });
    changed.await?;
    Ok(Reply::empty(204))
}

fn no_tag(id: ServerId, tag: &str) -> Error {
    Error::not_found(format!("Server {id} has no tag '{tag}'"))
}

async fn check(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let id = server_id(&req)?;
    let server = state.server_of(&req.ctx, id).await?;
    let tag = req.param("tag")?;
    match server.state.tags.iter().any(|known| known == tag) {
        true => Ok(Reply::empty(204)),
        false => Err(no_tag(id, tag)),
    }
}

async fn add(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let tag = req.param("tag")?;
    check_tag(tag)?;
    let id = server_id(&req)?;
    let there = state.server_of(&req.ctx, id).await?.state.tags.iter().any(|known| known == tag);
    let changed = state.change_tags(&req.ctx, id, |tags| {
        if tags.iter().all(|known| known != tag) {
            tags.push(tag.to_owned());
        }
        check_tags(tags)
    });
    changed.await?;
    if there {
        return Ok(Reply::empty(204));
    }
    let location = req.url(&format!("/v2.1/servers/{id}/tags/{tag}"));
    Ok(Reply::empty(201).header("location", location))
}

async fn remove(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let tag = req.param("tag")?;
    let id = server_id(&req)?;
    let changed = state.change_tags(&req.ctx, id, |tags| {
        let at = tags.iter().position(|known| known == tag).ok_or_else(|| no_tag(id, tag))?;
        tags.remove(at);
        Ok(())
    });
    changed.await?;
    Ok(Reply::empty(204))
}
