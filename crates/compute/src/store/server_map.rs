use umbel_auth::Visible;
use umbel_core::{Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, args};

use crate::model::{Server, ServerId};
use crate::{Api, CellId};

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub server_id: ServerId,
    /// `None` while no cell is chosen: then it is a build request.
    pub cell: Option<CellId>,
    pub project_id: String,
    /// Deleted, or asked to be: it counts for no quota.
    pub queued_for_delete: bool,
    pub created_at: Timestamp,
}

const COLUMNS: &str = "server_id, cell_id, project_id, queued_for_delete, created_at";

fn read(row: &Row) -> Result<Mapped> {
    Ok(Mapped {
        server_id: row.id("server_id")?,
        cell: row.opt_id("cell_id")?,
        project_id: row.text("project_id")?,
        queued_for_delete: row.bool("queued_for_delete")?,
        created_at: row.time("created_at")?,
    })
}

pub async fn insert(tx: &mut Tx<Api>, server: &Server) -> Result<()> {
    let (spec, flavor) = (&server.spec, &server.spec.flavor);
    tx.execute(
        "INSERT INTO server_map (server_id, cell_id, project_id, user_id, vcpus, memory_mib, queued_for_delete, \
         created_at) VALUES (?, NULL, ?, ?, ?, ?, 0, ?)",
        args![server.id, &spec.project_id, &spec.user_id, flavor.vcpus, flavor.memory_mib, spec.created_at],
    )
    .await?;
    Ok(())
}

/// `None` if there is no such server, or not for this caller.
pub async fn get(tx: &mut Tx<Api>, id: ServerId, visible: &Visible) -> Result<Option<Mapped>> {
    let sql = format!("SELECT {COLUMNS} FROM server_map WHERE server_id = ?");
    let row = tx.fetch_opt(&sql, args![id]).await?;
    let mapped = row.as_ref().map(read).transpose()?;
    Ok(mapped.filter(|mapped| visible.allows(&mapped.project_id)))
}

/// Whether the server was ever written. For conductors.
pub async fn is_known(tx: &mut Tx<Api>, id: ServerId) -> Result<bool> {
    Ok(tx.fetch_opt("SELECT server_id FROM server_map WHERE server_id = ?", args![id]).await?.is_some())
}

/// Forgets a server that was deleted long ago.
pub async fn forget(tx: &mut Tx<Api>, id: ServerId) -> Result<()> {
    let sql = "DELETE FROM server_map WHERE server_id = ? AND queued_for_delete = 1";
    tx.execute(sql, args![id]).await?;
    Ok(())
}

/// What became of the choice of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    InCell,
    /// The user deleted it first. Nothing was written; what the caller made in the cell must go.
    Deleted,
}

/// Notes the server's cell and ends its build request. May be repeated, also for another cell: the newest choice holds.
pub async fn place(tx: &mut Tx<Api>, id: ServerId, cell: CellId) -> Result<Placed> {
    let sql =
        "UPDATE server_map SET cell_id = ? WHERE server_id = ? AND (queued_for_delete = 0 OR cell_id IS NOT NULL)";
    if tx.execute(sql, args![cell, id]).await? == 0 {
        return Ok(Placed::Deleted);
    }
    tx.execute("DELETE FROM build_requests WHERE server_id = ?", args![id]).await?;
    Ok(Placed::InCell)
}

/// Frees the quota of a server that is being deleted in its cell.
pub async fn queue_for_delete(tx: &mut Tx<Api>, id: ServerId) -> Result<()> {
    tx.execute("UPDATE server_map SET queued_for_delete = 1 WHERE server_id = ?", args![id]).await?;
    Ok(())
}

/// Marks as deleted a server that is in no cell yet. False if a cell was chosen meanwhile: then it is to be deleted
/// there.
pub async fn delete_unplaced(tx: &mut Tx<Api>, id: ServerId) -> Result<bool> {
    let sql = "UPDATE server_map SET queued_for_delete = 1 WHERE server_id = ? AND cell_id IS NULL";
    if tx.execute(sql, args![id]).await? == 0 {
        return Ok(false);
    }
    tx.execute("UPDATE build_requests SET deleted = 1 WHERE server_id = ?", args![id]).await?;
    Ok(true)
}

/// Ids after `after`, in order, of servers in a cell that are not queued for delete: for the reconciler that compares
/// the map with the cell.
pub async fn of_cell(tx: &mut Tx<Api>, cell: CellId, after: Option<ServerId>, limit: usize) -> Result<Vec<Mapped>> {
    let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM server_map"))
        .and("cell_id = ?", args![cell])
        .and("queued_for_delete = 0", args![]);
    if let Some(after) = after {
        sql = sql.and("server_id > ?", args![after]);
    }
    let rows = tx.select(sql.push("ORDER BY server_id").limit(limit)).await?;
    rows.iter().map(read).collect()
}

/// What a project's servers use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub instances: u64,
    pub cores: u64,
    pub memory_mib: u64,
}

pub async fn usage(tx: &mut Tx<Api>, project_id: &str) -> Result<Usage> {
    let sql = "SELECT COUNT(*) AS instances, SUM_INT(vcpus) AS cores, SUM_INT(memory_mib) AS memory_mib \
         FROM server_map WHERE project_id = ? AND queued_for_delete = 0";
    let row = tx.fetch_one(sql, args![project_id]).await?;
    Ok(Usage { instances: row.uint("instances")?, cores: row.uint("cores")?, memory_mib: row.uint("memory_mib")? })
}

/// Of servers in these cells that are not queued for delete, newest first, after the marker: for lists that a cell did
/// not answer.
pub async fn of_cells(
    tx: &mut Tx<Api>,
    cells: &[CellId],
    visible: &Visible,
    after: Option<&Mapped>,
    limit: usize,
) -> Result<Vec<Mapped>> {
    let mut sql =
        Sql::new(&format!("SELECT {COLUMNS} FROM server_map WHERE queued_for_delete = 0")).and_in("cell_id", cells);
    if let Visible::Project(project) = visible {
        sql = sql.and("project_id = ?", args![project]);
    }
    let order = [("created_at", Direction::Desc), ("server_id", Direction::Desc)];
    if let Some(marker) = after {
        sql = sql.after(&order, &[marker.created_at.into(), marker.server_id.into()]);
    }
    let rows = tx.select(sql.order(&order).limit(limit)).await?;
    rows.iter().map(read).collect()
}
