//! The flow that makes a group from another: a point in time of all source volumes, then the creation of each volume by its
//! own flow, then the group is there.
//!
//! The snapshots bear the names that the volumes' own flows would give them. Those flows find them made, clone them and
//! remove them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_auth::Visible;
use umbel_core::{Error, Kind, Result};
use umbel_db::{read, tx};
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish, pending};

use super::create::{Create, CreateFlow, CreateStep, Source};
use super::start::start;
use crate::Volumes;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::store::groups::{self, Group, GroupId, GroupStatus};
use crate::store::{Volume, volumes};

/// How soon it looks again whether the volumes are there.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupCreateStep {
    Snapshot,
    Start,
    Wait,
}

impl Step for GroupCreateStep {
    const ALL: &'static [Self] = &[GroupCreateStep::Snapshot, GroupCreateStep::Start, GroupCreateStep::Wait];

    fn name(self) -> &'static str {
        match self {
            GroupCreateStep::Snapshot => "snapshot",
            GroupCreateStep::Start => "start",
            GroupCreateStep::Wait => "wait",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GroupState {
    pub group_id: GroupId,
    pub backend: String,
    pub copies: Vec<Copy>,
}

/// A volume that is made, and from what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Copy {
    pub volume: VolumeId,
    pub source: Source,
}

pub(crate) struct GroupCreate(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(GroupCreate(state.clone()))
}

impl GroupState {
    fn points(&self) -> Vec<(&str, &str)> {
        let points = self.copies.iter().filter_map(|copy| match &copy.source {
            Source::Disk { disk, snapshot, made: true, .. } => Some((disk.as_str(), snapshot.as_str())),
            _ => None,
        });
        points.collect()
    }
}

#[async_trait]
impl Flow for GroupCreate {
    type Schema = Volume;
    type State = GroupState;
    type Step = GroupCreateStep;

    const KIND: &'static str = "group_create";
    const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

    async fn run(&self, step: GroupCreateStep, state: &mut GroupState, run: &Run) -> Result<Next<GroupCreateStep>> {
        match step {
            GroupCreateStep::Snapshot => {
                self.0.backend(&state.backend)?.pool.snapshot_together(&state.points()).await?;
                Ok(Next::Go(GroupCreateStep::Start))
            }
            GroupCreateStep::Start => {
                self.start_all(state, run).await?;
                Ok(Next::Go(GroupCreateStep::Wait))
            }
            GroupCreateStep::Wait => self.wait(state, run).await,
        }
    }

    /// Volumes whose flows have begun are theirs.
    async fn undo(&self, step: GroupCreateStep, state: &mut GroupState, _run: &Run) -> Result<()> {
        if step != GroupCreateStep::Snapshot {
            return Ok(());
        }
        self.drop_points(state).await
    }

    async fn failed(&self, state: &mut GroupState, error: &Error, run: &Run) -> Result<()> {
        tracing::warn!(group = %state.group_id, "a group was not made: {}", error.for_log());
        let now = self.0.clock.now();
        tx!(self.0.db, "fail a group's volumes", |tx| {
            for copy in &state.copies {
                let row = volumes::lock_any(tx, copy.volume).await?.filter(|row| !row.deleted);
                let Some(row) = row.filter(|row| row.status == VolumeStatus::Creating) else {
                    continue;
                };
                if pending(tx, CreateFlow::KIND, &copy.volume.to_string()).await? {
                    continue;
                }
                let after =
                    VolumeRow { status: VolumeStatus::Error, error: Some(error.message().to_owned()), ..row.clone() };
                volumes::update(tx, &row, &after, now).await?;
            }
            Ok(())
        })?;
        self.end(state.group_id, GroupStatus::Error, run).await
    }
}

impl GroupCreate {
    /// The volumes' own flows remove theirs, but those that were deleted before they began.
    async fn drop_points(&self, state: &GroupState) -> Result<()> {
        let pool = &self.0.backend(&state.backend)?.pool;
        for (disk, snapshot) in state.points() {
            match pool.remove_snapshot(disk, snapshot).await {
                Err(error) if error.is(Kind::NotFound) => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    async fn start_all(&self, state: &GroupState, run: &Run) -> Result<()> {
        let now = self.0.clock.now();
        tx!(self.0.db, "create a group's volumes", |tx| {
            for copy in &state.copies {
                let row = volumes::get_any(tx, copy.volume).await?;
                // Once made, it is not made again when this step is.
                if !row.is_some_and(|row| !row.deleted && row.status == VolumeStatus::Creating) {
                    continue;
                }
                let source = copy.source.clone();
                let of = Create { volume: copy.volume, source, backend: None, deep: false, copying: false };
                start::<CreateFlow>(tx, copy.volume, CreateStep::Place, &of, &run.request_id, now).await?;
            }
            Ok(())
        })?;
        self.0.nudge();
        Ok(())
    }

    async fn wait(&self, state: &GroupState, run: &Run) -> Result<Next<GroupCreateStep>> {
        let rows = read!(self.0.db, "look at a group's volumes", |tx| {
            let mut rows = Vec::with_capacity(state.copies.len());
            for copy in &state.copies {
                let busy = pending(tx, CreateFlow::KIND, &copy.volume.to_string()).await?;
                rows.push((busy, volumes::get_any(tx, copy.volume).await?));
            }
            Ok(rows)
        })?;
        if rows.iter().any(|(busy, _)| *busy) {
            return Ok(Next::Wait(PAUSE));
        }
        self.drop_points(state).await?;
        let failed = rows.iter().any(|(_, row)| row.as_ref().is_some_and(|row| row.status == VolumeStatus::Error));
        self.end(state.group_id, if failed { GroupStatus::Error } else { GroupStatus::Available }, run).await?;
        Ok(Next::Done)
    }

    async fn end(&self, id: GroupId, status: GroupStatus, run: &Run) -> Result<()> {
        let now = self.0.clock.now();
        tx!(self.0.db, "end a group's creation", |tx| {
            finish(tx, run).await?;
            match groups::lock(tx, &Visible::All, id).await? {
                Some(before) if before.status == GroupStatus::Creating => {
                    groups::update(tx, &before, &Group { status, ..before.clone() }, now).await
                }
                _ => Ok(()),
            }
        })
    }
}
