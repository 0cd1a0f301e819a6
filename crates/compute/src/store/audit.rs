//! What the comparison of pools with a cell's database reads, and nothing else does: all of it at once.

use umbel_core::Result;
use umbel_db::{Row, Sql, Tx, args};

use crate::Cell;
use crate::model::ServerId;

/// A disk that the database knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub server: ServerId,
    /// The server's.
    pub name: String,
    pub pool: String,
    pub disk: String,
    /// The host whose pool it is; none where hosts share the pool.
    pub host: Option<String>,
    /// The server has run and nothing is being done to it; others' disks may be on their way in or out.
    pub expected: bool,
}

/// Every system disk of every server of the cell.
pub async fn disks(tx: &mut Tx<Cell>) -> Result<Vec<Known>> {
    let sql = "SELECT d.server_id AS id, s.name AS name, d.pool AS pool, d.name AS disk, s.host AS host, \
            p.scope AS scope, CASE WHEN s.launched_at > 0 AND s.behind = 0 AND s.deleted = 0 \
            AND s.task_state = '' THEN 1 ELSE 0 END AS expected \
        FROM disks d LEFT JOIN servers s ON s.id = d.server_id LEFT JOIN pools p ON p.id = d.pool_id";
    tx.fetch_all(sql, args![]).await?.iter().map(read).collect()
}

/// Servers with this id or name, deleted ones left out.
pub async fn find(tx: &mut Tx<Cell>, text: &str) -> Result<Vec<(ServerId, String)>> {
    let sql = Sql::new("SELECT id, name FROM servers")
        .and("deleted = 0", args![])
        .and("id = ? OR name = ?", args![text, text]);
    let rows = tx.select(sql.push("ORDER BY id")).await?;
    rows.iter().map(|row| Ok((row.id("id")?, row.text("name")?))).collect()
}

/// Ids of the volumes that the server has.
pub async fn volumes(tx: &mut Tx<Cell>, server: ServerId) -> Result<Vec<String>> {
    let sql = "SELECT volume_id FROM block_devices WHERE server_id = ? ORDER BY volume_id";
    tx.fetch_all(sql, args![server]).await?.iter().map(|row| row.text("volume_id")).collect()
}

fn read(row: &Row) -> Result<Known> {
    // A pool without a row is one that no host reaches any more: whose it was is not known.
    let scope = row.opt_text("scope")?;
    let host = row.opt_text("host")?.unwrap_or_default();
    Ok(Known {
        server: row.id("id")?,
        name: row.opt_text("name")?.unwrap_or_default(),
        pool: row.text("pool")?,
        disk: row.text("disk")?,
        host: scope.is_none_or(|scope| !scope.is_empty()).then_some(host),
        expected: row.bool("expected")?,
    })
}
