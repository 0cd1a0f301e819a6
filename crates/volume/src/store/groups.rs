//! Rows of groups.

use std::str::FromStr;

use umbel_auth::Visible;
use umbel_core::{Error, Generation, Id, Result, Timestamp};
use umbel_db::{Row, Sql, Tx, args};

use super::Volume;
use super::group_snapshots::GroupSnapshotId;
use super::group_types::GroupTypeId;
use super::pages::{self, Page};
use super::types::VolumeTypeId;

pub type GroupId = Id<Group>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupStatus {
    Creating,
    Available,
    InUse,
    Updating,
    Deleting,
    Deleted,
    Error,
    ErrorDeleting,
}

impl GroupStatus {
    const ALL: [GroupStatus; 8] = [
        GroupStatus::Creating,
        GroupStatus::Available,
        GroupStatus::InUse,
        GroupStatus::Updating,
        GroupStatus::Deleting,
        GroupStatus::Deleted,
        GroupStatus::Error,
        GroupStatus::ErrorDeleting,
    ];

    pub fn name(self) -> &'static str {
        match self {
            GroupStatus::Creating => "creating",
            GroupStatus::Available => "available",
            GroupStatus::InUse => "in-use",
            GroupStatus::Updating => "updating",
            GroupStatus::Deleting => "deleting",
            GroupStatus::Deleted => "deleted",
            GroupStatus::Error => "error",
            GroupStatus::ErrorDeleting => "error_deleting",
        }
    }
}

impl FromStr for GroupStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|status| status.name() == text).ok_or_else(|| {
            let valid: Vec<_> = Self::ALL.iter().map(|status| status.name()).collect();
            Error::bad_request(format!("Group status: {text} is invalid, valid status are: {}.", valid.join(", ")))
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    pub generation: Generation,
    pub project_id: String,
    pub user_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub status: GroupStatus,
    pub group_type_id: GroupTypeId,
    pub availability_zone: String,
    /// All its volumes are in this backend: only within one can they be snapshotted together.
    pub backend: String,
    pub source_group_id: Option<GroupId>,
    pub group_snapshot_id: Option<GroupSnapshotId>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

/// Which ones, in which order.
pub type GroupFilter = Page;

const SELECT: &str = "SELECT id, generation, project_id, user_id, name, description, status, group_type_id, \
    availability_zone, backend, source_group_id, group_snapshot_id, created_at, updated_at FROM volume_groups \
    WHERE 1 = 1";

pub async fn insert(tx: &mut Tx<Volume>, new: &Group, types: &[VolumeTypeId]) -> Result<()> {
    let sql = "INSERT INTO volume_groups (id, generation, project_id, user_id, name, description, status, \
        group_type_id, availability_zone, backend, source_group_id, group_snapshot_id, created_at, updated_at) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = args![
        new.id,
        new.generation,
        &new.project_id,
        &new.user_id,
        &new.name,
        &new.description,
        new.status.name(),
        new.group_type_id,
        &new.availability_zone,
        &new.backend,
        new.source_group_id,
        new.group_snapshot_id,
        new.created_at,
        new.updated_at,
    ];
    tx.execute(sql, values).await?;
    for of in types {
        let sql = "INSERT IGNORE INTO volume_group_types (group_id, volume_type_id) VALUES (?, ?)";
        tx.execute(sql, args![new.id, *of]).await?;
    }
    Ok(())
}

pub async fn get(tx: &mut Tx<Volume>, visible: &Visible, id: GroupId) -> Result<Option<Group>> {
    pages::one(tx, SELECT, visible, id, read).await
}

/// As [`get`], held against other changes until the transaction ends.
pub async fn lock(tx: &mut Tx<Volume>, visible: &Visible, id: GroupId) -> Result<Option<Group>> {
    pages::held(tx, SELECT, visible, id, read).await
}

/// Writes name, description and status. Fails as busy if another came before.
pub async fn update(tx: &mut Tx<Volume>, before: &Group, after: &Group, now: Timestamp) -> Result<()> {
    let sql = "UPDATE volume_groups SET generation = ?, name = ?, description = ?, status = ?, updated_at = ? \
        WHERE id = ? AND generation = ?";
    let values = args![
        before.generation.next(),
        &after.name,
        &after.description,
        after.status.name(),
        now,
        before.id,
        before.generation,
    ];
    tx.compare_and_swap(sql, values).await
}

pub async fn forget(tx: &mut Tx<Volume>, id: GroupId) -> Result<()> {
    tx.execute("DELETE FROM volume_group_types WHERE group_id = ?", args![id]).await?;
    tx.execute("DELETE FROM volume_groups WHERE id = ?", args![id]).await?;
    Ok(())
}

/// A page, and whether another follows.
pub async fn list(tx: &mut Tx<Volume>, visible: &Visible, filter: &GroupFilter) -> Result<(Vec<Group>, bool)> {
    pages::paged(tx, (SELECT, "volume_groups"), visible, filter, read).await
}

/// The types that volumes of these groups may have, as pairs.
pub async fn types(tx: &mut Tx<Volume>, groups: &[GroupId]) -> Result<Vec<(GroupId, VolumeTypeId)>> {
    let sql =
        Sql::new("SELECT group_id, volume_type_id FROM volume_group_types").and_in("group_id", groups.iter().copied());
    let rows = tx.select(sql.push("ORDER BY group_id, volume_type_id")).await?;
    rows.iter().map(|row| Ok((row.id("group_id")?, row.id("volume_type_id")?))).collect()
}

/// Whether a group is being made from this one, or from this snapshot.
pub async fn is_source(tx: &mut Tx<Volume>, column: Source, id: &str) -> Result<bool> {
    let column = match column {
        Source::Group => "source_group_id",
        Source::Snapshot => "group_snapshot_id",
    };
    let sql = format!("SELECT id FROM volume_groups WHERE {column} = ? AND status = 'creating' LIMIT 1");
    Ok(tx.fetch_opt(&sql, args![id]).await?.is_some())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Group,
    Snapshot,
}

fn read(row: &Row) -> Result<Group> {
    Ok(Group {
        id: row.id("id")?,
        generation: row.generation("generation")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        name: row.opt_text("name")?,
        description: row.opt_text("description")?,
        status: row.text("status")?.parse().map_err(|error: Error| Error::internal(error.message().to_owned()))?,
        group_type_id: row.id("group_type_id")?,
        availability_zone: row.text("availability_zone")?,
        backend: row.text("backend")?,
        source_group_id: row.opt_id("source_group_id")?,
        group_snapshot_id: row.opt_id("group_snapshot_id")?,
        created_at: row.time("created_at")?,
        updated_at: row.opt_time("updated_at")?,
    })
}
