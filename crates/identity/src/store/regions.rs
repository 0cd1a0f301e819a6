use umbel_api::identity::Extra;
use umbel_core::{Generation, Result};
use umbel_db::{Row, Sql, args};

use super::{Tx, Window, document, read_document};

#[derive(Clone, Debug)]
pub(crate) struct RegionRow {
    pub id: String,
    pub generation: Generation,
    pub parent_id: Option<String>,
    pub description: String,
    pub extra: Extra,
}

impl RegionRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(RegionRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            parent_id: row.opt_text("parent_id")?,
            description: row.text("description")?,
            extra: read_document(row, "extra")?,
        })
    }
}

const SELECT: &str = "SELECT id, generation, parent_id, description, extra FROM regions";

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<RegionRow>> {
    tx.select(Sql::new(SELECT).and("id = ?", args![id])).await?.first().map(RegionRow::read).transpose()
}

pub(crate) async fn list(tx: &mut Tx, parent_id: Option<&str>, window: &Window) -> Result<Vec<RegionRow>> {
    let mut sql = Sql::new(SELECT);
    if let Some(parent_id) = parent_id {
        sql = sql.and("parent_id = ?", args![parent_id]);
    }
    tx.select(window.apply(sql, "id")).await?.iter().map(RegionRow::read).collect()
}

pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<RegionRow>> {
    tx.select(Sql::new(SELECT)).await?.iter().map(RegionRow::read).collect()
}

pub(crate) async fn insert(tx: &mut Tx, row: &RegionRow) -> Result<()> {
    tx.execute(
        "INSERT INTO regions (id, generation, parent_id, description, extra) VALUES (?, 0, ?, ?, ?)",
        args![&row.id, &row.parent_id, &row.description, document(&row.extra)?],
    )
    .await?;
    Ok(())
}

pub(crate) async fn update(tx: &mut Tx, row: &RegionRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE regions SET generation = generation + 1, parent_id = ?, description = ?, extra = ? \
         WHERE id = ? AND generation = ?",
        args![&row.parent_id, &row.description, document(&row.extra)?, &row.id, row.generation],
    )
    .await
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM regions WHERE id = ?", args![id]).await?;
    Ok(())
}

impl RegionRow {
    /// With nothing but its id.
    pub fn named(id: &str) -> Self {
        RegionRow {
            id: id.to_owned(),
            generation: Generation::default(),
            parent_id: None,
            description: String::new(),
            extra: Extra::default(),
        }
    }
}
