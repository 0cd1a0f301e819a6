use std::collections::HashMap;

use umbel_auth::Visible;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, Value, args};

use super::Volume;
use super::metadata::{self, Metadata};
use super::volumes::Condition;
use crate::model::{SnapshotId, SnapshotRow, SnapshotStatus, VolumeId};

const COLUMNS: &str = "SELECT id, generation, project_id, user_id, volume_id, name, description, status, progress, \
    size_gib, volume_type_id, group_snapshot_id, disk_snapshot, use_quota, created_at, updated_at, deleted \
    FROM snapshots";

/// Which snapshots, in which order.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFilter {
    pub conditions: Vec<Condition>,
    pub metadata: Vec<(String, String)>,
    /// Ends with the id.
    pub order: Vec<(&'static str, Direction)>,
    pub marker: Option<SnapshotId>,
    pub offset: usize,
    /// None: all.
    pub limit: Option<usize>,
}

fn sees(sql: Sql, visible: &Visible) -> Sql {
    super::pages::seen(sql.and("deleted = 0", args![]), visible)
}

/// With its metadata.
pub async fn insert(tx: &mut Tx<Volume>, row: &SnapshotRow) -> Result<()> {
    let sql = "INSERT INTO snapshots (id, generation, project_id, user_id, volume_id, name, description, status, \
        progress, size_gib, volume_type_id, group_snapshot_id, disk_snapshot, use_quota, created_at, updated_at, \
        deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = args![
        row.id,
        row.generation,
        &row.project_id,
        &row.user_id,
        row.volume_id,
        &row.name,
        &row.description,
        row.status.name(),
        row.progress,
        row.size_gib,
        &row.volume_type_id,
        &row.group_snapshot_id,
        &row.disk_snapshot,
        row.use_quota,
        row.created_at,
        row.updated_at,
        row.deleted,
    ];
    tx.execute(sql, values).await?;
    metadata::set_snapshot(tx, row.id, &row.metadata).await
}

pub async fn get(tx: &mut Tx<Volume>, visible: &Visible, id: SnapshotId) -> Result<Option<SnapshotRow>> {
    one(tx, sees(Sql::new(COLUMNS).and("id = ?", args![id]), visible)).await
}

/// As [`get`], and no other transaction changes it before this one ends.
pub async fn lock(tx: &mut Tx<Volume>, visible: &Visible, id: SnapshotId) -> Result<Option<SnapshotRow>> {
    one(tx, sees(Sql::new(COLUMNS).and("id = ?", args![id]), visible).push("FOR UPDATE")).await
}

/// Deleted or not, for the service's own work.
pub async fn lock_any(tx: &mut Tx<Volume>, id: SnapshotId) -> Result<Option<SnapshotRow>> {
    one(tx, Sql::new(COLUMNS).and("id = ?", args![id]).push("FOR UPDATE")).await
}

/// As [`lock_any`], without holding it.
pub async fn get_any(tx: &mut Tx<Volume>, id: SnapshotId) -> Result<Option<SnapshotRow>> {
    one(tx, Sql::new(COLUMNS).and("id = ?", args![id])).await
}

/// Those of a volume that users see, oldest first.
pub async fn of_volume(tx: &mut Tx<Volume>, volume: VolumeId) -> Result<Vec<SnapshotRow>> {
    let order = [("created_at", Direction::Asc), ("id", Direction::Asc)];
    let sql = sees(Sql::new(COLUMNS), &Visible::All).and("volume_id = ?", args![volume]).order(&order);
    let mut rows = tx.select(sql).await?.iter().map(read).collect::<Result<Vec<_>>>()?;
    fill(tx, &mut rows).await?;
    Ok(rows)
}

async fn one(tx: &mut Tx<Volume>, sql: Sql) -> Result<Option<SnapshotRow>> {
    let mut rows = tx.select(sql).await?.iter().map(read).collect::<Result<Vec<_>>>()?;
    fill(tx, &mut rows).await?;
    Ok(rows.pop())
}

/// A page, and whether it is full: then a link says where another would be, as upstream has it.
pub async fn list(tx: &mut Tx<Volume>, visible: &Visible, filter: &SnapshotFilter) -> Result<(Vec<SnapshotRow>, bool)> {
    let mut sql = filtered(sees(Sql::new(COLUMNS), visible), filter);
    if let Some(marker) = filter.marker {
        let Some(row) = one(tx, sees(Sql::new(COLUMNS).and("id = ?", args![marker]), visible)).await? else {
            return Err(Error::not_found(format!("Marker {marker} could not be found.")));
        };
        let values: Vec<Value> = filter.order.iter().map(|(column, _)| value_of(&row, column)).collect();
        sql = sql.after(&filter.order, &values);
    }
    if !filter.order.is_empty() {
        sql = sql.order(&filter.order);
    }
    if let Some(limit) = filter.limit {
        sql = sql.limit(limit.saturating_add(filter.offset));
    }
    let found = tx.select(sql).await?;
    let limit = filter.limit.unwrap_or(usize::MAX);
    let mut rows = found.iter().skip(filter.offset).take(limit).map(read).collect::<Result<Vec<_>>>()?;
    fill(tx, &mut rows).await?;
    let full = rows.len() >= limit;
    Ok((rows, full))
}

/// How many there are, pages aside.
pub async fn count(tx: &mut Tx<Volume>, visible: &Visible, filter: &SnapshotFilter) -> Result<u64> {
    let select = Sql::new("SELECT COUNT(*) AS many FROM snapshots");
    let (text, values) = filtered(sees(select, visible), filter).into_parts();
    tx.fetch_one(&text, values).await?.uint("many")
}

fn filtered(mut sql: Sql, filter: &SnapshotFilter) -> Sql {
    for condition in &filter.conditions {
        sql = condition.put(sql);
    }
    for (name, value) in &filter.metadata {
        sql = metadata::snapshot_has(sql, name, value);
    }
    sql
}

fn value_of(row: &SnapshotRow, column: &str) -> Value {
    match column {
        "id" => row.id.into(),
        "status" => row.status.name().into(),
        "size_gib" => row.size_gib.into(),
        "volume_id" => row.volume_id.into(),
        "updated_at" => row.updated_at.into(),
        "project_id" => (&row.project_id).into(),
        "COALESCE(name, '')" => row.name.as_deref().unwrap_or("").into(),
        _ => row.created_at.into(),
    }
}

/// Writes all but the metadata; the row as it is now. [`umbel_core::Kind::Busy`] if another write came first.
pub async fn update(
    tx: &mut Tx<Volume>,
    before: &SnapshotRow,
    after: &SnapshotRow,
    now: Timestamp,
) -> Result<SnapshotRow> {
    let sql = "UPDATE snapshots SET generation = ?, project_id = ?, user_id = ?, name = ?, description = ?, \
        status = ?, progress = ?, size_gib = ?, volume_type_id = ?, group_snapshot_id = ?, disk_snapshot = ?, \
        use_quota = ?, updated_at = ?, deleted = ? WHERE id = ? AND generation = ?";
    let after = SnapshotRow { generation: before.generation.next(), updated_at: now, ..after.clone() };
    let values = args![
        after.generation,
        &after.project_id,
        &after.user_id,
        &after.name,
        &after.description,
        after.status.name(),
        after.progress,
        after.size_gib,
        &after.volume_type_id,
        &after.group_snapshot_id,
        &after.disk_snapshot,
        after.use_quota,
        now,
        after.deleted,
        before.id,
        before.generation,
    ];
    tx.compare_and_swap(sql, values).await?;
    Ok(after)
}

pub async fn set_status(
    tx: &mut Tx<Volume>,
    before: &SnapshotRow,
    status: SnapshotStatus,
    now: Timestamp,
) -> Result<SnapshotRow> {
    let after = SnapshotRow { status, ..before.clone() };
    update(tx, before, &after, now).await
}

/// The row goes, with its metadata: its data are gone.
pub async fn forget(tx: &mut Tx<Volume>, id: SnapshotId) -> Result<()> {
    tx.execute("DELETE FROM snapshot_metadata WHERE snapshot_id = ?", args![id]).await?;
    tx.execute("DELETE FROM snapshots WHERE id = ?", args![id]).await?;
    Ok(())
}

fn read(row: &Row) -> Result<SnapshotRow> {
    let status = row.text("status")?;
    Ok(SnapshotRow {
        id: row.id("id")?,
        generation: row.generation("generation")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        volume_id: row.id("volume_id")?,
        name: row.opt_text("name")?,
        description: row.opt_text("description")?,
        status: SnapshotStatus::parse(&status)
            .ok_or_else(|| Error::internal(format!("a snapshot has the unknown status {status}")))?,
        progress: row.uint("progress")?,
        size_gib: row.uint("size_gib")?,
        volume_type_id: row.opt_text("volume_type_id")?,
        group_snapshot_id: row.opt_text("group_snapshot_id")?,
        disk_snapshot: row.text("disk_snapshot")?,
        use_quota: row.bool("use_quota")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        deleted: row.bool("deleted")?,
        metadata: Metadata::new(),
    })
}

async fn fill(tx: &mut Tx<Volume>, rows: &mut [SnapshotRow]) -> Result<()> {
    let at: HashMap<String, usize> = rows.iter().enumerate().map(|(at, row)| (row.id.to_string(), at)).collect();
    let ids: Vec<SnapshotId> = rows.iter().map(|row| row.id).collect();
    for some in ids.chunks(100) {
        let sql = Sql::new("SELECT snapshot_id, name, value FROM snapshot_metadata");
        for item in tx.select(sql.and_in("snapshot_id", some.iter().copied())).await? {
            if let Some(at) = at.get(&item.text("snapshot_id")?) {
                rows[*at].metadata.insert(item.text("name")?, item.text("value")?);
            }
        }
    }
    Ok(())
}
