//! Rows of backups.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use umbel_auth::Visible;
use umbel_core::{Error, Generation, Id, Result, Timestamp};
use umbel_db::{Row, Sql, Tx, args};

use super::Volume;
use super::pages::{self, Page};
use crate::backup::Data;
use crate::model::{SnapshotId, VolumeId};

pub type BackupId = Id<Backup>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupStatus {
    Creating,
    Available,
    Deleting,
    Restoring,
    Error,
    ErrorDeleting,
}

impl BackupStatus {
    const ALL: [BackupStatus; 6] = [
        BackupStatus::Creating,
        BackupStatus::Available,
        BackupStatus::Deleting,
        BackupStatus::Restoring,
        BackupStatus::Error,
        BackupStatus::ErrorDeleting,
    ];

    pub fn name(self) -> &'static str {
        match self {
            BackupStatus::Creating => "creating",
            BackupStatus::Available => "available",
            BackupStatus::Deleting => "deleting",
            BackupStatus::Restoring => "restoring",
            BackupStatus::Error => "error",
            BackupStatus::ErrorDeleting => "error_deleting",
        }
    }
}

impl FromStr for BackupStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|status| status.name() == text);
        known.ok_or_else(|| Error::bad_request(format!("'{text}' is not the status of a backup.")))
    }
}

/// What the volume was, for the one that a restore makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    pub name: Option<String>,
    pub description: Option<String>,
    pub volume_type: Option<String>,
    pub bootable: bool,
    pub metadata: BTreeMap<String, String>,
    pub image_metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub id: BackupId,
    pub generation: Generation,
    pub project_id: String,
    pub user_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub status: BackupStatus,
    pub fail_reason: Option<String>,
    pub volume_id: VolumeId,
    /// Of the volume.
    pub size_gib: u64,
    /// The snapshot it was made of, if its owner asked for that.
    pub snapshot_id: Option<SnapshotId>,
    /// The backup that it is an increment of.
    pub parent_id: Option<BackupId>,
    pub container: Option<String>,
    pub availability_zone: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub origin: Origin,
    /// Chunks stored.
    pub object_count: u64,
    /// Percent, of the backup or the restore under way.
    pub progress: Option<u64>,
    /// Name of the place of its data.
    pub target: String,
    pub data: Data,
    /// What the next increment is compared with, in the volume's pool.
    pub source_snapshot: Option<String>,
    /// The backup made that snapshot, and removes it.
    pub own_snapshot: bool,
    pub restore_volume_id: Option<VolumeId>,
    /// The moment whose data it holds.
    pub data_timestamp: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

/// Which backups, in which order.
pub type BackupFilter = Page;

const SELECT: &str = "SELECT id, generation, project_id, user_id, name, description, status, fail_reason, volume_id, \
    size_gib, snapshot_id, parent_id, container, availability_zone, metadata, origin, object_count, progress, target, \
    data_id, data_volume, data_base, data_parent, source_snapshot, own_snapshot, restore_volume_id, data_timestamp, \
    created_at, updated_at FROM backups WHERE 1 = 1";

pub async fn insert(tx: &mut Tx<Volume>, new: &Backup) -> Result<()> {
    let sql = "INSERT INTO backups (id, generation, project_id, user_id, name, description, status, fail_reason, \
        volume_id, size_gib, snapshot_id, parent_id, container, availability_zone, metadata, origin, object_count, \
        progress, target, data_id, data_volume, data_base, data_parent, source_snapshot, own_snapshot, \
        restore_volume_id, data_timestamp, created_at, updated_at) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = args![
        new.id,
        new.generation,
        &new.project_id,
        &new.user_id,
        &new.name,
        &new.description,
        new.status.name(),
        &new.fail_reason,
        new.volume_id,
        new.size_gib,
        new.snapshot_id,
        new.parent_id,
        &new.container,
        &new.availability_zone,
        json(&new.metadata)?,
        json(&new.origin)?,
        new.object_count,
        new.progress,
        &new.target,
        &new.data.id,
        &new.data.volume,
        &new.data.base,
        &new.data.parent,
        &new.source_snapshot,
        new.own_snapshot,
        new.restore_volume_id,
        new.data_timestamp,
        new.created_at,
        new.updated_at,
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

pub async fn get(tx: &mut Tx<Volume>, visible: &Visible, id: BackupId) -> Result<Option<Backup>> {
    pages::one(tx, SELECT, visible, id, read).await
}

/// As [`get`], held against other changes until the transaction ends.
pub async fn lock(tx: &mut Tx<Volume>, visible: &Visible, id: BackupId) -> Result<Option<Backup>> {
    pages::held(tx, SELECT, visible, id, read).await
}

/// Writes what can change. Fails as busy if another came before.
pub async fn update(tx: &mut Tx<Volume>, before: &Backup, after: &Backup, now: Timestamp) -> Result<()> {
    let sql = "UPDATE backups SET generation = ?, name = ?, description = ?, status = ?, fail_reason = ?, metadata = ?, \
        object_count = ?, progress = ?, source_snapshot = ?, own_snapshot = ?, restore_volume_id = ?, updated_at = ? \
        WHERE id = ? AND generation = ?";
    let values = args![
        before.generation.next(),
        &after.name,
        &after.description,
        after.status.name(),
        &after.fail_reason,
        json(&after.metadata)?,
        after.object_count,
        after.progress,
        &after.source_snapshot,
        after.own_snapshot,
        after.restore_volume_id,
        now,
        before.id,
        before.generation,
    ];
    tx.compare_and_swap(sql, values).await
}

/// How far the work on a backup is. False if it is not in this status any more: then the work is not wanted.
pub async fn note_progress(
    tx: &mut Tx<Volume>,
    id: BackupId,
    status: BackupStatus,
    percent: u64,
    objects: Option<u64>,
) -> Result<bool> {
    let sql = "UPDATE backups SET progress = ?, object_count = COALESCE(?, object_count) WHERE id = ? AND status = ?";
    Ok(tx.execute(sql, args![percent, objects, id, status.name()]).await? > 0)
}

pub async fn forget(tx: &mut Tx<Volume>, id: BackupId) -> Result<()> {
    tx.execute("DELETE FROM backups WHERE id = ?", args![id]).await?;
    Ok(())
}

/// A page, and whether another follows. The marker is an id that the caller sees, or 400.
pub async fn list(tx: &mut Tx<Volume>, visible: &Visible, filter: &BackupFilter) -> Result<(Vec<Backup>, bool)> {
    pages::paged(tx, (SELECT, "backups"), visible, filter, read).await
}

/// How many there are on all pages.
pub async fn count(tx: &mut Tx<Volume>, visible: &Visible, filter: &BackupFilter) -> Result<u64> {
    let sql = pages::filtered("SELECT COUNT(*) AS number FROM backups WHERE 1 = 1", visible, filter);
    tx.select(sql).await?.first().map_or(Ok(0), |row| row.uint("number"))
}

/// All backups of a volume that a project has, newest data first.
pub async fn of_volume(tx: &mut Tx<Volume>, visible: &Visible, volume: VolumeId) -> Result<Vec<Backup>> {
    let sql = pages::seen(Sql::new(SELECT).and("volume_id = ?", args![volume]), visible);
    let rows = tx.select(sql.push("ORDER BY data_timestamp DESC, created_at DESC, id DESC")).await?;
    rows.iter().map(read).collect()
}

/// Those of these backups that have increments.
pub async fn with_dependents(tx: &mut Tx<Volume>, ids: &[BackupId]) -> Result<Vec<BackupId>> {
    let sql = Sql::new("SELECT DISTINCT parent_id FROM backups").and_in("parent_id", ids.iter().copied());
    tx.select(sql).await?.iter().map(|row| row.id("parent_id")).collect()
}

/// Whether another backup has the same data and keeps it.
pub async fn shares_data(tx: &mut Tx<Volume>, backup: &Backup) -> Result<bool> {
    let sql = "SELECT id FROM backups WHERE target = ? AND data_id = ? AND id <> ? AND status <> 'deleting' LIMIT 1";
    Ok(tx.fetch_opt(sql, args![&backup.target, &backup.data.id, backup.id]).await?.is_some())
}

/// Whether another backup is deleted that has the same data, or may have them gone already.
pub async fn is_leaving(tx: &mut Tx<Volume>, backup: &Backup) -> Result<bool> {
    let sql = "SELECT id FROM backups WHERE target = ? AND data_id = ? AND status = 'deleting' LIMIT 1";
    Ok(tx.fetch_opt(sql, args![&backup.target, &backup.data.id]).await?.is_some())
}

/// Whether there are increments of it. Imported ones may know its data and not itself; those have what they need as long
/// as another backup has the same data.
pub async fn has_dependents(tx: &mut Tx<Volume>, backup: &Backup) -> Result<bool> {
    if !with_dependents(tx, &[backup.id]).await?.is_empty() {
        return Ok(true);
    }
    if shares_data(tx, backup).await? {
        return Ok(false);
    }
    let sql = "SELECT id FROM backups WHERE target = ? AND data_parent = ? AND id <> ? LIMIT 1";
    Ok(tx.fetch_opt(sql, args![&backup.target, &backup.data.id, backup.id]).await?.is_some())
}

/// Whether an older backup of the same chain is still being made: increments of one chain are stored one by one.
pub async fn must_wait(tx: &mut Tx<Volume>, backup: &Backup) -> Result<bool> {
    let sql = "SELECT id FROM backups WHERE target = ? AND data_base = ? AND status = 'creating' \
        AND (created_at < ? OR (created_at = ? AND id < ?)) LIMIT 1";
    let at = backup.created_at;
    let row = tx.fetch_opt(sql, args![&backup.target, &backup.data.base, at, at, backup.id]).await?;
    Ok(row.is_some())
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::internal(error).because("a backup's row"))
}

fn read(row: &Row) -> Result<Backup> {
    let size_gib = row.uint("size_gib")?;
    Ok(Backup {
        id: row.id("id")?,
        generation: row.generation("generation")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        name: row.opt_text("name")?,
        description: row.opt_text("description")?,
        status: row.text("status")?.parse().map_err(|error: Error| Error::internal(error.message().to_owned()))?,
        fail_reason: row.opt_text("fail_reason")?,
        volume_id: row.id("volume_id")?,
        size_gib,
        snapshot_id: row.opt_id("snapshot_id")?,
        parent_id: row.opt_id("parent_id")?,
        container: row.opt_text("container")?,
        availability_zone: row.opt_text("availability_zone")?,
        metadata: parse(&row.text("metadata")?)?,
        origin: parse(&row.text("origin")?)?,
        object_count: row.uint("object_count")?,
        progress: row.opt_uint("progress")?,
        target: row.text("target")?,
        data: Data {
            id: row.text("data_id")?,
            volume: row.text("data_volume")?,
            base: row.text("data_base")?,
            parent: row.opt_text("data_parent")?,
            size: size_gib.saturating_mul(umbel_core::GIB),
        },
        source_snapshot: row.opt_text("source_snapshot")?,
        own_snapshot: row.bool("own_snapshot")?,
        restore_volume_id: row.opt_id("restore_volume_id")?,
        data_timestamp: row.time("data_timestamp")?,
        created_at: row.time("created_at")?,
        updated_at: row.opt_time("updated_at")?,
    })
}
