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
            args![
                after.disabled,
                &after.disabled_reason,
                after.frozen,
                after.modified_at,
                &after.host,
                &after.binary
            ],
        )
        .await?;
    Ok(changed > 0)
}
