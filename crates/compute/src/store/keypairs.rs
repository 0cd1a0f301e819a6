//! Key pairs belong to a user, not to a project.

use umbel_core::{Error, Kind, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, args};

use crate::Api;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keypair {
    pub user_id: String,
    pub name: String,
    /// A number that the API shows, for what upstream calls the row.
    pub number: i64,
    /// `ssh` or `x509`.
    pub kind: String,
    pub fingerprint: String,
    pub public_key: String,
    pub created_at: Timestamp,
}

const SELECT: &str = "SELECT user_id, name, number, kind, fingerprint, public_key, created_at FROM keypairs";

fn read(row: &Row) -> Result<Keypair> {
    Ok(Keypair {
        user_id: row.text("user_id")?,
        name: row.text("name")?,
        number: row.int("number")?,
        kind: row.text("kind")?,
        fingerprint: row.text("fingerprint")?,
        public_key: row.text("public_key")?,
        created_at: row.time("created_at")?,
    })
}

/// 409 if the user has one of this name.
pub async fn insert(tx: &mut Tx<Api>, key: &Keypair) -> Result<()> {
    let done = tx
        .execute(
            "INSERT INTO keypairs (user_id, name, number, kind, fingerprint, public_key, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
            args![&key.user_id, &key.name, key.number, &key.kind, &key.fingerprint, &key.public_key, key.created_at],
        )
        .await;
    match done {
        Err(error) if error.is(Kind::Conflict) => {
            Err(Error::conflict(format!("Key pair '{}' already exists.", key.name)).because(error.for_log()))
        }
        other => other.map(|_| ()),
    }
}

pub async fn get(tx: &mut Tx<Api>, user_id: &str, name: &str) -> Result<Option<Keypair>> {
    let sql = Sql::new(SELECT).and("user_id = ?", args![user_id]).and("name = ?", args![name]);
    tx.select(sql).await?.first().map(read).transpose()
}

/// By name, after the marker; `None` if the marker is no key of the user.
pub async fn list(tx: &mut Tx<Api>, user_id: &str, marker: Option<&str>, limit: usize) -> Result<Option<Vec<Keypair>>> {
    let order = [("name", Direction::Asc)];
    let mut sql = Sql::new(SELECT).and("user_id = ?", args![user_id]);
    if let Some(marker) = marker {
        if get(tx, user_id, marker).await?.is_none() {
            return Ok(None);
        }
        sql = sql.after(&order, &[marker.into()]);
    }
    tx.select(sql.order(&order).limit(limit)).await?.iter().map(read).collect::<Result<_>>().map(Some)
}

pub async fn count(tx: &mut Tx<Api>, user_id: &str) -> Result<u64> {
    let row = tx.fetch_one("SELECT COUNT(*) AS total FROM keypairs WHERE user_id = ?", args![user_id]).await?;
    row.uint("total")
}

/// False if there was none.
pub async fn delete(tx: &mut Tx<Api>, user_id: &str, name: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM keypairs WHERE user_id = ? AND name = ?", args![user_id, name]).await? > 0)
}
