//! What a new volume may be, decided before it is one.

use std::collections::BTreeMap;

use umbel_auth::Visible;
use umbel_client::ImageView;
use umbel_core::{Error, Id, Kind, Result};
use umbel_db::{Tx, tx};

use super::{Caller, invalid_snapshot, invalid_volume};
use crate::Volumes;
use crate::flows::create::{Create, CreateFlow, CreateStep, Source};
use crate::flows::start::start;
use crate::model::{SnapshotId, SnapshotStatus, VolumeId, VolumeRow, VolumeStatus};
use crate::store::backups::BackupId;
use crate::store::quotas::{self, Delta};
use crate::store::types::{self, VolumeType};
use crate::store::{Volume, encryption, volumes};

/// A volume to be made, as a request has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// None: that of the source.
    pub size_gib: Option<u64>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub image: Option<String>,
    pub snapshot: Option<SnapshotId>,
    pub volume: Option<VolumeId>,
    pub backup: Option<BackupId>,
    /// Id or name.
    pub volume_type: Option<String>,
    pub availability_zone: Option<String>,
    pub group_id: Option<String>,
    pub multiattach: bool,
}

/// What a source gives to what is made from it.
#[derive(Default)]
pub(super) struct Inherited {
    pub(super) size_gib: u64,
    pub(super) bootable: bool,
    pub(super) volume_type_id: Option<String>,
    pub(super) image_metadata: BTreeMap<String, String>,
    pub(super) source: Option<Source>,
}

impl Volumes {
    /// The row and the flow that makes it, in one transaction.
    pub(crate) async fn create_volume(
        &self,
        caller: &Caller,
        token: Option<&str>,
        wanted: Wanted,
    ) -> Result<VolumeRow> {
        let project = caller.project()?.to_owned();
        self.check_zone(wanted.availability_zone.as_deref())?;
        let sources =
            [wanted.image.is_some(), wanted.snapshot.is_some(), wanted.volume.is_some(), wanted.backup.is_some()];
        if sources.iter().filter(|given| **given).count() > 1 {
            return Err(Error::bad_request("A volume is made from one source at most."));
        }
        if let Some(backup) = wanted.backup {
            return self.volume_from_backup(caller, backup, wanted, (VolumeStatus::Creating, false)).await;
        }
        // Asked before the transaction: a database waits for no other service.
        let image = match &wanted.image {
            Some(id) => Some(self.image_for(token, id).await?),
            None => None,
        };
        let id = VolumeId::random(&*self.rng);
        let now = self.clock.now();
        let row = tx!(self.db, "create a volume", |tx| {
            let mut inherited = self.inherit(tx, caller, &wanted, id).await?;
            if let Some(image) = &image {
                inherited = of_image(image, wanted.size_gib)?;
            }
            let size = size_of(&wanted, &inherited, self.config.max_volume_gib)?;
            let kind = self.type_for(tx, caller, &wanted, &inherited).await?;
            let mut row = VolumeRow::new(id, &project, &caller.user_id, size, now);
            row.name = wanted.name.clone();
            row.description = wanted.description.clone();
            row.volume_type_id = Some(kind.id.to_string());
            row.availability_zone = self.config.availability_zone.clone();
            row.multiattach = wanted.multiattach || multiattach(&kind);
            row.bootable = inherited.bootable;
            row.snapshot_id = wanted.snapshot.map(|id| id.to_string());
            row.source_volid = wanted.volume.map(|id| id.to_string());
            row.image_id = wanted.image.clone();
            self.join_group(tx, caller, &wanted, &kind, &mut row).await?;
            row.metadata = wanted.metadata.clone();
            row.image_metadata = inherited.image_metadata;
            let delta = Delta { volumes: 1, gigabytes: size, ..Delta::default() };
            quotas::charge(tx, &self.config, &project, Some(&kind.name), delta).await?;
            volumes::insert(tx, &row).await?;
            let source = inherited.source.unwrap_or(Source::Nothing);
            let state = Create { volume: id, source, backend: None, deep: false, copying: false };
            start::<CreateFlow>(tx, id, CreateStep::Place, &state, &caller.request_id, now).await?;
            Ok(row)
        })?;
        self.nudge();
        Ok(row)
    }

    pub(super) fn check_zone(&self, zone: Option<&str>) -> Result<()> {
        match zone {
            Some(zone) if zone != self.config.availability_zone => {
                Err(Error::bad_request(format!("Invalid input received: Availability zone '{zone}' is invalid.")))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn image_for(&self, token: Option<&str>, id: &str) -> Result<ImageView> {
        let unknown = || Error::bad_request("Invalid image identifier or unable to access requested image.");
        id.parse::<Id<()>>().map_err(|_| unknown())?;
        // Without a token a service asks: for itself, or for a user in whose name it has looked the image up before.
        let image = self.images.show(token, id).await.map_err(|error| match error.kind() {
            Kind::NotFound | Kind::Forbidden | Kind::BadRequest => unknown().because(error.for_log()),
            _ => error,
        })?;
        match image.status.as_str() {
            "active" => Ok(image),
            status => {
                let message = format!("Invalid input received: Image {id} is not active: it is {status}.");
                Err(Error::bad_request(message))
            }
        }
    }

    async fn inherit(&self, tx: &mut Tx<Volume>, caller: &Caller, wanted: &Wanted, new: VolumeId) -> Result<Inherited> {
        if let Some(id) = wanted.snapshot {
            let snapshot = caller.lock_snapshot(tx, id).await?;
            if snapshot.status != SnapshotStatus::Available {
                return Err(invalid_snapshot("Originating snapshot status must be one of 'available' values"));
            }
            let volume = volumes::get_any(tx, snapshot.volume_id).await?;
            let volume = volume.ok_or_else(|| super::volume_not_found(snapshot.volume_id))?;
            let source = disk(&volume, &snapshot.disk_snapshot, snapshot.size_gib, false)?;
            return Ok(inherited(volume, snapshot.size_gib, source));
        }
        if let Some(id) = wanted.volume {
            let volume = caller.lock_volume(tx, id).await?;
            if !matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse) {
                return Err(invalid_volume("Originating volume status must be one of 'available, in-use' values"));
            }
            super::attachments::check_still(&volume)?;
            let source = disk(&volume, &format!("clone-{new}"), volume.size_gib, true)?;
            let size = volume.size_gib;
            return Ok(inherited(volume, size, source));
        }
        Ok(Inherited::default())
    }

    /// The type that is asked for; else that of the source, else the project's default.
    pub(super) async fn type_for(
        &self,
        tx: &mut Tx<Volume>,
        caller: &Caller,
        wanted: &Wanted,
        inherited: &Inherited,
    ) -> Result<VolumeType> {
        let asked = wanted.volume_type.as_deref().filter(|text| !text.is_empty());
        let inherited = inherited.volume_type_id.as_deref().map(str::parse).transpose()?;
        let mut kind = None;
        if let Some(asked) = asked {
            kind = Some(types::find(tx, &caller.types, asked).await?);
        } else if let Some(id) = inherited {
            kind = types::get(tx, &Visible::All, id).await?;
        }
        let kind = match kind {
            Some(kind) => kind,
            None => types::default_for(tx, caller.project_id.as_deref(), &self.config.default_volume_type).await?,
        };
        // Found, it could go before the volume is written.
        types::keep(tx, kind.id).await?;
        // Data that their owner takes for encrypted and that are not would be worse than no volume.
        match encryption::get(tx, kind.id).await? {
            None => Ok(kind),
            Some(_) => Err(Error::bad_request(format!(
                "Volume type {} asks for encryption, which no backend offers.",
                kind.name
            ))),
        }
    }
}

fn multiattach(kind: &VolumeType) -> bool {
    kind.spec("multiattach").is_some_and(|value| value.replace(' ', "").eq_ignore_ascii_case("<is>true"))
}

fn disk(volume: &VolumeRow, snapshot: &str, size_gib: u64, made: bool) -> Result<Source> {
    let backend = volume.backend.clone().ok_or_else(|| invalid_volume(format!("{} has no data", volume.id)))?;
    Ok(Source::Disk { backend, disk: volume.disk.clone(), snapshot: snapshot.to_owned(), size_gib, made })
}

fn inherited(volume: VolumeRow, size_gib: u64, source: Source) -> Inherited {
    Inherited {
        size_gib,
        bootable: volume.bootable,
        volume_type_id: volume.volume_type_id,
        image_metadata: volume.image_metadata,
        source: Some(source),
    }
}

/// What the image service tells of an image that is no property of it, or changes.
const NOT_COPIED: &[&str] = &[
    "created_at",
    "updated_at",
    "tags",
    "file",
    "schema",
    "self",
    "protected",
    "os_hidden",
    "os_hash_algo",
    "os_hash_value",
    "stores",
    "direct_url",
    "locations",
    "virtual_size",
];

pub(super) fn of_image(image: &ImageView, size_gib: Option<u64>) -> Result<Inherited> {
    let wanted = size_gib.unwrap_or(0);
    let image_gib = umbel_core::bytes_to_gib_ceil(image.virtual_size.or(image.size).unwrap_or(0));
    if wanted > 0 && image_gib > wanted {
        return Err(Error::bad_request(format!(
            "Invalid input received: Size of specified image {image_gib}GB is larger than volume size {wanted}GB."
        )));
    }
    if wanted > 0 && image.min_disk > wanted {
        return Err(Error::bad_request(format!(
            "Invalid input received: Volume size {wanted}GB cannot be smaller than the image minDisk size {}GB.",
            image.min_disk
        )));
    }
    let mut metadata = BTreeMap::new();
    for (name, value) in image.properties.iter().filter(|(name, _)| !NOT_COPIED.contains(&name.as_str())) {
        let text = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        metadata.insert(name.clone(), text);
    }
    let own = [
        ("image_id", Some(image.id.clone())),
        ("image_name", image.name.clone()),
        ("disk_format", image.disk_format.clone()),
        ("container_format", image.container_format.clone()),
        ("size", image.size.map(|size| size.to_string())),
        ("min_disk", Some(image.min_disk.to_string())),
        ("min_ram", Some(image.min_ram.to_string())),
    ];
    metadata.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let source = Some(Source::Image { id: image.id.clone() });
    Ok(Inherited { bootable: true, image_metadata: metadata, source, ..Inherited::default() })
}

pub(super) fn size_of(wanted: &Wanted, inherited: &Inherited, most: u64) -> Result<u64> {
    let size = match (wanted.size_gib, inherited.size_gib) {
        (Some(size), _) => size,
        (None, 0) => {
            return Err(Error::bad_request(
                "Invalid input received: Invalid volume size provided for create request: None \
                 (size argument must be an integer (or string representation of an integer) and greater than zero).",
            ));
        }
        (None, size) => size,
    };
    if size < inherited.size_gib {
        let (what, whose) = match wanted.snapshot {
            Some(_) => ("the snapshot size", "snapshot"),
            None if wanted.backup.is_some() => ("the backup size", "backup"),
            None => ("original volume size", "volume"),
        };
        return Err(Error::bad_request(format!(
            "Invalid input received: Volume size '{size}'GB cannot be smaller than {what} {}GB. They must be >= \
             original {whose} size.",
            inherited.size_gib
        )));
    }
    match size <= most {
        true => Ok(size),
        false => Err(Error::bad_request(format!("Invalid input received: Volumes have at most {most} GiB."))),
    }
}
