//! The flow that makes a backup: a point in time of the volume, then a copy of what the target does not have yet.
//!
//! The volume's snapshot of that point is kept for the next increment, and those of earlier backups go. What stays behind
//! if that fails is found with the next backup of the volume, or when the backup is deleted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use umbel_auth::Visible;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Tx, read, tx};
use umbel_driver::Pool;
use umbel_workflow::{Flow, NewFlow, Next, Run, Runner, Step, enqueue, finish};

use super::backup_work::{absent_is_fine, gone, tell, watched};
use crate::Volumes;
use crate::backup::{ChunkStream, changed, read_runs, runs};
use crate::model::{SnapshotRow, SnapshotStatus, VolumeRow, VolumeStatus};
use crate::service::messages;
use crate::store::backups::{self, Backup, BackupId, BackupStatus};
use crate::store::{Volume, snapshots, volumes};

pub(super) const KIND: &str = "backup_create";

/// Copies of large volumes take their time; what is stuck is deleted by its owner.
const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How soon an increment looks again whether the one before it is done.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreateStep {
    Snapshot,
    Copy,
    Finish,
    Trim,
}

impl Step for CreateStep {
    const ALL: &'static [Self] = &[CreateStep::Snapshot, CreateStep::Copy, CreateStep::Finish, CreateStep::Trim];

    fn name(self) -> &'static str {
        match self {
            CreateStep::Snapshot => "snapshot",
            CreateStep::Copy => "copy",
            CreateStep::Finish => "finish",
            CreateStep::Trim => "trim",
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CreateState {
    backup_id: BackupId,
    /// Chunks that the target has of it.
    #[serde(default)]
    objects: u64,
}

/// Enqueues it with the backup's row.
pub(crate) async fn start(tx: &mut Tx<Volume>, backup: &Backup, request_id: &str, now: Timestamp) -> Result<()> {
    let flow = NewFlow {
        id: &backup.id.to_string(),
        kind: KIND,
        first_step: CreateStep::Snapshot.name(),
        state: &CreateState { backup_id: backup.id, objects: 0 },
        request_id,
        now,
        deadline: now.plus(DEADLINE),
    };
    enqueue(tx, flow).await
}

pub(super) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(BackupCreate(state.clone()))
}

struct BackupCreate(Arc<Volumes>);

/// What is copied, and from where.
struct Source {
    backup: Backup,
    volume: VolumeRow,
    /// The snapshot that its owner wants backed up.
    snapshot: Option<SnapshotRow>,
    parent: Option<Backup>,
    pool: Arc<dyn Pool>,
}

impl Source {
    /// The point in time, as the pool calls it.
    fn point(&self) -> String {
        match &self.snapshot {
            Some(snapshot) => snapshot.disk_snapshot.clone(),
            None => own_snapshot(self.backup.id),
        }
    }
}

pub(super) fn own_snapshot(id: BackupId) -> String {
    format!("backup.{id}")
}

#[async_trait]
impl Flow for BackupCreate {
    type Schema = Volume;
    type State = CreateState;
    type Step = CreateStep;
    const KIND: &'static str = KIND;
    const DEADLINE: Duration = DEADLINE;

    async fn run(&self, step: CreateStep, state: &mut CreateState, _run: &Run) -> Result<Next<CreateStep>> {
        match step {
            CreateStep::Snapshot => self.snapshot(state).await,
            CreateStep::Copy => self.copy(state).await,
            CreateStep::Finish => self.finish(state).await,
            CreateStep::Trim => {
                if let Err(error) = self.trim(state.backup_id).await {
                    // The backup is good; only room is lost.
                    tracing::warn!(backup = %state.backup_id, "an old snapshot stays: {}", error.for_log());
                }
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: CreateStep, state: &mut CreateState, _run: &Run) -> Result<()> {
        let Some((backup, volume)) = self.rows(state.backup_id).await? else {
            return Ok(());
        };
        match step {
            CreateStep::Snapshot if backup.snapshot_id.is_none() => match volume {
                Some(volume) => self.0.drop_point(&volume, &own_snapshot(backup.id)).await,
                None => Ok(()),
            },
            CreateStep::Copy => self.0.backups.get(&backup.target)?.remove(&backup.data).await,
            _ => Ok(()),
        }
    }

    async fn failed(&self, state: &mut CreateState, error: &Error, run: &Run) -> Result<()> {
        let now = self.0.clock.now();
        tracing::warn!(backup = %state.backup_id, "a backup failed: {}", error.for_log());
        tx!(self.0.db, "fail backup", |tx| {
            finish(tx, run).await?;
            let Some(before) = backups::lock(tx, &Visible::All, state.backup_id).await? else {
                return Ok(());
            };
            release_source(tx, &before, now).await?;
            let mut after = Backup { source_snapshot: None, own_snapshot: false, progress: None, ..before.clone() };
            // Deleted or reset meanwhile, it keeps that status.
            if before.status == BackupStatus::Creating {
                after.status = BackupStatus::Error;
                after.fail_reason = Some(error.message().to_owned());
                let what = (messages::BACKUP_CREATE, messages::BACKUP_FAILED);
                tell(tx, &self.0, &before, what, &run.request_id).await?;
            }
            backups::update(tx, &before, &after, now).await
        })
    }
}

impl BackupCreate {
    /// The backup, and its volume if that is still there.
    async fn rows(&self, id: BackupId) -> Result<Option<(Backup, Option<VolumeRow>)>> {
        read!(self.0.db, "read backup", |tx| {
            let Some(backup) = backups::get(tx, &Visible::All, id).await? else {
                return Ok(None);
            };
            let volume = volumes::get_any(tx, backup.volume_id).await?;
            Ok(Some((backup, volume)))
        })
    }

    /// `Gone` if nobody wants the backup any more.
    async fn source(&self, id: BackupId) -> Result<Source> {
        let (backup, volume, snapshot, parent) = read!(self.0.db, "read backup source", |tx| {
            let backup = backups::get(tx, &Visible::All, id).await?.ok_or_else(gone)?;
            let volume = volumes::get_any(tx, backup.volume_id).await?.ok_or_else(gone)?;
            let snapshot = match backup.snapshot_id {
                Some(id) => Some(snapshots::get_any(tx, id).await?.ok_or_else(gone)?),
                None => None,
            };
            let parent = match backup.parent_id {
                Some(id) => Some(backups::get(tx, &Visible::All, id).await?.ok_or_else(gone)?),
                None => None,
            };
            Ok((backup, volume, snapshot, parent))
        })?;
        if backup.status != BackupStatus::Creating || volume.deleted {
            return Err(gone());
        }
        let pool = self.0.pool_of(&volume)?;
        Ok(Source { backup, volume, snapshot, parent, pool })
    }

    async fn snapshot(&self, state: &CreateState) -> Result<Next<CreateStep>> {
        let source = self.source(state.backup_id).await?;
        let (point, own) = (source.point(), source.snapshot.is_none());
        if own {
            source.pool.snapshot(&source.volume.disk, &point).await?;
        }
        let now = self.0.clock.now();
        tx!(self.0.db, "note backup's snapshot", |tx| {
            let before = backups::lock(tx, &Visible::All, state.backup_id).await?.ok_or_else(gone)?;
            let after = Backup { source_snapshot: Some(point.clone()), own_snapshot: own, ..before.clone() };
            backups::update(tx, &before, &after, now).await
        })?;
        Ok(Next::Go(CreateStep::Copy))
    }

    async fn copy(&self, state: &mut CreateState) -> Result<Next<CreateStep>> {
        let source = self.source(state.backup_id).await?;
        let wait = read!(self.0.db, "look for earlier increments", |tx| backups::must_wait(tx, &source.backup).await)?;
        if wait {
            return Ok(Next::Wait(PAUSE));
        }
        let _turn = self.0.backup_turns.acquire().await.map_err(Error::internal)?;
        let chunks = self.chunks(&source).await?;
        let chunks = watched(&self.0, chunks, &source.backup);
        state.objects = self.0.backups.get(&source.backup.target)?.store(&source.backup.data, chunks).await?;
        Ok(Next::Go(CreateStep::Finish))
    }

    /// What the target does not have yet.
    async fn chunks(&self, source: &Source) -> Result<ChunkStream> {
        let (disk, point, pool) = (&source.volume.disk, source.point(), &source.pool);
        let info = pool.stat(disk).await?.ok_or_else(gone)?;
        let of_snapshot = source.snapshot.as_ref().map_or(u64::MAX, |one| one.size_gib.saturating_mul(umbel_core::GIB));
        let size = source.backup.data.size.min(info.size).min(of_snapshot);
        let stored = async || {
            let extents = pool.diff(disk, None, Some(&point)).await?;
            let data: Vec<_> = extents.into_iter().filter(|extent| !extent.zero).collect();
            Ok::<_, Error>(read_runs(pool.clone(), disk, &point, size, runs(&data, size)))
        };
        let Some(parent) = &source.parent else {
            let chunks = stored().await?;
            let chunks = chunks.filter(|chunk| std::future::ready(!matches!(chunk, Ok(one) if one.bytes.is_none())));
            return Ok(Box::pin(chunks));
        };
        match parent.source_snapshot.as_ref().filter(|name| info.snapshots.contains(name)) {
            Some(before) => {
                let extents = pool.diff(disk, Some(before), Some(&point)).await?;
                Ok(read_runs(pool.clone(), disk, &point, size, runs(&extents, size)))
            }
            None => {
                tracing::info!(backup = %source.backup.id, parent = %parent.id, "an increment reads the whole volume");
                let before = self.0.backups.get(&parent.target)?.read(&parent.data).await?;
                Ok(changed(stored().await?, before))
            }
        }
    }

    async fn finish(&self, state: &CreateState) -> Result<Next<CreateStep>> {
        let now = self.0.clock.now();
        tx!(self.0.db, "finish backup", |tx| {
            let before = backups::lock(tx, &Visible::All, state.backup_id).await?.ok_or_else(gone)?;
            if before.status == BackupStatus::Available {
                // This step has run before.
                return Ok(());
            }
            if before.status != BackupStatus::Creating {
                return Err(gone());
            }
            release_source(tx, &before, now).await?;
            let status = BackupStatus::Available;
            let after = Backup { status, progress: None, object_count: state.objects, ..before.clone() };
            backups::update(tx, &before, &after, now).await
        })?;
        tracing::info!(backup = %state.backup_id, chunks = state.objects, "a backup is made");
        Ok(Next::Go(CreateStep::Trim))
    }

    /// Removes the snapshots that earlier backups of the volume kept, but for as many as are to stay.
    async fn trim(&self, id: BackupId) -> Result<()> {
        let Some((backup, Some(volume))) = self.rows(id).await? else {
            return Ok(());
        };
        let all = read!(self.0.db, "read backups", |tx| backups::of_volume(tx, &Visible::All, backup.volume_id).await)?;
        let kept = all.into_iter().filter(|one| one.own_snapshot && one.status != BackupStatus::Creating);
        for old in kept.skip(self.0.config.backup.source_snapshots) {
            self.0.drop_point(&volume, &own_snapshot(old.id)).await?;
            let now = self.0.clock.now();
            tx!(self.0.db, "note removed snapshot", |tx| {
                let Some(before) = backups::lock(tx, &Visible::All, old.id).await? else {
                    return Ok(());
                };
                let after = Backup { source_snapshot: None, own_snapshot: false, ..before.clone() };
                backups::update(tx, &before, &after, now).await
            })?;
        }
        Ok(())
    }
}

/// The volume, or its snapshot, is free again.
async fn release_source(tx: &mut Tx<Volume>, backup: &Backup, now: Timestamp) -> Result<()> {
    if let Some(id) = backup.snapshot_id {
        if let Some(snapshot) = snapshots::lock_any(tx, id).await?
            && snapshot.status == SnapshotStatus::BackingUp
        {
            snapshots::set_status(tx, &snapshot, SnapshotStatus::Available, now).await?;
        }
        return Ok(());
    }
    let Some(volume) = volumes::lock_any(tx, backup.volume_id).await? else {
        return Ok(());
    };
    if volume.status == VolumeStatus::BackingUp {
        let previous = volume.previous_status.as_deref().and_then(VolumeStatus::parse);
        let status = previous.unwrap_or(VolumeStatus::Available);
        let after =
            VolumeRow { status, previous_status: Some(VolumeStatus::BackingUp.name().to_owned()), ..volume.clone() };
        volumes::update(tx, &volume, &after, now).await?;
    }
    Ok(())
}

impl Volumes {
    /// The pool that has the volume's disk.
    pub(crate) fn pool_of(&self, volume: &VolumeRow) -> Result<Arc<dyn Pool>> {
        let backend = volume.backend.as_deref().ok_or_else(|| Error::internal("a volume without a backend"))?;
        Ok(self.backend(backend)?.pool.clone())
    }

    /// Removes a snapshot that a backup kept. The volume may be elsewhere by now, or gone.
    pub(super) async fn drop_point(&self, volume: &VolumeRow, snapshot: &str) -> Result<()> {
        if volume.backend.is_none() {
            return Ok(());
        }
        let pool = self.pool_of(volume)?;
        if pool.stat(&volume.disk).await?.is_none() {
            return Ok(());
        }
        absent_is_fine(pool.remove_snapshot(&volume.disk, snapshot).await)
    }
}
