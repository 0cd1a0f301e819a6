use std::collections::BTreeMap;
use std::sync::Arc;

use umbel_api::compute::metadata::{DELETE, LIST, MERGE, Meta, Metadata, REPLACE, SET, SHOW};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};

use super::input::{metadata_item, server_id};
use crate::Compute;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&LIST, list).on(&MERGE, merge).on(&REPLACE, replace).on(&SHOW, show).on(&SET, set).on(&DELETE, delete)
}

fn no_item() -> Error {
    Error::not_found("Metadata item was not found")
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let server = state.server_of(&req.ctx, server_id(&req)?).await?;
    Ok(Reply::json(200, &Metadata { metadata: server.state.metadata }))
}

async fn merge(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let new = items(&mut req).await?;
    let metadata = state.change_metadata(&req.ctx, server_id(&req)?, |items| {
        items.extend(new.clone());
        Ok(())
    });
    Ok(Reply::json(200, &Metadata { metadata: metadata.await? }))
}

async fn replace(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let new = items(&mut req).await?;
    let metadata = state.change_metadata(&req.ctx, server_id(&req)?, |items| {
        items.clone_from(&new);
        Ok(())
    });
    Ok(Reply::json(200, &Metadata { metadata: metadata.await? }))
}

async fn items(req: &mut Req) -> Result<BTreeMap<String, String>> {
    let body: Metadata = req.json().await?;
    for (name, value) in &body.metadata {
        metadata_item(name, value)?;
    }
    Ok(body.metadata)
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let server = state.server_of(&req.ctx, server_id(&req)?).await?;
    let name = req.param("item")?;
    let value = server.state.metadata.get(name).ok_or_else(no_item)?;
    Ok(Reply::json(200, &Meta { meta: BTreeMap::from([(name.to_owned(), value.clone())]) }))
}

async fn set(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let body: Meta = req.json().await?;
    let name = req.param("item")?;
    if body.meta.len() > 1 {
        return Err(Error::bad_request("Request body contains too many items"));
    }
    let value = body.meta.get(name).ok_or_else(|| Error::bad_request("Request body and URI mismatch"))?;
    metadata_item(name, value)?;
    let changed = state.change_metadata(&req.ctx, server_id(&req)?, |items| {
        items.insert(name.to_owned(), value.clone());
        Ok(())
    });
    changed.await?;
    Ok(Reply::json(200, &body))
}

async fn delete(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let name = req.param("item")?;
    let changed =
        state.change_metadata(&req.ctx, server_id(&req)?, |items| items.remove(name).map(drop).ok_or_else(no_item));
    changed.await?;
    Ok(Reply::empty(204))
}
