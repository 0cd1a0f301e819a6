//! Deletion of volumes and snapshots. Users are told nothing of it: to them they are gone already.
//!
//! What still works on a volume, or makes a clone of it, ends first. A deletion that fails for good is begun again by
//! the sweep, as long as the row is there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_core::{Error, Kind, Result};
use umbel_db::{Tx, Value, args, tx};
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use super::start::{is_being_made, is_busy, start};
use crate::Volumes;
use crate::model::{SnapshotId, VolumeId};
use crate::store::{Volume, snapshots, volumes};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeleteStep {
    /// Waits for what works on it.
    Rest,
    /// Takes the data away.
    Remove,
    /// Takes the rows away.
    Forget,
}

impl Step for DeleteStep {
    const ALL: &'static [Self] = &[DeleteStep::Rest, DeleteStep::Remove, DeleteStep::Forget];

    fn name(self) -> &'static str {
        match self {
            DeleteStep::Rest => "rest",
            DeleteStep::Remove => "remove",
            DeleteStep::Forget => "forget",
        }
    }
}

/// How long until it is looked again whether something still needs the data.
const BUSY: Duration = Duration::from_millis(200);

/// For how long a volume's deletion lets those of its snapshots go first. Its own takes them along; but both at one image
/// are in each other's way, and Ceph's refusal of an image that has snapshots costs as much as a removal.
const SNAPSHOTS_FIRST: Duration = Duration::from_secs(5);

const DEADLINE: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct DeleteVolume(pub Arc<Volumes>);
pub(crate) struct DeleteSnapshot(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(DeleteVolume(state.clone())).with(DeleteSnapshot(state.clone()))
}

#[async_trait]
impl Flow for DeleteVolume {
    type Schema = Volume;
    type State = VolumeId;
    type Step = DeleteStep;

    const KIND: &'static str = "volume_delete";
    const DEADLINE: Duration = DEADLINE;

    async fn run(&self, step: DeleteStep, id: &mut VolumeId, run: &Run) -> Result<Next<DeleteStep>> {
        let state = &self.0;
        match step {
            DeleteStep::Rest => {
                let patient = state.clock.now() < run.created_at.plus(SNAPSHOTS_FIRST);
                let busy = tx!(state.db, "look for a volume's flows", |tx| {
                    let of_it =
                        "v.source_volid = ? OR v.snapshot_id IN (SELECT s.id FROM snapshots s WHERE s.volume_id = ?)";
                    Ok(is_source(tx, of_it, args![*id, *id]).await?
                        || is_busy(tx, *id, Self::KIND).await?
                        || (patient && is_losing_snapshots(tx, *id).await?))
                })?;
                Ok(if busy { Next::Wait(BUSY) } else { Next::Through(DeleteStep::Remove) })
            }
            DeleteStep::Remove => {
                let row = tx!(state.db, "look at a deleted volume", |tx| volumes::get_any(tx, *id).await)?;
                if let Some(row) = row
                    && let Some(backend) = &row.backend
                {
                    state.backend(backend)?.pool.remove(&row.disk).await?;
                }
                Ok(Next::Through(DeleteStep::Forget))
            }
            DeleteStep::Forget => {
                tx!(state.db, "forget a volume", |tx| {
                    finish(tx, run).await?;
                    volumes::forget_all(tx, *id).await
                })?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, _: DeleteStep, _: &mut VolumeId, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, id: &mut VolumeId, error: &Error, _: &Run) -> Result<()> {
        tracing::warn!(volume = %id, cause = error.cause(), "a deletion will be finished later: {error}");
        Ok(())
    }
}

#[async_trait]
impl Flow for DeleteSnapshot {
    type Schema = Volume;
    type State = SnapshotId;
    type Step = DeleteStep;

    const KIND: &'static str = "snapshot_delete";
    const DEADLINE: Duration = DEADLINE;

    async fn run(&self, step: DeleteStep, id: &mut SnapshotId, run: &Run) -> Result<Next<DeleteStep>> {
        let state = &self.0;
        match step {
            DeleteStep::Rest => {
                let busy = tx!(state.db, "look for a snapshot's flows", |tx| {
                    let Some(row) = snapshots::get_any(tx, *id).await? else { return Ok(false) };
                    let group_snapshot = row.group_snapshot_id.as_deref();
                    Ok(is_being_made(tx, &id.to_string(), group_snapshot).await?
                        || is_source(tx, "v.snapshot_id = ?", args![*id]).await?
                        || is_busy(tx, *id, Self::KIND).await?)
                })?;
                Ok(if busy { Next::Wait(BUSY) } else { Next::Through(DeleteStep::Remove) })
            }
            DeleteStep::Remove => {
                let found = tx!(state.db, "look at a deleted snapshot", |tx| {
                    let Some(row) = snapshots::get_any(tx, *id).await? else { return Ok(None) };
                    let volume = volumes::get_any(tx, row.volume_id).await?;
                    Ok(volume.map(|volume| (row, volume)))
                })?;
                if let Some((row, volume)) = found
                    && let Some(backend) = &volume.backend
                {
                    match state.backend(backend)?.pool.remove_snapshot(&volume.disk, &row.disk_snapshot).await {
                        Err(error) if error.is(Kind::NotFound) => {}
                        other => other?,
                    }
                }
                Ok(Next::Through(DeleteStep::Forget))
            }
            DeleteStep::Forget => {
                tx!(state.db, "forget a snapshot", |tx| {
                    finish(tx, run).await?;
                    snapshots::forget(tx, *id).await
                })?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, _: DeleteStep, _: &mut SnapshotId, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, id: &mut SnapshotId, error: &Error, _: &Run) -> Result<()> {
        tracing::warn!(snapshot = %id, cause = error.cause(), "a deletion will be finished later: {error}");
        Ok(())
    }
}

/// Whether volumes are being made of the deleted one's data, alone or as a group. `condition` says which, of `volumes v`.
async fn is_source(tx: &mut Tx<Volume>, condition: &str, values: Vec<Value>) -> Result<bool> {
    for (kind, column) in [("volume_create", "id"), ("group_create", "group_id")] {
        let sql = format!(
            "SELECT w.id FROM workflows w JOIN volumes v ON v.{column} = w.id WHERE w.kind = '{kind}' AND ({condition}) \
             LIMIT 1"
        );
        if tx.fetch_opt(&sql, values.clone()).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn is_losing_snapshots(tx: &mut Tx<Volume>, id: VolumeId) -> Result<bool> {
    let sql = "SELECT w.id FROM workflows w JOIN snapshots s ON s.id = w.id \
        WHERE w.kind = 'snapshot_delete' AND s.volume_id = ? LIMIT 1";
    Ok(tx.fetch_opt(sql, args![id]).await?.is_some())
}

impl Volumes {
    /// Begins deletions again that nobody is at.
    pub(crate) async fn resume_deletions(&self) -> Result<()> {
        let now = self.clock.now();
        let begun = tx!(self.db, "resume deletions", |tx| {
            let left = "deleted = 1 AND NOT EXISTS (SELECT 1 FROM workflows w WHERE w.id =";
            let sql = format!("SELECT id FROM volumes WHERE {left} volumes.id AND w.kind = 'volume_delete') LIMIT 100");
            let rows = tx.fetch_all(&sql, args![]).await?;
            for row in &rows {
                let id: VolumeId = row.id("id")?;
                start::<DeleteVolume>(tx, id, DeleteStep::Rest, &id, "", now).await?;
            }
            let sql =
                format!("SELECT id FROM snapshots WHERE {left} snapshots.id AND w.kind = 'snapshot_delete') LIMIT 100");
            let more = tx.fetch_all(&sql, args![]).await?;
            for row in &more {
                let id: SnapshotId = row.id("id")?;
                start::<DeleteSnapshot>(tx, id, DeleteStep::Rest, &id, "", now).await?;
            }
            Ok(rows.len() + more.len())
        })?;
        if begun > 0 {
            self.nudge();
        }
        Ok(())
    }
}
