//! Making a snapshot of a volume.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_core::{Error, Kind, Result};
use umbel_db::tx;
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use crate::Volumes;
use crate::model::{SnapshotId, SnapshotRow, SnapshotStatus, VolumeRow};
use crate::service::messages::{self, NewMessage, Resource};
use crate::store::{Volume, snapshots, volumes};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotStep {
    Make,
    Finish,
}

impl Step for SnapshotStep {
    const ALL: &'static [Self] = &[SnapshotStep::Make, SnapshotStep::Finish];

    fn name(self) -> &'static str {
        match self {
            SnapshotStep::Make => "make",
            SnapshotStep::Finish => "finish",
        }
    }
}

pub(crate) struct SnapshotFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(SnapshotFlow(state.clone()))
}

impl SnapshotFlow {
    async fn rows(&self, id: SnapshotId) -> Result<(SnapshotRow, VolumeRow)> {
        tx!(self.0.db, "look at a new snapshot", |tx| {
            let snapshot = snapshots::get_any(tx, id).await?.filter(|row| !row.deleted);
            let volume = match &snapshot {
                Some(snapshot) => volumes::get_any(tx, snapshot.volume_id).await?,
                None => None,
            };
            snapshot.zip(volume).ok_or_else(|| Error::new(Kind::Gone, format!("Snapshot {id} was deleted.")))
        })
    }
}

#[async_trait]
impl Flow for SnapshotFlow {
    type Schema = Volume;
    type State = SnapshotId;
    type Step = SnapshotStep;

    const KIND: &'static str = "snapshot_create";
    const DEADLINE: Duration = Duration::from_secs(3600);

    async fn run(&self, step: SnapshotStep, id: &mut SnapshotId, run: &Run) -> Result<Next<SnapshotStep>> {
        let service = &self.0;
        let now = service.clock.now();
        match step {
            SnapshotStep::Make => {
                let (row, volume) = self.rows(*id).await?;
                let backend = service.backend(volume.backend.as_deref().unwrap_or_default())?;
                backend.pool.snapshot(&volume.disk, &row.disk_snapshot).await?;
                // A crash makes it again, which is found to be done.
                Ok(Next::Through(SnapshotStep::Finish))
            }
            SnapshotStep::Finish => {
                tx!(service.db, "finish a snapshot", |tx| {
                    finish(tx, run).await?;
                    let Some(row) = snapshots::lock_any(tx, *id).await? else { return Ok(()) };
                    let mut after = row.clone();
                    after.progress = 100;
                    if row.status == SnapshotStatus::Creating {
                        after.status = SnapshotStatus::Available;
                    }
                    snapshots::update(tx, &row, &after, now).await.map(drop)
                })?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: SnapshotStep, id: &mut SnapshotId, _: &Run) -> Result<()> {
        if step != SnapshotStep::Make {
            return Ok(());
        }
        let Ok((row, volume)) = self.rows(*id).await else { return Ok(()) };
        let backend = self.0.backend(volume.backend.as_deref().unwrap_or_default())?;
        match backend.pool.remove_snapshot(&volume.disk, &row.disk_snapshot).await {
            Err(error) if error.is(Kind::NotFound) => Ok(()),
            other => other,
        }
    }

    async fn failed(&self, id: &mut SnapshotId, error: &Error, run: &Run) -> Result<()> {
        let service = &self.0;
        let now = service.clock.now();
        tracing::warn!(snapshot = %id, cause = error.cause(), "a snapshot failed: {error}");
        tx!(service.db, "fail a snapshot", |tx| {
            finish(tx, run).await?;
            match snapshots::lock_any(tx, *id).await? {
                Some(row) if !row.deleted => {
                    snapshots::set_status(tx, &row, SnapshotStatus::Error, now).await?;
                    let new = NewMessage {
                        project_id: &row.project_id,
                        resource: Resource::Snapshot,
                        resource_id: row.id.to_string(),
                        action: messages::SNAPSHOT_CREATE,
                        detail: messages::SNAPSHOT_FAILED.unless_storage(error),
                        request_id: &run.request_id,
                    };
                    service.record(tx, new).await
                }
                _ => Ok(()),
            }
        })
    }
}
