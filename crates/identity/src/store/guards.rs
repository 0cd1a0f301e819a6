//! What is known of a user beside its row, for the rules of security compliance. In tables of its own, because it changes
//! with logins: a user's generation does not.

use umbel_core::{Result, Timestamp};
use umbel_db::args;

use super::Tx;

#[derive(Clone, Debug, Default)]
pub(crate) struct GuardRow {
    /// Wrong passwords since the last good one.
    pub failed_count: i64,
    pub failed_at: Option<Timestamp>,
    /// When the password was set, where that is known.
    pub password_at: Option<Timestamp>,
    /// Whether the user set it, rather than an administrator.
    pub self_service: bool,
}

const SELECT: &str = "SELECT failed_count, failed_at, password_at, self_service FROM user_guards WHERE user_id = ?";

pub(crate) async fn get(tx: &mut Tx, user_id: &str) -> Result<GuardRow> {
    read(tx, SELECT, user_id).await
}

/// Held against other logins of the user until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx, user_id: &str, now: Timestamp) -> Result<GuardRow> {
    ensure(tx, user_id, now).await?;
    read(tx, &format!("{SELECT} FOR UPDATE"), user_id).await
}

async fn read(tx: &mut Tx, sql: &str, user_id: &str) -> Result<GuardRow> {
    let Some(row) = tx.fetch_opt(sql, args![user_id]).await? else {
        return Ok(GuardRow::default());
    };
    Ok(GuardRow {
        failed_count: row.int("failed_count")?,
        failed_at: row.opt_time("failed_at")?,
        password_at: row.opt_time("password_at")?,
        self_service: row.bool("self_service")?,
    })
}

/// Of a user that is new, or older than this table: its time of being away begins now.
pub(crate) async fn ensure(tx: &mut Tx, user_id: &str, now: Timestamp) -> Result<()> {
    let sql = "INSERT IGNORE INTO user_guards (user_id, active_at, failed_count, self_service) VALUES (?, ?, 0, 0)";
    tx.execute(sql, args![user_id, now]).await?;
    Ok(())
}

/// A wrong password, which makes so many in a row. The row must stand.
pub(crate) async fn failed(tx: &mut Tx, user_id: &str, count: i64, now: Timestamp) -> Result<()> {
    let sql = "UPDATE user_guards SET failed_count = ?, failed_at = ? WHERE user_id = ?";
    tx.execute(sql, args![count, now, user_id]).await?;
    Ok(())
}

pub(crate) async fn forgive(tx: &mut Tx, user_id: &str) -> Result<()> {
    let sql = "UPDATE user_guards SET failed_count = 0, failed_at = NULL WHERE user_id = ?";
    tx.execute(sql, args![user_id]).await?;
    Ok(())
}

pub(crate) async fn active(tx: &mut Tx, user_id: &str, now: Timestamp) -> Result<()> {
    ensure(tx, user_id, now).await?;
    tx.execute("UPDATE user_guards SET active_at = ? WHERE user_id = ?", args![now, user_id]).await?;
    Ok(())
}

pub(crate) async fn password_set(tx: &mut Tx, user_id: &str, now: Timestamp, self_service: bool) -> Result<()> {
    ensure(tx, user_id, now).await?;
    let sql = "UPDATE user_guards SET password_at = ?, self_service = ? WHERE user_id = ?";
    tx.execute(sql, args![now, self_service, user_id]).await?;
    Ok(())
}

/// Hashes of passwords that the user had before this one, the newest first.
pub(crate) async fn past_passwords(tx: &mut Tx, user_id: &str, count: u32) -> Result<Vec<String>> {
    let sql = format!("SELECT password_hash {PAST} LIMIT {count}");
    let rows = tx.fetch_all(&sql, args![user_id]).await?;
    rows.iter().map(|row| row.text("password_hash")).collect()
}

const PAST: &str = "FROM past_passwords WHERE user_id = ? ORDER BY replaced_at DESC, id DESC";

/// Remembers a password that is being replaced, and forgets those beyond the last `keep`.
pub(crate) async fn remember_password(
    tx: &mut Tx,
    user_id: &str,
    id: &str,
    hash: &str,
    now: Timestamp,
    keep: usize,
) -> Result<()> {
    if keep > 0 {
        let sql = "INSERT INTO past_passwords (id, user_id, password_hash, replaced_at) VALUES (?, ?, ?, ?)";
        tx.execute(sql, args![id, user_id, hash, now]).await?;
    }
    let rows = tx.fetch_all(&format!("SELECT id {PAST}"), args![user_id]).await?;
    for row in rows.iter().skip(keep) {
        tx.execute("DELETE FROM past_passwords WHERE id = ?", args![row.text("id")?]).await?;
    }
    Ok(())
}
