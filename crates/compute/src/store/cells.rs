use umbel_core::{Result, Timestamp};
use umbel_db::{Tx, args};

use crate::{Api, CellId};

/// A cell in the map: where its database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRow {
    pub id: CellId,
    pub name: String,
    pub url: String,
    pub disabled: bool,
}

/// By name; `cell0` is among them.
pub async fn list(tx: &mut Tx<Api>) -> Result<Vec<CellRow>> {
    let rows = tx.fetch_all("SELECT id, name, url, disabled FROM cells ORDER BY name", args![]).await?;
    let read = |row: &umbel_db::Row| -> Result<CellRow> {
        let (name, url) = (row.text("name")?, row.text("url")?);
        Ok(CellRow { id: row.id("id")?, name, url, disabled: row.bool("disabled")? })
    };
    rows.iter().map(read).collect()
}

/// Adds a cell, or gives a known one its new address.
pub async fn put(tx: &mut Tx<Api>, cell: &CellRow, now: Timestamp) -> Result<()> {
    let sql = "INSERT IGNORE INTO cells (id, name, url, disabled, created_at) VALUES (?, ?, ?, ?, ?)";
    tx.execute(sql, args![cell.id, &cell.name, &cell.url, cell.disabled, now]).await?;
    let sql = "UPDATE cells SET name = ?, url = ?, disabled = ? WHERE id = ?";
    tx.execute(sql, args![&cell.name, &cell.url, cell.disabled, cell.id]).await?;
    Ok(())
}
