//! Volumes on offer to other projects. An offer ends with its acceptance or withdrawal, and leaves nothing.

use umbel_auth::Visible;
use umbel_core::{Error, Id, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, args};

use super::Volume;
use crate::model::VolumeId;

pub type TransferId = Id<TransferRow>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRow {
    pub id: TransferId,
    pub volume_id: VolumeId,
    pub name: Option<String>,
    pub salt: String,
    /// Hexadecimal.
    pub key_hash: String,
    /// The snapshots stay with the giver.
    pub no_snapshots: bool,
    pub source_project_id: String,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferFilter {
    pub name: Option<String>,
    pub volume_id: Option<String>,
    pub descending: bool,
    pub marker: Option<TransferId>,
    pub limit: usize,
}

const COLUMNS: &str = "SELECT id, volume_id, name, salt, key_hash, no_snapshots, source_project_id, created_at \
    FROM volume_transfers";

fn read(row: &Row) -> Result<TransferRow> {
    Ok(TransferRow {
        id: row.id("id")?,
        volume_id: row.id("volume_id")?,
        name: row.opt_text("name")?,
        salt: row.text("salt")?,
        key_hash: row.text("key_hash")?,
        no_snapshots: row.bool("no_snapshots")?,
        source_project_id: row.text("source_project_id")?,
        created_at: row.time("created_at")?,
    })
}

fn seen(visible: &Visible) -> Sql {
    match visible {
        Visible::All => Sql::new(COLUMNS),
        Visible::Project(project) => Sql::new(COLUMNS).and("source_project_id = ?", args![project]),
    }
}

pub async fn insert(tx: &mut Tx<Volume>, row: &TransferRow) -> Result<()> {
    let sql = "INSERT INTO volume_transfers (id, volume_id, name, salt, key_hash, no_snapshots, source_project_id, \
        created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let values = args![
        row.id,
        row.volume_id,
        row.name.as_deref(),
        &row.salt,
        &row.key_hash,
        row.no_snapshots,
        &row.source_project_id,
        row.created_at
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

pub async fn get(tx: &mut Tx<Volume>, visible: &Visible, id: TransferId) -> Result<Option<TransferRow>> {
    let rows = tx.select(seen(visible).and("id = ?", args![id])).await?;
    rows.first().map(read).transpose()
}

pub async fn list(tx: &mut Tx<Volume>, visible: &Visible, filter: &TransferFilter) -> Result<Vec<TransferRow>> {
    let direction = match filter.descending {
        true => Direction::Desc,
        false => Direction::Asc,
    };
    let order = [("created_at", direction), ("id", direction)];
    let mut sql = seen(visible);
    for (column, value) in [("name", &filter.name), ("volume_id", &filter.volume_id)] {
        if let Some(value) = value {
            sql = sql.and(&format!("{column} = ?"), args![value]);
        }
    }
    if let Some(marker) = filter.marker {
        let missing = || Error::bad_request(format!("Marker {marker} could not be found."));
        let row = get(tx, visible, marker).await?.ok_or_else(missing)?;
        sql = sql.after(&order, &[row.created_at.into(), row.id.into()]);
    }
    let rows = tx.select(sql.order(&order).limit(filter.limit)).await?;
    rows.iter().map(read).collect()
}

/// Whether it was there.
pub async fn delete(tx: &mut Tx<Volume>, id: TransferId) -> Result<bool> {
    Ok(tx.execute("DELETE FROM volume_transfers WHERE id = ?", args![id]).await? > 0)
}

pub async fn delete_of_volume(tx: &mut Tx<Volume>, volume: VolumeId) -> Result<()> {
    tx.execute("DELETE FROM volume_transfers WHERE volume_id = ?", args![volume]).await?;
    Ok(())
}
