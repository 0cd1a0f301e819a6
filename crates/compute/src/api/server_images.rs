//! `createImage` and `createBackup`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req};

use super::input::{self, invalid, unexpected, unsigned};
use crate::Compute;
use crate::flows::Rotation;
use crate::model::ServerId;
use crate::service::server_images::NewServerImage;

/// Up to this minor version compute limits the properties itself.
const LIMITED: u16 = 38;

/// The first minor version with a body in the answer.
const BODY_SINCE: u16 = 45;

pub(super) async fn create_image(state: &Compute, req: &Req, id: ServerId, value: &Value) -> Result<Reply> {
    let members = object("createImage", value, &["name", "metadata"])?;
    let new = NewServerImage { name: name(members)?, metadata: metadata(members)?, rotation: None };
    create(state, req, id, &new).await
}

pub(super) async fn create_backup(state: &Compute, req: &Req, id: ServerId, value: &Value) -> Result<Reply> {
    let members = object("createBackup", value, &["name", "metadata", "backup_type", "rotation"])?;
    let backup_type = match members.get("backup_type") {
        Some(Value::String(text)) => text.clone(),
        Some(other) => return Err(invalid("backup_type", other, "It is not of type 'string'")),
        None => return Err(required("backup_type")),
    };
    let keep = members.get("rotation").ok_or_else(|| required("rotation"))?;
    let keep = usize::try_from(unsigned("rotation", keep, 0)?).unwrap_or(usize::MAX);
    let rotation = Some(Rotation { backup_type, keep });
    create(state, req, id, &NewServerImage { name: name(members)?, metadata: metadata(members)?, rotation }).await
}

async fn create(state: &Compute, req: &Req, id: ServerId, new: &NewServerImage) -> Result<Reply> {
    if req.version.minor <= LIMITED {
        state.check_image_metadata(&req.ctx, new.metadata.len()).await?;
    }
    let image = state.create_image(&req.ctx, id, new).await?;
    if req.version.minor >= BODY_SINCE {
        return Ok(Reply::json(202, &json!({ "image_id": image })));
    }
    // Nothing is left to point at of backups of which none is kept.
    Ok(match new.rotation.as_ref().is_some_and(|rotation| rotation.keep == 0) {
        true => Reply::empty(202),
        false => Reply::empty(202).header("location", req.url(&format!("/v2.1/images/{image}"))),
    })
}

fn required(name: &str) -> Error {
    Error::bad_request(format!("'{name}' is a required property"))
}

fn object<'v>(action: &str, value: &'v Value, known: &[&str]) -> Result<&'v Map<String, Value>> {
    let members = value.as_object().ok_or_else(|| invalid(action, value, "It is not of type 'object'"))?;
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(unexpected(name)),
        None => Ok(members),
    }
}

fn name(members: &Map<String, Value>) -> Result<String> {
    match members.get("name") {
        Some(Value::String(text)) => input::name("name", text).map(|()| text.clone()),
        Some(other) => Err(invalid("name", other, "It is not of type 'string'")),
        None => Err(required("name")),
    }
}

fn metadata(members: &Map<String, Value>) -> Result<BTreeMap<String, String>> {
    let Some(value) = members.get("metadata") else {
        return Ok(BTreeMap::new());
    };
    let items = value.as_object().ok_or_else(|| invalid("metadata", value, "It is not of type 'object'"))?;
    let item = |(name, value): (&String, &Value)| {
        let text = value.as_str().ok_or_else(|| invalid(name, value, "It is not of type 'string'"))?;
        input::metadata_item(name, text)?;
        Ok((name.clone(), text.to_owned()))
    };
    items.iter().map(item).collect()
}
