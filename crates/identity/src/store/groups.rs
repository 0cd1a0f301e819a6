use umbel_api::identity::Extra;
use umbel_core::{Generation, Result};
use umbel_db::{Row, Sql, args};

use super::{Sees, TextFilter, Tx, Window, document, read_document, select_in};

#[derive(Clone, Debug)]
pub(crate) struct GroupRow {
    pub id: String,
    pub generation: Generation,
    pub name: String,
    pub domain_id: String,
    pub description: String,
    pub extra: Extra,
}

impl GroupRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(GroupRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            name: row.text("name")?,
            domain_id: row.text("domain_id")?,
            description: row.text("description")?,
            extra: read_document(row, "extra")?,
        })
    }
}

const SELECT: &str = "SELECT g.id, g.generation, g.name, g.domain_id, g.description, g.extra FROM user_groups g";

#[derive(Clone, Debug, Default)]
pub(crate) struct GroupFilter {
    pub domain_id: Option<String>,
    pub name: Option<TextFilter>,
    /// Groups of this user only.
    pub user_id: Option<String>,
}

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<GroupRow>> {
    let rows = tx.select(Sql::new(SELECT).and("g.id = ?", args![id])).await?;
    rows.first().map(GroupRow::read).transpose()
}

pub(crate) async fn get_all(tx: &mut Tx, ids: &[String]) -> Result<Vec<GroupRow>> {
    select_in(tx, SELECT, "g.id", ids).await?.iter().map(GroupRow::read).collect()
}

pub(crate) async fn list(tx: &mut Tx, sees: &Sees, filter: &GroupFilter, window: &Window) -> Result<Vec<GroupRow>> {
    let mut sql = match &filter.user_id {
        Some(user_id) => {
            Sql::new(&format!("{SELECT} JOIN memberships m ON m.group_id = g.id")).and("m.user_id = ?", args![user_id])
        }
        None => Sql::new(SELECT),
    };
    sql = sees.filter(sql, "g.domain_id");
    if let Some(domain_id) = &filter.domain_id {
        sql = sql.and("g.domain_id = ?", args![domain_id]);
    }
    if let Some(name) = &filter.name {
        sql = name.apply(sql, "g.name");
    }
    tx.select(window.apply(sql, "g.id")).await?.iter().map(GroupRow::read).collect()
}

pub(crate) async fn ids_of_domain(tx: &mut Tx, domain_id: &str) -> Result<Vec<String>> {
    let rows = tx.fetch_all("SELECT id FROM user_groups WHERE domain_id = ?", args![domain_id]).await?;
    rows.iter().map(|row| row.text("id")).collect()
}

pub(crate) async fn insert(tx: &mut Tx, row: &GroupRow) -> Result<()> {
    tx.execute(
        "INSERT INTO user_groups (id, generation, name, domain_id, description, extra) VALUES (?, 0, ?, ?, ?, ?)",
        args![&row.id, &row.name, &row.domain_id, &row.description, document(&row.extra)?],
    )
    .await?;
    Ok(())
}

pub(crate) async fn update(tx: &mut Tx, row: &GroupRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE user_groups SET generation = generation + 1, name = ?, description = ?, extra = ? \
         WHERE id = ? AND generation = ?",
        args![&row.name, &row.description, document(&row.extra)?, &row.id, row.generation],
    )
    .await
}

/// The row, its members and its grants.
pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    for sql in [
        "DELETE FROM assignments WHERE actor_id = ?",
        "DELETE FROM memberships WHERE group_id = ?",
        "DELETE FROM user_groups WHERE id = ?",
    ] {
        tx.execute(sql, args![id]).await?;
    }
    Ok(())
}

pub(crate) async fn add_member(tx: &mut Tx, group_id: &str, user_id: &str) -> Result<()> {
    let sql = "INSERT IGNORE INTO memberships (group_id, user_id) VALUES (?, ?)";
    tx.execute(sql, args![group_id, user_id]).await?;
    Ok(())
}

/// Whether there was one.
pub(crate) async fn remove_member(tx: &mut Tx, group_id: &str, user_id: &str) -> Result<bool> {
    let sql = "DELETE FROM memberships WHERE group_id = ? AND user_id = ?";
    Ok(tx.execute(sql, args![group_id, user_id]).await? > 0)
}

pub(crate) async fn has_member(tx: &mut Tx, group_id: &str, user_id: &str) -> Result<bool> {
    let sql = "SELECT user_id FROM memberships WHERE group_id = ? AND user_id = ?";
    Ok(tx.fetch_opt(sql, args![group_id, user_id]).await?.is_some())
}

/// Pairs of group and user, of these groups.
pub(crate) async fn members_of(tx: &mut Tx, group_ids: &[String]) -> Result<Vec<(String, String)>> {
    let rows = select_in(tx, "SELECT group_id, user_id FROM memberships", "group_id", group_ids).await?;
    rows.iter().map(|row| Ok((row.text("group_id")?, row.text("user_id")?))).collect()
}

pub(crate) async fn ids_of_user(tx: &mut Tx, user_id: &str) -> Result<Vec<String>> {
    let rows = tx.fetch_all("SELECT group_id FROM memberships WHERE user_id = ?", args![user_id]).await?;
    rows.iter().map(|row| row.text("group_id")).collect()
}
