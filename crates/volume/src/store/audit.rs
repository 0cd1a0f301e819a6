//! What the comparison of pools with this database reads, and nothing else does: all of it at once.

use umbel_core::{GIB, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, args};

use super::Volume;

/// A disk of a volume, or a snapshot of one, that the database knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of the volume, or of the backup.
    pub id: String,
    /// Empty if it has none.
    pub name: String,
    pub backend: String,
    pub disk: String,
    /// `None`: the disk itself.
    pub snapshot: Option<String>,
    /// It must be there; others may be on their way in or out.
    pub expected: bool,
}

/// Statuses of a volume whose disk nobody is making, replacing or taking away.
const SETTLED: &str = "'available', 'reserved', 'attaching', 'detaching', 'in-use', 'maintenance', \
     'awaiting-transfer', 'backing-up', 'error_backing-up', 'uploading', 'extending', 'error_extending'";

/// Every volume's disk and every snapshot, those of deleted volumes included.
pub async fn disks(tx: &mut Tx<Volume>) -> Result<Vec<Known>> {
    let sql = format!(
        "SELECT id, name, backend, disk, NULL AS disk_snapshot, \
            CASE WHEN deleted = 0 AND status IN ({SETTLED}) THEN 1 ELSE 0 END AS expected \
            FROM volumes WHERE backend IS NOT NULL \
        UNION ALL SELECT v.id, v.name, v.backend, v.disk, s.disk_snapshot, \
            CASE WHEN v.deleted = 0 AND s.deleted = 0 AND s.status = 'available' AND v.status IN ({SETTLED}) \
            THEN 1 ELSE 0 END \
            FROM snapshots s JOIN volumes v ON v.id = s.volume_id WHERE v.backend IS NOT NULL"
    );
    tx.fetch_all(&sql, args![]).await?.iter().map(read).collect()
}

/// A backup's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownBackup {
    pub id: String,
    pub name: String,
    /// Where its data is.
    pub target: String,
    /// What the data was made of, and what the chain and this link of it are called there.
    pub volume: String,
    pub base: String,
    pub data: String,
    /// The data that it is an increment of.
    pub parent: Option<String>,
    /// The volume that was backed up, and its snapshot with which the next backup is compared.
    pub source: Option<(String, String)>,
    pub expected: bool,
}

pub async fn backups(tx: &mut Tx<Volume>) -> Result<Vec<KnownBackup>> {
    let sql = "SELECT id, name, target, data_volume, data_base, data_id, data_parent, volume_id, source_snapshot, \
        CASE WHEN status = 'available' THEN 1 ELSE 0 END AS expected FROM backups";
    let read = |row: &Row| {
        Ok(KnownBackup {
            id: row.text("id")?,
            name: row.opt_text("name")?.unwrap_or_default(),
            target: row.text("target")?,
            volume: row.text("data_volume")?,
            base: row.text("data_base")?,
            data: row.text("data_id")?,
            parent: row.opt_text("data_parent")?,
            source: row.opt_text("source_snapshot")?.map(|name| Ok((row.text("volume_id")?, name))).transpose()?,
            expected: row.bool("expected")?,
        })
    };
    tx.fetch_all(sql, args![]).await?.iter().map(read).collect()
}

/// A workflow under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// `volume`, `snapshot`, `backup`, or `group` where it works on none of these.
    pub noun: &'static str,
    pub id: String,
    /// Empty if it has none.
    pub name: String,
    /// The workflow's kind.
    pub what: String,
    pub began: Timestamp,
    /// Of what it copies, where it copies.
    pub percent: Option<u64>,
    /// Bytes of what it works on.
    pub size: u64,
    /// The step it is at; that it failed and is undone, if it is.
    pub note: Option<String>,
}

/// Workflows with how far they are, oldest first; the first of them if there are more.
pub async fn running(tx: &mut Tx<Volume>, limit: usize) -> Result<Vec<Running>> {
    let sql = "SELECT w.id AS id, w.kind AS kind, w.step AS step, w.direction AS direction, \
            w.created_at AS created_at, v.id AS volume_id, v.name AS volume_name, v.size_gib AS volume_gib, \
            v.progress AS volume_percent, s.id AS snapshot_id, s.name AS snapshot_name, s.size_gib AS snapshot_gib, \
            b.id AS backup_id, b.name AS backup_name, b.size_gib AS backup_gib, b.progress AS backup_percent \
        FROM workflows w LEFT JOIN volumes v ON v.id = w.id LEFT JOIN snapshots s ON s.id = w.id \
            LEFT JOIN backups b ON b.id = w.id";
    let sql = Sql::new(sql).order(&[("w.created_at", Direction::Asc), ("w.id", Direction::Asc)]).limit(limit);
    let rows = tx.select(sql).await?;
    rows.iter().map(read_running).collect()
}

fn read_running(row: &Row) -> Result<Running> {
    let mut noun = "group";
    for one in ["volume", "snapshot", "backup"] {
        if row.opt_text(&format!("{one}_id"))?.is_some() {
            noun = one;
        }
    }
    let step = row.text("step")?;
    let note = match row.text("direction")?.as_str() {
        "forward" => step,
        _ => format!("{step}, undone"),
    };
    let known = noun != "group";
    Ok(Running {
        noun,
        id: row.text("id")?,
        name: if known { row.opt_text(&format!("{noun}_name"))?.unwrap_or_default() } else { String::new() },
        what: row.text("kind")?,
        began: row.time("created_at")?,
        percent: match noun {
            "volume" | "backup" => row.opt_uint(&format!("{noun}_percent"))?,
            _ => None,
        },
        size: if known { row.opt_uint(&format!("{noun}_gib"))?.unwrap_or(0).saturating_mul(GIB) } else { 0 },
        note: Some(note),
    })
}

/// Volumes with this id or name, deleted ones left out.
pub async fn find(tx: &mut Tx<Volume>, text: &str) -> Result<Vec<(String, String)>> {
    let sql = Sql::new("SELECT id, name FROM volumes")
        .and("deleted = 0", args![])
        .and("id = ? OR name = ?", args![text, text]);
    let rows = tx.select(sql.push("ORDER BY id")).await?;
    rows.iter().map(|row| Ok((row.text("id")?, row.opt_text("name")?.unwrap_or_default()))).collect()
}

fn read(row: &Row) -> Result<Known> {
    Ok(Known {
        id: row.text("id")?,
        name: row.opt_text("name")?.unwrap_or_default(),
        backend: row.text("backend")?,
        disk: row.text("disk")?,
        snapshot: row.opt_text("disk_snapshot")?,
        expected: row.bool("expected")?,
    })
}
