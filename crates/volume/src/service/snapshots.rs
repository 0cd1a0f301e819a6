//! Snapshots of volumes.

use std::collections::BTreeMap;

use umbel_core::{Error, Result};
use umbel_db::tx;

use super::{Caller, invalid_snapshot, invalid_volume};
use crate::Volumes;
use crate::flows::delete::{DeleteSnapshot, DeleteStep};
use crate::flows::snapshot::{SnapshotFlow, SnapshotStep};
use crate::flows::start::start;
use crate::model::{SnapshotId, SnapshotRow, SnapshotStatus, VolumeId, VolumeStatus};
use crate::store::quotas::{self, Delta};
use crate::store::{metadata, snapshots};

/// A snapshot to be made.
#[derive(Clone, Debug)]
pub(crate) struct WantedSnapshot {
    pub volume: VolumeId,
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// Of a volume that is in use too.
    pub force: bool,
}

impl Volumes {
    pub(crate) async fn create_snapshot(&self, caller: &Caller, wanted: &WantedSnapshot) -> Result<SnapshotRow> {
        let now = self.clock.now();
        let id = SnapshotId::random(&*self.rng);
        let row = tx!(self.db, "create a snapshot", |tx| {
            let volume = caller.lock_volume(tx, wanted.volume).await?;
            let allowed = match volume.status {
                VolumeStatus::Available => true,
                VolumeStatus::InUse => wanted.force,
                _ => false,
            };
            if !allowed || volume.backend.is_none() {
                return Err(invalid_volume(format!(
                    "Volume {} status must be available, but current status is: {}.",
                    volume.id, volume.status
                )));
            }
            if volume.migration_status.as_deref().is_some_and(|s| !matches!(s, "success" | "error")) {
                return Err(invalid_volume(format!("Volume {} is migrating.", volume.id)));
            }
            let mut row = SnapshotRow::new(id, &volume, &caller.user_id, now);
            row.name = wanted.name.clone();
            row.description = wanted.description.clone();
            row.metadata = wanted.metadata.clone();
            let kind = super::place::type_of(tx, &volume).await?.map(|kind| kind.name);
            let delta = Delta { snapshots: 1, gigabytes: volume.size_gib, ..Delta::default() };
            quotas::charge(tx, &self.config, &row.project_id, kind.as_deref(), delta).await?;
            snapshots::insert(tx, &row).await?;
            start::<SnapshotFlow>(tx, id, SnapshotStep::Make, &id, &caller.request_id, now).await?;
            Ok(row)
        })?;
        self.nudge();
        Ok(row)
    }

    /// Gone for everyone when this returns; clones of it live on.
    pub(crate) async fn delete_snapshot(&self, caller: &Caller, id: SnapshotId, force: bool) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "delete a snapshot", |tx| {
            let row = caller.lock_snapshot(tx, id).await?;
            if !row.status.is_deletable() && !force {
                return Err(invalid_snapshot(format!(
                    "Snapshot status must be available or error, but current status is: {}.",
                    row.status
                )));
            }
            if row.group_snapshot_id.is_some() {
                return Err(invalid_snapshot(format!("Snapshot {id} belongs to a group snapshot.")));
            }
            let mut after = row.clone();
            (after.deleted, after.status) = (true, SnapshotStatus::Deleting);
            snapshots::update(tx, &row, &after, now).await?;
            start::<DeleteSnapshot>(tx, id, DeleteStep::Rest, &id, &caller.request_id, now).await
        })?;
        self.nudge();
        Ok(())
    }

    pub(crate) async fn update_snapshot(
        &self,
        caller: &Caller,
        id: SnapshotId,
        name: Option<String>,
        description: Option<String>,
    ) -> Result<SnapshotRow> {
        let now = self.clock.now();
        tx!(self.db, "update a snapshot", |tx| {
            let row = caller.lock_snapshot(tx, id).await?;
            let mut after = row.clone();
            if let Some(name) = &name {
                after.name = Some(name.clone());
            }
            if let Some(description) = &description {
                after.description = Some(description.clone());
            }
            snapshots::update(tx, &row, &after, now).await
        })
    }

    /// Replaces a snapshot's metadata by what `change` makes of them; what they are now.
    pub(crate) async fn change_snapshot_metadata(
        &self,
        caller: &Caller,
        id: SnapshotId,
        change: impl Fn(&mut BTreeMap<String, String>) -> Result<()> + Send + Sync,
    ) -> Result<BTreeMap<String, String>> {
        let now = self.clock.now();
        tx!(self.db, "change a snapshot's metadata", |tx| {
            let row = caller.lock_snapshot(tx, id).await?;
            let mut all = row.metadata.clone();
            change(&mut all)?;
            super::check_metadata(&all)?;
            metadata::set_snapshot(tx, id, &all).await?;
            snapshots::update(tx, &row, &row, now).await?;
            Ok(all)
        })
    }

    pub(crate) async fn reset_snapshot(&self, caller: &Caller, id: SnapshotId, status: SnapshotStatus) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "reset a snapshot", |tx| {
            let row = caller.lock_snapshot(tx, id).await?;
            snapshots::set_status(tx, &row, status, now).await.map(drop)
        })
    }

    /// What a hypervisor that makes a snapshot itself says of it.
    pub(crate) async fn note_snapshot(
        &self,
        caller: &Caller,
        id: SnapshotId,
        status: SnapshotStatus,
        progress: Option<u64>,
    ) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "note a snapshot's status", |tx| {
            let row = caller.lock_snapshot(tx, id).await?;
            if !matches!(row.status, SnapshotStatus::Creating | SnapshotStatus::Deleting) {
                return Err(Error::bad_request(format!(
                    "Snapshot status {} not allowed for update_snapshot_status",
                    row.status
                )));
            }
            let mut after = row.clone();
            after.status = status;
            after.progress = progress.unwrap_or(row.progress);
            snapshots::update(tx, &row, &after, now).await.map(drop)
        })
    }
}
