//! The volume service behind compute's old paths: its answers, in compute's old words.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use umbel_api::Method;
use umbel_api::compute::volume_proxy::{
    BOOT, CREATE, CREATE_SNAPSHOT, DELETE, DELETE_SNAPSHOT, DETAIL, LIST, SHOW, SHOW_SNAPSHOT, SNAPSHOTS,
    SNAPSHOTS_DETAIL, Snapshot, Volume, VolumeAttachment,
};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};
use uuid::Uuid;

use super::input::parameter;
use super::server_create;
use crate::Compute;
use crate::service::volumes::token;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes
        .on(&LIST, list)
        .on(&DETAIL, list)
        .on(&CREATE, create)
        .on(&SHOW, show)
        .on(&DELETE, delete)
        .on(&SNAPSHOTS, snapshots)
        .on(&SNAPSHOTS_DETAIL, snapshots)
        .on(&CREATE_SNAPSHOT, create_snapshot)
        .on(&SHOW_SNAPSHOT, show_snapshot)
        .on(&DELETE_SNAPSHOT, delete_snapshot)
        .on(&BOOT, server_create::create)
}

fn volume(of: &Value) -> Volume {
    let attachments = of["attachments"].as_array().map_or(&[][..], Vec::as_slice);
    let mut attachments: Vec<VolumeAttachment> = attachments
        .iter()
        .map(|one| VolumeAttachment {
            id: of["id"].clone(),
            volume_id: of["id"].clone(),
            server_id: one["server_id"].clone(),
            device: one["device"].clone(),
        })
        .collect();
    if attachments.is_empty() {
        attachments.push(VolumeAttachment::default());
    }
    Volume {
        id: of["id"].clone(),
        status: of["status"].clone(),
        size: of["size"].clone(),
        availability_zone: of["availability_zone"].clone(),
        created_at: of["created_at"].clone(),
        attachments,
        display_name: of["name"].clone(),
        display_description: of["description"].clone(),
        volume_type: of["volume_type"].clone(),
        snapshot_id: of["snapshot_id"].clone(),
        metadata: of["metadata"].clone(),
    }
}

fn snapshot(of: &Value) -> Snapshot {
    Snapshot {
        id: of["id"].clone(),
        volume_id: of["volume_id"].clone(),
        status: of["status"].clone(),
        size: of["size"].clone(),
        created_at: of["created_at"].clone(),
        display_name: of["name"].clone(),
        display_description: of["description"].clone(),
    }
}

/// The page, in the form in which the volume service takes it.
fn page(req: &Req) -> String {
    let pairs = req.query_pairs();
    let number = |name: &str| parameter(&pairs, name)?.parse::<u64>().ok().map(|value| format!("{name}={value}"));
    let page: Vec<String> = ["limit", "offset"].into_iter().filter_map(number).collect();
    if page.is_empty() { String::new() } else { format!("?{}", page.join("&")) }
}

fn all(answer: &Value, name: &str) -> Vec<Value> {
    answer[name].as_array().cloned().unwrap_or_default()
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let path = format!("/volumes/detail{}", page(&req));
    let answer = state.volumes.raw(token(&req.ctx), Method::Get, &path, None).await?;
    let volumes: Vec<Volume> = all(&answer, "volumes").iter().map(volume).collect();
    Ok(Reply::json(200, &json!({ "volumes": volumes })))
}

async fn snapshots(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let path = format!("/snapshots/detail{}", page(&req));
    let answer = state.volumes.raw(token(&req.ctx), Method::Get, &path, None).await?;
    let snapshots: Vec<Snapshot> = all(&answer, "snapshots").iter().map(snapshot).collect();
    Ok(Reply::json(200, &json!({ "snapshots": snapshots })))
}

/// The id in the path; what cannot be one is not there.
fn id(req: &Req, name: &str, what: &str) -> Result<String> {
    let text = req.param(name)?;
    match Uuid::try_parse(text) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(Error::not_found(format!("{what} {text} could not be found."))),
    }
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let path = format!("/volumes/{}", id(&req, "volume_id", "Volume")?);
    let answer = state.volumes.raw(token(&req.ctx), Method::Get, &path, None).await?;
    Ok(Reply::json(200, &json!({ "volume": volume(&answer["volume"]) })))
}

async fn show_snapshot(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let path = format!("/snapshots/{}", id(&req, "snapshot_id", "Snapshot")?);
    let answer = state.volumes.raw(token(&req.ctx), Method::Get, &path, None).await?;
    Ok(Reply::json(200, &json!({ "snapshot": snapshot(&answer["snapshot"]) })))
}

/// The members of the body's one object, renamed; others are refused.
fn renamed(body: &Value, what: &str, names: &[(&str, &str)]) -> Result<Value> {
    let Some(members) = body[what].as_object() else {
        return Err(Error::bad_request(format!("'{what}' is a required property")));
    };
    let mut new = Map::new();
    for (name, value) in members {
        let Some((_, known)) = names.iter().find(|(old, _)| old == name) else {
            return Err(super::input::unexpected(name));
        };
        if !value.is_null() {
            new.insert((*known).to_owned(), value.clone());
        }
    }
    Ok(json!({ what: new }))
}

async fn create(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let names = [
        ("display_name", "name"),
        ("display_description", "description"),
        ("size", "size"),
        ("volume_type", "volume_type"),
        ("metadata", "metadata"),
        ("snapshot_id", "snapshot_id"),
        ("availability_zone", "availability_zone"),
    ];
    let body = renamed(&req.json().await?, "volume", &names)?;
    let answer = state.volumes.raw(token(&req.ctx), Method::Post, "/volumes", Some(body)).await?;
    Ok(Reply::json(200, &json!({ "volume": volume(&answer["volume"]) })))
}

async fn create_snapshot(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let names = [
        ("display_name", "name"),
        ("display_description", "description"),
        ("volume_id", "volume_id"),
        ("force", "force"),
    ];
    let body = renamed(&req.json().await?, "snapshot", &names)?;
    let answer = state.volumes.raw(token(&req.ctx), Method::Post, "/snapshots", Some(body)).await?;
    Ok(Reply::json(200, &json!({ "snapshot": snapshot(&answer["snapshot"]) })))
}

async fn delete(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let path = format!("/volumes/{}", id(&req, "volume_id", "Volume")?);
    state.volumes.raw(token(&req.ctx), Method::Delete, &path, None).await?;
    Ok(Reply::empty(202))
}

async fn delete_snapshot(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let path = format!("/snapshots/{}", id(&req, "snapshot_id", "Snapshot")?);
    state.volumes.raw(token(&req.ctx), Method::Delete, &path, None).await?;
    Ok(Reply::empty(202))
}
