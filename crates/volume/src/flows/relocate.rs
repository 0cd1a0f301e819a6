//! A volume's bytes on their way to another pool, by migration or by a change of type.
//!
//! Where the other pool can clone from this one it does, and the clone is made to stand alone, so that nothing is left
//! here; otherwise the bytes are read from a snapshot. Nobody writes to the volume meanwhile: it is attached to nothing,
//! and reservations are refused until the migration ends.
//!
//! The volume changes its pool in one transaction. Up to there the copy is thrown away if anything fails; from there on
//! the old disk is what goes, and the flow does not give up before it has.
//!
//! Volumes that are attached go with their guests: see [`super::live_move`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_core::{Error, Kind, Result};
use umbel_db::tx;
use umbel_driver::WriteOptions;
use umbel_workflow::{Flow, Next, Run, Runner, Step};

use super::create::BUSY;
use super::start::{Meter, held};
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::service::attachments::rest_status;
use crate::service::messages;
use crate::store::{Volume, attachments, snapshots, volumes};
use crate::{Backend, Volumes};

/// How soon the removal of the old disk is tried again.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MoveStep {
    /// Makes the snapshot that is copied.
    Freeze,
    Copy,
    /// From here on the volume is in the other pool.
    Switch,
    /// Takes the old disk away.
    Clear,
}

impl Step for MoveStep {
    const ALL: &'static [Self] = &[MoveStep::Freeze, MoveStep::Copy, MoveStep::Switch, MoveStep::Clear];

    fn name(self) -> &'static str {
        match self {
            MoveStep::Freeze => "freeze",
            MoveStep::Copy => "copy",
            MoveStep::Switch => "switch",
            MoveStep::Clear => "clear",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Move {
    pub volume: VolumeId,
    /// Names of backends.
    pub from: String,
    pub to: String,
    /// The same in both pools.
    pub disk: String,
    /// The type that the volume is to have.
    #[serde(default)]
    pub retype: Option<NewType>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewType {
    pub id: String,
    pub multiattach: bool,
}

impl Move {
    fn snapshot(&self) -> String {
        format!("migrate-{}", self.volume)
    }
}

pub(crate) struct MoveFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(MoveFlow(state.clone()))
}

#[async_trait]
impl Flow for MoveFlow {
    type Schema = Volume;
    type State = Move;
    type Step = MoveStep;

    const KIND: &'static str = "volume_move";

    /// Terabytes over a slow line.
    const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

    async fn run(&self, step: MoveStep, state: &mut Move, _: &Run) -> Result<Next<MoveStep>> {
        let volumes = &self.0;
        match step {
            MoveStep::Freeze => {
                volumes.note_migrating(state.volume).await?;
                volumes.backend(&state.from)?.pool.snapshot(&state.disk, &state.snapshot()).await?;
                Ok(Next::Go(MoveStep::Copy))
            }
            MoveStep::Copy => volumes.copy_moved(state).await,
            MoveStep::Switch => volumes.switch(state).await,
            MoveStep::Clear => match volumes.clear_moved(state).await {
                Ok(()) => Ok(Next::Done),
                // The volume is where it should be: there is no way back, and what is left here is only in the way.
                Err(error) => {
                    tracing::warn!(volume = %state.volume, cause = error.cause(), "an old disk is left: {error}");
                    Ok(Next::Wait(AGAIN))
                }
            },
        }
    }

    async fn undo(&self, step: MoveStep, state: &mut Move, _: &Run) -> Result<()> {
        let volumes = &self.0;
        if volumes.is_moved(state).await? {
            return Ok(());
        }
        match step {
            MoveStep::Freeze => {
                let removed = volumes.backend(&state.from)?.pool.remove_snapshot(&state.disk, &state.snapshot()).await;
                absent_is_fine(removed)
            }
            MoveStep::Copy => volumes.backend(&state.to)?.pool.remove(&state.disk).await.map(drop),
            MoveStep::Switch | MoveStep::Clear => Ok(()),
        }
    }

    async fn failed(&self, state: &mut Move, error: &Error, run: &Run) -> Result<()> {
        let volumes = &self.0;
        if volumes.is_moved(state).await? {
            let from = &state.from;
            tracing::error!(volume = %state.volume, from, cause = error.cause(), "an old disk stays behind: {error}");
            return Ok(());
        }
        let now = volumes.clock.now();
        tx!(volumes.db, "fail a migration", |tx| {
            let Some(row) = volumes::lock_any(tx, state.volume).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            let mut after = row.clone();
            if matches!(row.status, VolumeStatus::Retyping | VolumeStatus::Maintenance) {
                after.status = rest_status(tx, row.id).await?;
            }
            (after.previous_status, after.progress) = (None, None);
            after.migration_status = Some("error".to_owned());
            volumes::update(tx, &row, &after, now).await?;
            let what = (messages::SCHEDULE, messages::UNKNOWN);
            crate::service::tell(tx, volumes, &row, what, (error, &run.request_id)).await
        })
    }
}

fn absent_is_fine(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.is(Kind::NotFound) => Ok(()),
        other => other,
    }
}

impl Volumes {
    async fn note_migrating(&self, id: VolumeId) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "begin a migration", |tx| {
            let row = held(tx, id).await?;
            let after = VolumeRow { migration_status: Some("migrating".to_owned()), ..row.clone() };
            volumes::update(tx, &row, &after, now).await.map(drop)
        })
    }

    /// Whether the volume is in the other pool already. One that is deleted is where its row says, too.
    async fn is_moved(&self, state: &Move) -> Result<bool> {
        let row = tx!(self.db, "look at a migration", |tx| volumes::get_any(tx, state.volume).await)?;
        Ok(row.is_some_and(|row| row.backend.as_deref() == Some(state.to.as_str())))
    }

    async fn copy_moved(self: &Arc<Self>, state: &Move) -> Result<Next<MoveStep>> {
        let row = tx!(self.db, "look at a migration", |tx| held(tx, state.volume).await)?;
        let (from, to) = (self.backend(&state.from)?, self.backend(&state.to)?);
        let Ok(_turn) = self.copying.try_acquire() else { return Ok(Next::Wait(BUSY)) };
        // Left by a copy that broke off: nobody but this flow makes a disk of this name there.
        to.pool.remove(&state.disk).await?;
        let at = from.pool.location(&state.disk, &state.snapshot());
        let meter = Meter::start(self, row.id, row.size_bytes());
        if to.pool.can_clone(&at).await.is_ok() {
            to.pool.clone_disk(&at, &state.disk, row.size_bytes()).await?;
            to.pool.flatten(&state.disk, meter.progress()).await?;
        } else {
            let info = from.pool.stat(&state.disk).await?;
            let size = info.ok_or_else(|| Error::not_found(format!("The disk {} is gone.", state.disk)))?.size;
            let data = from.pool.read(&state.disk, Some(&state.snapshot()), 0, size).await?;
            let options = WriteOptions { size: Some(size), min_size: row.size_bytes(), progress: meter.progress() };
            to.pool.write(&state.disk, data, options).await?;
        }
        Ok(Next::Go(MoveStep::Switch))
    }

    /// Waits for what began on the volume meanwhile. Somebody who attached it, or made a snapshot, is served rather than
    /// the migration.
    async fn switch(&self, state: &Move) -> Result<Next<MoveStep>> {
        if self.is_moved(state).await? {
            return Ok(Next::Go(MoveStep::Clear));
        }
        let to = self.backend(&state.to)?;
        let row = tx!(self.db, "look at a migration", |tx| held(tx, state.volume).await)?;
        let size = to.pool.stat(&state.disk).await?.map_or(0, |info| info.size);
        if size < row.size_bytes() {
            to.pool.resize(&state.disk, row.size_bytes()).await?;
        }
        let grown = row.size_gib;
        let now = self.clock.now();
        let switched = tx!(self.db, "switch pools", |tx| {
            let row = held(tx, state.volume).await?;
            if !attachments::of_volume(tx, row.id).await?.is_empty() {
                return Err(Error::conflict(format!("Volume {} was attached while it was moved.", row.id)));
            }
            if !snapshots::of_volume(tx, row.id).await?.is_empty() {
                return Err(Error::conflict(format!("A snapshot of volume {} was made while it was moved.", row.id)));
            }
            let settled =
                matches!(row.status, VolumeStatus::Available | VolumeStatus::Maintenance | VolumeStatus::Retyping);
            // It may have grown since it was looked at.
            if !settled || row.size_gib > grown {
                return Ok(None);
            }
            let mut after = row.clone();
            after.backend = Some(state.to.clone());
            after.status = VolumeStatus::Available;
            after.migration_status = Some("success".to_owned());
            (after.previous_status, after.progress) = (None, None);
            if let Some(new) = &state.retype {
                after.volume_type_id = Some(new.id.clone());
                after.multiattach = new.multiattach;
            }
            volumes::update(tx, &row, &after, now).await.map(Some)
        })?;
        Ok(match switched {
            Some(_) => Next::Go(MoveStep::Clear),
            None => Next::Wait(BUSY),
        })
    }

    async fn clear_moved(&self, state: &Move) -> Result<()> {
        self.limit_moved(state).await?;
        let pool = &self.backend(&state.from)?.pool;
        absent_is_fine(pool.remove_snapshot(&state.disk, &state.snapshot()).await)?;
        pool.remove(&state.disk).await?;
        Ok(())
    }

    /// The limits of its type hold in the new pool too.
    async fn limit_moved(&self, state: &Move) -> Result<()> {
        let row = match tx!(self.db, "look at a migration", |tx| held(tx, state.volume).await) {
            Err(error) if error.is(Kind::Gone) => return Ok(()),
            row => row?,
        };
        let backend: &Backend = self.backend(&state.to)?;
        self.limit_new(&row, backend).await
    }
}
