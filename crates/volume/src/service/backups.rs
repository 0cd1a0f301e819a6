//! Backups: lists, changes, deletion, and records for other clouds.

use std::collections::BTreeMap;
use std::fmt::Display;

use umbel_auth::Visible;
use umbel_core::{Error, Result};
use umbel_db::{Tx, read, tx};

use super::Caller;
use crate::Volumes;
use crate::flows::backup_delete;
use crate::store::Volume;
use crate::store::backups::{self, Backup, BackupFilter, BackupId, BackupStatus};

/// 400 with upstream's beginning.
pub(crate) fn invalid_backup(reason: impl Display) -> Error {
    Error::bad_request(format!("Invalid backup: {reason}"))
}

pub(crate) fn backup_not_found(id: impl Display) -> Error {
    Error::not_found(format!("Backup {id} could not be found."))
}

/// A page of backups.
pub(crate) struct BackupPage {
    pub backups: Vec<Backup>,
    pub more: bool,
    /// Those of them that have increments.
    pub with_dependents: Vec<BackupId>,
    pub count: Option<u64>,
}

/// What a backup's owner may change. None: as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackupChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Caller {
    pub(crate) async fn lock_backup(&self, tx: &mut Tx<Volume>, id: BackupId) -> Result<Backup> {
        backups::lock(tx, &self.visible, id).await?.ok_or_else(|| backup_not_found(id))
    }
}

impl Volumes {
    pub(crate) async fn list_backups(
        &self,
        visible: &Visible,
        filter: &BackupFilter,
        with_count: bool,
    ) -> Result<BackupPage> {
        read!(self.db, "list backups", |tx| {
            let (backups, more) = backups::list(tx, visible, filter).await?;
            let ids: Vec<_> = backups.iter().map(|backup| backup.id).collect();
            let with_dependents = backups::with_dependents(tx, &ids).await?;
            let count = match with_count {
                true => Some(backups::count(tx, visible, filter).await?),
                false => None,
            };
            Ok(BackupPage { backups, more, with_dependents, count })
        })
    }

    /// With whether it has increments.
    pub(crate) async fn backup(&self, caller: &Caller, id: BackupId) -> Result<(Backup, bool)> {
        read!(self.db, "show backup", |tx| {
            let backup = backups::get(tx, &caller.visible, id).await?.ok_or_else(|| backup_not_found(id))?;
            let dependents = backups::with_dependents(tx, &[id]).await?;
            Ok((backup, !dependents.is_empty()))
        })
    }

    pub(crate) async fn update_backup(&self, caller: &Caller, id: BackupId, change: &BackupChange) -> Result<Backup> {
        let now = self.clock.now();
        tx!(self.db, "update backup", |tx| {
            let before = caller.lock_backup(tx, id).await?;
            let mut after = before.clone();
            if let Some(name) = &change.name {
                after.name = Some(name.clone());
            }
            if let Some(description) = &change.description {
                after.description = Some(description.clone());
            }
            if let Some(metadata) = &change.metadata {
                after.metadata = metadata.clone();
            }
            backups::update(tx, &before, &after, now).await?;
            Ok(after)
        })
    }

    /// `force`: in whatever status it is. Increments of it are never lost.
    pub(crate) async fn delete_backup(&self, caller: &Caller, id: BackupId, force: bool) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "delete backup", |tx| {
            let before = caller.lock_backup(tx, id).await?;
            if !force && !matches!(before.status, BackupStatus::Available | BackupStatus::Error) {
                return Err(invalid_backup("Backup status must be available or error"));
            }
            if backups::has_dependents(tx, &before).await? {
                return Err(invalid_backup("Incremental backups exist for this backup."));
            }
            let after = Backup { status: BackupStatus::Deleting, progress: None, ..before.clone() };
            backups::update(tx, &before, &after, now).await?;
            backup_delete::start(tx, id, &caller.request_id, now).await
        })?;
        self.nudge();
        Ok(())
    }

    pub(crate) async fn reset_backup_status(&self, caller: &Caller, id: BackupId, status: BackupStatus) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "reset backup status", |tx| {
            let before = caller.lock_backup(tx, id).await?;
            let after = Backup { status, progress: None, ..before.clone() };
            backups::update(tx, &before, &after, now).await
        })
    }
}
