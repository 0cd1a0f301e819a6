//! Who has a volume reserved or open. All changes are made with the volume's row locked.

use std::collections::HashMap;

use serde_json::{Map, Value};
use umbel_auth::Visible;
use umbel_core::{Error, Id, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, args};

use super::Volume;
use crate::model::VolumeId;

pub type AttachmentId = Id<AttachmentRow>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachStatus {
    Reserved,
    /// A host was named and given the way to the volume.
    Attaching,
    /// The host has it open.
    Attached,
}

impl AttachStatus {
    pub fn name(self) -> &'static str {
        match self {
            AttachStatus::Reserved => "reserved",
            AttachStatus::Attaching => "attaching",
            AttachStatus::Attached => "attached",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        [AttachStatus::Reserved, AttachStatus::Attaching, AttachStatus::Attached]
            .into_iter()
            .find(|status| status.name() == name)
            .ok_or_else(|| Error::internal(format!("'{name}' is no status of an attachment")))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentRow {
    pub id: AttachmentId,
    pub volume_id: VolumeId,
    pub status: AttachStatus,
    /// The server.
    pub instance_id: Option<String>,
    pub host: Option<String>,
    /// The device in the guest, as the caller calls it.
    pub mountpoint: Option<String>,
    /// `rw` or `ro`; nothing where nobody has said.
    pub mode: Option<String>,
    /// What the host said of itself. Without it the volume is only reserved.
    pub connector: Option<Map<String, Value>>,
    pub created_at: Timestamp,
    pub attached_at: Option<Timestamp>,
}

impl AttachmentRow {
    /// Whether a host may have the volume open.
    pub fn is_connected(&self) -> bool {
        self.connector.is_some()
    }
}

/// What a list is narrowed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachmentFilter {
    pub volume_id: Option<String>,
    pub instance_id: Option<String>,
    pub status: Option<String>,
    /// The last one of the page before.
    pub marker: Option<AttachmentId>,
    pub limit: usize,
}

const COLUMNS: &str = "SELECT a.id, a.volume_id, a.status, a.instance_id, a.host, a.mountpoint, a.attach_mode, \
    a.connector, a.created_at, a.attached_at FROM volume_attachments a";

fn read(row: &Row) -> Result<AttachmentRow> {
    let connector = row.opt_text("connector")?;
    let connector = connector.map(|text| serde_json::from_str(&text)).transpose().map_err(Error::internal)?;
    Ok(AttachmentRow {
        id: row.id("id")?,
        volume_id: row.id("volume_id")?,
        status: AttachStatus::parse(&row.text("status")?)?,
        instance_id: row.opt_text("instance_id")?,
        host: row.opt_text("host")?,
        mountpoint: row.opt_text("mountpoint")?,
        mode: row.opt_text("attach_mode")?,
        connector,
        created_at: row.time("created_at")?,
        attached_at: row.opt_time("attached_at")?,
    })
}

fn connector_text(row: &AttachmentRow) -> Result<Option<String>> {
    row.connector.as_ref().map(serde_json::to_string).transpose().map_err(Error::internal)
}

fn seen(visible: &Visible) -> Sql {
    match visible {
        Visible::All => Sql::new(COLUMNS),
        Visible::Project(project) => {
            let joined = format!("{COLUMNS} JOIN volumes v ON v.id = a.volume_id");
            Sql::new(&joined).and("v.project_id = ?", args![project])
        }
    }
}

pub async fn insert(tx: &mut Tx<Volume>, row: &AttachmentRow) -> Result<()> {
    let sql = "INSERT INTO volume_attachments (id, volume_id, status, instance_id, host, mountpoint, attach_mode, \
        connector, created_at, attached_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = args![
        row.id,
        row.volume_id,
        row.status.name(),
        row.instance_id.as_deref(),
        row.host.as_deref(),
        row.mountpoint.as_deref(),
        row.mode.as_deref(),
        connector_text(row)?,
        row.created_at,
        row.attached_at
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Writes all but the ids and when it was made.
pub async fn update(tx: &mut Tx<Volume>, row: &AttachmentRow) -> Result<()> {
    let sql = "UPDATE volume_attachments SET status = ?, instance_id = ?, host = ?, mountpoint = ?, attach_mode = ?, \
        connector = ?, attached_at = ? WHERE id = ?";
    let values = args![
        row.status.name(),
        row.instance_id.as_deref(),
        row.host.as_deref(),
        row.mountpoint.as_deref(),
        row.mode.as_deref(),
        connector_text(row)?,
        row.attached_at,
        row.id
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

pub async fn get(tx: &mut Tx<Volume>, visible: &Visible, id: AttachmentId) -> Result<Option<AttachmentRow>> {
    let rows = tx.select(seen(visible).and("a.id = ?", args![id])).await?;
    rows.first().map(read).transpose()
}

/// Oldest first.
pub async fn list(tx: &mut Tx<Volume>, visible: &Visible, filter: &AttachmentFilter) -> Result<Vec<AttachmentRow>> {
    const ORDER: &[(&str, Direction)] = &[("a.created_at", Direction::Asc), ("a.id", Direction::Asc)];
    let mut sql = seen(visible);
    let equal =
        [("a.volume_id", &filter.volume_id), ("a.instance_id", &filter.instance_id), ("a.status", &filter.status)];
    for (column, value) in equal {
        if let Some(value) = value {
            sql = sql.and(&format!("{column} = ?"), args![value]);
        }
    }
    if let Some(marker) = filter.marker {
        let missing = || Error::bad_request(format!("Marker {marker} could not be found."));
        let row = get(tx, visible, marker).await?.ok_or_else(missing)?;
        sql = sql.after(ORDER, &[row.created_at.into(), row.id.into()]);
    }
    let rows = tx.select(sql.order(ORDER).limit(filter.limit)).await?;
    rows.iter().map(read).collect()
}

/// Of one volume, oldest first.
pub async fn of_volume(tx: &mut Tx<Volume>, volume: VolumeId) -> Result<Vec<AttachmentRow>> {
    let sql = format!("{COLUMNS} WHERE a.volume_id = ? ORDER BY a.created_at, a.id");
    tx.fetch_all(&sql, args![volume]).await?.iter().map(read).collect()
}

/// Of several volumes, for a page of them.
pub async fn of_volumes(tx: &mut Tx<Volume>, volumes: &[VolumeId]) -> Result<HashMap<VolumeId, Vec<AttachmentRow>>> {
    let sql = Sql::new(COLUMNS).and_in("a.volume_id", volumes.iter().copied());
    let sql = sql.order(&[("a.created_at", Direction::Asc), ("a.id", Direction::Asc)]);
    let mut found: HashMap<VolumeId, Vec<AttachmentRow>> = HashMap::new();
    for row in tx.select(sql).await? {
        let row = read(&row)?;
        found.entry(row.volume_id).or_default().push(row);
    }
    Ok(found)
}

/// Whether it was there.
pub async fn delete(tx: &mut Tx<Volume>, id: AttachmentId) -> Result<bool> {
    Ok(tx.execute("DELETE FROM volume_attachments WHERE id = ?", args![id]).await? > 0)
}

pub async fn delete_of_volume(tx: &mut Tx<Volume>, volume: VolumeId) -> Result<()> {
    tx.execute("DELETE FROM volume_attachments WHERE volume_id = ?", args![volume]).await?;
    Ok(())
}
