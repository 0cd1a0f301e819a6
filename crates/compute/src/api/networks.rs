//! The default network rows, by the proxy through which clients look for a network's name; see [`Networks`] of the model.

use std::sync::Arc;

use umbel_api::compute::networks as wire;
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};

use crate::Compute;
use crate::model::Networks;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&wire::LIST, list).on(&wire::SHOW, show)
}

fn view(row: Networks) -> wire::Network {
    wire::Network { id: row.id().to_string(), label: row.label(), ..wire::Network::default() }
}

async fn list(_: Arc<Compute>, _: Req) -> Result<Reply> {
    Ok(Reply::json(200, &wire::Networks { networks: Networks::ALL.map(view).into() }))
}

/// By id only, as upstream: a client that has a label is told 404 and goes on to the list.
async fn show(_: Arc<Compute>, req: Req) -> Result<Reply> {
    let row = Networks::by_id(req.param("network_id")?).ok_or_else(|| Error::not_found("Network not found."))?;
    Ok(Reply::json(200, &wire::OneNetwork { network: view(row) }))
}
