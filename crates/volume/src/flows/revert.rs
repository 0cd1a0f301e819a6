//! A volume becomes again what one of its snapshots is. Later snapshots stay.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_core::{Error, Result};
use umbel_db::{Tx, tx};
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use super::create::BUSY;
use super::start::{held, is_awaited};
use crate::Volumes;
use crate::model::{SnapshotId, SnapshotStatus, VolumeId, VolumeStatus};
use crate::service::messages;
use crate::store::{Volume, snapshots, volumes};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Revert {
    pub volume: VolumeId,
    pub snapshot: SnapshotId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RevertStep {
    RollBack,
    Finish,
}

impl Step for RevertStep {
    const ALL: &'static [Self] = &[RevertStep::RollBack, RevertStep::Finish];

    fn name(self) -> &'static str {
        match self {
            RevertStep::RollBack => "roll-back",
            RevertStep::Finish => "finish",
        }
    }
}

pub(crate) struct RevertFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(RevertFlow(state.clone()))
}

#[async_trait]
impl Flow for RevertFlow {
    type Schema = Volume;
    type State = Revert;
    type Step = RevertStep;

    const KIND: &'static str = "volume_revert";
    const DEADLINE: Duration = Duration::from_secs(24 * 3600);

    async fn run(&self, step: RevertStep, state: &mut Revert, run: &Run) -> Result<Next<RevertStep>> {
        let service = &self.0;
        let now = service.clock.now();
        match step {
            RevertStep::RollBack => {
                let found = tx!(service.db, "look at a volume to revert", |tx| {
                    let row = held(tx, state.volume).await?;
                    let snapshot = snapshots::get_any(tx, state.snapshot).await?;
                    let snapshot = snapshot.ok_or_else(|| crate::service::snapshot_not_found(state.snapshot))?;
                    Ok((!is_awaited(tx, row.id).await?).then_some((row, snapshot)))
                })?;
                let Some((row, snapshot)) = found else { return Ok(Next::Wait(BUSY)) };
                let pool = &service.backend(row.backend.as_deref().unwrap_or_default())?.pool;
                pool.rollback(&row.disk, &snapshot.disk_snapshot).await?;
                // The volume may have grown since, and keeps its size.
                if snapshot.size_gib < row.size_gib {
                    pool.resize(&row.disk, row.size_bytes()).await?;
                }
                Ok(Next::Go(RevertStep::Finish))
            }
            RevertStep::Finish => {
                tx!(service.db, "finish a revert", |tx| {
                    finish(tx, run).await?;
                    let row = held(tx, state.volume).await?;
                    if row.status == VolumeStatus::Reverting {
                        volumes::set_status(tx, &row, VolumeStatus::Available, now).await?;
                    }
                    free(tx, state.snapshot, now).await
                })?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, _: RevertStep, _: &mut Revert, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, state: &mut Revert, error: &Error, run: &Run) -> Result<()> {
        let service = &self.0;
        let now = service.clock.now();
        tx!(service.db, "fail a revert", |tx| {
            finish(tx, run).await?;
            free(tx, state.snapshot, now).await?;
            let Some(row) = volumes::lock_any(tx, state.volume).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            let mut after = row.clone();
            after.status = VolumeStatus::Error;
            after.error = Some(error.message().to_owned());
            volumes::update(tx, &row, &after, now).await?;
            let what = (messages::SCHEDULE, messages::UNKNOWN);
            crate::service::tell(tx, service, &row, what, (error, &run.request_id)).await
        })
    }
}

async fn free(tx: &mut Tx<Volume>, id: SnapshotId, now: umbel_core::Timestamp) -> Result<()> {
    match snapshots::lock_any(tx, id).await? {
        Some(row) if row.status == SnapshotStatus::Restoring => {
            snapshots::set_status(tx, &row, SnapshotStatus::Available, now).await.map(drop)
        }
        _ => Ok(()),
    }
}
