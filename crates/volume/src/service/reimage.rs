//! A volume is filled anew from an image.

use umbel_core::{Ctx, Error, Result};
use umbel_db::tx;

use super::create::of_image;
use super::{Caller, invalid_volume};
use crate::Volumes;
use crate::flows::reimage::{Reimage, ReimageFlow, ReimageStep};
use crate::flows::start::begin;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::store::{attachments, volumes};

impl Volumes {
    /// `reserved`: also a volume that a server has reserved, which compute asks for when it rebuilds the server.
    pub(crate) async fn reimage_volume(&self, ctx: &Ctx, id: VolumeId, image: &str, reserved: bool) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let image = self.image_for(ctx.token.as_deref(), image).await?;
        let now = self.clock.now();
        tx!(self.db, "reimage volume", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            if attachments::of_volume(tx, id).await?.len() > 1 {
                return Err(Error::conflict("Cannot re-image a volume which is attached to more than one server."));
            }
            let usable = match volume.status {
                VolumeStatus::Available | VolumeStatus::Error => !super::attachments::is_migrating(&volume),
                VolumeStatus::Reserved => reserved,
                _ => false,
            };
            if !usable {
                let needed = if reserved { "available or error or reserved" } else { "available or error" };
                return Err(invalid_volume(format!(
                    "Volume {id} status must be {needed}, but current status is {}.",
                    volume.status
                )));
            }
            let image_metadata = of_image(&image, Some(volume.size_gib))?.image_metadata;
            let backend = volume.backend.clone().ok_or_else(|| invalid_volume("it has no data to replace"))?;
            let state = Reimage {
                volume: id,
                image: image.id.clone(),
                backend,
                disk: volume.disk.clone(),
                image_metadata,
                overwriting: false,
            };
            let after = VolumeRow {
                status: VolumeStatus::Downloading,
                previous_status: Some(volume.status.name().to_owned()),
                error: None,
                ..volume.clone()
            };
            begin::<ReimageFlow>(tx, id, ReimageStep::Fill, &state, &ctx.request_id, now).await?;
            volumes::update(tx, &volume, &after, now).await.map(drop)
        })?;
        self.nudge();
        Ok(())
    }
}
