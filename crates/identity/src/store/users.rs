use umbel_api::identity::Extra;
use umbel_core::{Generation, Result, Timestamp};
use umbel_db::{Row, Sql, args};

use super::{Sees, TextFilter, Tx, Window, document, read_document, select_in};

#[derive(Clone)]
pub(crate) struct UserRow {
    pub id: String,
    pub generation: Generation,
    pub name: String,
    pub domain_id: String,
    pub enabled: bool,
    /// None for a user that cannot log in by password.
    pub password_hash: Option<String>,
    pub password_expires_at: Option<Timestamp>,
    pub default_project_id: Option<String>,
    pub options: Extra,
    pub extra: Extra,
    /// When it logged in last, or else was made, where that is known. Read only.
    pub active_at: Option<Timestamp>,
}

impl UserRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(UserRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            name: row.text("name")?,
            domain_id: row.text("domain_id")?,
            enabled: row.bool("enabled")?,
            password_hash: row.opt_text("password_hash")?,
            password_expires_at: row.opt_time("password_expires_at")?,
            default_project_id: row.opt_text("default_project_id")?,
            options: read_document(row, "options")?,
            extra: read_document(row, "extra")?,
            active_at: row.opt_time("active_at")?,
        })
    }
}

const SELECT: &str = "SELECT u.id, u.generation, u.name, u.domain_id, u.enabled, u.password_hash, \
    u.password_expires_at, u.default_project_id, u.options, u.extra, g.active_at FROM users u \
    LEFT JOIN user_guards g ON g.user_id = u.id";

#[derive(Clone, Debug, Default)]
pub(crate) struct UserFilter {
    pub domain_id: Option<String>,
    pub name: Option<TextFilter>,
    pub enabled: Option<bool>,
    /// When the password expires. One that never does is no match, whatever the comparison.
    pub password_expires: Option<(Order, Timestamp)>,
    /// Members of this group only.
    pub group_id: Option<String>,
}

/// How a moment stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Before,
    UntilThen,
    Then,
    NotThen,
    FromThen,
    After,
}

impl Order {
    fn sql(self) -> &'static str {
        match self {
            Order::Before => "<",
            Order::UntilThen => "<=",
            Order::Then => "=",
            Order::NotThen => "<>",
            Order::FromThen => ">=",
            Order::After => ">",
        }
    }
}

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<UserRow>> {
    one(tx, Sql::new(SELECT).and("u.id = ?", args![id])).await
}

pub(crate) async fn find(tx: &mut Tx, domain_id: &str, name: &str) -> Result<Option<UserRow>> {
    one(tx, Sql::new(SELECT).and("u.domain_id = ? AND u.name = ?", args![domain_id, name])).await
}

async fn one(tx: &mut Tx, sql: Sql) -> Result<Option<UserRow>> {
    tx.select(sql).await?.first().map(UserRow::read).transpose()
}

pub(crate) async fn get_all(tx: &mut Tx, ids: &[String]) -> Result<Vec<UserRow>> {
    select_in(tx, SELECT, "u.id", ids).await?.iter().map(UserRow::read).collect()
}

pub(crate) async fn list(tx: &mut Tx, sees: &Sees, filter: &UserFilter, window: &Window) -> Result<Vec<UserRow>> {
    let mut sql = match &filter.group_id {
        Some(group_id) => {
            Sql::new(&format!("{SELECT} JOIN memberships m ON m.user_id = u.id")).and("m.group_id = ?", args![group_id])
        }
        None => Sql::new(SELECT),
    };
    sql = sees.filter(sql, "u.domain_id");
    if let Some(domain_id) = &filter.domain_id {
        sql = sql.and("u.domain_id = ?", args![domain_id]);
    }
    if let Some(name) = &filter.name {
        sql = name.apply(sql, "u.name");
    }
    if let Some(enabled) = filter.enabled {
        sql = sql.and("u.enabled = ?", args![enabled]);
    }
    if let Some((order, at)) = filter.password_expires {
        sql = sql.and(&format!("u.password_expires_at {} ?", order.sql()), args![at]);
    }
    tx.select(window.apply(sql, "u.id")).await?.iter().map(UserRow::read).collect()
}

pub(crate) async fn ids_of_domain(tx: &mut Tx, domain_id: &str) -> Result<Vec<String>> {
    let rows = tx.fetch_all("SELECT id FROM users WHERE domain_id = ?", args![domain_id]).await?;
    rows.iter().map(|row| row.text("id")).collect()
}

pub(crate) async fn insert(tx: &mut Tx, row: &UserRow) -> Result<()> {
    tx.execute(
        "INSERT INTO users (id, generation, name, domain_id, enabled, password_hash, password_expires_at, \
         default_project_id, options, extra) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            &row.id,
            &row.name,
            &row.domain_id,
            row.enabled,
            &row.password_hash,
            row.password_expires_at,
            &row.default_project_id,
            document(&row.options)?,
            document(&row.extra)?
        ],
    )
    .await?;
    Ok(())
}

pub(crate) async fn update(tx: &mut Tx, row: &UserRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE users SET generation = generation + 1, name = ?, enabled = ?, password_hash = ?, \
         password_expires_at = ?, default_project_id = ?, options = ?, extra = ? WHERE id = ? AND generation = ?",
        args![
            &row.name,
            row.enabled,
            &row.password_hash,
            row.password_expires_at,
            &row.default_project_id,
            document(&row.options)?,
            document(&row.extra)?,
            &row.id,
            row.generation
        ],
    )
    .await
}

/// Puts a better hash of the same password in place of the one it was verified against; nothing if that one is gone.
pub(crate) async fn rehash(tx: &mut Tx, id: &str, old: &str, new: &str) -> Result<()> {
    let sql = "UPDATE users SET generation = generation + 1, password_hash = ? WHERE id = ? AND password_hash = ?";
    tx.execute(sql, args![new, id, old]).await?;
    Ok(())
}

/// The row, and all that hangs on it.
pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    super::application_credentials::delete_of_user(tx, id).await?;
    super::trusts::delete_of_user(tx, id).await?;
    for sql in [
        "DELETE FROM assignments WHERE actor_id = ?",
        "DELETE FROM memberships WHERE user_id = ?",
        "DELETE FROM credentials WHERE user_id = ?",
        "DELETE FROM user_guards WHERE user_id = ?",
        "DELETE FROM past_passwords WHERE user_id = ?",
        "DELETE FROM users WHERE id = ?",
    ] {
        tx.execute(sql, args![id]).await?;
    }
    Ok(())
}
