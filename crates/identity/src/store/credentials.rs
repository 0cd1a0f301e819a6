//! Credentials of other protocols (EC2 keys, certificates, TOTP seeds): an opaque text per row, sealed by the service.

use umbel_api::identity::Extra;
use umbel_core::{Generation, Result};
use umbel_db::{Row, Sql, args};

use super::{Tx, Window, document, read_document};

#[derive(Clone)]
pub(crate) struct CredentialRow {
    pub id: String,
    pub generation: Generation,
    pub user_id: String,
    pub project_id: Option<String>,
    pub kind: String,
    /// As stored: sealed.
    pub content: String,
    pub extra: Extra,
}

impl CredentialRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(CredentialRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            user_id: row.text("user_id")?,
            project_id: row.opt_text("project_id")?,
            kind: row.text("kind")?,
            content: row.text("content")?,
            extra: read_document(row, "extra")?,
        })
    }
}

const SELECT: &str = "SELECT id, generation, user_id, project_id, kind, content, extra FROM credentials";

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<CredentialRow>> {
    tx.select(Sql::new(SELECT).and("id = ?", args![id])).await?.first().map(CredentialRow::read).transpose()
}

pub(crate) async fn list(
    tx: &mut Tx,
    user_id: Option<&str>,
    kind: Option<&str>,
    window: &Window,
) -> Result<Vec<CredentialRow>> {
    let mut sql = Sql::new(SELECT);
    for (column, value) in [("user_id", user_id), ("kind", kind)] {
        if let Some(value) = value {
            sql = sql.and(&format!("{column} = ?"), args![value]);
        }
    }
    tx.select(window.apply(sql, "id")).await?.iter().map(CredentialRow::read).collect()
}

pub(crate) async fn insert(tx: &mut Tx, row: &CredentialRow) -> Result<()> {
    tx.execute(
        "INSERT INTO credentials (id, generation, user_id, project_id, kind, content, extra) \
         VALUES (?, 0, ?, ?, ?, ?, ?)",
        args![&row.id, &row.user_id, &row.project_id, &row.kind, &row.content, document(&row.extra)?],
    )
    .await?;
    Ok(())
}

pub(crate) async fn update(tx: &mut Tx, row: &CredentialRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE credentials SET generation = generation + 1, user_id = ?, project_id = ?, kind = ?, content = ?, \
         extra = ? WHERE id = ? AND generation = ?",
        args![&row.user_id, &row.project_id, &row.kind, &row.content, document(&row.extra)?, &row.id, row.generation],
    )
    .await
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM credentials WHERE id = ?", args![id]).await?;
    Ok(())
}
