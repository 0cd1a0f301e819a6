use std::sync::Arc;

use serde_json::{Map, Value};
use umbel_api::volume::attachments as wire;
use umbel_core::{Error, Result, Timestamp};
use umbel_http::{Page, Reply, Req, Routes};

use super::input::{flag, uuid};
use crate::Volumes;
use crate::service::attachments::{Seen, Wanted};
use crate::service::connections::Way;
use crate::store::attachments::{AttachmentFilter, AttachmentId, AttachmentRow};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::LIST, list)
        .on(&wire::DETAIL, detail)
        .on(&wire::SHOW, show)
        .on(&wire::CREATE, create)
        .on(&wire::UPDATE, update)
        .on(&wire::DELETE, delete)
        .on(&wire::ACTION, act)
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    listed(&state, &req, false).await
}

async fn detail(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    listed(&state, &req, true).await
}

/// Unknown filters are ignored, as upstream does.
async fn listed(state: &Volumes, req: &Req, detail: bool) -> Result<Reply> {
    let page = Page::of(req, state.config.max_page)?;
    let mut filter = AttachmentFilter { limit: page.limit, ..AttachmentFilter::default() };
    filter.marker = page.marker.as_deref().map(|id| uuid("marker", id)).transpose()?;
    let mut all_projects = false;
    for (name, value) in req.query_pairs() {
        match name.as_str() {
            "volume_id" => filter.volume_id = Some(value),
            "instance_id" => filter.instance_id = Some(value),
            "status" | "attach_status" => filter.status = Some(value),
            "all_tenants" => all_projects = flag("all_tenants", &Value::String(value))?,
            _ => {}
        }
    }
    let found = state.list_attachments(&req.ctx, &filter, all_projects, detail).await?;
    let view = |seen: &Seen| match detail {
        true => full(seen),
        false => summary(&seen.row),
    };
    Ok(Reply::json(200, &wire::Attachments { attachments: found.iter().map(view).collect() }))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let seen = state.show_attachment(&req.ctx, id_of(&req)?).await?;
    Ok(Reply::json(200, &wire::OneAttachment { attachment: full(&seen) }))
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let wire::CreateRequest { attachment: new } = req.json().await?;
    if new.mode.is_some() && !req.version.at_least(3, 54) {
        return Err(Error::bad_request("Additional properties are not allowed ('mode' was unexpected)"));
    }
    if let Some(server) = &new.instance_uuid {
        uuid::<()>("instance_uuid", server)?;
    }
    let wanted = Wanted {
        volume: uuid("volume_uuid", &new.volume_uuid)?,
        instance: new.instance_uuid,
        connector: new.connector.filter(|connector| !connector.is_empty()),
        mode: new.mode,
    };
    let seen = state.create_attachment(&req.ctx, &wanted).await?;
    Ok(Reply::json(200, &wire::OneAttachment { attachment: full(&seen) }))
}

async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = id_of(&req)?;
    let body: wire::UpdateRequest = req.json().await?;
    let seen = state.connect_attachment(&req.ctx, id, &body.attachment.connector).await?;
    Ok(Reply::json(200, &wire::OneAttachment { attachment: full(&seen) }))
}

/// What is left of the volume's attachments.
async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let left = state.delete_attachment(&req.ctx, id_of(&req)?).await?;
    Ok(Reply::json(200, &wire::Attachments { attachments: left.iter().map(summary).collect() }))
}

async fn act(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = id_of(&req)?;
    let body: Map<String, Value> = req.json().await?;
    match body.keys().map(String::as_str).collect::<Vec<_>>()[..] {
        ["os-complete"] => {
            state.complete_attachment(&req.ctx, id).await?;
            Ok(Reply::empty(204))
        }
        _ => Err(Error::bad_request("There is no such action: os-complete is the only one.")),
    }
}

fn id_of(req: &Req) -> Result<AttachmentId> {
    req.id("attachment_id", "Volume attachment")
}

fn summary(row: &AttachmentRow) -> wire::Attachment {
    wire::Attachment {
        id: row.id.to_string(),
        status: row.status.name().to_owned(),
        instance: row.instance_id.clone(),
        volume_id: row.volume_id.to_string(),
        detail: None,
    }
}

fn full(seen: &Seen) -> wire::Attachment {
    let row = &seen.row;
    let detail = wire::AttachmentDetail {
        attached_at: row.attached_at.map(Timestamp::iso_naive).unwrap_or_default(),
        detached_at: String::new(),
        attach_mode: row.mode.clone().unwrap_or_else(|| "null".to_owned()),
        connection_info: seen.way.as_ref().map(|way| flat(row, way)).unwrap_or_default(),
    };
    wire::Attachment { detail: Some(detail), ..summary(row) }
}

/// In one layer, as attachments have it.
fn flat(row: &AttachmentRow, way: &Way) -> Map<String, Value> {
    let mut info = way.data.clone();
    info.insert("driver_volume_type".to_owned(), Value::String(way.driver.clone()));
    info.insert("attachment_id".to_owned(), Value::String(row.id.to_string()));
    info
}
