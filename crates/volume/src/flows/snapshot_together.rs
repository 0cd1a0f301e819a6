//! The flow that makes snapshots of several volumes that belong to no group: at one point in time in each pool. Between
//! pools there is none that both share; who needs it holds what writes to the volumes meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_core::{Error, Kind, Result};
use umbel_db::{read, tx};
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use crate::Volumes;
use crate::model::{SnapshotId, SnapshotStatus};
use crate::service::messages::{self, NewMessage, Resource};
use crate::store::{Volume, snapshots, volumes};

use super::group_snapshot::end_part;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TogetherStep {
    Make,
    Finish,
}

impl Step for TogetherStep {
    const ALL: &'static [Self] = &[TogetherStep::Make, TogetherStep::Finish];

    fn name(self) -> &'static str {
        match self {
            TogetherStep::Make => "make",
            TogetherStep::Finish => "finish",
        }
    }
}

pub(crate) struct SnapshotTogetherFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(SnapshotTogetherFlow(state.clone()))
}

/// Disks with the names of their snapshots, by backend.
type Points = BTreeMap<String, Vec<(String, String)>>;

impl SnapshotTogetherFlow {
    /// Of those that were not deleted meanwhile.
    async fn points(&self, ids: &[SnapshotId]) -> Result<Points> {
        read!(self.0.db, "look at new snapshots", |tx| {
            let mut points = Points::new();
            for id in ids {
                let Some(row) = snapshots::get_any(tx, *id).await?.filter(|row| !row.deleted) else { continue };
                let Some(volume) = volumes::get_any(tx, row.volume_id).await? else { continue };
                let backend = volume.backend.unwrap_or_default();
                points.entry(backend).or_default().push((volume.disk, row.disk_snapshot));
            }
            Ok(points)
        })
    }

    async fn end(&self, ids: &[SnapshotId], status: SnapshotStatus, run: &Run) -> Result<()> {
        let now = self.0.clock.now();
        tx!(self.0.db, "end snapshots", |tx| {
            finish(tx, run).await?;
            for id in ids {
                let Some(row) = snapshots::lock_any(tx, *id).await?.filter(|row| !row.deleted) else { continue };
                if status == SnapshotStatus::Error {
                    let new = NewMessage {
                        project_id: &row.project_id,
                        resource: Resource::Snapshot,
                        resource_id: row.id.to_string(),
                        action: messages::SNAPSHOT_CREATE,
                        detail: messages::SNAPSHOT_FAILED,
                        request_id: &run.request_id,
                    };
                    self.0.record(tx, new).await?;
                }
                end_part(tx, row, status, now).await?;
            }
            Ok(())
        })
    }
}

#[async_trait]
impl Flow for SnapshotTogetherFlow {
    type Schema = Volume;
    type State = Vec<SnapshotId>;
    type Step = TogetherStep;

    const KIND: &'static str = "snapshot_together";
    const DEADLINE: Duration = Duration::from_secs(3600);

    async fn run(&self, step: TogetherStep, ids: &mut Vec<SnapshotId>, run: &Run) -> Result<Next<TogetherStep>> {
        match step {
            TogetherStep::Make => {
                for (backend, disks) in self.points(ids).await? {
                    let pairs: Vec<_> = disks.iter().map(|(disk, name)| (disk.as_str(), name.as_str())).collect();
                    self.0.backend(&backend)?.pool.snapshot_together(&pairs).await?;
                }
                Ok(Next::Go(TogetherStep::Finish))
            }
            TogetherStep::Finish => {
                self.end(ids, SnapshotStatus::Available, run).await?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: TogetherStep, ids: &mut Vec<SnapshotId>, _: &Run) -> Result<()> {
        if step != TogetherStep::Make {
            return Ok(());
        }
        for (backend, disks) in self.points(ids).await? {
            let pool = self.0.backend(&backend)?.pool.clone();
            for (disk, snapshot) in disks {
                match pool.remove_snapshot(&disk, &snapshot).await {
                    Err(error) if error.is(Kind::NotFound) => {}
                    removed => removed?,
                }
            }
        }
        Ok(())
    }

    async fn failed(&self, ids: &mut Vec<SnapshotId>, error: &Error, run: &Run) -> Result<()> {
        tracing::warn!(snapshots = ids.len(), "snapshots of one point failed: {}", error.for_log());
        self.end(ids, SnapshotStatus::Error, run).await
    }
}
