//! Actions on a volume that change it where it is.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use umbel_api::volume::volumes::MetadataBody;
use umbel_core::{Error, Result};
use umbel_db::read;
use umbel_http::Reply;

use super::actions::Action;
use super::input;
use crate::model::{VolumeId, VolumeStatus};
use crate::service::volumes::{Deletion, Reset};
use crate::store::metadata::Kind;

type OnVolume = Action<VolumeId>;

/// `member` in a project, as upstream's default policies have it for changes.
fn must_be_member(action: &OnVolume, policy: &str) -> Result<()> {
    umbel_auth::authorize(umbel_api::Rule::Member, policy, &action.req.ctx)
}

#[derive(Deserialize)]
struct NewSize {
    new_size: Value,
}

pub(super) async fn extend(action: OnVolume) -> Result<Reply> {
    must_be_member(&action, "volume:extend")?;
    let NewSize { new_size } = action.arguments()?;
    let size = match &new_size {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let size = size
        .filter(|size| *size > 0)
        .ok_or_else(|| Error::bad_request(format!("Invalid input for field/attribute new_size. Value: {new_size}.")))?;
    let in_use = action.req.version.at_least(3, 42);
    action.state.extend_volume(&action.caller, action.id, size, in_use).await?;
    Ok(Reply::empty(202))
}

#[derive(Deserialize)]
struct NewStatus {
    status: Option<String>,
    attach_status: Option<String>,
    migration_status: Option<String>,
}

pub(super) async fn reset_status(action: OnVolume) -> Result<Reply> {
    action.caller.must_be_admin("volume_extension:volume_admin_actions:reset_status")?;
    let asked: NewStatus = action.arguments()?;
    let bad = |what: &str, value: &str| {
        Error::bad_request(format!("Invalid input for field/attribute {what}. Value: {value}."))
    };
    let status = match asked.status.as_deref() {
        Some(text) => {
            let lower = text.to_ascii_lowercase();
            Some(VolumeStatus::parse(&lower).ok_or_else(|| bad("status", text))?)
        }
        None => None,
    };
    let attach_status = asked.attach_status.map(|text| text.to_ascii_lowercase());
    if let Some(text) = attach_status.as_deref().filter(|text| !matches!(*text, "attached" | "detached")) {
        return Err(bad("attach_status", text));
    }
    let known = ["migrating", "error", "success", "completing", "none", "starting"];
    if let Some(text) = asked.migration_status.as_deref().filter(|text| !known.contains(text)) {
        return Err(bad("migration_status", text));
    }
    if status.is_none() && attach_status.is_none() && asked.migration_status.is_none() {
        return Err(Error::bad_request("Must specify 'status', 'attach_status' or 'migration_status' for update."));
    }
    let reset = Reset { status, attach_status, migration_status: asked.migration_status };
    action.state.reset_volume(&action.caller, action.id, &reset).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn force_delete(action: OnVolume) -> Result<Reply> {
    action.caller.must_be_admin("volume_extension:volume_admin_actions:force_delete")?;
    let how = Deletion { cascade: false, force: true };
    action.state.delete_volume(&action.caller, action.id, how).await?;
    Ok(Reply::empty(202))
}

#[derive(Deserialize)]
struct Bootable {
    bootable: Value,
}

pub(super) async fn set_bootable(action: OnVolume) -> Result<Reply> {
    must_be_member(&action, "volume_extension:volume_actions:set_bootable")?;
    let Bootable { bootable } = action.arguments()?;
    let bootable = input::flag("bootable", &bootable)?;
    action.state.set_bootable(&action.caller, action.id, bootable).await?;
    Ok(Reply::empty(200))
}

#[derive(Deserialize)]
struct ReadOnly {
    readonly: Value,
}

pub(super) async fn update_readonly_flag(action: OnVolume) -> Result<Reply> {
    must_be_member(&action, "volume:update_readonly_flag")?;
    let ReadOnly { readonly } = action.arguments()?;
    let read_only = input::flag("readonly", &readonly)?;
    action.state.set_read_only(&action.caller, action.id, read_only).await?;
    Ok(Reply::empty(202))
}

#[derive(Deserialize)]
struct ImageMetadata {
    metadata: BTreeMap<String, String>,
}

pub(super) async fn set_image_metadata(action: OnVolume) -> Result<Reply> {
    must_be_member(&action, "volume_extension:volume_image_metadata:set")?;
    let ImageMetadata { metadata: new } = action.arguments()?;
    let change = |all: &mut BTreeMap<String, String>| {
        all.extend(new.clone());
        Ok(())
    };
    let metadata = action.state.change_metadata(&action.caller, action.id, Kind::Image, change).await?;
    Ok(Reply::json(200, &MetadataBody { metadata }))
}

pub(super) async fn show_image_metadata(action: OnVolume) -> Result<Reply> {
    let (state, caller, id) = (&action.state, &action.caller, action.id);
    let row = read!(state.db, "show a volume's image metadata", |tx| caller.volume(tx, id).await)?;
    Ok(Reply::json(200, &MetadataBody { metadata: row.image_metadata }))
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

pub(super) async fn unset_image_metadata(action: OnVolume) -> Result<Reply> {
    must_be_member(&action, "volume_extension:volume_image_metadata:remove")?;
    let Key { key } = action.arguments()?;
    let gone = || Error::not_found("Metadata not found.");
    let change = |all: &mut BTreeMap<String, String>| all.remove(&key).map(drop).ok_or_else(gone);
    action.state.change_metadata(&action.caller, action.id, Kind::Image, change).await?;
    Ok(Reply::empty(200))
}

#[derive(Deserialize)]
struct ToSnapshot {
    snapshot_id: String,
}

pub(super) async fn revert(action: OnVolume) -> Result<Reply> {
    if !action.req.version.at_least(3, 40) {
        return Err(Error::bad_request(format!("There is no such action: {}", action.name)));
    }
    must_be_member(&action, "volume:revert_to_snapshot")?;
    let ToSnapshot { snapshot_id } = action.arguments()?;
    let snapshot = input::uuid("snapshot_id", &snapshot_id)?;
    action.state.revert_volume(&action.caller, action.id, snapshot).await?;
    Ok(Reply::empty(202))
}
