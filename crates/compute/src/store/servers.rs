//! The rows of servers in a cell. `spec` and `state` are documents and the truth; every other column, `server_metadata`
//! and `server_tags` are derived from them here, and read only by filters and order.

use std::collections::BTreeMap;

use umbel_auth::Visible;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Row, Sql, Tx, Value, args};

use super::block_devices;
use crate::Cell;
use crate::model::{Life, Server, ServerId, project};

pub(crate) const SELECT: &str = "SELECT id, version, spec, state FROM servers";

pub(crate) fn read(row: &Row) -> Result<Server> {
    let (id, version) = (row.id("id")?, row.generation("version")?);
    Server::from_documents(id, version, &row.text("spec")?, &row.text("state")?)
}

/// A server that came to this cell. One that is there already is a [`umbel_core::Kind::Conflict`].
pub async fn insert(tx: &mut Tx<Cell>, server: &Server) -> Result<()> {
    let (spec, state) = (&server.spec, &server.state);
    let spec_text = serde_json::to_string(&**spec).map_err(Error::internal)?;
    let mut values = args![
        server.id,
        &spec.project_id,
        &spec.user_id,
        &spec.reservation_id,
        spec.launch_index,
        spec.image.as_ref().map_or("", |image| &image.id),
        &spec.flavor.id,
        spec.key.as_ref().map_or("", |key| &key.name),
        spec.config_drive,
        spec.created_at,
        spec_text,
    ];
    values.extend(derived(server)?);
    values.push(Value::from(server.version));
    let columns = DERIVED.replace(" = ?", "");
    let marks = vec!["?"; values.len()].join(", ");
    tx.execute(
        &format!(
            "INSERT INTO servers (id, project_id, user_id, reservation_id, launch_index, image_id, flavor_id, \
             key_name, config_drive, created_at, spec, {columns}, version) VALUES ({marks})"
        ),
        values,
    )
    .await?;
    index_metadata(tx, server.id, &state.metadata).await?;
    index_tags(tx, server.id, &state.tags).await?;
    block_devices::index(tx, server).await
}

/// Writes the server's state; [`umbel_core::Kind::Busy`] if another write came since it was read. The server gets its
/// new version.
pub async fn update(tx: &mut Tx<Cell>, server: &mut Server) -> Result<()> {
    let mut values = derived(server)?;
    values.extend(args![server.id, server.version]);
    let sql = format!("UPDATE servers SET {DERIVED}, version = version + 1 WHERE id = ? AND version = ?");
    tx.compare_and_swap(&sql, values).await?;
    server.version = server.version.next();
    Ok(())
}

/// As [`update`], where metadata may have changed too.
pub async fn update_metadata(tx: &mut Tx<Cell>, server: &mut Server) -> Result<()> {
    update(tx, server).await?;
    tx.execute("DELETE FROM server_metadata WHERE server_id = ?", args![server.id]).await?;
    index_metadata(tx, server.id, &server.state.metadata).await
}

/// As [`update`], where tags may have changed too.
pub async fn update_tags(tx: &mut Tx<Cell>, server: &mut Server) -> Result<()> {
    update(tx, server).await?;
    tx.execute("DELETE FROM server_tags WHERE server_id = ?", args![server.id]).await?;
    index_tags(tx, server.id, &server.state.tags).await
}

/// As [`update`], where the server may have got or lost a volume.
pub async fn update_volumes(tx: &mut Tx<Cell>, server: &mut Server) -> Result<()> {
    update(tx, server).await?;
    block_devices::clear(tx, server.id).await?;
    block_devices::index(tx, server).await
}

const DERIVED: &str = "name = ?, description = ?, hostname = ?, host = ?, zone = ?, want = ?, vm_state = ?, \
     task_state = ?, power_state = ?, locked = ?, behind = ?, deleted = ?, updated_at = ?, launched_at = ?, \
     terminated_at = ?, state = ?";

fn derived(server: &Server) -> Result<Vec<Value>> {
    let state = &server.state;
    let shown = project(server);
    Ok(args![
        &state.name,
        state.description.as_deref().unwrap_or(""),
        &state.hostname,
        state.host.as_ref().map_or("", |host| &host.name),
        state.zone.as_deref().unwrap_or(""),
        state.want.name(),
        shown.vm_state.name(),
        shown.task_state.unwrap_or(""),
        u32::from(shown.power_state),
        state.locked.is_some(),
        server.is_behind(),
        state.life == Life::Deleted,
        state.updated_at,
        state.launched_at.unwrap_or_default(),
        state.terminated_at.unwrap_or_default(),
        serde_json::to_string(state).map_err(Error::internal)?,
    ])
}

async fn index_metadata(tx: &mut Tx<Cell>, id: ServerId, metadata: &BTreeMap<String, String>) -> Result<()> {
    for (item, content) in metadata {
        let sql = "INSERT IGNORE INTO server_metadata (server_id, item, content) VALUES (?, ?, ?)";
        tx.execute(sql, args![id, item, content]).await?;
    }
    Ok(())
}

async fn index_tags(tx: &mut Tx<Cell>, id: ServerId, tags: &[String]) -> Result<()> {
    for tag in tags {
        tx.execute("INSERT IGNORE INTO server_tags (server_id, tag) VALUES (?, ?)", args![id, tag]).await?;
    }
    Ok(())
}

/// `None` if it is not in this cell, or not for this caller. Deleted ones are found: the caller decides.
pub async fn get(tx: &mut Tx<Cell>, id: ServerId, visible: &Visible) -> Result<Option<Server>> {
    let row = tx.fetch_opt(&format!("{SELECT} WHERE id = ?"), args![id]).await?;
    let server = row.as_ref().map(read).transpose()?;
    Ok(server.filter(|server| visible.allows(&server.spec.project_id)))
}

/// As [`get`], locking the row until the transaction ends.
pub async fn get_for_update(tx: &mut Tx<Cell>, id: ServerId, visible: &Visible) -> Result<Option<Server>> {
    let row = tx.fetch_opt(&format!("{SELECT} WHERE id = ? FOR UPDATE"), args![id]).await?;
    let server = row.as_ref().map(read).transpose()?;
    Ok(server.filter(|server| visible.allows(&server.spec.project_id)))
}

/// Those of these ids that this cell has or had, in no order. For the conductor.
pub async fn get_many(tx: &mut Tx<Cell>, ids: &[ServerId]) -> Result<Vec<Server>> {
    let rows = tx.select(Sql::new(SELECT).and_in("id", ids)).await?;
    rows.iter().map(read).collect()
}

/// The servers of a host that are not deleted. For the conductor.
pub async fn on_host(tx: &mut Tx<Cell>, host: &str) -> Result<Vec<Server>> {
    let rows = tx.fetch_all(&format!("{SELECT} WHERE host = ? AND deleted = 0 ORDER BY id"), args![host]).await?;
    rows.iter().map(read).collect()
}

/// Servers whose agent has not reached what is wanted, of those last changed before `quiet_since`. For the sweep.
pub async fn behind(tx: &mut Tx<Cell>, quiet_since: Timestamp, limit: usize) -> Result<Vec<Server>> {
    let sql = format!("{SELECT} WHERE behind = 1 AND updated_at <= ? ORDER BY updated_at, id LIMIT {limit}");
    let rows = tx.fetch_all(&sql, args![quiet_since]).await?;
    rows.iter().map(read).collect()
}

/// Servers that were deleted before a moment, for the purge: nothing of theirs changes any more, so `updated_at` is when
/// that was.
pub async fn deleted_before(tx: &mut Tx<Cell>, moment: Timestamp, limit: usize) -> Result<Vec<ServerId>> {
    let sql =
        format!("SELECT id FROM servers WHERE deleted = 1 AND updated_at < ? ORDER BY updated_at, id LIMIT {limit}");
    let rows = tx.fetch_all(&sql, args![moment]).await?;
    rows.iter().map(|row| row.id("id")).collect()
}

/// How many servers each host has, by the host's name.
pub async fn count_by_host(tx: &mut Tx<Cell>) -> Result<BTreeMap<String, u64>> {
    let sql = "SELECT host, COUNT(*) AS servers FROM servers WHERE deleted = 0 AND host <> '' GROUP BY host";
    let rows = tx.fetch_all(sql, args![]).await?;
    rows.iter().map(|row| Ok((row.text("host")?, row.uint("servers")?))).collect()
}

/// Takes the row away with all that hangs on it, as if it had never been here: a placement that was undone.
pub async fn forget(tx: &mut Tx<Cell>, id: ServerId) -> Result<()> {
    for sql in [
        "DELETE FROM server_metadata WHERE server_id = ?",
        "DELETE FROM server_tags WHERE server_id = ?",
        "DELETE FROM disks WHERE server_id = ?",
        "DELETE FROM block_devices WHERE server_id = ?",
        "DELETE FROM action_events WHERE server_id = ?",
        "DELETE FROM actions WHERE server_id = ?",
        "DELETE FROM servers WHERE id = ?",
    ] {
        tx.execute(sql, args![id]).await?;
    }
    Ok(())
}

/// Whether the cell has any server; asked to see whether it answers.
pub async fn any(tx: &mut Tx<Cell>) -> Result<bool> {
    Ok(tx.fetch_opt("SELECT id FROM servers LIMIT 1", args![]).await?.is_some())
}
