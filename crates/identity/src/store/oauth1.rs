//! Consumers of OAuth 1.0a.

use umbel_api::identity::Extra;
use umbel_core::{Generation, Result};
use umbel_db::{Row, Sql, args};

use super::{Tx, Window, document, read_document};

#[derive(Clone)]
pub(crate) struct ConsumerRow {
    pub id: String,
    pub generation: Generation,
    pub description: Option<String>,
    /// As stored: sealed.
    pub secret: String,
    pub extra: Extra,
}

impl ConsumerRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(ConsumerRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            description: row.opt_text("description")?,
            secret: row.text("secret")?,
            extra: read_document(row, "extra")?,
        })
    }
}

const SELECT: &str = "SELECT id, generation, description, secret, extra FROM consumers";

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<ConsumerRow>> {
    tx.select(Sql::new(SELECT).and("id = ?", args![id])).await?.first().map(ConsumerRow::read).transpose()
}

pub(crate) async fn list(tx: &mut Tx, window: &Window) -> Result<Vec<ConsumerRow>> {
    tx.select(window.apply(Sql::new(SELECT), "id")).await?.iter().map(ConsumerRow::read).collect()
}

pub(crate) async fn insert(tx: &mut Tx, row: &ConsumerRow) -> Result<()> {
    tx.execute(
        "INSERT INTO consumers (id, generation, description, secret, extra) VALUES (?, 0, ?, ?, ?)",
        args![&row.id, &row.description, &row.secret, document(&row.extra)?],
    )
    .await?;
    Ok(())
}

pub(crate) async fn update(tx: &mut Tx, row: &ConsumerRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE consumers SET generation = generation + 1, description = ?, extra = ? WHERE id = ? AND generation = ?",
        args![&row.description, document(&row.extra)?, &row.id, row.generation],
    )
    .await
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM consumers WHERE id = ?", args![id]).await?;
    Ok(())
}
