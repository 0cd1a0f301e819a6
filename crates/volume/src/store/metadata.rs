//! Names with values that hang on volumes and snapshots.

use std::collections::BTreeMap;

use umbel_core::Result;
use umbel_db::{Sql, Tx, args};

use super::Volume;
use crate::model::{SnapshotId, VolumeId};

pub type Metadata = BTreeMap<String, String>;

/// Whose metadata of a volume they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    User,
    /// Of the image that the volume was made from.
    Image,
    /// The service's own.
    Admin,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Image => "image",
            Kind::Admin => "admin",
        }
    }
}

/// The beginning of a value, as the index has it.
pub(crate) fn head(value: &str) -> String {
    value.chars().take(128).collect()
}

pub async fn of_volume(tx: &mut Tx<Volume>, id: VolumeId, kind: Kind) -> Result<Metadata> {
    let sql = "SELECT name, value FROM volume_metadata WHERE volume_id = ? AND kind = ?";
    let rows = tx.fetch_all(sql, args![id, kind.name()]).await?;
    rows.iter().map(|row| Ok((row.text("name")?, row.text("value")?))).collect()
}

/// Replaces all of one kind.
pub async fn set_volume(tx: &mut Tx<Volume>, id: VolumeId, kind: Kind, all: &Metadata) -> Result<()> {
    tx.execute("DELETE FROM volume_metadata WHERE volume_id = ? AND kind = ?", args![id, kind.name()]).await?;
    for (name, value) in all {
        let sql = "INSERT INTO volume_metadata (volume_id, kind, name, value, head) VALUES (?, ?, ?, ?, ?)";
        tx.execute(sql, args![id, kind.name(), name, value, head(value)]).await?;
    }
    Ok(())
}

pub async fn of_snapshot(tx: &mut Tx<Volume>, id: SnapshotId) -> Result<Metadata> {
    let rows = tx.fetch_all("SELECT name, value FROM snapshot_metadata WHERE snapshot_id = ?", args![id]).await?;
    rows.iter().map(|row| Ok((row.text("name")?, row.text("value")?))).collect()
}

pub async fn set_snapshot(tx: &mut Tx<Volume>, id: SnapshotId, all: &Metadata) -> Result<()> {
    tx.execute("DELETE FROM snapshot_metadata WHERE snapshot_id = ?", args![id]).await?;
    for (name, value) in all {
        let sql = "INSERT INTO snapshot_metadata (snapshot_id, name, value, head) VALUES (?, ?, ?, ?)";
        tx.execute(sql, args![id, name, value, head(value)]).await?;
    }
    Ok(())
}

/// A condition on `volumes`, with its two arguments: the item is one of a volume's.
pub(crate) fn volume_has(sql: Sql, kind: Kind, name: &str, value: &str) -> Sql {
    let condition = "EXISTS (SELECT 1 FROM volume_metadata m WHERE m.volume_id = volumes.id AND m.kind = ? \
        AND m.name = ? AND m.head = ? AND m.value = ?)";
    sql.and(condition, args![kind.name(), name, head(value), value])
}

pub(crate) fn snapshot_has(sql: Sql, name: &str, value: &str) -> Sql {
    let condition = "EXISTS (SELECT 1 FROM snapshot_metadata m WHERE m.snapshot_id = snapshots.id AND m.name = ? \
        AND m.head = ? AND m.value = ?)";
    sql.and(condition, args![name, head(value), value])
}
