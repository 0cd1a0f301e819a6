//! Actions that bring a volume's bytes elsewhere, and other bytes into a volume.

use umbel_api::volume::moves as wire;
use umbel_core::{Error, Result, Timestamp};
use umbel_http::Reply;

use super::actions::Action;
use super::input::{flag_or_false, uuid};
use crate::model::VolumeId;
use crate::service::uploads::NewUpload;

pub(super) async fn upload_image(action: Action<VolumeId>) -> Result<Reply> {
    let asked: wire::UploadImage = action.arguments()?;
    let version = action.req.version;
    if asked.image_name.is_empty() || asked.image_name.chars().count() > 255 {
        return Err(Error::bad_request("image_name must have 1 to 255 characters."));
    }
    let modern = version.at_least(3, 1);
    if !modern && (asked.visibility.is_some() || asked.protected.is_some()) {
        return Err(Error::bad_request("Additional properties are not allowed: visibility and protected are of 3.1."));
    }
    if let Some(other) = asked.visibility.as_deref()
        && !["community", "public", "private", "shared"].contains(&other)
    {
        return Err(Error::bad_request(format!("Invalid input for field/attribute visibility. Value: {other}.")));
    }
    let new = NewUpload {
        name: asked.image_name,
        force: flag_or_false("force", asked.force.as_ref())?,
        disk_format: asked.disk_format.unwrap_or_else(|| "raw".to_owned()),
        container_format: asked.container_format.unwrap_or_else(|| "bare".to_owned()),
        visibility: modern.then(|| asked.visibility.unwrap_or_else(|| "private".to_owned())),
        protected: match modern {
            true => Some(flag_or_false("protected", asked.protected.as_ref())?),
            false => None,
        },
    };
    let begun = action.state.upload_volume(&action.req.ctx, action.id, &new).await?;
    let changed = (begun.volume.updated_at != begun.volume.created_at).then_some(begun.volume.updated_at);
    let upload = wire::Upload {
        id: begun.volume.id.to_string(),
        updated_at: changed.map(Timestamp::iso_naive),
        status: "uploading",
        display_description: begun.volume.description,
        size: begun.volume.size_gib,
        volume_type: begun.volume_type,
        image_id: begun.image_id,
        container_format: new.container_format,
        disk_format: new.disk_format,
        image_name: new.name,
        visibility: new.visibility,
        protected: new.protected,
    };
    Ok(Reply::versioned(202, version, wire::Uploaded { upload }))
}

pub(super) async fn retype(action: Action<VolumeId>) -> Result<Reply> {
    let asked: wire::Retype = action.arguments()?;
    let on_demand = match asked.migration_policy.as_deref() {
        None | Some("never") => false,
        Some("on-demand") => true,
        Some(other) => {
            let message = format!("Invalid input for field/attribute migration_policy. Value: {other}.");
            return Err(Error::bad_request(message));
        }
    };
    action.state.retype_volume(&action.req.ctx, action.id, &asked.new_type, on_demand).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn migrate(action: Action<VolumeId>) -> Result<Reply> {
    let asked: wire::Migrate = action.arguments()?;
    let lock = flag_or_false("lock_volume", asked.lock_volume.as_ref())?;
    // A copy is what is made anyway.
    flag_or_false("force_host_copy", asked.force_host_copy.as_ref())?;
    let host = match (asked.host, asked.cluster) {
        (Some(host), None) if !host.is_empty() => host,
        (None, Some(cluster)) if !cluster.is_empty() && action.req.version.at_least(3, 16) => {
            return Err(Error::bad_request(format!("Invalid host: No available service named '{cluster}'")));
        }
        _ => {
            return Err(Error::bad_request(
                "Invalid input received: One and only one of cluster and host must be set.",
            ));
        }
    };
    action.state.migrate_volume(&action.req.ctx, action.id, &host, lock).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn complete_migration(action: Action<VolumeId>) -> Result<Reply> {
    let asked: wire::MigrateCompletion = action.arguments()?;
    let failed = flag_or_false("error", asked.error.as_ref())?;
    let new = uuid("new_volume", &asked.new_volume)?;
    let kept = action.state.complete_migration(&action.req.ctx, action.id, new, failed).await?;
    Ok(Reply::json(200, &wire::MigrateCompleted { save_volume_id: kept.to_string() }))
}

pub(super) async fn reimage(action: Action<VolumeId>) -> Result<Reply> {
    if !action.req.version.at_least(3, 68) {
        return Err(Error::bad_request("There is no such action: os-reimage"));
    }
    let asked: wire::Reimage = action.arguments()?;
    uuid::<()>("image_id", &asked.image_id)?;
    let reserved = flag_or_false("reimage_reserved", asked.reimage_reserved.as_ref())?;
    action.state.reimage_volume(&action.req.ctx, action.id, &asked.image_id, reserved).await?;
    Ok(Reply::empty(202))
}
