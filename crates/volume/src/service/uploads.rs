//! Volumes become images.
//!
//! The image is made in the caller's name before the flow is written, because the answer names it. A process that dies
//! in between leaves a queued image without data, which its owner sees and can delete.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use umbel_auth::Visible;
use umbel_client::NewImage;
use umbel_core::{Ctx, Error, Result};
use umbel_db::{Tx, read, tx};

use super::{Caller, invalid_volume};
use crate::Volumes;
use crate::flows::start::begin;
use crate::flows::upload::{Upload, UploadFlow, UploadFormat, UploadStep};
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::store::{Volume, types, volumes};

/// The image that is wanted.
pub(crate) struct NewUpload {
    pub name: String,
    pub force: bool,
    pub disk_format: String,
    pub container_format: String,
    /// From 3.1 on.
    pub visibility: Option<String>,
    pub protected: Option<bool>,
}

/// What was begun.
pub(crate) struct Begun {
    pub volume: VolumeRow,
    /// The type as a whole.
    pub volume_type: Option<Value>,
    pub image_id: String,
}

/// Attributes of an image that are facts of its bytes or names of its own; what else a volume has of the image that it
/// was made from goes along.
const FACTS: &[&str] = &[
    "checksum",
    "container_format",
    "disk_format",
    "image_id",
    "image_name",
    "min_disk",
    "min_ram",
    "name",
    "size",
    "signature_verified",
];

impl Volumes {
    pub(crate) async fn upload_volume(&self, ctx: &Ctx, id: VolumeId, new: &NewUpload) -> Result<Begun> {
        let caller = Caller::of(ctx)?;
        let format = format_of(new)?;
        if new.visibility.as_deref() == Some("public") {
            caller.must_be_admin("volume_extension:volume_actions:upload_public")?;
        }
        let volume = read!(self.db, "look at volume", |tx| caller.volume(tx, id).await)?;
        check_status(&volume, new.force)?;
        let image = described(&volume, new);
        let image = self.images.create(ctx.token.as_deref(), &image).await?;
        match self.begin_upload(ctx, &caller, id, new.force, format, &image.id).await {
            Ok(begun) => {
                self.nudge();
                Ok(begun)
            }
            Err(error) => {
                if let Err(left) = self.images.delete(&image.id).await {
                    tracing::warn!(image = image.id, cause = left.cause(), "a queued image is left behind: {left}");
                }
                Err(error)
            }
        }
    }

    async fn begin_upload(
        &self,
        ctx: &Ctx,
        caller: &Caller,
        id: VolumeId,
        force: bool,
        format: UploadFormat,
        image: &str,
    ) -> Result<Begun> {
        let now = self.clock.now();
        tx!(self.db, "begin upload", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            check_status(&volume, force)?;
            let backend = volume.backend.clone().ok_or_else(|| invalid_volume("it has no data yet"))?;
            let after = VolumeRow {
                status: VolumeStatus::Uploading,
                previous_status: Some(volume.status.name().to_owned()),
                ..volume.clone()
            };
            let volume = volumes::update(tx, &volume, &after, now).await?;
            let disk = volume.disk.clone();
            let state = Upload { volume: id, image: image.to_owned(), format, backend, disk };
            begin::<UploadFlow>(tx, id, UploadStep::Freeze, &state, &ctx.request_id, now).await?;
            let volume_type = whole_type(tx, &volume).await?;
            Ok(Begun { volume, volume_type, image_id: image.to_owned() })
        })
    }
}

/// Only what we can write. The image service knows VHD by its own name; upstream takes both.
fn format_of(new: &NewUpload) -> Result<UploadFormat> {
    if new.container_format == "compressed" {
        return Err(Error::bad_request("Image compression is not allowed on upload."));
    }
    match new.disk_format.as_str() {
        "raw" => Ok(UploadFormat::Raw),
        "qcow2" => Ok(UploadFormat::Qcow2),
        "vmdk" => Ok(UploadFormat::Vmdk),
        "vdi" => Ok(UploadFormat::Vdi),
        "vhd" | "vpc" => Ok(UploadFormat::Vhd),
        other => Err(Error::bad_request(format!(
            "A volume can be uploaded as raw, qcow2, vmdk, vdi or vhd, not as {other}."
        ))),
    }
}

fn check_status(volume: &VolumeRow, force: bool) -> Result<()> {
    let needed = match force {
        true => "available or in-use",
        false => "available",
    };
    super::attachments::check_still(volume)?;
    match volume.status {
        VolumeStatus::Available => Ok(()),
        VolumeStatus::InUse if force => Ok(()),
        _ => Err(invalid_volume(format!("Volume {} status must be {needed}", volume.id))),
    }
}

fn described(volume: &VolumeRow, new: &NewUpload) -> NewImage {
    let number = |name: &str| volume.image_metadata.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let along = |name: &str| !FACTS.contains(&name) && !name.starts_with("os_glance") && !name.starts_with("img_sig");
    let properties: BTreeMap<String, String> = volume
        .image_metadata
        .iter()
        .filter(|(name, _)| along(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    NewImage {
        name: new.name.clone(),
        disk_format: if new.disk_format == "vpc" { "vhd".to_owned() } else { new.disk_format.clone() },
        container_format: new.container_format.clone(),
        visibility: new.visibility.clone(),
        protected: new.protected,
        min_disk: number("min_disk"),
        min_ram: number("min_ram"),
        properties,
        ..NewImage::default()
    }
}

async fn whole_type(tx: &mut Tx<Volume>, volume: &VolumeRow) -> Result<Option<Value>> {
    let Some(id) = volume.volume_type_id.as_deref().and_then(|id| id.parse().ok()) else {
        return Ok(None);
    };
    let found = types::get(tx, &Visible::All, id).await?;
    Ok(found.map(|found| {
        json!({
            "id": found.id,
            "name": found.name,
            "description": found.description,
            "is_public": found.is_public,
            "extra_specs": found.extra_specs,
            "qos_specs_id": found.qos_specs_id,
            "created_at": found.created_at.iso_naive(),
            "updated_at": found.updated_at.map(umbel_core::Timestamp::iso_naive),
            "deleted": false,
            "deleted_at": null,
        })
    }))
}

#[cfg(test)]
mod tests {
    use umbel_core::{Id, SeededRng, Timestamp};

    use super::*;

    fn wanted(disk_format: &str, container_format: &str) -> NewUpload {
        NewUpload {
            name: "n".into(),
            force: false,
            disk_format: disk_format.into(),
            container_format: container_format.into(),
            visibility: None,
            protected: None,
        }
    }

    #[test]
    fn only_what_can_be_written_is_promised() {
        let check = |disk: &str, container: &str, good: bool| {
            assert_eq!(format_of(&wanted(disk, container)).is_ok(), good, "{disk} {container}");
        };
        check("raw", "bare", true);
        check("qcow2", "bare", true);
        check("vmdk", "bare", true);
        check("vpc", "bare", true);
        check("vhdx", "bare", false);
        check("raw", "compressed", false);
    }

    #[test]
    fn the_properties_of_its_image_go_along() {
        let mut volume = VolumeRow::new(Id::random(&SeededRng::new(1)), "p", "u", 1, Timestamp(0));
        for (name, value) in [("checksum", "0f"), ("min_ram", "64"), ("os_distro", "debian"), ("image_name", "old")] {
            volume.image_metadata.insert(name.into(), value.into());
        }
        let image = described(&volume, &wanted("raw", "bare"));
        assert_eq!(image.min_ram, 64);
        assert_eq!(image.properties.into_iter().collect::<Vec<_>>(), [("os_distro".to_owned(), "debian".to_owned())]);
    }
}
