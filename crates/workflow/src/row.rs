use std::collections::HashSet;

use serde::Serialize;
use umbel_core::{Error, Kind, Result, Timestamp};
use umbel_db::{Row, Schema, Tx, args};

use crate::flow::Run;

/// For the migrations of every schema that has flows.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS workflows (\
    id VARCHAR(64) NOT NULL, kind VARCHAR(64) NOT NULL, step VARCHAR(64) NOT NULL, direction VARCHAR(16) NOT NULL, \
    target VARCHAR(64), state TEXT NOT NULL, error_kind BIGINT, error TEXT, attempt BIGINT NOT NULL, \
    run_at BIGINT NOT NULL, deadline BIGINT NOT NULL, lease_owner VARCHAR(64), lease_until BIGINT NOT NULL, \
    generation BIGINT NOT NULL, request_id VARCHAR(64) NOT NULL, created_at BIGINT NOT NULL, \
    PRIMARY KEY (id, kind))";

pub const TABLE_INDEX: &str = "CREATE INDEX IF NOT EXISTS workflows_due ON workflows (run_at)";

/// A flow to be started with what it works on.
pub struct NewFlow<'a, State> {
    pub id: &'a str,
    pub kind: &'static str,
    pub first_step: &'static str,
    pub state: &'a State,
    pub request_id: &'a str,
    pub now: Timestamp,
    pub deadline: Timestamp,
}

/// Writes the row in the caller's transaction: the flow exists if and only if what it works on does. The caller nudges
/// the runner after the commit. A flow of the same id and kind that exists already is left as it is.
pub async fn enqueue<S: Schema, State: Serialize>(tx: &mut Tx<S>, flow: NewFlow<'_, State>) -> Result<()> {
    let state = serde_json::to_string(flow.state).map_err(Error::internal)?;
    tx.execute(
        "INSERT IGNORE INTO workflows (id, kind, step, direction, state, attempt, run_at, deadline, lease_until, \
         generation, request_id, created_at) VALUES (?, ?, ?, 'forward', ?, 0, ?, ?, 0, 0, ?, ?)",
        args![flow.id, flow.kind, flow.first_step, state, flow.now, flow.deadline, flow.request_id, flow.now],
    )
    .await?;
    Ok(())
}

/// Whether a flow of this kind works on it still.
pub async fn pending<S: Schema>(tx: &mut Tx<S>, kind: &str, id: &str) -> Result<bool> {
    let row = tx.fetch_opt("SELECT id FROM workflows WHERE id = ? AND kind = ?", args![id, kind]).await?;
    Ok(row.is_some())
}

/// Id and state, as JSON, of every flow that has not ended. For those who must not touch what flows work on.
pub async fn under_way<S: Schema>(tx: &mut Tx<S>) -> Result<Vec<(String, String)>> {
    let rows = tx.fetch_all("SELECT id, state FROM workflows", args![]).await?;
    rows.iter().map(|row| Ok((row.text("id")?, row.text("state")?))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    /// Undoing everything, then `failed`.
    Undo,
    /// Undoing back to the target, then forward from it.
    Rewind,
    /// All is undone; `failed` is left.
    Failed,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Forward => "forward",
            Direction::Undo => "undo",
            Direction::Rewind => "rewind",
            Direction::Failed => "failed",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        [Direction::Forward, Direction::Undo, Direction::Rewind, Direction::Failed]
            .into_iter()
            .find(|direction| direction.name() == name)
            .ok_or_else(|| Error::internal(format!("a flow has the unknown direction {name}")))
    }
}

/// A leased row, as the runner works on it.
pub(crate) struct Leased {
    pub id: String,
    pub kind: String,
    pub step: String,
    pub direction: Direction,
    pub target: Option<String>,
    pub state: String,
    pub error: Option<Error>,
    pub attempt: u32,
    pub deadline: Timestamp,
    pub generation: i64,
    pub request_id: String,
    pub created_at: Timestamp,
}

const COLUMNS: &str = "id, kind, step, direction, target, state, error_kind, error, attempt, deadline, generation, request_id, created_at";

/// Takes up to `limit` due rows that nobody holds, or nobody but this owner. Those that are `mine`, by id and kind, run
/// here although their leases ran out: nobody has taken them, so they are held on to.
pub(crate) async fn lease<S: Schema>(
    tx: &mut Tx<S>,
    owner: &str,
    mine: &HashSet<(String, String)>,
    (now, until): (Timestamp, Timestamp),
    limit: usize,
) -> Result<Vec<Leased>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM workflows WHERE run_at <= ? AND lease_until < ? \
         AND (lease_owner IS NULL OR lease_owner = ?) ORDER BY run_at LIMIT {limit} FOR UPDATE SKIP LOCKED"
    );
    let rows = tx.fetch_all(&sql, args![now, now, owner]).await?;
    let mut leased = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut flow = read(row)?;
        let of = (flow.id, flow.kind);
        let runs_here = mine.contains(&of);
        (flow.id, flow.kind) = of;
        if runs_here {
            let sql = "UPDATE workflows SET lease_until = ? WHERE id = ? AND kind = ? AND lease_owner = ?";
            tx.execute(sql, args![until, &flow.id, &flow.kind, owner]).await?;
            continue;
        }
        flow.generation += 1;
        tx.execute(
            "UPDATE workflows SET lease_owner = ?, lease_until = ?, generation = ? WHERE id = ? AND kind = ?",
            args![owner, until, flow.generation, &flow.id, &flow.kind],
        )
        .await?;
        leased.push(flow);
    }
    Ok(leased)
}

pub(crate) async fn renew<S: Schema>(tx: &mut Tx<S>, owner: &str, now: Timestamp, until: Timestamp) -> Result<()> {
    let sql = "UPDATE workflows SET lease_until = ? WHERE lease_owner = ? AND lease_until >= ?";
    tx.execute(sql, args![until, owner, now]).await?;
    Ok(())
}

/// Ends leases: of one owner, or of all where `owner` is `None` (a process that knows it is alone).
pub(crate) async fn release<S: Schema>(tx: &mut Tx<S>, owner: Option<&str>) -> Result<()> {
    match owner {
        Some(owner) => {
            let sql = "UPDATE workflows SET lease_until = 0, lease_owner = NULL WHERE lease_owner = ?";
            tx.execute(sql, args![owner]).await?;
        }
        None => {
            tx.execute("UPDATE workflows SET lease_until = 0, lease_owner = NULL", vec![]).await?;
        }
    }
    Ok(())
}

/// Those whose leases ran out, so that they died, stand still, or are cut off from the database.
pub(crate) async fn lapsed<S: Schema>(tx: &mut Tx<S>, owner: &str, now: Timestamp) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT lease_owner FROM workflows WHERE lease_until < ? AND lease_owner <> ?";
    let rows = tx.fetch_all(sql, args![now, owner]).await?;
    rows.iter().map(|row| row.text("lease_owner")).collect()
}

/// Sets free what this owner has left.
pub(crate) async fn disown<S: Schema>(tx: &mut Tx<S>, owner: &str, now: Timestamp) -> Result<()> {
    let sql = "UPDATE workflows SET lease_until = 0, lease_owner = NULL WHERE lease_owner = ? AND lease_until < ?";
    tx.execute(sql, args![owner, now]).await?;
    Ok(())
}

/// Saves where the flow is; fails if another runner has taken it meanwhile.
pub(crate) async fn save<S: Schema>(tx: &mut Tx<S>, flow: &mut Leased) -> Result<()> {
    let kind = flow.error.as_ref().map(|error| i64::from(error.kind().status()));
    let error = flow.error.as_ref().map(|error| error.message().to_owned());
    let changed = tx
        .execute(
            "UPDATE workflows SET step = ?, direction = ?, target = ?, state = ?, error_kind = ?, error = ?, attempt = ?, \
             generation = ? WHERE id = ? AND kind = ? AND generation = ?",
            args![
                &flow.step,
                flow.direction.name(),
                &flow.target,
                &flow.state,
                kind,
                error,
                flow.attempt,
                flow.generation + 1,
                &flow.id,
                &flow.kind,
                flow.generation
            ],
        )
        .await?;
    lost(changed)?;
    flow.generation += 1;
    Ok(())
}

/// Puts the flow aside until `run_at`.
pub(crate) async fn park<S: Schema>(tx: &mut Tx<S>, flow: &Leased, run_at: Timestamp) -> Result<()> {
    let changed = tx
        .execute(
            "UPDATE workflows SET run_at = ?, lease_until = 0, lease_owner = NULL, attempt = ?, state = ?, generation = ? \
             WHERE id = ? AND kind = ? AND generation = ?",
            args![run_at, flow.attempt, &flow.state, flow.generation + 1, &flow.id, &flow.kind, flow.generation],
        )
        .await?;
    lost(changed)
}

/// Makes a parked flow due now.
pub(crate) async fn wake<S: Schema>(tx: &mut Tx<S>, id: &str, now: Timestamp) -> Result<()> {
    tx.execute("UPDATE workflows SET run_at = ? WHERE id = ? AND run_at > ?", args![now, id, now]).await?;
    Ok(())
}

/// The row goes, unless it went with [`finish`] or another runner has taken the flow.
pub(crate) async fn end<S: Schema>(tx: &mut Tx<S>, flow: &Leased) -> Result<()> {
    remove(tx, &flow.id, &flow.kind, flow.generation).await.map(drop)
}

/// Ends a flow in the transaction of the last thing that it does, whether that is its last step or `failed`.
///
/// What a flow sets free, the next request takes at once. If the row ended after that, a flow of the same kind that this
/// request starts would find it and be taken for the old one; and a process that died in between would have the last
/// step run again, over what was done with the thing since.
///
/// # Errors
/// `Conflict` if another runner has taken the flow: then nothing of the transaction holds.
pub async fn finish<S: Schema>(tx: &mut Tx<S>, run: &Run) -> Result<()> {
    lost(remove(tx, &run.id, &run.kind, run.generation).await?)
}

async fn remove<S: Schema>(tx: &mut Tx<S>, id: &str, kind: &str, generation: i64) -> Result<u64> {
    let sql = "DELETE FROM workflows WHERE id = ? AND kind = ? AND generation = ?";
    tx.execute(sql, args![id, kind, generation]).await
}

/// When the next row is due, or comes free from a lease; `None` if there is none. Not counted is what others have left and
/// nobody has set free yet.
pub(crate) async fn next_due<S: Schema>(tx: &mut Tx<S>, owner: &str, now: Timestamp) -> Result<Option<Timestamp>> {
    let sql = "SELECT MIN(run_at) AS free, (SELECT MIN(lease_until) FROM workflows WHERE lease_until >= ?) AS held \
               FROM workflows WHERE lease_until < ? AND (lease_owner IS NULL OR lease_owner = ?)";
    let row = tx.fetch_one(sql, args![now, now, owner]).await?;
    Ok([row.opt_time("free")?, row.opt_time("held")?].into_iter().flatten().min())
}

fn lost(changed: u64) -> Result<()> {
    match changed {
        0 => Err(Error::conflict("Another runner has taken this flow.")),
        _ => Ok(()),
    }
}

fn read(row: &Row) -> Result<Leased> {
    let error = match (row.opt_int("error_kind")?, row.opt_text("error")?) {
        (Some(status), Some(message)) => Some(Error::new(kind_of(status), message)),
        _ => None,
    };
    Ok(Leased {
        id: row.text("id")?,
        kind: row.text("kind")?,
        step: row.text("step")?,
        direction: Direction::parse(&row.text("direction")?)?,
        target: row.opt_text("target")?,
        state: row.text("state")?,
        error,
        attempt: u32::try_from(row.int("attempt")?).unwrap_or(u32::MAX),
        deadline: row.time("deadline")?,
        generation: row.int("generation")?,
        request_id: row.text("request_id")?,
        created_at: row.time("created_at")?,
    })
}

/// The kind by its status: as near as a stored failure needs to be.
fn kind_of(status: i64) -> Kind {
    match status {
        400 => Kind::BadRequest,
        401 => Kind::Unauthorized,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        501 => Kind::NotImplemented,
        503 => Kind::Unavailable,
        _ => Kind::Internal,
    }
}
