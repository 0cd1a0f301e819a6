//! Snapshots of several volumes at one point in time, for compute's images of servers.
//!
//! Volumes of a server need not be in one group, and mostly are not: upstream makes one snapshot after the other, and
//! what is between them depends on the guest being held. Here it is one point in each pool even where no agent answers
//! in the guest.
//!
//! That point is the pool's to make: see its `snapshot_together`. On Ceph a disk that several clients write to at once has
//! no exclusive lock to take, and is at a moment of its own within it. Ours keep the lock also when they are
//! multi-attached, and local files are open in one guest only.

use std::collections::BTreeSet;

use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Tx, tx};

use super::{Caller, invalid_volume};
use crate::Volumes;
use crate::flows::snapshot_together::{SnapshotTogetherFlow, TogetherStep};
use crate::flows::start::start;
use crate::model::{SnapshotId, SnapshotRow, VolumeId, VolumeStatus};
use crate::store::quotas::{self, Delta};
use crate::store::{Volume, snapshots};

pub(crate) struct WantedTogether {
    pub user_id: String,
    pub name: String,
    pub snapshots: Vec<(SnapshotId, VolumeId)>,
}

impl Volumes {
    /// All or none. Those of an earlier call with the same ids are told as they are now.
    pub(crate) async fn snapshot_together(&self, caller: &Caller, wanted: &WantedTogether) -> Result<Vec<SnapshotRow>> {
        let volumes: BTreeSet<_> = wanted.snapshots.iter().map(|(_, volume)| volume).collect();
        let Some((first, _)) = wanted.snapshots.first() else {
            return Err(Error::bad_request("No volume is named."));
        };
        if volumes.len() != wanted.snapshots.len() {
            return Err(Error::bad_request("A volume is named twice."));
        }
        let now = self.clock.now();
        let rows = tx!(self.db, "snapshot volumes together", |tx| {
            let known = known(tx, &wanted.snapshots).await?;
            if !known.is_empty() {
                return Ok(known);
            }
            let mut rows = Vec::new();
            for of in &wanted.snapshots {
                rows.push(self.add_together(tx, caller, wanted, *of, now).await?);
            }
            let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
            start::<SnapshotTogetherFlow>(tx, first, TogetherStep::Make, &ids, &caller.request_id, now).await?;
            Ok(rows)
        })?;
        self.nudge();
        Ok(rows)
    }

    async fn add_together(
        &self,
        tx: &mut Tx<Volume>,
        caller: &Caller,
        wanted: &WantedTogether,
        (id, volume): (SnapshotId, VolumeId),
        now: Timestamp,
    ) -> Result<SnapshotRow> {
        let volume = caller.lock_volume(tx, volume).await?;
        let still = matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse) && volume.backend.is_some();
        if !still || volume.migration_status.as_deref().is_some_and(|text| !matches!(text, "success" | "error")) {
            let status = volume.status;
            return Err(invalid_volume(format!("Volume {} is {status}: it can have no snapshot now.", volume.id)));
        }
        let mut row = SnapshotRow::new(id, &volume, &wanted.user_id, now);
        row.name = Some(wanted.name.clone());
        let kind = super::place::type_of(tx, &volume).await?.map(|kind| kind.name);
        let delta = Delta { snapshots: 1, gigabytes: volume.size_gib, ..Delta::default() };
        quotas::charge(tx, &self.config, &row.project_id, kind.as_deref(), delta).await?;
        snapshots::insert(tx, &row).await?;
        Ok(row)
    }
}

/// Those that are there already. 409 if these are not exactly the ones that are asked for.
async fn known(tx: &mut Tx<Volume>, wanted: &[(SnapshotId, VolumeId)]) -> Result<Vec<SnapshotRow>> {
    let mut rows = Vec::new();
    for (id, volume) in wanted {
        let Some(row) = snapshots::get_any(tx, *id).await? else { continue };
        if row.deleted || row.volume_id != *volume {
            return Err(Error::conflict(format!("There was a snapshot {id} before.")));
        }
        rows.push(row);
    }
    match rows.len() == wanted.len() || rows.is_empty() {
        true => Ok(rows),
        false => Err(Error::conflict("Some of the snapshots are there already, and some are not.")),
    }
}
