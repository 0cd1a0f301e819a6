//! The daemons that report, and what an operator decided about them.

use umbel_core::{Result, Timestamp};
use umbel_db::{Row, Tx, args};

use super::Volume;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRow {
    /// `<host>`, or `<host>@<backend>`.
    pub host: String,
    /// `cinder-volume`, `cinder-scheduler` or `cinder-backup`.
    pub binary: String,
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    /// Its backend takes nothing new and gives nothing up.
    pub frozen: bool,
    /// When an operator changed it last.
    pub modified_at: Option<Timestamp>,
    /// When it reported last.
    pub seen_at: Timestamp,
}

fn read(row: &Row) -> Result<ServiceRow> {
    Ok(ServiceRow {
        host: row.text("host")?,
        binary: row.text("binary_name")?,
        disabled: row.bool("disabled")?,
        disabled_reason: row.opt_text("disabled_reason")?,
        frozen: row.bool("frozen")?,
        modified_at: row.opt_time("modified_at")?,
        seen_at: row.time("seen_at")?,
    })
}

pub async fn list(tx: &mut Tx<Volume>) -> Result<Vec<ServiceRow>> {
    let sql = "SELECT host, binary_name, disabled, disabled_reason, frozen, modified_at, seen_at FROM services \
               ORDER BY binary_name, host";
    tx.fetch_all(sql, args![]).await?.iter().map(read).collect()
}

/// It is there, now.
pub async fn report(tx: &mut Tx<Volume>, host: &str, binary: &str, now: Timestamp) -> Result<()> {
    let sql = "UPDATE services SET seen_at = ? WHERE host = ? AND binary_name = ?";
    if tx.execute(sql, args![now, host, binary]).await? == 0 {
        let sql = "INSERT IGNORE INTO services (host, binary_name, disabled, frozen, created_at, seen_at) \
                   VALUES (?, ?, 0, 0, ?, ?)";
        tx.execute(sql, args![host, binary, now, now]).await?;
    }
    Ok(())
}

/// What an operator may change. Whether there is such a service.
pub async fn update(tx: &mut Tx<Volume>, after: &ServiceRow) -> Result<bool> {
    let changed = tx
        .execute(
            "UPDATE services SET disabled = ?, disabled_reason = ?, frozen = ?, modified_at = ? \
             WHERE host = ? AND binary_name = ?",
            args![after.disabled, &after.disabled_reason, after.frozen, after.modified_at, &after.host, &after.binary],
        )
        .await?;
    Ok(changed > 0)
}

/// How many things a backend has of each project, and their GiB.
pub type Sums = std::collections::BTreeMap<String, (u64, u64)>;

/// Of volumes and of snapshots. For operators: it tells of all projects.
pub async fn load(tx: &mut Tx<Volume>, backend: &str) -> Result<(Sums, Sums)> {
    let volumes = "SELECT project_id, COUNT(*) AS n, SUM_INT(size_gib) AS gib FROM volumes \
                   WHERE backend = ? AND deleted = 0 GROUP BY project_id";
    let snapshots = "SELECT s.project_id AS project_id, COUNT(*) AS n, SUM_INT(s.size_gib) AS gib FROM snapshots s \
                     JOIN volumes v ON v.id = s.volume_id \
                     WHERE v.backend = ? AND s.deleted = 0 GROUP BY s.project_id";
    Ok((sums(tx, volumes, backend).await?, sums(tx, snapshots, backend).await?))
}

async fn sums(tx: &mut Tx<Volume>, sql: &str, backend: &str) -> Result<Sums> {
    let rows = tx.fetch_all(sql, args![backend]).await?;
    rows.iter().map(|row| Ok((row.text("project_id")?, (row.uint("n")?, row.uint("gib")?)))).collect()
}
