use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use umbel_api::Link;
use umbel_api::volume::snapshots as wire;
use umbel_core::{Error, Result};
use umbel_db::read;
use umbel_http::{Reply, Req, Routes, next_link};

use super::actions::Action;
use super::input;
use super::view;
use super::volumes::short;
use crate::Volumes;
use crate::listing;
use crate::model::{SnapshotId, SnapshotStatus};
use crate::service::Caller;
use crate::service::snapshots::WantedSnapshot;
use crate::service::together::WantedTogether;
use crate::store::snapshots::{self, SnapshotFilter};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::CREATE, create)
        .on(&wire::LIST, list)
        .on(&wire::DETAIL, detail)
        .on(&wire::SHOW, show)
        .on(&wire::UPDATE, update)
        .on(&wire::DELETE, delete)
        .on(&wire::TOGETHER, together)
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let new = req.json::<wire::CreateSnapshot>().await?.snapshot;
    let volume = new.volume_id.unwrap_or_else(|| "None".to_owned());
    // Who leaves it out means it: since 3.66 it is always so, and the openstack client, told `--force` by a service that
    // has that version, sends an older one without it.
    let mut force = new.force.is_none() || input::flag_or_false("force", new.force.as_ref())?;
    if req.version.at_least(3, 66) {
        // It is always so, and saying so does no harm.
        if new.force.is_some() && !force {
            return Err(Error::bad_request(
                "Invalid value 'force' for 'snapshot-create'; the 'force' parameter is invalid since microversion 3.66.",
            ));
        }
        force = true;
    }
    let metadata = new.metadata.unwrap_or_default();
    crate::service::check_metadata(&metadata)?;
    let wanted = WantedSnapshot {
        volume: volume.parse().map_err(|_| crate::service::volume_not_found(&volume))?,
        name: short("name", new.name.or(new.display_name))?,
        description: short("description", new.description.or(new.display_description))?,
        metadata,
        force,
    };
    let row = state.create_snapshot(&caller, &wanted).await?;
    let snapshot = view::snapshot(row, false);
    Ok(Reply::versioned(202, req.version, wire::OneSnapshot { snapshot }))
}

async fn together(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let asked = req.json::<wire::SnapshotTogether>().await?;
    let mut snapshots = Vec::new();
    for one in &asked.snapshots {
        let id = one.id.parse().map_err(|_| Error::bad_request(format!("'{}' is no id.", one.id)))?;
        snapshots.push((id, one.volume_id.parse().map_err(|_| crate::service::volume_not_found(&one.volume_id))?));
    }
    let name = short("name", Some(asked.name))?.unwrap_or_default();
    let rows = state.snapshot_together(&caller, &WantedTogether { user_id: asked.user_id, name, snapshots }).await?;
    let snapshots = rows.into_iter().map(|row| view::snapshot(row, false)).collect();
    Ok(Reply::versioned(202, req.version, wire::Snapshots { snapshots, snapshots_links: None, count: None }))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id: SnapshotId = req.id("snapshot_id", "Snapshot")?;
    let row = read!(state.db, "show a snapshot", |tx| caller.snapshot(tx, id).await)?;
    let snapshot = view::snapshot(row, true);
    Ok(Reply::versioned(200, req.version, wire::OneSnapshot { snapshot }))
}

async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id: SnapshotId = req.id("snapshot_id", "Snapshot")?;
    let change = req.json::<wire::UpdateSnapshot>().await?.snapshot;
    let name = short("name", change.name.or(change.display_name))?;
    let description = short("description", change.description.or(change.display_description))?;
    if name.is_none() && description.is_none() {
        return Err(Error::bad_request("Invalid input for field/attribute snapshot: nothing is to be changed."));
    }
    state.update_snapshot(&caller, id, name, description).await?;
    let row = read!(state.db, "show a snapshot", |tx| caller.snapshot(tx, id).await)?;
    let snapshot = view::snapshot(row, false);
    Ok(Reply::versioned(200, req.version, wire::OneSnapshot { snapshot }))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id: SnapshotId = req.id("snapshot_id", "Snapshot")?;
    state.delete_snapshot(&caller, id, false).await?;
    Ok(Reply::empty(202))
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    page(&state, &req, "/v3/snapshots", false).await
}

async fn detail(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    page(&state, &req, "/v3/snapshots/detail", true).await
}

async fn page(state: &Volumes, req: &Req, path: &str, details: bool) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let max = state.config.max_page;
    let asked = listing::parse(&req.query_pairs(), &listing::SNAPSHOTS, req.version, caller.admin, max)?;
    let marker = asked
        .marker
        .as_deref()
        .map(|text| text.parse::<SnapshotId>().map_err(|_| crate::service::snapshot_not_found(text)));
    let filter = SnapshotFilter {
        conditions: asked.conditions.clone(),
        metadata: asked.items.iter().map(|(_, name, value)| (name.clone(), value.clone())).collect(),
        order: asked.order.clone(),
        marker: marker.transpose()?,
        offset: asked.offset,
        limit: Some(asked.limit),
    };
    let visible = caller.listed(asked.all_tenants);
    let (rows, more, count) = read!(state.db, "list snapshots", |tx| {
        let (rows, more) = snapshots::list(tx, &visible, &filter).await?;
        let count = match asked.with_count {
            true => Some(snapshots::count(tx, &visible, &filter).await?),
            false => None,
        };
        Ok((rows, more, count))
    })?;
    let snapshots_links = rows
        .last()
        .filter(|_| more)
        .map(|last| vec![Link::new("next", next_link(req, &req.url(path), &last.id.to_string()))]);
    let snapshots = rows.into_iter().map(|row| view::snapshot(row, details)).collect();
    Ok(Reply::versioned(200, req.version, wire::Snapshots { snapshots, snapshots_links, count }))
}

type OnSnapshot = Action<SnapshotId>;

#[derive(Deserialize)]
struct NewStatus {
    status: String,
    progress: Option<Value>,
}

fn status_of(text: &str) -> Result<SnapshotStatus> {
    let bad = || Error::bad_request(format!("Invalid input for field/attribute status. Value: {text}."));
    SnapshotStatus::parse(&text.to_ascii_lowercase()).ok_or_else(bad)
}

pub(super) async fn reset_status(action: OnSnapshot) -> Result<Reply> {
    action.caller.must_be_admin("volume_extension:snapshot_admin_actions:reset_status")?;
    let asked: NewStatus = action.arguments()?;
    action.state.reset_snapshot(&action.caller, action.id, status_of(&asked.status)?).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn force_delete(action: OnSnapshot) -> Result<Reply> {
    action.caller.must_be_admin("volume_extension:snapshot_admin_actions:force_delete")?;
    action.state.delete_snapshot(&action.caller, action.id, true).await?;
    Ok(Reply::empty(202))
}

/// `progress` comes as `42%`.
pub(super) async fn update_status(action: OnSnapshot) -> Result<Reply> {
    umbel_auth::authorize(
        umbel_api::Rule::Member,
        "snapshot_extension:snapshot_actions:update_snapshot_status",
        &action.req.ctx,
    )?;
    let asked: NewStatus = action.arguments()?;
    let bad = || Error::bad_request("snapshot progress must be an integer percentage");
    let progress = match &asked.progress {
        Some(Value::String(text)) => {
            let percent: u64 = text.trim_end_matches('%').parse().map_err(|_| bad())?;
            Some(percent).filter(|percent| *percent <= 100).map_or_else(|| Err(bad()), |percent| Ok(Some(percent)))?
        }
        Some(Value::Null) | None => None,
        Some(_) => return Err(bad()),
    };
    let status = status_of(&asked.status)?;
    action.state.note_snapshot(&action.caller, action.id, status, progress).await?;
    Ok(Reply::empty(202))
}
