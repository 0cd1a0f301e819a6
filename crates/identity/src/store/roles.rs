use umbel_api::identity::Extra;
use umbel_core::{Generation, Result};
use umbel_db::{Row, Sql, args};

use super::{TextFilter, Tx, Window, absent, document, read_document};

#[derive(Clone, Debug)]
pub(crate) struct RoleRow {
    pub id: String,
    pub generation: Generation,
    pub name: String,
    /// None for a role of the whole cloud.
    pub domain_id: Option<String>,
    pub description: Option<String>,
    pub options: Extra,
    pub extra: Extra,
}

impl RoleRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(RoleRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            name: row.text("name")?,
            domain_id: absent(row.text("domain_id")?),
            description: row.opt_text("description")?,
            options: read_document(row, "options")?,
            extra: read_document(row, "extra")?,
        })
    }
}

const SELECT: &str = "SELECT r.id, r.generation, r.name, r.domain_id, r.description, r.options, r.extra FROM roles r";

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<RoleRow>> {
    let rows = tx.select(Sql::new(SELECT).and("r.id = ?", args![id])).await?;
    rows.first().map(RoleRow::read).transpose()
}

/// Of the whole cloud where `domain_id` is empty.
pub(crate) async fn find(tx: &mut Tx, domain_id: &str, name: &str) -> Result<Option<RoleRow>> {
    let rows = tx.select(Sql::new(SELECT).and("r.domain_id = ? AND r.name = ?", args![domain_id, name])).await?;
    rows.first().map(RoleRow::read).transpose()
}

pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<RoleRow>> {
    tx.select(Sql::new(SELECT)).await?.iter().map(RoleRow::read).collect()
}

/// Of one domain, or of the whole cloud.
pub(crate) async fn list(
    tx: &mut Tx,
    domain_id: Option<&str>,
    name: Option<&TextFilter>,
    window: &Window,
) -> Result<Vec<RoleRow>> {
    let mut sql = Sql::new(SELECT).and("r.domain_id = ?", args![domain_id.unwrap_or("")]);
    if let Some(name) = name {
        sql = name.apply(sql, "r.name");
    }
    tx.select(window.apply(sql, "r.id")).await?.iter().map(RoleRow::read).collect()
}

pub(crate) async fn insert(tx: &mut Tx, row: &RoleRow) -> Result<()> {
    tx.execute(
        "INSERT INTO roles (id, generation, name, domain_id, description, options, extra) \
         VALUES (?, 0, ?, ?, ?, ?, ?)",
        args![
            &row.id,
            &row.name,
            row.domain_id.as_deref().unwrap_or(""),
            &row.description,
            document(&row.options)?,
            document(&row.extra)?
        ],
    )
    .await?;
    super::directory::bump(tx).await
}

pub(crate) async fn update(tx: &mut Tx, row: &RoleRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE roles SET generation = generation + 1, name = ?, description = ?, options = ?, extra = ? \
         WHERE id = ? AND generation = ?",
        args![&row.name, &row.description, document(&row.options)?, document(&row.extra)?, &row.id, row.generation],
    )
    .await?;
    super::directory::bump(tx).await
}

/// The row, its rules, its grants and its place in application credentials.
pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM implied_roles WHERE prior_id = ? OR implied_id = ?", args![id, id]).await?;
    for sql in [
        "DELETE FROM assignments WHERE role_id = ?",
        "DELETE FROM application_credential_roles WHERE role_id = ?",
        "DELETE FROM trust_roles WHERE role_id = ?",
        "DELETE FROM roles WHERE id = ?",
    ] {
        tx.execute(sql, args![id]).await?;
    }
    super::directory::bump(tx).await
}

pub(crate) async fn ids_of_domain(tx: &mut Tx, domain_id: &str) -> Result<Vec<String>> {
    let rows = tx.fetch_all("SELECT id FROM roles WHERE domain_id = ?", args![domain_id]).await?;
    rows.iter().map(|row| row.text("id")).collect()
}

/// Pairs of prior and implied role.
pub(crate) async fn implications(tx: &mut Tx) -> Result<Vec<(String, String)>> {
    let rows = tx.fetch_all("SELECT prior_id, implied_id FROM implied_roles", vec![]).await?;
    rows.iter().map(|row| Ok((row.text("prior_id")?, row.text("implied_id")?))).collect()
}

pub(crate) async fn imply(tx: &mut Tx, prior_id: &str, implied_id: &str) -> Result<()> {
    let sql = "INSERT IGNORE INTO implied_roles (prior_id, implied_id) VALUES (?, ?)";
    tx.execute(sql, args![prior_id, implied_id]).await?;
    super::directory::bump(tx).await
}

/// Whether there was such a rule.
pub(crate) async fn imply_no_more(tx: &mut Tx, prior_id: &str, implied_id: &str) -> Result<bool> {
    let sql = "DELETE FROM implied_roles WHERE prior_id = ? AND implied_id = ?";
    let found = tx.execute(sql, args![prior_id, implied_id]).await? > 0;
    super::directory::bump(tx).await?;
    Ok(found)
}
