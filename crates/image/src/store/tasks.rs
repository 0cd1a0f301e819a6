//! What clients see of work that goes on behind a request.

use serde_json::Value as Json;
use umbel_api::image::{TaskStatus, TaskType};
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, Value, args};

use super::Image;
use crate::model::{ImageId, Task};

const COLUMNS: &str = "SELECT id, kind, status, owner, user_id, request_id, image_id, input, result, message, \
    created_at, updated_at, expires_at FROM image_tasks";

/// What a list of tasks asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskQuery {
    pub kind: Option<TaskType>,
    pub status: Option<TaskStatus>,
    pub direction: Direction,
    pub marker: Option<Task>,
    pub limit: usize,
}

pub async fn insert(tx: &mut Tx<Image>, task: &Task) -> Result<()> {
    let sql = "INSERT INTO image_tasks (id, kind, status, owner, user_id, request_id, image_id, input, result, \
        message, created_at, updated_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = args![
        &task.id,
        task.kind.name(),
        task.status.name(),
        &task.owner,
        &task.user,
        &task.request,
        task.image.map(|id| id.to_string()),
        task.input.to_string(),
        task.result.as_ref().map(Json::to_string),
        &task.message,
        task.created_at,
        task.updated_at,
        task.expires_at,
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

pub async fn get(tx: &mut Tx<Image>, id: &str) -> Result<Option<Task>> {
    let rows = tx.select(Sql::new(COLUMNS).and("id = ?", args![id])).await?;
    rows.first().map(task).transpose()
}

/// Oldest first.
pub async fn of_image(tx: &mut Tx<Image>, image: ImageId) -> Result<Vec<Task>> {
    let sql = Sql::new(COLUMNS).and("image_id = ?", args![image]).push("ORDER BY created_at, id");
    tx.select(sql).await?.iter().map(task).collect()
}

/// A page, and whether another follows.
pub async fn list(tx: &mut Tx<Image>, query: &TaskQuery) -> Result<(Vec<Task>, bool)> {
    let mut sql = Sql::new(COLUMNS);
    if let Some(kind) = query.kind {
        sql = sql.and("kind = ?", args![kind.name()]);
    }
    if let Some(status) = query.status {
        sql = sql.and("status = ?", args![status.name()]);
    }
    let order = [("created_at", query.direction), ("id", query.direction)];
    if let Some(marker) = &query.marker {
        sql = sql.after(&order, &[marker.created_at.into(), Value::from(&marker.id)]);
    }
    let rows = tx.select(sql.order(&order).limit(query.limit + 1)).await?;
    let more = rows.len() > query.limit;
    Ok((rows.iter().take(query.limit).map(task).collect::<Result<_>>()?, more))
}

/// From `pending` on; one that has ended stays as it is.
pub async fn set_processing(tx: &mut Tx<Image>, id: &str, message: &str, now: Timestamp) -> Result<()> {
    let sql = "UPDATE image_tasks SET status = 'processing', message = ?, updated_at = ? \
        WHERE id = ? AND status IN ('pending', 'processing')";
    tx.execute(sql, args![message, now, id]).await?;
    Ok(())
}

/// How a task ended, and until when it is kept.
pub async fn end(
    tx: &mut Tx<Image>,
    id: &str,
    outcome: std::result::Result<&Json, &str>,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<()> {
    let (status, result, message) = match outcome {
        Ok(result) => (TaskStatus::Success, Some(result.to_string()), ""),
        Err(message) => (TaskStatus::Failure, None, message),
    };
    let sql = "UPDATE image_tasks SET status = ?, result = ?, message = ?, updated_at = ?, expires_at = ? \
        WHERE id = ? AND status IN ('pending', 'processing')";
    tx.execute(sql, args![status.name(), result, message, now, expires_at, id]).await?;
    Ok(())
}

/// Forgets tasks whose time is over; how many.
pub async fn expire(tx: &mut Tx<Image>, now: Timestamp) -> Result<u64> {
    tx.execute("DELETE FROM image_tasks WHERE expires_at <= ?", args![now]).await
}

fn task(row: &Row) -> Result<Task> {
    let json = |text: String| {
        serde_json::from_str::<Json>(&text).map_err(|error| Error::internal(error).because("a task's row"))
    };
    let unknown = |error: Error| Error::internal(error.message().to_owned()).because("a task's row");
    Ok(Task {
        id: row.text("id")?,
        kind: row.text("kind")?.parse().map_err(unknown)?,
        status: row.text("status")?.parse().map_err(unknown)?,
        owner: row.opt_text("owner")?,
        user: row.opt_text("user_id")?,
        request: row.opt_text("request_id")?,
        image: row.opt_text("image_id")?.map(|text| text.parse()).transpose().map_err(unknown)?,
        input: json(row.text("input")?)?,
        result: row.opt_text("result")?.map(json).transpose()?,
        message: row.text("message")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        expires_at: row.opt_time("expires_at")?,
    })
}
