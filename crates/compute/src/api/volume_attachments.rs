use std::sync::Arc;

use umbel_api::Rule;
use umbel_api::compute::volume_attachments::{
    AttachRequest, Attachment, AttachmentChange, Attachments, CREATE, DELETE, LIST, OneAttachment, SHOW, SWAP_POLICY,
    UPDATE, UpdateRequest,
};
use umbel_auth::authorize;
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};
use uuid::Uuid;

use super::input::{boolean, invalid, parameter, server_id, unexpected};
use super::tags::check_tags;
use crate::Compute;
use crate::model::{BlockDevice, ServerId};
use crate::service::attachments::{NewAttachment, not_attached};

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&LIST, list).on(&CREATE, create).on(&SHOW, show).on(&UPDATE, update).on(&DELETE, delete)
}

fn view(server: ServerId, device: &BlockDevice) -> Option<Attachment> {
    let volume_id = device.volume_id?.to_string();
    Some(Attachment {
        id: Some(volume_id.clone()),
        server_id: server.to_string(),
        volume_id,
        device: device.device_name.clone(),
        tag: Some(device.tag.clone()),
        delete_on_termination: Some(device.delete_on_termination),
        attachment_id: Some(device.attachment_id.clone()),
        bdm_uuid: Some(device.id.to_string()),
    })
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let id = server_id(&req)?;
    let pairs = req.query_pairs();
    let number = |name: &str| -> Result<Option<usize>> {
        let bad = |text: &str| invalid(name, text, "It is no number of at least 0");
        parameter(&pairs, name).map(|text| text.parse().map_err(|_| bad(&text))).transpose()
    };
    let (limit, offset) = (number("limit")?, number("offset")?.unwrap_or(0));
    let limit = limit.filter(|limit| *limit > 0).unwrap_or(state.config.max_limit).min(state.config.max_limit);
    let server = state.server_of(&req.ctx, id).await?;
    let shown = server.state.volumes.iter().filter(|device| device.attachment_id.is_some());
    let attachments = shown.filter_map(|device| view(id, device)).skip(offset).take(limit).collect();
    Ok(Reply::versioned(200, req.version, Attachments { attachments }))
}

/// The volume in the path.
fn volume_id(req: &Req) -> Result<Uuid> {
    let text = req.param("volume_id")?;
    Uuid::try_parse(text).map_err(|_| Error::not_found(format!("Volume {text} could not be found.")))
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let (id, volume) = (server_id(&req)?, volume_id(&req)?);
    let server = state.server_of(&req.ctx, id).await?;
    let attachment = server.volume(volume).and_then(|device| view(id, device));
    let attachment = attachment.ok_or_else(|| not_attached(id, volume))?;
    Ok(Reply::versioned(200, req.version, OneAttachment { attachment }))
}

async fn create(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let id = server_id(&req)?;
    let minor = req.version.minor;
    let new = req.json::<AttachRequest>().await?.attachment;
    if new.tag.is_some() && minor < 49 {
        return Err(unexpected("tag"));
    }
    if new.delete_on_termination.is_some() && minor < 79 {
        return Err(unexpected("delete_on_termination"));
    }
    check_tags(new.tag.as_slice())?;
    check_device(new.device.as_deref())?;
    let wanted = NewAttachment {
        volume_id: uuid("volumeId", &new.volume_id)?,
        tag: new.tag,
        delete_on_termination: match &new.delete_on_termination {
            Some(value) => boolean("delete_on_termination", value)?,
            None => false,
        },
        multiattach: minor >= 60,
    };
    let device = state.attach_volume(&req.ctx, id, &wanted).await?;
    if minor >= 101 {
        return Ok(Reply::empty(202));
    }
    let attachment = view(id, &device).ok_or_else(|| not_attached(id, wanted.volume_id))?;
    Ok(Reply::versioned(200, req.version, OneAttachment { attachment }))
}

fn uuid(field: &str, text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| invalid(field, text, "It is not a 'uuid'"))
}

fn check_device(name: Option<&str>) -> Result<()> {
    let good = |name: &str| {
        let rest = name.strip_prefix("/dev/").unwrap_or(name);
        let kind = ["x", "s", "v", "h"].iter().find_map(|kind| rest.strip_prefix(kind));
        kind.and_then(|rest| rest.strip_prefix("vd").or(rest.strip_prefix('d')))
            .is_some_and(|letters| letters.chars().all(|c| c.is_ascii_alphanumeric()))
    };
    match name {
        Some(name) if !name.is_empty() && !good(name) => {
            Err(invalid("device", name, "The supplied device path is invalid."))
        }
        _ => Ok(()),
    }
}

async fn update(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let (id, volume) = (server_id(&req)?, volume_id(&req)?);
    let change = req.json::<UpdateRequest>().await?.attachment;
    if let Some(name) = change.newest().filter(|_| req.version.minor < 85) {
        return Err(unexpected(name));
    }
    let named = uuid("volumeId", &change.volume_id)?;
    if named != volume || req.version.minor < 85 {
        authorize(Rule::Admin, SWAP_POLICY, &req.ctx)?;
        state.swap_volume(&req.ctx, id, volume, named).await?;
        return Ok(Reply::empty(202));
    }
    let server = state.server_of(&req.ctx, id).await?;
    let device = server.volume(volume).ok_or_else(|| not_attached(id, volume))?;
    check_same(&change, id, device)?;
    if let Some(value) = &change.delete_on_termination {
        let goes = boolean("delete_on_termination", value)?;
        state.update_attachment(&req.ctx, id, volume, goes).await?;
    }
    Ok(Reply::empty(202))
}

/// What a change repeats has to be as it is.
fn check_same(change: &AttachmentChange, id: ServerId, device: &BlockDevice) -> Result<()> {
    let volume = device.volume_id.map(|id| id.to_string());
    let fields = [
        ("id", &change.id, volume),
        ("serverId", &change.server_id, Some(id.to_string())),
        ("device", &change.device, Some(device.device_name.clone())),
        ("tag", &change.tag, device.tag.clone()),
    ];
    match fields.into_iter().find(|(_, asked, is)| asked.is_some() && *asked != is) {
        Some((field, ..)) => Err(Error::bad_request(format!("Cannot change '{field}' of a volume attachment."))),
        None => Ok(()),
    }
}

async fn delete(state: Arc<Compute>, req: Req) -> Result<Reply> {
    state.detach_volume(&req.ctx, server_id(&req)?, volume_id(&req)?).await?;
    Ok(Reply::empty(202))
}
