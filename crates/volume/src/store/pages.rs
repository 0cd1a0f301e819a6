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

/// A page of what `sql` selects from `table`, which has an id and a project, and whether it is full: then a link
/// says where another would be, as upstream has it. A marker that the caller does not see is 400.
pub async fn paged(
    tx: &mut Tx<Volume>,
    mut sql: Sql,
    table: &str,
    visible: &Visible,
    page: &Page,
) -> Result<(Vec<Row>, bool)> {
    if let Some(marker) = &page.marker {
        sql = sql.after(&page.order, &place_of(tx, table, visible, &page.order, marker).await?);
    }
    let wanted = page.limit.saturating_add(page.offset);
    let rows = tx.select(sql.order(&page.order).limit(wanted)).await?;
    let rows: Vec<Row> = rows.into_iter().skip(page.offset).take(page.limit).collect();
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
    let mut sql = Sql::new(&format!("SELECT {} FROM {table}", columns.join(", "))).and("id = ?", args![marker]);
    if let Visible::Project(project) = visible {
        sql = sql.and("project_id = ?", args![project]);
    }
    let rows = tx.select(sql).await?;
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
