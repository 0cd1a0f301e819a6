//! Options set for one domain; a row each.

use umbel_core::Result;
use umbel_db::{Row, Sql, args};

use super::Tx;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionRow {
    pub group: String,
    pub name: String,
    /// JSON, or as sealed.
    pub content: String,
}

impl OptionRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(OptionRow { group: row.text("group_name")?, name: row.text("option_name")?, content: row.text("content")? })
    }
}

fn narrowed(sql: Sql, domain_id: &str, group: Option<&str>, option: Option<&str>) -> Sql {
    let mut sql = sql.and("domain_id = ?", args![domain_id]);
    for (column, value) in [("group_name", group), ("option_name", option)] {
        if let Some(value) = value {
            sql = sql.and(&format!("{column} = ?"), args![value]);
        }
    }
    sql
}

/// All, or those of a group, or one.
pub(crate) async fn get(
    tx: &mut Tx,
    domain_id: &str,
    group: Option<&str>,
    option: Option<&str>,
) -> Result<Vec<OptionRow>> {
    let sql = Sql::new("SELECT group_name, option_name, content FROM domain_options");
    tx.select(narrowed(sql, domain_id, group, option)).await?.iter().map(OptionRow::read).collect()
}

/// In place of the option's row, if there is one.
pub(crate) async fn put(tx: &mut Tx, domain_id: &str, row: &OptionRow) -> Result<()> {
    delete(tx, domain_id, Some(&row.group), Some(&row.name)).await?;
    tx.execute(
        "INSERT INTO domain_options (domain_id, group_name, option_name, content) VALUES (?, ?, ?, ?)",
        args![domain_id, &row.group, &row.name, &row.content],
    )
    .await?;
    Ok(())
}

pub(crate) async fn delete(tx: &mut Tx, domain_id: &str, group: Option<&str>, option: Option<&str>) -> Result<()> {
    const ALL: &str = "DELETE FROM domain_options WHERE domain_id = ?";
    match (group, option) {
        (None, _) => tx.execute(ALL, args![domain_id]).await?,
        (Some(group), None) => tx.execute(&format!("{ALL} AND group_name = ?"), args![domain_id, group]).await?,
        (Some(group), Some(option)) => {
            let one = format!("{ALL} AND group_name = ? AND option_name = ?");
            tx.execute(&one, args![domain_id, group, option]).await?
        }
    };
    Ok(())
}
