//! Pages of lists that clients sort and filter.

use umbel_auth::Visible;
use umbel_core::{Error, Result};
use umbel_db::{Direction, Row, Sql, Tx, Value, args};

use super::Volume;
use super::volumes::Condition;

/// Which rows of a list are wanted.
#[derive(Clone, Debug)]
pub struct Page {
    pub conditions: Vec<Condition>,
    /// Columns, or expressions that are never null; ends with the id.
    pub order: Vec<(&'static str, Direction)>,
    /// Id of the last row of the page before.
    pub marker: Option<String>,
    /// Rows passed over, behind the marker.
    pub offset: usize,
    pub limit: usize,
}

impl Default for Page {
    /// The newest first, a thousand of them.
    fn default() -> Self {
        let order = vec![("created_at", Direction::Desc), ("id", Direction::Desc)];
        Page { conditions: Vec::new(), order, marker: None, offset: 0, limit: 1_000 }
    }
}

/// What they see of a table that has projects.
pub fn seen(sql: Sql, visible: &Visible) -> Sql {
    match visible {
        Visible::All => sql,
        Visible::Project(project) => sql.and("project_id = ?", args![project]),
    }
}

/// What they see of it and a list's conditions let through, pages aside.
pub fn filtered(select: &str, visible: &Visible, page: &Page) -> Sql {
    page.conditions.iter().fold(seen(Sql::new(select), visible), |sql, condition| condition.put(sql))
}

/// The row of this id, if they see it.
pub async fn one<T>(
    tx: &mut Tx<Volume>,
    select: &str,
    visible: &Visible,
    id: impl Into<Value>,
    read: fn(&Row) -> Result<T>,
) -> Result<Option<T>> {
    let rows = tx.select(seen(Sql::new(select).and("id = ?", vec![id.into()]), visible)).await?;
    rows.first().map(read).transpose()
}

/// As [`one`], held against other changes until the transaction ends.
pub async fn held<T>(
    tx: &mut Tx<Volume>,
    select: &str,
    visible: &Visible,
    id: impl Into<Value>,
    read: fn(&Row) -> Result<T>,
) -> Result<Option<T>> {
    let rows = tx.select(seen(Sql::new(select).and("id = ?", vec![id.into()]), visible).push("FOR UPDATE")).await?;
    rows.first().map(read).transpose()
}

/// A page of what `select` finds in `table`, which has an id and a project, and whether it is full: then a link
/// says where another would be, as upstream has it. A marker that the caller does not see is 400.
pub async fn paged<T>(
    tx: &mut Tx<Volume>,
    (select, table): (&str, &str),
    visible: &Visible,
    page: &Page,
    read: fn(&Row) -> Result<T>,
) -> Result<(Vec<T>, bool)> {
    let mut sql = filtered(select, visible, page);
    if let Some(marker) = &page.marker {
        sql = sql.after(&page.order, &place_of(tx, table, visible, &page.order, marker).await?);
    }
    let wanted = page.limit.saturating_add(page.offset);
    let rows = tx.select(sql.order(&page.order).limit(wanted)).await?;
    let rows = rows.iter().skip(page.offset).take(page.limit).map(read).collect::<Result<Vec<T>>>()?;
    let full = rows.len() >= page.limit;
    Ok((rows, full))
}

/// The marker's values in the list's order.
async fn place_of(
    tx: &mut Tx<Volume>,
    table: &str,
    visible: &Visible,
    order: &[(&'static str, Direction)],
    marker: &str,
) -> Result<Vec<Value>> {
    let columns: Vec<String> =
        order.iter().enumerate().map(|(at, (term, _))| format!("{term} AS value_{at}")).collect();
    let sql = Sql::new(&format!("SELECT {} FROM {table}", columns.join(", "))).and("id = ?", args![marker]);
    let rows = tx.select(seen(sql, visible)).await?;
    let row = rows.first().ok_or_else(|| Error::bad_request(format!("marker [{marker}] not found")))?;
    let value = |(at, (term, _)): (usize, &(&str, Direction))| {
        let column = format!("value_{at}");
        let number = matches!(*term, "created_at" | "size_gib" | "COALESCE(updated_at, 0)");
        match number {
            true => row.int(&column).map(Value::from),
            false => row.text(&column).map(Value::from),
        }
    };
    order.iter().enumerate().map(value).collect()
}
