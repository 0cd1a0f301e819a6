//! The flow that brings a backup's content into a volume. It goes by the volume's id, so that the volume's deletion waits
//! for it.
//!
//! A step that runs again writes everything again: the chunks are the same, and where an old content is written over the
//! zeros between them too.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_auth::Visible;
use umbel_core::{Error, Kind, Result};
use umbel_db::{read, tx};
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use super::backup_work::{gone, watched};
use super::create::{BUSY, Source};
use super::start::{Meter, held, is_awaited};
use crate::Volumes;
use crate::backup::writes;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::service::messages;
use crate::store::backups::{self, Backup, BackupId, BackupStatus};
use crate::store::metadata::{self, Kind as Whose};
use crate::store::{Volume, volumes};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestoreStep {
    /// Chooses a backend for a new volume.
    Place,
    /// Makes the disk of a new volume.
    Make,
    Copy,
    Finish,
}

impl Step for RestoreStep {
    const ALL: &'static [Self] = &[RestoreStep::Place, RestoreStep::Make, RestoreStep::Copy, RestoreStep::Finish];

    fn name(self) -> &'static str {
        match self {
            RestoreStep::Place => "place",
            RestoreStep::Make => "make",
            RestoreStep::Copy => "copy",
            RestoreStep::Finish => "finish",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RestoreState {
    pub backup_id: BackupId,
    pub volume_id: VolumeId,
    /// The volume is made for this.
    pub fresh: bool,
    /// It takes the name and the description of the one that was backed up.
    pub rename: bool,
}

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(BackupRestore(state.clone()))
}

pub(crate) struct BackupRestore(pub Arc<Volumes>);

#[async_trait]
impl Flow for BackupRestore {
    type Schema = Volume;
    type State = RestoreState;
    type Step = RestoreStep;

    const KIND: &'static str = "backup_restore";
    const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3_600);

    async fn run(&self, step: RestoreStep, state: &mut RestoreState, run: &Run) -> Result<Next<RestoreStep>> {
        let (row, backup) = self.rows(state).await?;
        match step {
            RestoreStep::Place => {
                self.0.place(&row, &Source::Nothing).await?;
                Ok(Next::Go(RestoreStep::Make))
            }
            RestoreStep::Make => {
                if state.fresh {
                    self.make(&row).await?;
                } else if tx!(self.0.db, "look for clones", |tx| is_awaited(tx, row.id).await)? {
                    return Ok(Next::Wait(BUSY));
                }
                Ok(Next::Go(RestoreStep::Copy))
            }
            RestoreStep::Copy => self.copy(state, &row, &backup).await,
            RestoreStep::Finish => {
                self.finish(state, run).await?;
                tracing::info!(backup = %state.backup_id, volume = %state.volume_id, "a backup is restored");
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: RestoreStep, state: &mut RestoreState, _run: &Run) -> Result<()> {
        if step != RestoreStep::Make || !state.fresh {
            return Ok(());
        }
        let id = state.volume_id;
        let row = read!(self.0.db, "look at a restored volume", |tx| volumes::get_any(tx, id).await)?;
        match row {
            Some(row) if row.backend.is_some() => self.0.pool_of(&row)?.remove(&row.disk).await.map(drop),
            _ => Ok(()),
        }
    }

    async fn failed(&self, state: &mut RestoreState, error: &Error, run: &Run) -> Result<()> {
        let service = &self.0;
        let now = service.clock.now();
        tracing::warn!(backup = %state.backup_id, volume = %state.volume_id, "a restore failed: {}", error.for_log());
        tx!(service.db, "fail a restore", |tx| {
            finish(tx, run).await?;
            release(tx, state.backup_id, now).await?;
            let Some(row) = volumes::lock_any(tx, state.volume_id).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            let status = if state.fresh { VolumeStatus::Error } else { VolumeStatus::ErrorRestoring };
            let after = VolumeRow { status, error: Some(error.message().to_owned()), progress: None, ..row.clone() };
            volumes::update(tx, &row, &after, now).await?;
            let what = (messages::BACKUP_RESTORE, messages::RESTORE_FAILED);
            crate::service::tell(tx, service, &row, what, (error, &run.request_id)).await
        })
    }
}

impl BackupRestore {
    async fn rows(&self, state: &RestoreState) -> Result<(VolumeRow, Backup)> {
        tx!(self.0.db, "look at a restore", |tx| {
            let row = held(tx, state.volume_id).await?;
            let backup = backups::get(tx, &Visible::All, state.backup_id).await?.ok_or_else(gone)?;
            Ok((row, backup))
        })
    }

    async fn make(&self, row: &VolumeRow) -> Result<()> {
        let name = row.backend.as_deref().ok_or_else(|| Error::internal("a volume was not placed"))?;
        let backend = self.0.backend(name)?;
        match backend.pool.create(&row.disk, row.size_bytes()).await {
            // This step has run before: the name is the volume's id.
            Err(error) if error.is(Kind::Conflict) => {}
            made => made?,
        }
        self.0.limit_new(row, backend).await
    }

    async fn copy(&self, state: &RestoreState, row: &VolumeRow, backup: &Backup) -> Result<Next<RestoreStep>> {
        if backup.status != BackupStatus::Restoring {
            return Err(gone());
        }
        let _turn = self.0.backup_turns.acquire().await.map_err(Error::internal)?;
        let chunks = self.0.backups.get(&backup.target)?.read(&backup.data).await?;
        let chunks = watched(&self.0, chunks, backup);
        let meter = Meter::start(&self.0, row.id, row.size_bytes());
        let changes = writes(chunks, row.size_bytes(), !state.fresh);
        self.0.pool_of(row)?.patch(&row.disk, changes, meter.progress()).await?;
        Ok(Next::Go(RestoreStep::Finish))
    }

    /// The volume is what was backed up, with its metadata.
    async fn finish(&self, state: &RestoreState, run: &Run) -> Result<()> {
        let now = self.0.clock.now();
        tx!(self.0.db, "finish a restore", |tx| {
            finish(tx, run).await?;
            let row = held(tx, state.volume_id).await?;
            let Some(backup) = backups::get(tx, &Visible::All, state.backup_id).await? else {
                return Err(gone());
            };
            release(tx, state.backup_id, now).await?;
            let origin = &backup.origin;
            let mut after = row.clone();
            (after.error, after.progress) = (None, None);
            after.status = VolumeStatus::Available;
            after.bootable = origin.bootable;
            if state.fresh {
                after.launched_at = Some(now);
            }
            if state.rename {
                after.name = origin.name.clone().or(after.name);
                after.description = origin.description.clone().or(after.description);
            }
            after.metadata.extend(origin.metadata.clone());
            metadata::set_volume(tx, row.id, Whose::User, &after.metadata).await?;
            metadata::set_volume(tx, row.id, Whose::Image, &origin.image_metadata).await?;
            volumes::update(tx, &row, &after, now).await.map(drop)
        })
    }
}

/// The backup can be used again, unless something else was made of it meanwhile.
async fn release(tx: &mut umbel_db::Tx<Volume>, id: BackupId, now: umbel_core::Timestamp) -> Result<()> {
    match backups::lock(tx, &Visible::All, id).await? {
        Some(before) if before.status == BackupStatus::Restoring => {
            let after = Backup { status: BackupStatus::Available, progress: None, ..before.clone() };
            backups::update(tx, &before, &after, now).await
        }
        _ => Ok(()),
    }
}
