//! What may be backed up, and upon what an increment stands.

use std::collections::BTreeMap;

use umbel_auth::Visible;
use umbel_core::{Error, Result};
use umbel_db::{Tx, tx};

use super::backups::invalid_backup;
use super::{Caller, invalid_snapshot, invalid_volume};
use crate::Volumes;
use crate::backup::Data;
use crate::flows::backup_create;
use crate::model::{SnapshotId, SnapshotRow, SnapshotStatus, VolumeId, VolumeRow, VolumeStatus};
use crate::store::backups::{self, Backup, BackupId, BackupStatus, Origin};
use crate::store::quotas::{Delta, charge};
use crate::store::{Volume, snapshots, volumes};

/// A request for a backup.
#[derive(Clone, Debug)]
pub(crate) struct NewBackup {
    pub volume_id: VolumeId,
    pub snapshot_id: Option<SnapshotId>,
    pub incremental: bool,
    /// Also if the volume is in use.
    pub force: bool,
    pub name: Option<String>,
    pub description: Option<String>,
    pub container: Option<String>,
    pub availability_zone: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

impl Volumes {
    pub(crate) async fn create_backup(&self, caller: &Caller, new: NewBackup) -> Result<Backup> {
        let project = caller.project()?.to_owned();
        let zone = &self.config.availability_zone;
        let default_target = self.backups.default_target()?.name().to_owned();
        if new.availability_zone.as_ref().is_some_and(|wanted| wanted != zone) {
            return Err(Error::unavailable("Service cinder-backup could not be found."));
        }
        let (id, now) = (BackupId::random(&*self.rng), self.clock.now());
        let made = tx!(self.db, "create backup", |tx| {
            let volume = caller.lock_volume(tx, new.volume_id).await?;
            let snapshot = match new.snapshot_id {
                Some(id) => Some(caller.lock_snapshot(tx, id).await?),
                None => None,
            };
            check_source(&volume, snapshot.as_ref(), new.force)?;
            let delta = Delta { backups: 1, backup_gigabytes: volume.size_gib, ..Delta::default() };
            charge(tx, &self.config, &project, None, delta).await?;
            let parent = match new.incremental {
                true => Some(parent_of(tx, &project, &volume, snapshot.as_ref()).await?),
                false => None,
            };
            let backup = Backup {
                project_id: project.clone(),
                user_id: caller.user_id.clone(),
                name: new.name.clone(),
                description: new.description.clone(),
                snapshot_id: new.snapshot_id,
                container: new.container.clone(),
                availability_zone: Some(zone.clone()),
                metadata: new.metadata.clone(),
                data_timestamp: snapshot.as_ref().map_or(now, |snapshot| snapshot.created_at),
                ..blank(id, &volume, parent.as_ref(), &default_target, now)
            };
            backups::insert(tx, &backup).await?;
            match &snapshot {
                Some(snapshot) => {
                    snapshots::set_status(tx, snapshot, SnapshotStatus::BackingUp, now).await?;
                }
                None => {
                    let previous_status = Some(volume.status.name().to_owned());
                    let after = VolumeRow { status: VolumeStatus::BackingUp, previous_status, ..volume.clone() };
                    volumes::update(tx, &volume, &after, now).await?;
                }
            }
            backup_create::start(tx, &backup, &caller.request_id, now).await?;
            Ok(backup)
        })?;
        self.nudge();
        Ok(made)
    }
}

fn blank(
    id: BackupId,
    volume: &VolumeRow,
    parent: Option<&Backup>,
    default_target: &str,
    now: umbel_core::Timestamp,
) -> Backup {
    let data = Data {
        id: id.to_string(),
        volume: parent.map_or_else(|| volume.id.to_string(), |parent| parent.data.volume.clone()),
        base: parent.map_or_else(|| id.to_string(), |parent| parent.data.base.clone()),
        parent: parent.map(|parent| parent.data.id.clone()),
        size: volume.size_bytes(),
    };
    Backup {
        id,
        generation: Default::default(),
        project_id: String::new(),
        user_id: String::new(),
        name: None,
        description: None,
        status: BackupStatus::Creating,
        fail_reason: None,
        volume_id: volume.id,
        size_gib: volume.size_gib,
        snapshot_id: None,
        parent_id: parent.map(|parent| parent.id),
        container: None,
        availability_zone: None,
        metadata: BTreeMap::new(),
        origin: Origin {
            name: volume.name.clone(),
            description: volume.description.clone(),
            volume_type: volume.volume_type_id.clone(),
            bootable: volume.bootable,
            metadata: volume.metadata.clone(),
            image_metadata: volume.image_metadata.clone(),
        },
        object_count: 0,
        progress: Some(0),
        // An increment is where its parent is.
        target: parent.map_or(default_target, |parent| &parent.target).to_owned(),
        data,
        source_snapshot: None,
        own_snapshot: false,
        restore_volume_id: None,
        data_timestamp: now,
        created_at: now,
        updated_at: None,
    }
}

fn check_source(volume: &VolumeRow, snapshot: Option<&SnapshotRow>, force: bool) -> Result<()> {
    if let Some(snapshot) = snapshot {
        if snapshot.volume_id != volume.id {
            let other = snapshot.volume_id;
            return Err(invalid_volume(format!(
                "Volume {} does not match with snapshot.volume_id {other}.",
                volume.id
            )));
        }
        return match snapshot.status {
            SnapshotStatus::Available => Ok(()),
            status => Err(invalid_snapshot(format!(
                "Snapshot to be backed up must be available, but the current status is \"{status}\"."
            ))),
        };
    }
    super::attachments::check_still(volume)?;
    match volume.status {
        VolumeStatus::Available => Ok(()),
        VolumeStatus::InUse if force => Ok(()),
        VolumeStatus::InUse => Err(invalid_volume("Backing up an in-use volume must use the force flag.")),
        status => Err(invalid_volume(format!(
            "Volume to be backed up must be available or in-use, but the current status is \"{status}\"."
        ))),
    }
}

/// The newest backup that an increment can stand upon; of a snapshot, the newest that is older. Held, so that it is not
/// deleted under the increment.
async fn parent_of(
    tx: &mut Tx<Volume>,
    project: &str,
    volume: &VolumeRow,
    snapshot: Option<&SnapshotRow>,
) -> Result<Backup> {
    let visible = Visible::Project(project.to_owned());
    for candidate in backups::of_volume(tx, &visible, volume.id).await? {
        let early = snapshot.is_none_or(|snapshot| candidate.data_timestamp < snapshot.created_at);
        // A backup made when the volume was larger (it is another volume's now) cannot be added to.
        if candidate.status != BackupStatus::Available || !early || candidate.size_gib > volume.size_gib {
            continue;
        }
        let held = backups::lock(tx, &visible, candidate.id).await?;
        if let Some(parent) = held.filter(|held| held.status == BackupStatus::Available) {
            return Ok(parent);
        }
    }
    Err(invalid_backup("No backups available to do an incremental backup."))
}
