use umbel_auth::Visible;
use umbel_core::{Error, Generation, Result};
use umbel_db::{Row, Sql, Tx, args};

use crate::Api;
use crate::model::{BuildRequest, Server, ServerId};

const COLUMNS: &str = "server_id, deleted, spec, state";

fn read(row: &Row) -> Result<BuildRequest> {
    let (id, spec, state) = (row.id("server_id")?, row.text("spec")?, row.text("state")?);
    let server = Server::from_documents(id, Generation(0), &spec, &state)?;
    Ok(BuildRequest { server, deleted: row.bool("deleted")? })
}

pub async fn insert(tx: &mut Tx<Api>, server: &Server) -> Result<()> {
    let spec = serde_json::to_string(&*server.spec).map_err(Error::internal)?;
    let state = serde_json::to_string(&server.state).map_err(Error::internal)?;
    tx.execute(
        "INSERT INTO build_requests (server_id, project_id, deleted, created_at, spec, state) \
         VALUES (?, ?, 0, ?, ?, ?)",
        args![server.id, &server.spec.project_id, server.spec.created_at, spec, state],
    )
    .await?;
    Ok(())
}

/// Deleted ones too: the create flow has to see them.
pub async fn get(tx: &mut Tx<Api>, id: ServerId) -> Result<Option<BuildRequest>> {
    let row = tx.fetch_opt(&format!("SELECT {COLUMNS} FROM build_requests WHERE server_id = ?"), args![id]).await?;
    row.as_ref().map(read).transpose()
}

/// Those not deleted, newest first. There are as many as creates under way, hence no paging.
pub async fn list(tx: &mut Tx<Api>, visible: &Visible) -> Result<Vec<Server>> {
    let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM build_requests WHERE deleted = 0"));
    if let Visible::Project(project) = visible {
        sql = sql.and("project_id = ?", args![project]);
    }
    let rows = tx.select(sql.push("ORDER BY created_at DESC, server_id DESC")).await?;
    rows.iter().map(|row| read(row).map(|request| request.server)).collect()
}

/// Of all, deleted ones too. For the reconciler.
pub async fn ids(tx: &mut Tx<Api>) -> Result<Vec<ServerId>> {
    let rows = tx.fetch_all("SELECT server_id FROM build_requests ORDER BY created_at", args![]).await?;
    rows.iter().map(|row| row.id("server_id")).collect()
}

/// Changes name, metadata, tags or lock of a server that has no cell yet. False if it has one by now, or is gone.
pub async fn update(tx: &mut Tx<Api>, server: &Server) -> Result<bool> {
    let state = serde_json::to_string(&server.state).map_err(Error::internal)?;
    let sql = "UPDATE build_requests SET state = ? WHERE server_id = ? AND deleted = 0";
    Ok(tx.execute(sql, args![state, server.id]).await? > 0)
}

/// Forgets it: its server is in a cell, or nothing is left of it.
pub async fn remove(tx: &mut Tx<Api>, id: ServerId) -> Result<()> {
    tx.execute("DELETE FROM build_requests WHERE server_id = ?", args![id]).await?;
    Ok(())
}
