//! What the comparison of pools with this database reads, and nothing else does: all of it at once.

use umbel_core::Result;
use umbel_db::{Row, Sql, Tx, args};

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
