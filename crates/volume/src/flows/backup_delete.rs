//! The flow that deletes a backup: its data, the snapshot of the volume that it kept, its row.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_auth::Visible;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Tx, read, tx};
use umbel_workflow::{Flow, NewFlow, Next, Run, Runner, Step, enqueue, finish, pending};

use super::backup_create::{self, own_snapshot};
use super::backup_restore::BackupRestore;
use super::backup_work::tell;
use crate::Volumes;
use crate::service::messages;
use crate::store::backups::{self, Backup, BackupId, BackupStatus};
use crate::store::{Volume, volumes};

const KIND: &str = "backup_delete";
const DEADLINE: Duration = Duration::from_secs(24 * 3_600);

/// How soon it looks again whether the work that it puts an end to has ended.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeleteStep {
    Data,
    Forget,
}

impl Step for DeleteStep {
    const ALL: &'static [Self] = &[DeleteStep::Data, DeleteStep::Forget];

    fn name(self) -> &'static str {
        match self {
            DeleteStep::Data => "data",
            DeleteStep::Forget => "forget",
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DeleteState {
    backup_id: BackupId,
}

/// Enqueues it with the status `deleting`.
pub(crate) async fn start(tx: &mut Tx<Volume>, id: BackupId, request_id: &str, now: Timestamp) -> Result<()> {
    let flow = NewFlow {
        id: &id.to_string(),
        kind: KIND,
        first_step: DeleteStep::Data.name(),
        state: &DeleteState { backup_id: id },
        request_id,
        now,
        deadline: now.plus(DEADLINE),
    };
    enqueue(tx, flow).await
}

pub(super) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(BackupDelete(state.clone()))
}

struct BackupDelete(Arc<Volumes>);

#[async_trait]
impl Flow for BackupDelete {
    type Schema = Volume;
    type State = DeleteState;
    type Step = DeleteStep;
    const KIND: &'static str = KIND;
    const DEADLINE: Duration = DEADLINE;

    async fn run(&self, step: DeleteStep, state: &mut DeleteState, _run: &Run) -> Result<Next<DeleteStep>> {
        match step {
            DeleteStep::Data => self.data(state.backup_id).await,
            DeleteStep::Forget => {
                tx!(self.0.db, "forget backup", |tx| backups::forget(tx, state.backup_id).await)?;
                Ok(Next::Done)
            }
        }
    }

    /// Nothing that was removed comes back.
    async fn undo(&self, _step: DeleteStep, _state: &mut DeleteState, _run: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, state: &mut DeleteState, error: &Error, run: &Run) -> Result<()> {
        let now = self.0.clock.now();
        tracing::warn!(backup = %state.backup_id, "a backup was not deleted: {}", error.for_log());
        tx!(self.0.db, "fail backup's deletion", |tx| {
            finish(tx, run).await?;
            let Some(before) = backups::lock(tx, &Visible::All, state.backup_id).await? else {
                return Ok(());
            };
            let fail_reason = Some(error.message().to_owned());
            let what = (messages::BACKUP_DELETE, messages::BACKUP_DELETE_FAILED);
            tell(tx, &self.0, &before, what, &run.request_id).await?;
            // Upstream's status: it can be deleted again.
            let after = Backup { status: BackupStatus::Error, fail_reason, ..before.clone() };
            backups::update(tx, &before, &after, now).await
        })
    }
}

impl BackupDelete {
    async fn data(&self, id: BackupId) -> Result<Next<DeleteStep>> {
        let flow = id.to_string();
        let found = read!(self.0.db, "read deleted backup", |tx| {
            let Some(backup) = backups::get(tx, &Visible::All, id).await? else {
                return Ok(None);
            };
            let mut busy = pending(tx, backup_create::KIND, &flow).await?;
            if let Some(volume) = backup.restore_volume_id {
                busy |= pending(tx, BackupRestore::KIND, &volume.to_string()).await?;
            }
            let shared = backups::shares_data(tx, &backup).await?;
            let volume = volumes::get_any(tx, backup.volume_id).await?;
            Ok(Some((busy, shared, volume, backup)))
        })?;
        let Some((busy, shared, volume, backup)) = found else {
            return Ok(Next::Done);
        };
        if busy {
            return Ok(Next::Wait(PAUSE));
        }
        if !shared {
            self.0.backups.get(&backup.target)?.remove(&backup.data).await?;
        }
        if let Some(volume) = volume.filter(|_| backup.own_snapshot) {
            self.0.drop_point(&volume, &own_snapshot(id)).await?;
        }
        Ok(Next::Go(DeleteStep::Forget))
    }
}
