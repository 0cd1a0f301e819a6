//! Messages to users about what came to nothing after it was accepted.

use umbel_auth::Visible;
use umbel_core::{Id, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, Value, args};

use super::Volume;

pub type MessageId = Id<MessageRow>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    pub id: MessageId,
    pub project_id: String,
    pub request_id: String,
    pub resource_type: String,
    pub resource_uuid: String,
    pub action_id: String,
    pub detail_id: String,
    pub level: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What a list shows. The texts are compared as they are.
#[derive(Clone, Debug, Default)]
pub struct MessageFilter {
    pub resource_type: Option<String>,
    pub resource_uuid: Option<String>,
    /// `(resource type, action, detail)`.
    pub event: Option<(String, String, String)>,
    pub request_id: Option<String>,
    pub level: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageSort {
    Id,
    CreatedAt,
    ExpiresAt,
    RequestId,
    ResourceType,
    ResourceUuid,
    Level,
}

impl MessageSort {
    fn column(self) -> &'static str {
        match self {
            MessageSort::Id => "id",
            MessageSort::CreatedAt => "created_at",
            MessageSort::ExpiresAt => "expires_at",
            MessageSort::RequestId => "request_id",
            MessageSort::ResourceType => "resource_type",
            MessageSort::ResourceUuid => "resource_uuid",
            MessageSort::Level => "message_level",
        }
    }

    fn of(self, row: &MessageRow) -> Value {
        match self {
            MessageSort::Id => row.id.into(),
            MessageSort::CreatedAt => row.created_at.into(),
            MessageSort::ExpiresAt => row.expires_at.into(),
            MessageSort::RequestId => (&row.request_id).into(),
            MessageSort::ResourceType => (&row.resource_type).into(),
            MessageSort::ResourceUuid => (&row.resource_uuid).into(),
            MessageSort::Level => (&row.level).into(),
        }
    }
}

const SELECT: &str = "SELECT id, project_id, request_id, resource_type, resource_uuid, action_id, detail_id, \
     message_level, created_at, expires_at FROM messages WHERE 1 = 1";

fn seen(visible: &Visible) -> Sql {
    match visible {
        Visible::All => Sql::new(SELECT),
        Visible::Project(project) => Sql::new(SELECT).and("project_id = ?", args![project]),
    }
}

fn read(row: &Row) -> Result<MessageRow> {
    Ok(MessageRow {
        id: row.id("id")?,
        project_id: row.text("project_id")?,
        request_id: row.text("request_id")?,
        resource_type: row.text("resource_type")?,
        resource_uuid: row.text("resource_uuid")?,
        action_id: row.text("action_id")?,
        detail_id: row.text("detail_id")?,
        level: row.text("message_level")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}

pub async fn insert(tx: &mut Tx<Volume>, new: &MessageRow) -> Result<()> {
    tx.execute(
        "INSERT INTO messages (id, project_id, request_id, resource_type, resource_uuid, action_id, detail_id, \
         message_level, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            new.id,
            &new.project_id,
            &new.request_id,
            &new.resource_type,
            &new.resource_uuid,
            &new.action_id,
            &new.detail_id,
            &new.level,
            new.created_at,
            new.expires_at
        ],
    )
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx<Volume>, visible: &Visible, id: MessageId) -> Result<Option<MessageRow>> {
    tx.select(seen(visible).and("id = ?", args![id])).await?.first().map(read).transpose()
}

/// A page, from the row after the marker.
pub async fn list(
    tx: &mut Tx<Volume>,
    visible: &Visible,
    filter: &MessageFilter,
    sort: &[(MessageSort, Direction)],
    (marker, limit): (Option<&MessageRow>, usize),
) -> Result<Vec<MessageRow>> {
    let mut sql = seen(visible);
    let (kind, action, detail) = match &filter.event {
        Some((kind, action, detail)) => (Some(kind), Some(action), Some(detail)),
        None => (None, None, None),
    };
    let wanted = [
        ("resource_type", filter.resource_type.as_ref()),
        ("resource_uuid", filter.resource_uuid.as_ref()),
        ("resource_type", kind),
        ("action_id", action),
        ("detail_id", detail),
        ("request_id", filter.request_id.as_ref()),
        ("message_level", filter.level.as_ref()),
    ];
    for (column, value) in wanted {
        if let Some(value) = value {
            sql = sql.and(&format!("{column} = ?"), args![value]);
        }
    }
    let order: Vec<(&str, Direction)> = sort.iter().map(|(by, direction)| (by.column(), *direction)).collect();
    if let Some(row) = marker {
        let values: Vec<Value> = sort.iter().map(|(by, _)| by.of(row)).collect();
        sql = sql.after(&order, &values);
    }
    tx.select(sql.order(&order).limit(limit)).await?.iter().map(read).collect()
}

pub async fn delete(tx: &mut Tx<Volume>, id: MessageId) -> Result<()> {
    tx.execute("DELETE FROM messages WHERE id = ?", args![id]).await?;
    Ok(())
}

/// Those whose time is over; how many there were.
pub async fn reap(tx: &mut Tx<Volume>, now: Timestamp) -> Result<u64> {
    tx.execute("DELETE FROM messages WHERE expires_at < ?", args![now]).await
}
