//! Disks and snapshots that were in a pool before take the names that ours have. Their bytes stay where they are.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_core::{Error, Result};
use umbel_db::tx;
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use super::start::held;
use crate::Volumes;
use crate::model::{SnapshotId, SnapshotRow, SnapshotStatus, VolumeId, VolumeRow, VolumeStatus};
use crate::service::messages;
use crate::store::{Volume, snapshots, unmanaged, volumes};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ManageStep {
    Rename,
    Finish,
}

impl Step for ManageStep {
    const ALL: &'static [Self] = &[ManageStep::Rename, ManageStep::Finish];

    fn name(self) -> &'static str {
        match self {
            ManageStep::Rename => "rename",
            ManageStep::Finish => "finish",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ManageDisk {
    pub volume: VolumeId,
    pub backend: String,
    /// The disk's name before.
    pub reference: String,
    pub disk: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ManageSnapshot {
    pub snapshot: SnapshotId,
    pub backend: String,
    pub disk: String,
    /// The snapshot's name before.
    pub reference: String,
    pub name: String,
}

pub(crate) struct ManageVolumeFlow(pub Arc<Volumes>);
pub(crate) struct ManageSnapshotFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(ManageVolumeFlow(state.clone())).with(ManageSnapshotFlow(state.clone()))
}

#[async_trait]
impl Flow for ManageVolumeFlow {
    type Schema = Volume;
    type State = ManageDisk;
    type Step = ManageStep;

    const KIND: &'static str = "volume_manage";

    async fn run(&self, step: ManageStep, state: &mut ManageDisk, run: &Run) -> Result<Next<ManageStep>> {
        let volumes = &self.0;
        if step == ManageStep::Rename {
            volumes.backend(&state.backend)?.pool.rename(&state.reference, &state.disk).await?;
            return Ok(Next::Go(ManageStep::Finish));
        }
        let now = volumes.clock.now();
        tx!(volumes.db, "finish managing", |tx| {
            finish(tx, run).await?;
            let row = held(tx, state.volume).await?;
            let mut after = row.clone();
            if row.status == VolumeStatus::Managing {
                after.status = VolumeStatus::Available;
            }
            after.launched_at = Some(now);
            // Not before: until here the disk may have its old name, and be nobody's again.
            unmanaged::managed(tx, &state.backend, &state.reference, None).await?;
            unmanaged::renamed(tx, &state.backend, &state.reference, &state.disk).await?;
            volumes::update(tx, &row, &after, now).await
        })?;
        Ok(Next::Done)
    }

    /// The disk keeps the name that its row has: a volume in error is deleted, or taken off the books, by it.
    async fn undo(&self, _: ManageStep, _: &mut ManageDisk, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, state: &mut ManageDisk, error: &Error, run: &Run) -> Result<()> {
        let volumes = &self.0;
        let now = volumes.clock.now();
        tx!(volumes.db, "fail managing", |tx| {
            finish(tx, run).await?;
            let Some(row) = volumes::lock_any(tx, state.volume).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            let after = VolumeRow {
                status: VolumeStatus::ErrorManaging,
                error: Some(error.message().to_owned()),
                ..row.clone()
            };
            volumes::update(tx, &row, &after, now).await?;
            let what = (messages::MANAGE, messages::UNKNOWN);
            crate::service::tell(tx, volumes, &row, what, (error, &run.request_id)).await
        })
    }
}

#[async_trait]
impl Flow for ManageSnapshotFlow {
    type Schema = Volume;
    type State = ManageSnapshot;
    type Step = ManageStep;

    const KIND: &'static str = "snapshot_manage";

    async fn run(&self, step: ManageStep, state: &mut ManageSnapshot, run: &Run) -> Result<Next<ManageStep>> {
        if step == ManageStep::Rename {
            let pool = &self.0.backend(&state.backend)?.pool;
            pool.rename_snapshot(&state.disk, &state.reference, &state.name).await?;
            return Ok(Next::Go(ManageStep::Finish));
        }
        self.end(state, SnapshotStatus::Available, run).await?;
        Ok(Next::Done)
    }

    async fn undo(&self, _: ManageStep, _: &mut ManageSnapshot, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, state: &mut ManageSnapshot, error: &Error, run: &Run) -> Result<()> {
        tracing::warn!(snapshot = %state.snapshot, cause = error.cause(), "a snapshot is not managed: {error}");
        self.end(state, SnapshotStatus::Error, run).await
    }
}

impl ManageSnapshotFlow {
    async fn end(&self, state: &ManageSnapshot, status: SnapshotStatus, run: &Run) -> Result<()> {
        let now = self.0.clock.now();
        tx!(self.0.db, "end managing", |tx| {
            finish(tx, run).await?;
            let Some(row) = snapshots::lock_any(tx, state.snapshot).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            if status == SnapshotStatus::Available {
                unmanaged::managed(tx, &state.backend, &state.disk, Some(&state.reference)).await?;
            }
            let after = SnapshotRow { status, progress: 100, ..row.clone() };
            snapshots::update(tx, &row, &after, now).await.map(drop)
        })
    }
}
