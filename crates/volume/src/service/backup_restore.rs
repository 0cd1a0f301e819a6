//! Restoring backups, into new volumes and over the content of old ones.

use umbel_core::{Error, Result};
use umbel_db::{Tx, tx};

use super::backups::invalid_backup;
use super::create::{Inherited, Wanted, size_of};
use super::{Caller, invalid_volume};
use crate::Volumes;
use crate::flows::backup_restore::{BackupRestore, RestoreState, RestoreStep};
use crate::flows::start::begin;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::store::backups::{self, Backup, BackupId, BackupStatus};
use crate::store::quotas::{self, Delta};
use crate::store::{Volume, volumes};

impl Volumes {
    /// `POST /backups/{id}/restore`: a new volume of the backup's size, of the type of the one that was backed up if there
    /// still is such a type.
    pub(crate) async fn restore_new(&self, caller: &Caller, id: BackupId, name: Option<String>) -> Result<VolumeRow> {
        let wanted = Wanted {
            // Its own name comes back with the data.
            name: Some(name.clone().unwrap_or_else(|| format!("restore_backup_{id}"))),
            description: Some("auto-created_from_restore_from_backup".to_owned()),
            ..Wanted::default()
        };
        self.volume_from_backup(caller, id, wanted, (VolumeStatus::RestoringBackup, name.is_none())).await
    }

    /// A new volume with a backup's content. `rename`: it takes the name and description of the one that was backed up.
    pub(crate) async fn volume_from_backup(
        &self,
        caller: &Caller,
        id: BackupId,
        mut wanted: Wanted,
        (status, rename): (VolumeStatus, bool),
    ) -> Result<VolumeRow> {
        let project = caller.project()?.to_owned();
        self.check_zone(wanted.availability_zone.as_deref())?;
        let (volume_id, now) = (VolumeId::random(&*self.rng), self.clock.now());
        wanted.backup = Some(id);
        let made = tx!(self.db, "create a volume from a backup", |tx| {
            let backup = available(tx, caller, id).await?;
            let inherited = Inherited::of_backup(&backup);
            let size = size_of(&wanted, &inherited, self.config.max_volume_gib)?;
            let kind = self.type_for(tx, caller, &wanted, &inherited).await?;
            let mut row = VolumeRow::new(volume_id, &project, &caller.user_id, size, now);
            row.status = status;
            row.name = wanted.name.clone();
            row.description = wanted.description.clone();
            row.volume_type_id = Some(kind.id.to_string());
            row.availability_zone = self.config.availability_zone.clone();
            row.multiattach = wanted.multiattach;
            row.backup_id = Some(id.to_string());
            row.metadata = wanted.metadata.clone();
            self.join_group(tx, caller, &wanted, &kind, &mut row).await?;
            let delta = Delta { volumes: 1, gigabytes: size, ..Delta::default() };
            quotas::charge(tx, &self.config, &project, Some(&kind.name), delta).await?;
            volumes::insert(tx, &row).await?;
            let state = RestoreState { backup_id: id, volume_id, fresh: true, rename };
            self.begin_restore(tx, caller, &backup, &state).await?;
            Ok(row)
        })?;
        self.nudge();
        Ok(made)
    }

    /// Over the content of a volume that nobody uses. What the volume has beyond the backup's size becomes zeros.
    pub(crate) async fn restore_over(&self, caller: &Caller, id: BackupId, volume_id: VolumeId) -> Result<VolumeRow> {
        let now = self.clock.now();
        let row = tx!(self.db, "restore a backup", |tx| {
            let backup = available(tx, caller, id).await?;
            let volume = caller.lock_volume(tx, volume_id).await?;
            if volume.status != VolumeStatus::Available {
                return Err(invalid_volume("Volume to be restored to must be available"));
            }
            if backup.size_gib > volume.size_gib {
                return Err(invalid_volume(format!(
                    "volume size {} is too small to restore backup of size {}.",
                    volume.size_gib, backup.size_gib
                )));
            }
            let row = volumes::set_status(tx, &volume, VolumeStatus::RestoringBackup, now).await?;
            let state = RestoreState { backup_id: id, volume_id, fresh: false, rename: false };
            self.begin_restore(tx, caller, &backup, &state).await?;
            Ok(row)
        })?;
        self.nudge();
        Ok(row)
    }

    async fn begin_restore(
        &self,
        tx: &mut Tx<Volume>,
        caller: &Caller,
        backup: &Backup,
        state: &RestoreState,
    ) -> Result<()> {
        // Refused here rather than in the flow, where nobody hears of it.
        self.backups.get(&backup.target)?;
        let now = self.clock.now();
        let after = Backup {
            status: BackupStatus::Restoring,
            restore_volume_id: Some(state.volume_id),
            progress: Some(0),
            ..backup.clone()
        };
        backups::update(tx, backup, &after, now).await?;
        begin::<BackupRestore>(tx, state.volume_id, RestoreStep::Place, state, &caller.request_id, now).await
    }
}

async fn available(tx: &mut Tx<Volume>, caller: &Caller, id: BackupId) -> Result<Backup> {
    let backup = caller.lock_backup(tx, id).await?;
    match backup.status {
        BackupStatus::Available => Ok(backup),
        _ => Err(invalid_backup("Backup status must be available")),
    }
}

impl Inherited {
    /// A type that is gone by now is passed over when the volume's type is chosen.
    fn of_backup(backup: &Backup) -> Inherited {
        Inherited {
            size_gib: backup.size_gib,
            volume_type_id: backup.origin.volume_type.clone(),
            ..Inherited::default()
        }
    }
}

/// As upstream says it where a record cannot be read.
pub(super) fn unreadable() -> Error {
    Error::bad_request("Invalid input received: Can't parse backup record.")
}
