use std::sync::Arc;

use serde_json::Value;
use umbel_api::Link;
use umbel_api::volume::transfers as wire;
use umbel_core::{Error, Result};
use umbel_http::{Page, Reply, Req, Routes, next_link};

use super::input::{flag, flag_or_false, uuid};
use crate::Volumes;
use crate::service::transfers::NewTransfer;
use crate::store::transfers::{TransferFilter, TransferId, TransferRow};

/// Both families are the same but for what the version patches away.
pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::OLD_LIST, list)
        .on(&wire::OLD_DETAIL, detail)
        .on(&wire::OLD_SHOW, show)
        .on(&wire::OLD_CREATE, create)
        .on(&wire::OLD_DELETE, delete)
        .on(&wire::OLD_ACCEPT, accept)
        .on(&wire::LIST, list)
        .on(&wire::DETAIL, detail)
        .on(&wire::SHOW, show)
        .on(&wire::CREATE, create)
        .on(&wire::DELETE, delete)
        .on(&wire::ACCEPT, accept)
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    listed(&state, &req, false).await
}

async fn detail(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    listed(&state, &req, true).await
}

/// Pages are from 3.59 on.
async fn listed(state: &Volumes, req: &Req, detail: bool) -> Result<Reply> {
    let page = Page::of(req, state.config.max_page)?;
    let mut filter = TransferFilter { limit: page.limit.saturating_add(1), ..TransferFilter::default() };
    if req.version.at_least(3, 59) {
        filter.marker = page.marker.as_deref().map(|id| uuid("marker", id)).transpose()?;
        filter.descending = true;
    }
    let mut all_projects = false;
    for (name, value) in req.query_pairs() {
        match name.as_str() {
            "name" => filter.name = Some(value),
            "volume_id" => filter.volume_id = Some(value),
            "sort_dir" => filter.descending = value == "desc",
            "sort" => filter.descending = value.ends_with(":desc"),
            "all_tenants" => all_projects = flag("all_tenants", &Value::String(value))?,
            _ => {}
        }
    }
    let mut found = state.list_transfers(&req.ctx, &filter, all_projects).await?;
    let full = found.len() >= page.limit;
    found.truncate(page.limit);
    let next = found.last().filter(|_| full).map(|last| {
        let path = if detail { "/v3/volume-transfers/detail" } else { "/v3/volume-transfers" };
        Link::new("next", next_link(req, &req.url(path), &last.id.to_string()))
    });
    let transfers = found.iter().map(|row| view(req, row, detail)).collect();
    let body = wire::Transfers { transfers, transfers_links: next.into_iter().collect() };
    Ok(Reply::versioned(200, req.version, body))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let row = state.show_transfer(&req.ctx, id_of(&req)?).await?;
    Ok(Reply::versioned(200, req.version, wire::OneTransfer { transfer: view(&req, &row, true) }))
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let wire::CreateRequest { transfer: new } = req.json().await?;
    let modern = *req.route == wire::CREATE;
    if new.no_snapshots.is_some() && !modern {
        return Err(Error::bad_request("Additional properties are not allowed ('no_snapshots' was unexpected)"));
    }
    let name = new.name.map(|name| name.trim().to_owned());
    if name.as_ref().is_some_and(|name| name.chars().count() > 255) {
        return Err(Error::bad_request("name has more than 255 characters."));
    }
    let wanted = NewTransfer {
        volume: uuid("volume_id", &new.volume_id)?,
        name,
        no_snapshots: flag_or_false("no_snapshots", new.no_snapshots.as_ref())?,
        encrypted: modern && req.version.at_least(3, 70),
    };
    let offered = state.offer_volume(&req.ctx, &wanted).await?;
    let transfer = wire::Transfer { auth_key: Some(offered.key), ..view(&req, &offered.row, true) };
    Ok(Reply::versioned(202, req.version, wire::OneTransfer { transfer }))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    state.withdraw_volume(&req.ctx, id_of(&req)?).await?;
    Ok(Reply::empty(202))
}

async fn accept(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = id_of(&req)?;
    let wire::AcceptRequest { accept } = req.json().await?;
    let key = match accept.auth_key {
        Value::String(key) => key,
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        other => {
            return Err(Error::bad_request(format!("Invalid input for field/attribute auth_key. Value: {other}.")));
        }
    };
    let row = state.accept_volume(&req.ctx, id, &key).await?;
    Ok(Reply::versioned(202, req.version, wire::OneTransfer { transfer: view(&req, &row, false) }))
}

fn id_of(req: &Req) -> Result<TransferId> {
    req.id("transfer_id", "Transfer")
}

fn view(req: &Req, row: &TransferRow, detail: bool) -> wire::Transfer {
    let path = format!("volume-transfers/{}", row.id);
    let history = wire::History {
        source_project_id: row.source_project_id.clone(),
        destination_project_id: None,
        accepted: false,
    };
    wire::Transfer {
        id: row.id.to_string(),
        volume_id: row.volume_id.to_string(),
        name: row.name.clone(),
        links: vec![
            Link::new("self", req.url(&format!("/v3/{path}"))),
            Link::new("bookmark", req.url(&format!("/{path}"))),
        ],
        created_at: detail.then(|| row.created_at.iso_naive()),
        auth_key: None,
        no_snapshots: detail.then_some(row.no_snapshots),
        history: detail.then_some(history),
    }
}
