//! The actions that hosts took before there were attachments.

use serde_json::Value;
use umbel_api::volume::moves as wire;
use umbel_core::{Error, Result};
use umbel_http::Reply;

use super::actions::Action;
use super::input::uuid;
use crate::model::VolumeId;
use crate::service::connections::OldAttach;

pub(super) async fn attach(action: Action<VolumeId>) -> Result<Reply> {
    let asked: wire::Attach = action.arguments()?;
    if asked.instance_uuid.is_none() && asked.host_name.is_none() {
        return Err(Error::bad_request("Either instance_uuid or host_name is needed to attach a volume."));
    }
    if asked.mountpoint.is_empty() || asked.mountpoint.len() > 255 {
        return Err(Error::bad_request("mountpoint must have 1 to 255 characters."));
    }
    if let Some(instance) = &asked.instance_uuid {
        uuid::<()>("instance_uuid", instance)?;
    }
    let wanted = OldAttach {
        instance: asked.instance_uuid,
        host: asked.host_name,
        mountpoint: asked.mountpoint,
        mode: asked.mode,
    };
    action.state.attach_volume(&action.req.ctx, action.id, &wanted).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn detach(action: Action<VolumeId>) -> Result<Reply> {
    let asked: wire::Detach = action.arguments()?;
    let attachment = asked.attachment_id.as_deref().map(|id| uuid("attachment_id", id)).transpose()?;
    action.state.detach_volume(&action.req.ctx, action.id, attachment).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn reserve(action: Action<VolumeId>) -> Result<Reply> {
    action.state.reserve_volume(&action.req.ctx, action.id).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn unreserve(action: Action<VolumeId>) -> Result<Reply> {
    action.state.unreserve_volume(&action.req.ctx, action.id).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn begin_detaching(action: Action<VolumeId>) -> Result<Reply> {
    action.state.begin_detaching(&action.req.ctx, action.id).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn roll_detaching(action: Action<VolumeId>) -> Result<Reply> {
    action.state.roll_detaching(&action.req.ctx, action.id).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn initialize_connection(action: Action<VolumeId>) -> Result<Reply> {
    let asked: wire::Connection = action.arguments()?;
    let enforce_multipath = asked.connector.get("enforce_multipath").and_then(Value::as_bool).unwrap_or(false);
    let way = action.state.initialize_connection(&action.req.ctx, action.id).await?;
    let info = wire::ConnectionInfo { driver_volume_type: way.driver, data: way.data, enforce_multipath };
    Ok(Reply::json(200, &wire::Connected { connection_info: info }))
}

pub(super) async fn terminate_connection(action: Action<VolumeId>) -> Result<Reply> {
    let _: wire::Connection = action.arguments()?;
    action.state.terminate_connection(&action.req.ctx, action.id).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn force_detach(action: Action<VolumeId>) -> Result<Reply> {
    let asked: wire::ForceDetach = action.arguments()?;
    let attachment = asked.attachment_id.as_deref().map(|id| uuid("attachment_id", id)).transpose()?;
    action.state.force_detach(&action.req.ctx, action.id, attachment).await?;
    Ok(Reply::empty(202))
}
