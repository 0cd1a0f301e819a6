use std::sync::Arc;

use serde_json::{Value, json};
use umbel_api::volume::types as wire;
use umbel_core::{Error, Result};
use umbel_db::read;
use umbel_http::{Reply, Req, Routes};

use super::types::type_id;
use crate::Volumes;
use crate::model::VolumeId;
use crate::service::Caller;
use crate::service::types::{EncryptionChange, no_encryption};
use crate::store::encryption::Encryption;

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::ENCRYPTION_SHOW, show)
        .on(&wire::ENCRYPTION_CREATE, create)
        .on(&wire::ENCRYPTION_ITEM, item)
        .on(&wire::ENCRYPTION_UPDATE, update)
        .on(&wire::ENCRYPTION_DELETE, delete)
        .on(&wire::VOLUME_ENCRYPTION, of_volume)
}

fn view(found: &Encryption) -> wire::Encryption<'_> {
    wire::Encryption {
        volume_type_id: found.volume_type_id.to_string(),
        encryption_id: &found.encryption_id,
        provider: &found.provider,
        control_location: &found.control_location,
        cipher: found.cipher.as_deref(),
        key_size: found.key_size,
        created_at: found.created_at.iso_naive(),
        updated_at: found.updated_at.map(|at| at.iso_naive()),
        deleted: false,
        deleted_at: None,
    }
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    Ok(match state.encryption(type_id(&req)?).await? {
        Some(found) => Reply::json(200, &view(&found)),
        None => Reply::json(200, &json!({})),
    })
}

async fn item(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let (id, key) = (type_id(&req)?, req.param("key")?);
    let found = state.encryption(id).await?.ok_or_else(|| no_encryption(id))?;
    let mut all = serde_json::to_value(view(&found)).map_err(Error::internal)?;
    match all.get_mut(key).map(Value::take) {
        Some(value) => Ok(Reply::json(200, &json!({ key: value }))),
        None => Err(no_encryption(id)),
    }
}

/// No backend encrypts: a type that asks for encryption has no volumes, and no volume has a key.
async fn of_volume(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id: VolumeId = req.id("volume_id", "Volume")?;
    read!(state.db, "show a volume's encryption", |tx| caller.volume(tx, id).await)?;
    Ok(Reply::json(200, &wire::VolumeEncryption { encryption_key_id: None }))
}

fn change(asked: wire::EncryptionChange) -> Result<EncryptionChange> {
    let bad = |field: &str, why: &str| Error::bad_request(format!("Invalid input for field/attribute {field}. {why}"));
    for (field, text) in [("provider", asked.provider.as_ref()), ("cipher", asked.cipher.iter().flatten().next())] {
        if text.is_some_and(|text| text.chars().count() > 255) {
            return Err(bad(field, "It has more than 255 characters."));
        }
    }
    if asked.control_location.as_deref().is_some_and(|one| !["front-end", "back-end"].contains(&one)) {
        return Err(bad("control_location", "It is none of ['front-end', 'back-end']."));
    }
    let key_size = match asked.key_size {
        None => None,
        Some(Value::Null) => Some(None),
        Some(value) => {
            let number = match &value {
                Value::String(text) => text.parse().ok(),
                other => other.as_i64(),
            };
            let fits = number.filter(|number| (0..=i64::from(i32::MAX)).contains(number));
            Some(Some(fits.ok_or_else(|| bad("key_size", "key_size must be an integer."))?))
        }
    };
    Ok(EncryptionChange {
        provider: asked.provider,
        control_location: asked.control_location,
        cipher: asked.cipher,
        key_size,
    })
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    let change = change(req.json::<wire::EncryptionRequest>().await?.encryption)?;
    if change.provider.is_none() || change.control_location.is_none() {
        return Err(Error::bad_request("'provider' and 'control_location' are required properties"));
    }
    let found = state.put_encryption(id, &change, true).await?;
    let encryption = wire::NewEncryption {
        volume_type_id: id.to_string(),
        encryption_id: &found.encryption_id,
        provider: &found.provider,
        control_location: &found.control_location,
        cipher: found.cipher.as_deref(),
        key_size: found.key_size,
    };
    Ok(Reply::json(200, &wire::EncryptionCreated { encryption }))
}

/// The answer is what was asked, as upstream has it.
async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    let change = change(req.json::<wire::EncryptionRequest>().await?.encryption)?;
    state.put_encryption(id, &change, false).await?;
    let encryption = wire::EncryptionFields {
        provider: change.provider.as_deref(),
        control_location: change.control_location.as_deref(),
        cipher: change.cipher.as_ref().map(Option::as_deref),
        key_size: change.key_size,
    };
    Ok(Reply::json(200, &wire::EncryptionUpdated { encryption }))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    state.remove_encryption(type_id(&req)?).await?;
    Ok(Reply::empty(202))
}
