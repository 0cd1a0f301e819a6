use std::collections::HashMap;

use umbel_core::{Result, Timestamp};
use umbel_db::{Row, Sql, args};

use super::{Tx, Window, select_in};

#[derive(Clone, Debug)]
pub(crate) struct TrustRow {
    pub id: String,
    pub trustor_user_id: String,
    pub trustee_user_id: String,
    pub project_id: String,
    pub impersonation: bool,
    pub expires_at: Option<Timestamp>,
    pub remaining_uses: Option<i64>,
    pub role_ids: Vec<String>,
}

impl TrustRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(TrustRow {
            id: row.text("id")?,
            trustor_user_id: row.text("trustor_user_id")?,
            trustee_user_id: row.text("trustee_user_id")?,
            project_id: row.text("project_id")?,
            impersonation: row.bool("impersonation")?,
            expires_at: row.opt_time("expires_at")?,
            remaining_uses: row.opt_int("remaining_uses")?,
            role_ids: Vec::new(),
        })
    }
}

const SELECT: &str = "SELECT t.id, t.trustor_user_id, t.trustee_user_id, t.project_id, t.impersonation, \
    t.expires_at, t.remaining_uses FROM trusts t";

#[derive(Clone, Debug, Default)]
pub(crate) struct TrustFilter {
    pub trustor_user_id: Option<String>,
    pub trustee_user_id: Option<String>,
}

/// One that still can be used at this moment.
pub(crate) async fn get(tx: &mut Tx, id: &str, now: Timestamp) -> Result<Option<TrustRow>> {
    let sql = usable(Sql::new(SELECT).and("t.id = ?", args![id]), now);
    Ok(with_roles(tx, sql).await?.pop())
}

pub(crate) async fn list(tx: &mut Tx, filter: &TrustFilter, now: Timestamp, window: &Window) -> Result<Vec<TrustRow>> {
    let mut sql = usable(Sql::new(SELECT), now);
    let wanted = [("t.trustor_user_id", &filter.trustor_user_id), ("t.trustee_user_id", &filter.trustee_user_id)];
    for (column, value) in wanted {
        if let Some(value) = value {
            sql = sql.and(&format!("{column} = ?"), args![value]);
        }
    }
    with_roles(tx, window.apply(sql, "t.id")).await
}

fn usable(sql: Sql, now: Timestamp) -> Sql {
    sql.and("t.expires_at IS NULL OR t.expires_at > ?", args![now])
        .and("t.remaining_uses IS NULL OR t.remaining_uses > 0", args![])
}

async fn with_roles(tx: &mut Tx, sql: Sql) -> Result<Vec<TrustRow>> {
    let rows = tx.select(sql).await?;
    let mut all: Vec<TrustRow> = rows.iter().map(TrustRow::read).collect::<Result<_>>()?;
    let ids: Vec<String> = all.iter().map(|row| row.id.clone()).collect();
    let mut roles: HashMap<String, Vec<String>> = HashMap::new();
    for row in select_in(tx, "SELECT trust_id, role_id FROM trust_roles", "trust_id", &ids).await? {
        roles.entry(row.text("trust_id")?).or_default().push(row.text("role_id")?);
    }
    for row in &mut all {
        row.role_ids = roles.remove(&row.id).unwrap_or_default();
        row.role_ids.sort();
    }
    Ok(all)
}

pub(crate) async fn insert(tx: &mut Tx, row: &TrustRow) -> Result<()> {
    tx.execute(
        "INSERT INTO trusts (id, trustor_user_id, trustee_user_id, project_id, impersonation, expires_at, \
         remaining_uses) VALUES (?, ?, ?, ?, ?, ?, ?)",
        args![
            &row.id,
            &row.trustor_user_id,
            &row.trustee_user_id,
            &row.project_id,
            row.impersonation,
            row.expires_at,
            row.remaining_uses
        ],
    )
    .await?;
    for role_id in &row.role_ids {
        let sql = "INSERT IGNORE INTO trust_roles (trust_id, role_id) VALUES (?, ?)";
        tx.execute(sql, args![&row.id, role_id]).await?;
    }
    Ok(())
}

/// Takes one of the uses, if they are counted; whether there was one.
pub(crate) async fn use_once(tx: &mut Tx, id: &str) -> Result<bool> {
    let sql = "UPDATE trusts SET remaining_uses = remaining_uses - 1 \
        WHERE id = ? AND (remaining_uses IS NULL OR remaining_uses > 0)";
    Ok(tx.execute(sql, args![id]).await? > 0)
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    delete_where(tx, "id = ?", args![id]).await
}

pub(crate) async fn delete_of_user(tx: &mut Tx, user_id: &str) -> Result<()> {
    delete_where(tx, "trustor_user_id = ? OR trustee_user_id = ?", args![user_id, user_id]).await
}

pub(crate) async fn delete_of_project(tx: &mut Tx, project_id: &str) -> Result<()> {
    delete_where(tx, "project_id = ?", args![project_id]).await
}

/// `which` is constant text.
async fn delete_where(tx: &mut Tx, which: &str, values: Vec<umbel_db::Value>) -> Result<()> {
    let sql = format!("DELETE FROM trust_roles WHERE trust_id IN (SELECT id FROM trusts WHERE {which})");
    tx.execute(&sql, values.clone()).await?;
    tx.execute(&format!("DELETE FROM trusts WHERE {which}"), values).await?;
    Ok(())
}

/// Of trusts that a user has a part in.
pub(crate) async fn ids_of_user(tx: &mut Tx, user_id: &str) -> Result<Vec<String>> {
    ids(tx, "SELECT id FROM trusts WHERE trustor_user_id = ? OR trustee_user_id = ?", args![user_id, user_id]).await
}

/// Of trusts by which a user's roles on a project are lent.
pub(crate) async fn ids_of_grant(tx: &mut Tx, trustor_user_id: &str, project_id: &str) -> Result<Vec<String>> {
    let sql = "SELECT id FROM trusts WHERE trustor_user_id = ? AND project_id = ?";
    ids(tx, sql, args![trustor_user_id, project_id]).await
}

/// Of trusts that a domain's users have a part in.
pub(crate) async fn ids_of_domain(tx: &mut Tx, domain_id: &str) -> Result<Vec<String>> {
    let sql = "SELECT t.id FROM trusts t JOIN users u ON u.id = t.trustor_user_id OR u.id = t.trustee_user_id \
        WHERE u.domain_id = ?";
    ids(tx, sql, args![domain_id]).await
}

async fn ids(tx: &mut Tx, sql: &str, values: Vec<umbel_db::Value>) -> Result<Vec<String>> {
    tx.fetch_all(sql, values).await?.iter().map(|row| row.text("id")).collect()
}
