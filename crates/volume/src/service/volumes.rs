//! What becomes of volumes that are there.

use std::collections::BTreeMap;

use umbel_core::{Error, Result};
use umbel_db::{Tx, read, tx};

use super::{Caller, invalid_volume};
use crate::flows::delete::{DeleteStep, DeleteVolume};
use crate::flows::extend::{Extend, ExtendFlow, ExtendStep};
use crate::flows::revert::{Revert, RevertFlow, RevertStep};
use crate::flows::start::{begin, start};
use crate::model::{SnapshotId, SnapshotRow, SnapshotStatus, VolumeId, VolumeRow, VolumeStatus};
use crate::store::metadata::{self, Kind as Whose};
use crate::store::quotas::{self, Delta};
use crate::store::{Volume, attachments, snapshots, transfers, volumes};
use crate::{Backend, Volumes};

/// How a deletion goes about what hangs on the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deletion {
    /// With its snapshots.
    pub cascade: bool,
    /// Whatever its status and that of its snapshots, and nothing more: what a host has open, what moves, what is part of
    /// a group and what has snapshots that were not asked for stays, as upstream.
    pub force: bool,
}

impl Deletion {
    /// Whether a volume may go in this way, with all snapshots that are of it (`left`), whosever they are.
    fn lets_go(self, caller: &Caller, row: &VolumeRow, left: &[SnapshotRow]) -> bool {
        let migrating = row.migration_status.as_deref().is_some_and(|s| !matches!(s, "success" | "error"));
        if migrating || row.group_id.is_some() || !(self.force || DELETABLE.contains(&row.status)) {
            return false;
        }
        // A volume that was given away without its snapshots is not to take them along from whoever kept them.
        let deletable = |one: &SnapshotRow| {
            self.cascade
                && one.group_snapshot_id.is_none()
                && (caller.admin || one.project_id == row.project_id)
                && (self.force || one.status.is_deletable())
        };
        left.iter().all(deletable)
    }
}

/// A change of a volume's own words. None: as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
}

/// What administrators may say that a volume is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reset {
    pub status: Option<VolumeStatus>,
    /// `attached` or `detached`: the latter forgets who has it.
    pub attach_status: Option<String>,
    pub migration_status: Option<String>,
}

const DELETABLE: &[VolumeStatus] = &[
    VolumeStatus::Available,
    VolumeStatus::Error,
    VolumeStatus::ErrorRestoring,
    VolumeStatus::ErrorExtending,
    VolumeStatus::ErrorManaging,
    VolumeStatus::ErrorDeleting,
];

impl Volumes {
    /// Gone for everyone when this returns; the data go behind.
    pub(crate) async fn delete_volume(&self, caller: &Caller, id: VolumeId, how: Deletion) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "delete a volume", |tx| {
            let row = caller.lock_volume(tx, id).await?;
            let held = attachments::of_volume(tx, id).await?;
            // What is only reserved, nobody has open.
            if held.iter().any(|one| !how.force || one.is_connected()) {
                return Err(Error::bad_request(format!(
                    "Invalid volume: Volume {id} is still attached, detach volume first."
                )));
            }
            let left = snapshots::of_volume(tx, id).await?;
            if !how.lets_go(caller, &row, &left) {
                let status = match how.force {
                    true => "Volume",
                    false => {
                        "Volume status must be available or error or error_restoring or error_extending or \
                         error_managing and"
                    }
                };
                return Err(invalid_volume(format!(
                    "{status} must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, \
                     or be disassociated from snapshots after volume transfer.",
                )));
            }
            for snapshot in left {
                let mut after = snapshot.clone();
                (after.deleted, after.status) = (true, SnapshotStatus::Deleting);
                snapshots::update(tx, &snapshot, &after, now).await?;
            }
            // By force, whoever reserved it and to whomever it is offered: nobody is to hold what nobody sees.
            attachments::delete_of_volume(tx, id).await?;
            transfers::delete_of_volume(tx, id).await?;
            let mut after = row.clone();
            (after.deleted, after.status) = (true, VolumeStatus::Deleting);
            volumes::update(tx, &row, &after, now).await?;
            start::<DeleteVolume>(tx, id, DeleteStep::Rest, &id, &caller.request_id, now).await
        })?;
        self.nudge();
        Ok(())
    }

    pub(crate) async fn update_volume(&self, caller: &Caller, id: VolumeId, words: &Words) -> Result<VolumeRow> {
        let now = self.clock.now();
        tx!(self.db, "update a volume", |tx| {
            let row = caller.lock_volume(tx, id).await?;
            let mut after = row.clone();
            if let Some(name) = &words.name {
                after.name = Some(name.clone());
            }
            if let Some(description) = &words.description {
                after.description = Some(description.clone());
            }
            if let Some(all) = &words.metadata {
                metadata::set_volume(tx, id, Whose::User, all).await?;
                after.metadata = all.clone();
            }
            volumes::update(tx, &row, &after, now).await
        })
    }

    /// Replaces a volume's metadata of one kind by what `change` makes of them; what they are now.
    pub(crate) async fn change_metadata(
        &self,
        caller: &Caller,
        id: VolumeId,
        whose: Whose,
        change: impl Fn(&mut BTreeMap<String, String>) -> Result<()> + Send + Sync,
    ) -> Result<BTreeMap<String, String>> {
        let now = self.clock.now();
        tx!(self.db, "change a volume's metadata", |tx| {
            let row = caller.lock_volume(tx, id).await?;
            let mut all = metadata::of_volume(tx, id, whose).await?;
            change(&mut all)?;
            super::check_metadata(&all)?;
            metadata::set_volume(tx, id, whose, &all).await?;
            volumes::update(tx, &row, &row, now).await?;
            Ok(all)
        })
    }

    /// `in_use`: whether the request's version allows it of a volume that servers have.
    pub(crate) async fn extend_volume(&self, caller: &Caller, id: VolumeId, new_gib: u64, in_use: bool) -> Result<()> {
        let now = self.clock.now();
        if new_gib > self.config.max_volume_gib {
            let most = self.config.max_volume_gib;
            return Err(Error::bad_request(format!("Invalid input received: Volumes have at most {most} GiB.")));
        }
        tx!(self.db, "extend a volume", |tx| {
            let row = caller.lock_volume(tx, id).await?;
            let allowed = row.status == VolumeStatus::Available || (in_use && row.status == VolumeStatus::InUse);
            if !allowed {
                let wanted = if in_use { "['available', 'in-use']" } else { "available" };
                return Err(invalid_volume(format!(
                    "Volume {id} status must be {wanted} to extend, currently {}.",
                    row.status
                )));
            }
            super::attachments::check_still(&row)?;
            if new_gib <= row.size_gib {
                return Err(Error::bad_request(format!(
                    "Invalid input received: New size for extend must be greater than current size. (current: {}, \
                     extended: {new_gib}).",
                    row.size_gib
                )));
            }
            quotas::check_size(tx, &self.config, &row.project_id, new_gib).await?;
            let kind = super::place::type_of(tx, &row).await?.map(|kind| kind.name);
            let delta = Delta { gigabytes: new_gib - row.size_gib, ..Delta::default() };
            quotas::charge(tx, &self.config, &row.project_id, kind.as_deref(), delta).await?;
            let status = row.status.name().to_owned();
            let state = Extend { volume: id, old_gib: row.size_gib, new_gib };
            let mut after = row.clone();
            (after.status, after.size_gib, after.previous_status) = (VolumeStatus::Extending, new_gib, Some(status));
            volumes::update(tx, &row, &after, now).await?;
            begin::<ExtendFlow>(tx, id, ExtendStep::Grow, &state, &caller.request_id, now).await
        })?;
        self.nudge();
        Ok(())
    }

    /// Whether the pool may promise as much as a volume whose row has its new size already. Upstream asks its scheduler;
    /// without that one volume that grows takes the room of all others.
    pub(crate) async fn has_room_to_grow(&self, backend: &Backend) -> Result<bool> {
        let allocated = read!(self.db, "sum what a backend has", |tx| volumes::allocated(tx, &backend.name).await)?;
        Ok(self.room(backend, None, allocated, 0).await.is_some())
    }

    /// To any snapshot of the volume: upstream takes the latest only, since not all of its backends can do more.
    pub(crate) async fn revert_volume(&self, caller: &Caller, id: VolumeId, to: SnapshotId) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "revert a volume", |tx| {
            let row = caller.lock_volume(tx, id).await?;
            let snapshot = caller.lock_snapshot(tx, to).await?;
            if snapshot.volume_id != id {
                return Err(invalid_volume(format!("Snapshot {to} is not a snapshot of volume {id}.")));
            }
            if row.status != VolumeStatus::Available {
                return Err(super::conflict(format!(
                    "Volume {id} is {}, it must be available to be reverted.",
                    row.status
                )));
            }
            if snapshot.status != SnapshotStatus::Available {
                return Err(super::conflict(format!("Snapshot {to} is {}, it must be available.", snapshot.status)));
            }
            volumes::set_status(tx, &row, VolumeStatus::Reverting, now).await?;
            snapshots::set_status(tx, &snapshot, SnapshotStatus::Restoring, now).await?;
            let state = Revert { volume: id, snapshot: to };
            begin::<RevertFlow>(tx, id, RevertStep::RollBack, &state, &caller.request_id, now).await
        })?;
        self.nudge();
        Ok(())
    }

    pub(crate) async fn set_bootable(&self, caller: &Caller, id: VolumeId, bootable: bool) -> Result<()> {
        self.set(caller, id, |row| row.bootable = bootable).await
    }

    pub(crate) async fn set_read_only(&self, caller: &Caller, id: VolumeId, read_only: bool) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "set a volume's readonly flag", |tx| {
            let row = caller.lock_volume(tx, id).await?;
            if row.status != VolumeStatus::Available {
                return Err(invalid_volume(format!(
                    "Volume {id} status must be available to update readonly flag, but current status is: {}.",
                    row.status
                )));
            }
            let mut all = metadata::of_volume(tx, id, Whose::Admin).await?;
            all.insert("readonly".into(), if read_only { "True" } else { "False" }.into());
            metadata::set_volume(tx, id, Whose::Admin, &all).await?;
            let after = VolumeRow { read_only, ..row.clone() };
            volumes::update(tx, &row, &after, now).await.map(drop)
        })
    }

    async fn set(&self, caller: &Caller, id: VolumeId, change: impl Fn(&mut VolumeRow) + Send + Sync) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "change a volume", |tx| {
            let row = caller.lock_volume(tx, id).await?;
            let mut after = row.clone();
            change(&mut after);
            volumes::update(tx, &row, &after, now).await.map(drop)
        })
    }

    pub(crate) async fn reset_volume(&self, caller: &Caller, id: VolumeId, reset: &Reset) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "reset a volume", |tx| {
            let row = caller.lock_volume(tx, id).await?;
            let mut after = row.clone();
            if let Some(status) = reset.status {
                after.status = status;
                after.error = None;
            }
            if let Some(migration) = &reset.migration_status {
                after.migration_status = (migration != "none").then(|| migration.clone());
            }
            if reset.attach_status.as_deref() == Some("detached") {
                attachments::delete_of_volume(tx, id).await?;
            }
            volumes::update(tx, &row, &after, now).await.map(drop)
        })
    }
}

/// Names of all types by their ids.
pub(crate) async fn type_names(tx: &mut Tx<Volume>) -> Result<BTreeMap<String, String>> {
    let all = crate::store::types::list(tx, &umbel_auth::Visible::All).await?;
    Ok(all.into_iter().map(|kind| (kind.id.to_string(), kind.name)).collect())
}
