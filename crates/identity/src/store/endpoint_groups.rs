//! Endpoint groups. Which endpoints are in one is asked each time, of the endpoints' own table.

use umbel_api::identity::endpoint_groups::EndpointFilters;
use umbel_core::{Error, Generation, Result};
use umbel_db::{Row, Sql, args};

use super::{TextFilter, Tx, Window};

#[derive(Clone, Debug)]
pub(crate) struct EndpointGroupRow {
    pub id: String,
    pub generation: Generation,
    pub name: String,
    pub description: Option<String>,
    pub filters: EndpointFilters,
}

impl EndpointGroupRow {
    fn read(row: &Row) -> Result<Self> {
        let filters = serde_json::from_str(&row.text("filters")?)
            .map_err(|error| Error::internal(error).because("column filters"))?;
        Ok(EndpointGroupRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            name: row.text("name")?,
            description: row.opt_text("description")?,
            filters,
        })
    }

    fn filters_text(&self) -> Result<String> {
        serde_json::to_string(&self.filters).map_err(Error::internal)
    }
}

const SELECT: &str = "SELECT id, generation, name, description, filters FROM endpoint_groups";

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<EndpointGroupRow>> {
    tx.select(Sql::new(SELECT).and("id = ?", args![id])).await?.first().map(EndpointGroupRow::read).transpose()
}

pub(crate) async fn list(tx: &mut Tx, name: Option<&TextFilter>, window: &Window) -> Result<Vec<EndpointGroupRow>> {
    let mut sql = Sql::new(SELECT);
    if let Some(name) = name {
        sql = name.apply(sql, "name");
    }
    tx.select(window.apply(sql, "id")).await?.iter().map(EndpointGroupRow::read).collect()
}

pub(crate) async fn insert(tx: &mut Tx, row: &EndpointGroupRow) -> Result<()> {
    tx.execute(
        "INSERT INTO endpoint_groups (id, generation, name, description, filters) VALUES (?, 0, ?, ?, ?)",
        args![&row.id, &row.name, &row.description, row.filters_text()?],
    )
    .await?;
    Ok(())
}

pub(crate) async fn update(tx: &mut Tx, row: &EndpointGroupRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE endpoint_groups SET generation = generation + 1, name = ?, description = ?, filters = ? \
         WHERE id = ? AND generation = ?",
        args![&row.name, &row.description, row.filters_text()?, &row.id, row.generation],
    )
    .await
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM endpoint_groups WHERE id = ?", args![id]).await?;
    Ok(())
}
