//! What was done to a server, by whom, and how long each step took.

use umbel_core::{Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, args};

use crate::Cell;
use crate::model::ServerId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionRow {
    pub server_id: ServerId,
    pub request_id: String,
    /// `create`, `start`, `reboot`, as the API shows it.
    pub action: String,
    pub user_id: String,
    pub project_id: String,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    /// `Error` where it failed, as upstream has it.
    pub message: Option<String>,
}

/// One step of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub server_id: ServerId,
    pub request_id: String,
    /// `schedule`, `disk_clone`, `domain_start`.
    pub name: String,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// `None` while it runs.
    pub ok: Option<bool>,
    /// Empty for what is done on no host.
    pub host: String,
    /// One sentence for the server's owner: which pool, why no clone, why it failed.
    pub details: Option<String>,
}

const ACTION: &str = "SELECT server_id, request_id, action, user_id, project_id, started_at, finished_at, updated_at, \
     message FROM actions";

fn read(row: &Row) -> Result<ActionRow> {
    Ok(ActionRow {
        server_id: row.id("server_id")?,
        request_id: row.text("request_id")?,
        action: row.text("action")?,
        user_id: row.text("user_id")?,
        project_id: row.text("project_id")?,
        started_at: row.time("started_at")?,
        finished_at: row.opt_time("finished_at")?,
        updated_at: row.time("updated_at")?,
        message: row.opt_text("message")?,
    })
}

/// Begins an action. One of the same request that is there already is left as it is.
pub async fn start(tx: &mut Tx<Cell>, action: &ActionRow) -> Result<()> {
    tx.execute(
        "INSERT IGNORE INTO actions (server_id, request_id, action, user_id, project_id, started_at, finished_at, \
         updated_at, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            action.server_id,
            &action.request_id,
            &action.action,
            &action.user_id,
            &action.project_id,
            action.started_at,
            action.finished_at,
            action.updated_at,
            &action.message
        ],
    )
    .await?;
    Ok(())
}

/// Ends an action that has not ended. With an error its message is `Error`; the reason stands in the failed event.
pub async fn finish(tx: &mut Tx<Cell>, server: ServerId, request_id: &str, failed: bool, now: Timestamp) -> Result<()> {
    let message = failed.then_some("Error");
    tx.execute(
        "UPDATE actions SET finished_at = ?, updated_at = ?, message = ? \
         WHERE server_id = ? AND request_id = ? AND finished_at IS NULL",
        args![now, now, message, server, request_id],
    )
    .await?;
    Ok(())
}

/// Adds a step that is done, or brings up to date one that ran. A step is told apart from another run of it by when it
/// began, so that a report that comes twice counts once.
pub async fn event(tx: &mut Tx<Cell>, event: &EventRow, now: Timestamp) -> Result<()> {
    let added = tx
        .execute(
            "INSERT IGNORE INTO action_events (server_id, request_id, name, started_at, finished_at, ok, host, details) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            args![
                event.server_id,
                &event.request_id,
                &event.name,
                event.started_at,
                event.finished_at,
                event.ok,
                &event.host,
                &event.details
            ],
        )
        .await?;
    if added == 0 {
        tx.execute(
            "UPDATE action_events SET finished_at = ?, ok = ?, details = ? \
             WHERE server_id = ? AND request_id = ? AND name = ? AND started_at = ?",
            args![
                event.finished_at,
                event.ok,
                &event.details,
                event.server_id,
                &event.request_id,
                &event.name,
                event.started_at
            ],
        )
        .await?;
    }
    let sql = "UPDATE actions SET updated_at = ? WHERE server_id = ? AND request_id = ?";
    tx.execute(sql, args![now, event.server_id, &event.request_id]).await?;
    Ok(())
}

/// Which actions a list shows.
#[derive(Clone, Debug, Default)]
pub struct ActionPage {
    pub changes_since: Option<Timestamp>,
    pub changes_before: Option<Timestamp>,
    /// Request id of the last action of the page before.
    pub marker: Option<String>,
    pub limit: Option<usize>,
}

/// Newest first; `None` if the marker is none of the server's.
pub async fn list(tx: &mut Tx<Cell>, server: ServerId, page: &ActionPage) -> Result<Option<Vec<ActionRow>>> {
    let order = [("started_at", Direction::Desc), ("request_id", Direction::Desc)];
    let mut sql = Sql::new(ACTION).and("server_id = ?", args![server]);
    if let Some(since) = page.changes_since {
        sql = sql.and("updated_at >= ?", args![since]);
    }
    if let Some(before) = page.changes_before {
        sql = sql.and("updated_at <= ?", args![before]);
    }
    if let Some(marker) = &page.marker {
        let Some(last) = get(tx, server, marker).await? else {
            return Ok(None);
        };
        sql = sql.after(&order, &[last.started_at.into(), last.request_id.into()]);
    }
    sql = sql.order(&order);
    if let Some(limit) = page.limit {
        sql = sql.limit(limit);
    }
    tx.select(sql).await?.iter().map(read).collect::<Result<_>>().map(Some)
}

pub async fn get(tx: &mut Tx<Cell>, server: ServerId, request_id: &str) -> Result<Option<ActionRow>> {
    let sql = Sql::new(ACTION).and("server_id = ?", args![server]).and("request_id = ?", args![request_id]);
    tx.select(sql).await?.first().map(read).transpose()
}

/// The steps of an action, the last begun first, as the reference has it.
pub async fn events(tx: &mut Tx<Cell>, server: ServerId, request_id: &str) -> Result<Vec<EventRow>> {
    let sql = "SELECT server_id, request_id, name, started_at, finished_at, ok, host, details FROM action_events \
         WHERE server_id = ? AND request_id = ? ORDER BY started_at DESC, name DESC";
    let rows = tx.fetch_all(sql, args![server, request_id]).await?;
    let read = |row: &Row| -> Result<EventRow> {
        Ok(EventRow {
            server_id: row.id("server_id")?,
            request_id: row.text("request_id")?,
            name: row.text("name")?,
            started_at: row.time("started_at")?,
            finished_at: row.opt_time("finished_at")?,
            ok: row.opt_int("ok")?.map(|ok| ok != 0),
            host: row.text("host")?,
            details: row.opt_text("details")?,
        })
    };
    rows.iter().map(read).collect()
}
