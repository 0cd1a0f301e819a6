use std::collections::HashMap;

use umbel_auth::Visible;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, Value, args, escape_like};

use super::Volume;
use super::metadata::{self, Kind, Metadata};
use crate::model::{VolumeId, VolumeRow, VolumeStatus};

const COLUMNS: &str = "SELECT id, generation, project_id, user_id, name, description, size_gib, status, \
    previous_status, migration_status, volume_type_id, backend, disk, availability_zone, bootable, multiattach, \
    encrypted, read_only, snapshot_id, source_volid, image_id, backup_id, group_id, error, progress, use_quota, \
    created_at, updated_at, launched_at, deleted FROM volumes";

/// Which volumes, in which order.
#[derive(Clone, Debug, Default)]
pub struct VolumeFilter {
    pub conditions: Vec<Condition>,
    pub metadata: Vec<(String, String)>,
    pub image_metadata: Vec<(String, String)>,
    /// Ends with the id.
    pub order: Vec<(&'static str, Direction)>,
    pub marker: Option<VolumeId>,
    pub offset: usize,
    /// None: all.
    pub limit: Option<usize>,
}

/// A condition on a column of the table; the column's name is constant text.
#[derive(Clone, Debug)]
pub enum Condition {
    Is(&'static str, Value),
    Like(&'static str, String),
    Null(&'static str),
    In(&'static str, Vec<String>),
    /// `<`, `<=`, `>`, `>=`, `=`, `<>`.
    Compare(&'static str, &'static str, Value),
}

impl Condition {
    pub(crate) fn put(&self, sql: Sql) -> Sql {
        match self {
            Condition::Is(column, value) => sql.and(&format!("{column} = ?"), vec![value.clone()]),
            Condition::Like(column, text) => {
                let pattern = format!("%{}%", escape_like(text));
                sql.and(&format!("{column} LIKE ? ESCAPE '!'"), args![pattern])
            }
            Condition::Null(column) => sql.and(&format!("{column} IS NULL"), args![]),
            Condition::In(column, values) => sql.and_in(column, values),
            Condition::Compare(column, sign, value) => sql.and(&format!("{column} {sign} ?"), vec![value.clone()]),
        }
    }
}

/// Only what is there for users, and only the project's.
fn sees(sql: Sql, visible: &Visible) -> Sql {
    super::pages::seen(sql.and("deleted = 0", args![]), visible)
}

/// With its metadata.
pub async fn insert(tx: &mut Tx<Volume>, row: &VolumeRow) -> Result<()> {
    let sql = "INSERT INTO volumes (id, generation, project_id, user_id, name, description, size_gib, status, \
        previous_status, migration_status, volume_type_id, backend, disk, availability_zone, bootable, multiattach, \
        encrypted, read_only, snapshot_id, source_volid, image_id, backup_id, group_id, error, progress, use_quota, \
        created_at, updated_at, launched_at, deleted) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let mut values = args![row.id, row.generation];
    values.extend(columns(row));
    values.push(row.created_at.into());
    values.push(row.updated_at.into());
    values.push(row.launched_at.into());
    values.push(row.deleted.into());
    tx.execute(sql, values).await?;
    metadata::set_volume(tx, row.id, Kind::User, &row.metadata).await?;
    metadata::set_volume(tx, row.id, Kind::Image, &row.image_metadata).await?;
    metadata::set_volume(tx, row.id, Kind::Admin, &row.admin_metadata).await
}

/// What [`insert`] and [`update`] have in common, in the table's order.
fn columns(row: &VolumeRow) -> Vec<Value> {
    args![
        &row.project_id,
        &row.user_id,
        &row.name,
        &row.description,
        row.size_gib,
        row.status.name(),
        &row.previous_status,
        &row.migration_status,
        &row.volume_type_id,
        &row.backend,
        &row.disk,
        &row.availability_zone,
        row.bootable,
        row.multiattach,
        row.encrypted,
        row.read_only,
        &row.snapshot_id,
        &row.source_volid,
        &row.image_id,
        &row.backup_id,
        &row.group_id,
        &row.error,
        row.progress,
        row.use_quota,
    ]
}

pub async fn get(tx: &mut Tx<Volume>, visible: &Visible, id: VolumeId) -> Result<Option<VolumeRow>> {
    one(tx, sees(Sql::new(COLUMNS).and("id = ?", args![id]), visible)).await
}

/// As [`get`], and no other transaction changes it before this one ends.
pub async fn lock(tx: &mut Tx<Volume>, visible: &Visible, id: VolumeId) -> Result<Option<VolumeRow>> {
    one(tx, sees(Sql::new(COLUMNS).and("id = ?", args![id]), visible).push("FOR UPDATE")).await
}

/// Deleted or not, for the service's own work.
pub async fn lock_any(tx: &mut Tx<Volume>, id: VolumeId) -> Result<Option<VolumeRow>> {
    one(tx, Sql::new(COLUMNS).and("id = ?", args![id]).push("FOR UPDATE")).await
}

/// As [`lock_any`], without holding it.
pub async fn get_any(tx: &mut Tx<Volume>, id: VolumeId) -> Result<Option<VolumeRow>> {
    one(tx, Sql::new(COLUMNS).and("id = ?", args![id])).await
}

async fn one(tx: &mut Tx<Volume>, sql: Sql) -> Result<Option<VolumeRow>> {
    let mut rows = tx.select(sql).await?.iter().map(read).collect::<Result<Vec<_>>>()?;
    fill(tx, &mut rows).await?;
    Ok(rows.pop())
}

/// A page, and whether another follows.
pub async fn list(tx: &mut Tx<Volume>, visible: &Visible, filter: &VolumeFilter) -> Result<(Vec<VolumeRow>, bool)> {
    let mut sql = filtered(sees(Sql::new(COLUMNS), visible), filter);
    if let Some(marker) = filter.marker {
        let sql_of = Sql::new(COLUMNS).and("id = ?", args![marker]);
        let Some(row) = one(tx, sees(sql_of, visible)).await? else {
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

/// How many there are, and GiB of all together, pages aside.
pub async fn count(tx: &mut Tx<Volume>, visible: &Visible, filter: &VolumeFilter) -> Result<(u64, u64)> {
    let select = Sql::new("SELECT COUNT(*) AS many, SUM_INT(size_gib) AS gib FROM volumes");
    let (text, values) = filtered(sees(select, visible), filter).into_parts();
    let row = tx.fetch_one(&text, values).await?;
    Ok((row.uint("many")?, row.opt_uint("gib")?.unwrap_or(0)))
}

fn filtered(mut sql: Sql, filter: &VolumeFilter) -> Sql {
    for condition in &filter.conditions {
        sql = condition.put(sql);
    }
    for (name, value) in &filter.metadata {
        sql = metadata::volume_has(sql, Kind::User, name, value);
    }
    for (name, value) in &filter.image_metadata {
        sql = metadata::volume_has(sql, Kind::Image, name, value);
    }
    sql
}

/// The marker's value of a column that lists are sorted by.
fn value_of(row: &VolumeRow, column: &str) -> Value {
    match column {
        "id" => row.id.into(),
        "status" => row.status.name().into(),
        "size_gib" => row.size_gib.into(),
        "availability_zone" => (&row.availability_zone).into(),
        "bootable" => row.bootable.into(),
        "updated_at" => row.updated_at.into(),
        "project_id" => (&row.project_id).into(),
        "COALESCE(name, '')" => row.name.as_deref().unwrap_or("").into(),
        "COALESCE(volume_type_id, '')" => row.volume_type_id.as_deref().unwrap_or("").into(),
        "COALESCE(backend, '')" => row.backend.as_deref().unwrap_or("").into(),
        _ => row.created_at.into(),
    }
}

/// Writes all but the metadata; the row as it is now. [`umbel_core::Kind::Busy`] if another write came first.
pub async fn update(tx: &mut Tx<Volume>, before: &VolumeRow, after: &VolumeRow, now: Timestamp) -> Result<VolumeRow> {
    let sql = "UPDATE volumes SET generation = ?, project_id = ?, user_id = ?, name = ?, description = ?, \
        size_gib = ?, status = ?, previous_status = ?, migration_status = ?, volume_type_id = ?, backend = ?, \
        disk = ?, availability_zone = ?, bootable = ?, multiattach = ?, encrypted = ?, read_only = ?, \
        snapshot_id = ?, source_volid = ?, image_id = ?, backup_id = ?, group_id = ?, error = ?, progress = ?, \
        use_quota = ?, updated_at = ?, launched_at = ?, deleted = ? WHERE id = ? AND generation = ?";
    let after = VolumeRow { generation: before.generation.next(), updated_at: now, ..after.clone() };
    let mut values = args![after.generation];
    values.extend(columns(&after));
    values.extend(args![after.updated_at, after.launched_at, after.deleted, before.id, before.generation]);
    tx.compare_and_swap(sql, values).await?;
    Ok(after)
}

pub async fn set_status(
    tx: &mut Tx<Volume>,
    before: &VolumeRow,
    status: VolumeStatus,
    now: Timestamp,
) -> Result<VolumeRow> {
    let after = VolumeRow { status, ..before.clone() };
    update(tx, before, &after, now).await
}

/// Notes how far what goes on is; `None` when nothing does. It is no change of the volume: nobody's write is lost by it.
pub async fn set_progress(tx: &mut Tx<Volume>, id: VolumeId, percent: Option<u64>) -> Result<()> {
    tx.execute("UPDATE volumes SET progress = ? WHERE id = ?", args![percent, id]).await?;
    Ok(())
}

/// The row goes, with its metadata: its data are gone.
pub async fn forget(tx: &mut Tx<Volume>, id: VolumeId) -> Result<()> {
    tx.execute("DELETE FROM volume_metadata WHERE volume_id = ?", args![id]).await?;
    tx.execute("DELETE FROM volumes WHERE id = ?", args![id]).await?;
    Ok(())
}

fn read(row: &Row) -> Result<VolumeRow> {
    let status = row.text("status")?;
    Ok(VolumeRow {
        id: row.id("id")?,
        generation: row.generation("generation")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        name: row.opt_text("name")?,
        description: row.opt_text("description")?,
        size_gib: row.uint("size_gib")?,
        status: VolumeStatus::parse(&status)
            .ok_or_else(|| Error::internal(format!("a volume has the unknown status {status}")))?,
        previous_status: row.opt_text("previous_status")?,
        migration_status: row.opt_text("migration_status")?,
        volume_type_id: row.opt_text("volume_type_id")?,
        backend: row.opt_text("backend")?,
        disk: row.text("disk")?,
        availability_zone: row.text("availability_zone")?,
        bootable: row.bool("bootable")?,
        multiattach: row.bool("multiattach")?,
        encrypted: row.bool("encrypted")?,
        read_only: row.bool("read_only")?,
        snapshot_id: row.opt_text("snapshot_id")?,
        source_volid: row.opt_text("source_volid")?,
        image_id: row.opt_text("image_id")?,
        backup_id: row.opt_text("backup_id")?,
        group_id: row.opt_text("group_id")?,
        error: row.opt_text("error")?,
        progress: row.opt_uint("progress")?,
        use_quota: row.bool("use_quota")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        launched_at: row.opt_time("launched_at")?,
        deleted: row.bool("deleted")?,
        metadata: Metadata::new(),
        image_metadata: Metadata::new(),
        admin_metadata: Metadata::new(),
    })
}

/// The metadata of a page, in one statement for each hundred.
async fn fill(tx: &mut Tx<Volume>, rows: &mut [VolumeRow]) -> Result<()> {
    let at: HashMap<String, usize> = rows.iter().enumerate().map(|(at, row)| (row.id.to_string(), at)).collect();
    let ids: Vec<VolumeId> = rows.iter().map(|row| row.id).collect();
    for some in ids.chunks(100) {
        let sql = Sql::new("SELECT volume_id, kind, name, value FROM volume_metadata");
        for item in tx.select(sql.and_in("volume_id", some.iter().copied())).await? {
            let Some(at) = at.get(&item.text("volume_id")?) else { continue };
            let (name, value) = (item.text("name")?, item.text("value")?);
            match item.text("kind")?.as_str() {
                "user" => rows[*at].metadata.insert(name, value),
                "image" => rows[*at].image_metadata.insert(name, value),
                "admin" => rows[*at].admin_metadata.insert(name, value),
                _ => None,
            };
        }
    }
    Ok(())
}

/// As [`forget`], with all that hangs on it.
pub async fn forget_all(tx: &mut Tx<Volume>, id: VolumeId) -> Result<()> {
    let sql = "DELETE FROM snapshot_metadata WHERE snapshot_id IN (SELECT id FROM snapshots WHERE volume_id = ?)";
    tx.execute(sql, args![id]).await?;
    tx.execute("DELETE FROM snapshots WHERE volume_id = ?", args![id]).await?;
    super::attachments::delete_of_volume(tx, id).await?;
    super::transfers::delete_of_volume(tx, id).await?;
    super::unmanaged::gone(tx, id).await?;
    forget(tx, id).await
}

/// GiB of all volumes of a backend, those that are going too.
pub async fn allocated(tx: &mut Tx<Volume>, backend: &str) -> Result<u64> {
    let row = tx.fetch_one("SELECT SUM_INT(size_gib) AS gib FROM volumes WHERE backend = ?", args![backend]).await?;
    Ok(row.opt_uint("gib")?.unwrap_or(0))
}
