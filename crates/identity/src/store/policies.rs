use umbel_api::identity::Extra;
use umbel_core::{Generation, Result};
use umbel_db::{Row, Sql, args};

use super::{Tx, Window, document, read_document};

#[derive(Clone, Debug)]
pub(crate) struct PolicyRow {
    pub id: String,
    pub generation: Generation,
    /// Media type of the content.
    pub kind: String,
    pub content: String,
    pub extra: Extra,
}

impl PolicyRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(PolicyRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            kind: row.text("kind")?,
            content: row.text("content")?,
            extra: read_document(row, "extra")?,
        })
    }
}

const SELECT: &str = "SELECT id, generation, kind, content, extra FROM policies";

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<PolicyRow>> {
    tx.select(Sql::new(SELECT).and("id = ?", args![id])).await?.first().map(PolicyRow::read).transpose()
}

pub(crate) async fn list(tx: &mut Tx, kind: Option<&str>, window: &Window) -> Result<Vec<PolicyRow>> {
    let mut sql = Sql::new(SELECT);
    if let Some(kind) = kind {
        sql = sql.and("kind = ?", args![kind]);
    }
    tx.select(window.apply(sql, "id")).await?.iter().map(PolicyRow::read).collect()
}

pub(crate) async fn insert(tx: &mut Tx, row: &PolicyRow) -> Result<()> {
    tx.execute(
        "INSERT INTO policies (id, generation, kind, content, extra) VALUES (?, 0, ?, ?, ?)",
        args![&row.id, &row.kind, &row.content, document(&row.extra)?],
    )
    .await?;
    Ok(())
}

pub(crate) async fn update(tx: &mut Tx, row: &PolicyRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE policies SET generation = generation + 1, kind = ?, content = ?, extra = ? \
         WHERE id = ? AND generation = ?",
        args![&row.kind, &row.content, document(&row.extra)?, &row.id, row.generation],
    )
    .await
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM policies WHERE id = ?", args![id]).await?;
    Ok(())
}
