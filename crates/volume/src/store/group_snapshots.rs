//! Rows of snapshots of groups. Those of their volumes are in [`super::snapshots`].

use std::str::FromStr;

use umbel_auth::Visible;
use umbel_core::{Error, Generation, Id, Result, Timestamp};
use umbel_db::{Row, Tx, args};

use super::Volume;
use super::group_types::GroupTypeId;
use super::groups::GroupId;
use super::pages::{self, Page};

pub type GroupSnapshotId = Id<GroupSnapshot>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupSnapshotStatus {
    Creating,
    Available,
    Updating,
    Deleting,
    Deleted,
    Error,
    ErrorDeleting,
}

impl GroupSnapshotStatus {
    const ALL: [GroupSnapshotStatus; 7] = [
        GroupSnapshotStatus::Error,
        GroupSnapshotStatus::Available,
        GroupSnapshotStatus::Creating,
        GroupSnapshotStatus::Deleting,
        GroupSnapshotStatus::Deleted,
        GroupSnapshotStatus::Updating,
        GroupSnapshotStatus::ErrorDeleting,
    ];

    pub fn name(self) -> &'static str {
        match self {
            GroupSnapshotStatus::Creating => "creating",
            GroupSnapshotStatus::Available => "available",
            GroupSnapshotStatus::Updating => "updating",
            GroupSnapshotStatus::Deleting => "deleting",
            GroupSnapshotStatus::Deleted => "deleted",
            GroupSnapshotStatus::Error => "error",
            GroupSnapshotStatus::ErrorDeleting => "error_deleting",
        }
    }
}

impl FromStr for GroupSnapshotStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|status| status.name() == text).ok_or_else(|| {
            let valid: Vec<_> = Self::ALL.iter().map(|status| status.name()).collect();
            let valid = valid.join(", ");
            Error::bad_request(format!("Group snapshot status: {text} is invalid, valid statuses are: {valid}."))
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSnapshot {
    pub id: GroupSnapshotId,
    pub generation: Generation,
    pub project_id: String,
    pub user_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub status: GroupSnapshotStatus,
    pub group_id: GroupId,
    pub group_type_id: GroupTypeId,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

/// Which ones, in which order.
pub type GroupSnapshotFilter = Page;

const SELECT: &str = "SELECT id, generation, project_id, user_id, name, description, status, group_id, group_type_id, \
    created_at, updated_at FROM group_snapshots WHERE 1 = 1";

pub async fn insert(tx: &mut Tx<Volume>, new: &GroupSnapshot) -> Result<()> {
    let sql = "INSERT INTO group_snapshots (id, generation, project_id, user_id, name, description, status, group_id, \
        group_type_id, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = args![
        new.id,
        new.generation,
        &new.project_id,
        &new.user_id,
        &new.name,
        &new.description,
        new.status.name(),
        new.group_id,
        new.group_type_id,
        new.created_at,
        new.updated_at,
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

pub async fn get(tx: &mut Tx<Volume>, visible: &Visible, id: GroupSnapshotId) -> Result<Option<GroupSnapshot>> {
    pages::one(tx, SELECT, visible, id, read).await
}

/// As [`get`], held against other changes until the transaction ends.
pub async fn lock(tx: &mut Tx<Volume>, visible: &Visible, id: GroupSnapshotId) -> Result<Option<GroupSnapshot>> {
    pages::held(tx, SELECT, visible, id, read).await
}

/// Fails as busy if another came before.
pub async fn set_status(
    tx: &mut Tx<Volume>,
    row: &GroupSnapshot,
    status: GroupSnapshotStatus,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE group_snapshots SET generation = ?, status = ?, updated_at = ? WHERE id = ? AND generation = ?";
    tx.compare_and_swap(sql, args![row.generation.next(), status.name(), now, row.id, row.generation]).await
}

pub async fn forget(tx: &mut Tx<Volume>, id: GroupSnapshotId) -> Result<()> {
    tx.execute("DELETE FROM group_snapshots WHERE id = ?", args![id]).await?;
    Ok(())
}

/// Whether the group has snapshots.
pub async fn any_of_group(tx: &mut Tx<Volume>, group: GroupId) -> Result<bool> {
    let row = tx.fetch_opt("SELECT id FROM group_snapshots WHERE group_id = ? LIMIT 1", args![group]).await?;
    Ok(row.is_some())
}

/// A page, and whether another follows.
pub async fn list(
    tx: &mut Tx<Volume>,
    visible: &Visible,
    filter: &GroupSnapshotFilter,
) -> Result<(Vec<GroupSnapshot>, bool)> {
    pages::paged(tx, (SELECT, "group_snapshots"), visible, filter, read).await
}

fn read(row: &Row) -> Result<GroupSnapshot> {
    Ok(GroupSnapshot {
        id: row.id("id")?,
        generation: row.generation("generation")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        name: row.opt_text("name")?,
        description: row.opt_text("description")?,
        status: row.text("status")?.parse().map_err(|error: Error| Error::internal(error.message().to_owned()))?,
        group_id: row.id("group_id")?,
        group_type_id: row.id("group_type_id")?,
        created_at: row.time("created_at")?,
        updated_at: row.opt_time("updated_at")?,
    })
}
