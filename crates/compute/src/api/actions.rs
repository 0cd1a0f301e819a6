use std::sync::Arc;

use umbel_api::compute::NextLink;
use umbel_api::compute::actions::{Action, Actions, Event, LIST, OneAction, SHOW};
use umbel_core::{Error, Result, Timestamp};
use umbel_http::{Reply, Req, Routes, next_link};

use super::input::{parameter, server_id};
use super::server_view::host_id;
use crate::Compute;
use crate::store::actions::{ActionPage, ActionRow, EventRow};

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&LIST, list).on(&SHOW, show)
}

/// The first version with pages.
const PAGED_SINCE: u16 = 58;

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let id = server_id(&req)?;
    // Before 2.21 the actions of a deleted server went with it.
    if req.version.minor < 21 {
        state.server_of(&req.ctx, id).await?;
    }
    let page = page(&req, state.config.max_limit)?;
    let mut rows = state.actions(&req.ctx, id, &page).await?;
    let mut links = Vec::new();
    if let Some(limit) = page.limit {
        let limit = limit - 1;
        if rows.len() > limit {
            rows.truncate(limit);
            let url = req.url(&format!("/v2.1/servers/{id}/os-instance-actions"));
            links = rows.last().map(|last| NextLink::to(next_link(&req, &url, &last.request_id))).unwrap_or_default();
        }
    }
    let actions = rows.into_iter().map(|row| view(row, None, req.ctx.is_admin())).collect();
    Ok(Reply::versioned(200, req.version, Actions { actions, links }))
}

/// With one more than the page, to see whether there are more.
fn page(req: &Req, max: usize) -> Result<ActionPage> {
    if req.version.minor < PAGED_SINCE {
        return Ok(ActionPage::default());
    }
    let pairs = req.query_pairs();
    let bad = |text: &str| Error::bad_request(format!("Invalid input for query parameters limit. Value: {text}."));
    let limit = match parameter(&pairs, "limit") {
        None => max,
        Some(text) => match text.parse::<usize>().map_err(|_| bad(&text))? {
            0 => max,
            limit => limit.min(max),
        },
    };
    let time = |name: &str| parameter(&pairs, name).map(|text| Timestamp::parse(&text)).transpose();
    let changes_before = if req.version.minor >= 66 { time("changes-before")? } else { None };
    Ok(ActionPage {
        changes_since: time("changes-since")?,
        changes_before,
        marker: parameter(&pairs, "marker"),
        limit: Some(limit + 1),
    })
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let id = server_id(&req)?;
    let (row, events) = state.action(&req.ctx, id, req.param("request_id")?).await?;
    let action = view(row, Some(events), req.ctx.is_admin());
    Ok(Reply::versioned(200, req.version, OneAction { action }))
}

fn view(row: ActionRow, events: Option<Vec<EventRow>>, admin: bool) -> Action {
    let events = events.map(|events| events.into_iter().map(|event| event_view(event, &row, admin)).collect());
    Action {
        action: row.action,
        instance_uuid: row.server_id.to_string(),
        request_id: row.request_id,
        user_id: row.user_id,
        project_id: row.project_id,
        start_time: row.started_at.iso_naive(),
        message: row.message,
        updated_at: Some(row.updated_at.iso_naive()),
        events,
        admin,
    }
}

fn event_view(event: EventRow, action: &ActionRow, admin: bool) -> Event {
    let host_id = if event.host.is_empty() { String::new() } else { host_id(&action.project_id, &event.host) };
    Event {
        event: event.name,
        start_time: event.started_at.iso_naive(),
        finish_time: event.finished_at.map(Timestamp::iso_naive),
        result: event.ok.map(|ok| if ok { "Success" } else { "Error" }),
        traceback: admin.then_some(None),
        host: admin.then_some(event.host),
        host_id: Some(host_id),
        details: Some(event.details),
    }
}
