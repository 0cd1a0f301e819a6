//! Disks and snapshots that left the books and stayed in their pool.
//!
//! Nothing else tells them from what a crash left over, and the audit removes what is left over. Rows go when the thing
//! is managed again; one whose disk was removed by hand stays and says nothing of any other disk: names are never reused.

use umbel_core::{Result, Timestamp};
use umbel_db::{Row, Tx, args};

use super::Volume;
use crate::model::VolumeId;

pub const STATEMENTS: &[&str] = &["CREATE TABLE IF NOT EXISTS unmanaged (
        backend VARCHAR(64) NOT NULL,
        disk VARCHAR(255) NOT NULL,
        disk_snapshot VARCHAR(255) NOT NULL,
        unmanaged_at BIGINT NOT NULL,
        PRIMARY KEY (backend, disk, disk_snapshot))"];

/// What was unmanaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmanaged {
    pub backend: String,
    pub disk: String,
    /// `None`: the disk, with all its snapshots.
    pub snapshot: Option<String>,
    pub at: Timestamp,
}

/// Notes it, in the transaction that takes its row away. No snapshot: the disk.
pub async fn note(
    tx: &mut Tx<Volume>,
    backend: &str,
    disk: &str,
    snapshot: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    managed(tx, backend, disk, snapshot).await?;
    let sql = "INSERT INTO unmanaged (backend, disk, disk_snapshot, unmanaged_at) VALUES (?, ?, ?, ?)";
    tx.execute(sql, args![backend, disk, snapshot.unwrap_or(""), now]).await?;
    Ok(())
}

/// It is in the books again.
pub async fn managed(tx: &mut Tx<Volume>, backend: &str, disk: &str, snapshot: Option<&str>) -> Result<()> {
    let sql = "DELETE FROM unmanaged WHERE backend = ? AND disk = ? AND disk_snapshot = ?";
    tx.execute(sql, args![backend, disk, snapshot.unwrap_or("")]).await?;
    Ok(())
}

/// The volume's disk is gone, with the snapshots of it that were in no book.
pub async fn gone(tx: &mut Tx<Volume>, id: VolumeId) -> Result<()> {
    let sql = "DELETE FROM unmanaged WHERE disk IN (SELECT disk FROM volumes WHERE id = ?)";
    tx.execute(sql, args![id]).await?;
    Ok(())
}

/// The disk has another name by now; its snapshots that are in no book have kept theirs.
pub async fn renamed(tx: &mut Tx<Volume>, backend: &str, disk: &str, to: &str) -> Result<()> {
    let sql = "UPDATE unmanaged SET disk = ? WHERE backend = ? AND disk = ? AND disk_snapshot <> ''";
    tx.execute(sql, args![to, backend, disk]).await?;
    Ok(())
}

/// All there are: as many as operators have unmanaged by hand.
pub async fn list(tx: &mut Tx<Volume>) -> Result<Vec<Unmanaged>> {
    let sql = "SELECT backend, disk, disk_snapshot, unmanaged_at FROM unmanaged ORDER BY backend, disk, disk_snapshot";
    let read = |row: &Row| {
        Ok(Unmanaged {
            backend: row.text("backend")?,
            disk: row.text("disk")?,
            snapshot: row.opt_text("disk_snapshot")?.filter(|name| !name.is_empty()),
            at: row.time("unmanaged_at")?,
        })
    };
    tx.fetch_all(sql, args![]).await?.iter().map(read).collect()
}
