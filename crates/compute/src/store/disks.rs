//! Disks that a cell's servers have in pools. Every object in a pool has its row here, written before it is made and
//! taken away after it is gone: what a pool has and no row names is an orphan.

use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Row, Sql, Tx, args};
use umbel_placement::PoolId;

use crate::Cell;
use crate::model::{DiskSource, ServerId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskRow {
    pub server_id: ServerId,
    /// Name in its pool.
    pub name: String,
    pub pool_id: PoolId,
    /// Name of the pool, as its host's agent calls it.
    pub pool: String,
    pub size_bytes: u64,
    pub source: DiskSource,
    pub boot_index: Option<u32>,
}

fn read(row: &Row) -> Result<DiskRow> {
    let source = row.text("source")?;
    Ok(DiskRow {
        server_id: row.id("server_id")?,
        name: row.text("name")?,
        pool_id: row.id("pool_id")?,
        pool: row.text("pool")?,
        size_bytes: row.uint("size_bytes")?,
        source: DiskSource::parse(&source).ok_or_else(|| Error::internal(format!("a disk's source is {source}")))?,
        boot_index: row.opt_uint("boot_index")?.and_then(|index| u32::try_from(index).ok()),
    })
}

const COLUMNS: &str = "server_id, name, pool_id, pool, size_bytes, source, boot_index";

/// A row that is there already is left as it is.
pub async fn insert(tx: &mut Tx<Cell>, disk: &DiskRow, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT IGNORE INTO disks (server_id, name, pool_id, pool, size_bytes, source, boot_index, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            disk.server_id,
            &disk.name,
            disk.pool_id,
            &disk.pool,
            disk.size_bytes,
            disk.source.name(),
            disk.boot_index.map(i64::from),
            now
        ],
    )
    .await?;
    Ok(())
}

/// The bootable one first, a config drive last.
pub async fn of_server(tx: &mut Tx<Cell>, server_id: ServerId) -> Result<Vec<DiskRow>> {
    let rows = tx.fetch_all(&format!("SELECT {COLUMNS} FROM disks WHERE server_id = ?"), args![server_id]).await?;
    let mut disks: Vec<DiskRow> = rows.iter().map(read).collect::<Result<_>>()?;
    disks.sort_by_key(|disk| {
        let last = disk.source == DiskSource::ConfigDrive;
        (last, disk.boot_index.unwrap_or(u32::MAX), disk.name.clone())
    });
    Ok(disks)
}

/// Those of many servers, in no order. For the conductor.
pub async fn of_servers(tx: &mut Tx<Cell>, servers: &[ServerId]) -> Result<Vec<DiskRow>> {
    let sql = Sql::new(&format!("SELECT {COLUMNS} FROM disks")).and_in("server_id", servers);
    tx.select(sql).await?.iter().map(read).collect()
}

/// All of a pool: for the audit that compares it with what the pool has.
pub async fn of_pool(tx: &mut Tx<Cell>, pool_id: PoolId) -> Result<Vec<DiskRow>> {
    let sql = format!("SELECT {COLUMNS} FROM disks WHERE pool_id = ? ORDER BY name");
    let rows = tx.fetch_all(&sql, args![pool_id]).await?;
    rows.iter().map(read).collect()
}

/// The server's disks are gone from their pools.
pub async fn remove_all(tx: &mut Tx<Cell>, server_id: ServerId) -> Result<()> {
    tx.execute("DELETE FROM disks WHERE server_id = ?", args![server_id]).await?;
    Ok(())
}
