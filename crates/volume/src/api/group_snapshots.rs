use std::sync::Arc;

use umbel_api::Link;
use umbel_api::volume::group_snapshots as wire;
use umbel_core::Result;
use umbel_http::{Reply, Req, Routes, next_link};

use super::input;
use super::volumes::short;
use crate::Volumes;
use crate::listing;
use crate::service::Caller;
use crate::store::group_snapshots::{GroupSnapshot, GroupSnapshotId};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::LIST, list)
        .on(&wire::DETAIL, detail)
        .on(&wire::SHOW, show)
        .on(&wire::CREATE, create)
        .on(&wire::DELETE, delete)
        .on(&wire::ACTION, action)
}

fn id(req: &Req) -> Result<GroupSnapshotId> {
    req.id("group_snapshot_id", "GroupSnapshot")
}

fn brief(row: &GroupSnapshot) -> wire::GroupSnapshot {
    wire::GroupSnapshot { id: row.id.to_string(), name: row.name.clone(), group_type_id: None, detail: None }
}

fn whole(caller: &Caller, row: GroupSnapshot) -> wire::GroupSnapshot {
    let mut shown = brief(&row);
    shown.group_type_id = Some(row.group_type_id.to_string());
    shown.detail = Some(wire::GroupSnapshotDetail {
        group_id: row.group_id.to_string(),
        status: row.status.name(),
        created_at: row.created_at.iso_naive(),
        description: row.description,
        project_id: caller.admin.then_some(row.project_id),
    });
    shown
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    page(&state, &req, "/v3/group_snapshots", false).await
}

async fn detail(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    page(&state, &req, "/v3/group_snapshots/detail", true).await
}

async fn page(state: &Volumes, req: &Req, path: &str, details: bool) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let max = state.config.max_page;
    let asked = listing::parse(&req.query_pairs(), &listing::GROUP_SNAPSHOTS, req.version, caller.admin, max)?;
    let filter = asked.page();
    let (found, more) = state.list_group_snapshots(&caller.listed(asked.all_tenants), &filter).await?;
    let last = found.last().filter(|_| more).map(|last| last.id.to_string());
    let links = last.map(|last| Link::new("next", next_link(req, &req.url(path), &last)));
    let shown = found.into_iter().map(|row| match details {
        true => whole(&caller, row),
        false => brief(&row),
    });
    let body =
        wire::GroupSnapshots { group_snapshots: shown.collect(), group_snapshot_links: links.into_iter().collect() };
    Ok(Reply::versioned(200, req.version, body))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let group_snapshot = whole(&caller, state.group_snapshot(&caller, id(&req)?).await?);
    Ok(Reply::versioned(200, req.version, wire::OneGroupSnapshot { group_snapshot }))
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let new = req.json::<wire::CreateRequest>().await?.group_snapshot;
    let group = input::uuid("group_id", &new.group_id)?;
    let words = (short("name", new.name)?, short("description", new.description)?);
    let row = state.create_group_snapshot(&caller, group, words).await?;
    let mut group_snapshot = brief(&row);
    group_snapshot.group_type_id = Some(row.group_type_id.to_string());
    Ok(Reply::versioned(202, req.version, wire::OneGroupSnapshot { group_snapshot }))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    state.delete_group_snapshot(&caller, id(&req)?).await?;
    Ok(Reply::empty(202))
}

async fn action(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id = id(&req)?;
    let status = req.json::<wire::ActionRequest>().await?.reset_status.status;
    state.reset_group_snapshot(&caller, id, status.to_ascii_lowercase().parse()?).await?;
    Ok(Reply::empty(202))
}
