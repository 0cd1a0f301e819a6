//! The flow that makes the snapshots of a group's volumes, all of one point in time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_auth::Visible;
use umbel_core::{Error, Kind, Result};
use umbel_db::{Tx, read, tx};
use umbel_driver::Pool;
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use crate::Volumes;
use crate::model::{SnapshotRow, SnapshotStatus};
use crate::service::group_copies::parts;
use crate::store::group_snapshots::{self, GroupSnapshotId, GroupSnapshotStatus};
use crate::store::{Volume, groups, snapshots, volumes};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupSnapshotStep {
    Make,
    Finish,
}

impl Step for GroupSnapshotStep {
    const ALL: &'static [Self] = &[GroupSnapshotStep::Make, GroupSnapshotStep::Finish];

    fn name(self) -> &'static str {
        match self {
            GroupSnapshotStep::Make => "make",
            GroupSnapshotStep::Finish => "finish",
        }
    }
}

pub(crate) struct GroupSnapshotFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(GroupSnapshotFlow(state.clone()))
}

/// Disks with the names of their snapshots, and their pool.
type Points = (Arc<dyn Pool>, Vec<(String, String)>);

impl GroupSnapshotFlow {
    async fn points(&self, id: GroupSnapshotId) -> Result<Points> {
        let gone = || Error::new(Kind::Gone, format!("GroupSnapshot {id} was deleted."));
        let (backend, disks) = read!(self.0.db, "look at a group snapshot", |tx| {
            let row = group_snapshots::get(tx, &Visible::All, id).await?.ok_or_else(gone)?;
            let group = groups::get(tx, &Visible::All, row.group_id).await?.ok_or_else(gone)?;
            let mut disks = Vec::new();
            for part in parts(tx, id).await? {
                let volume = volumes::get_any(tx, part.volume_id).await?.ok_or_else(gone)?;
                disks.push((volume.disk, part.disk_snapshot));
            }
            Ok((group.backend, disks))
        })?;
        Ok((self.0.backend(&backend)?.pool.clone(), disks))
    }
}

#[async_trait]
impl Flow for GroupSnapshotFlow {
    type Schema = Volume;
    type State = GroupSnapshotId;
    type Step = GroupSnapshotStep;

    const KIND: &'static str = "group_snapshot_create";
    const DEADLINE: Duration = Duration::from_secs(3600);

    async fn run(
        &self,
        step: GroupSnapshotStep,
        id: &mut GroupSnapshotId,
        run: &Run,
    ) -> Result<Next<GroupSnapshotStep>> {
        match step {
            GroupSnapshotStep::Make => {
                let (pool, disks) = self.points(*id).await?;
                let pairs: Vec<_> = disks.iter().map(|(disk, snapshot)| (disk.as_str(), snapshot.as_str())).collect();
                if !pairs.is_empty() {
                    pool.snapshot_together(&pairs).await?;
                }
                Ok(Next::Go(GroupSnapshotStep::Finish))
            }
            GroupSnapshotStep::Finish => {
                self.end(*id, GroupSnapshotStatus::Available, SnapshotStatus::Available, run).await?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: GroupSnapshotStep, id: &mut GroupSnapshotId, _: &Run) -> Result<()> {
        if step != GroupSnapshotStep::Make {
            return Ok(());
        }
        let (pool, disks) = match self.points(*id).await {
            Err(error) if error.is(Kind::Gone) => return Ok(()),
            points => points?,
        };
        for (disk, snapshot) in disks {
            match pool.remove_snapshot(&disk, &snapshot).await {
                Err(error) if error.is(Kind::NotFound) => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    async fn failed(&self, id: &mut GroupSnapshotId, error: &Error, run: &Run) -> Result<()> {
        tracing::warn!(group_snapshot = %id, "a group snapshot failed: {}", error.for_log());
        self.end(*id, GroupSnapshotStatus::Error, SnapshotStatus::Error, run).await
    }
}

impl GroupSnapshotFlow {
    async fn end(
        &self,
        id: GroupSnapshotId,
        status: GroupSnapshotStatus,
        each: SnapshotStatus,
        run: &Run,
    ) -> Result<()> {
        let now = self.0.clock.now();
        tx!(self.0.db, "end a group snapshot", |tx| {
            finish(tx, run).await?;
            let Some(row) = group_snapshots::lock(tx, &Visible::All, id).await? else {
                return Ok(());
            };
            if row.status == GroupSnapshotStatus::Creating {
                group_snapshots::set_status(tx, &row, status, now).await?;
            }
            for part in parts(tx, id).await? {
                end_part(tx, part, each, now).await?;
            }
            Ok(())
        })
    }
}

/// A snapshot that was being made is not any more.
pub(super) async fn end_part(
    tx: &mut Tx<Volume>,
    part: SnapshotRow,
    status: SnapshotStatus,
    now: umbel_core::Timestamp,
) -> Result<()> {
    if part.status != SnapshotStatus::Creating {
        return Ok(());
    }
    let progress = if status == SnapshotStatus::Available { 100 } else { part.progress };
    let after = SnapshotRow { status, progress, ..part.clone() };
    snapshots::update(tx, &part, &after, now).await.map(drop)
}
