use std::collections::HashMap;

use umbel_api::identity::application_credentials::AccessRule;
use umbel_core::{Result, Timestamp};
use umbel_db::{Row, Sql, args};

use super::{Tx, Window, select_in};

#[derive(Clone)]
pub(crate) struct ApplicationCredentialRow {
    pub id: String,
    pub user_id: String,
    pub project_id: String,
    pub name: String,
    pub secret_hash: String,
    pub description: Option<String>,
    pub expires_at: Option<Timestamp>,
    pub unrestricted: bool,
    pub role_ids: Vec<String>,
    pub rules: Vec<AccessRuleRow>,
}

impl ApplicationCredentialRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(ApplicationCredentialRow {
            id: row.text("id")?,
            user_id: row.text("user_id")?,
            project_id: row.text("project_id")?,
            name: row.text("name")?,
            secret_hash: row.text("secret_hash")?,
            description: row.opt_text("description")?,
            expires_at: row.opt_time("expires_at")?,
            unrestricted: row.bool("unrestricted")?,
            role_ids: Vec::new(),
            rules: Vec::new(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessRuleRow {
    pub id: String,
    pub user_id: String,
    pub service: String,
    pub path: String,
    pub method: String,
}

impl AccessRuleRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(AccessRuleRow {
            id: row.text("id")?,
            user_id: row.text("user_id")?,
            service: row.text("service")?,
            path: row.text("path")?,
            method: row.text("method")?,
        })
    }

    /// As it is shown inside something else.
    pub fn bare(self) -> AccessRule {
        AccessRule { id: self.id, service: self.service, path: self.path, method: self.method, links: None }
    }
}

const SELECT: &str = "SELECT id, user_id, project_id, name, secret_hash, description, expires_at, unrestricted \
    FROM application_credentials";
const RULES: &str = "SELECT id, user_id, service, path, method FROM access_rules";

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<ApplicationCredentialRow>> {
    Ok(complete(tx, Sql::new(SELECT).and("id = ?", args![id])).await?.pop())
}

pub(crate) async fn list(
    tx: &mut Tx,
    user_id: &str,
    name: Option<&str>,
    window: &Window,
) -> Result<Vec<ApplicationCredentialRow>> {
    let mut sql = Sql::new(SELECT).and("user_id = ?", args![user_id]);
    if let Some(name) = name {
        sql = sql.and("name = ?", args![name]);
    }
    complete(tx, window.apply(sql, "id")).await
}

/// Adds roles and rules: two statements, however many credentials.
async fn complete(tx: &mut Tx, sql: Sql) -> Result<Vec<ApplicationCredentialRow>> {
    let rows = tx.select(sql).await?;
    let mut all: Vec<ApplicationCredentialRow> =
        rows.iter().map(ApplicationCredentialRow::read).collect::<Result<_>>()?;
    let ids: Vec<String> = all.iter().map(|row| row.id.clone()).collect();
    let mut roles: HashMap<String, Vec<String>> = HashMap::new();
    let text = "SELECT credential_id, role_id FROM application_credential_roles";
    for row in select_in(tx, text, "credential_id", &ids).await? {
        roles.entry(row.text("credential_id")?).or_default().push(row.text("role_id")?);
    }
    let mut rules: HashMap<String, Vec<AccessRuleRow>> = HashMap::new();
    let text = "SELECT c.credential_id, r.id, r.user_id, r.service, r.path, r.method \
        FROM application_credential_rules c JOIN access_rules r ON r.id = c.rule_id";
    for row in select_in(tx, text, "c.credential_id", &ids).await? {
        rules.entry(row.text("credential_id")?).or_default().push(AccessRuleRow::read(&row)?);
    }
    for row in &mut all {
        row.role_ids = roles.remove(&row.id).unwrap_or_default();
        row.role_ids.sort();
        row.rules = rules.remove(&row.id).unwrap_or_default();
    }
    Ok(all)
}

/// The rules must stand already.
pub(crate) async fn insert(tx: &mut Tx, row: &ApplicationCredentialRow) -> Result<()> {
    tx.execute(
        "INSERT INTO application_credentials \
         (id, user_id, project_id, name, secret_hash, description, expires_at, unrestricted) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            &row.id,
            &row.user_id,
            &row.project_id,
            &row.name,
            &row.secret_hash,
            &row.description,
            row.expires_at,
            row.unrestricted
        ],
    )
    .await?;
    for role_id in &row.role_ids {
        let sql = "INSERT IGNORE INTO application_credential_roles (credential_id, role_id) VALUES (?, ?)";
        tx.execute(sql, args![&row.id, role_id]).await?;
    }
    for rule in &row.rules {
        let sql = "INSERT IGNORE INTO application_credential_rules (credential_id, rule_id) VALUES (?, ?)";
        tx.execute(sql, args![&row.id, &rule.id]).await?;
    }
    Ok(())
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    delete_where(tx, "id = ?", id).await
}

pub(crate) async fn delete_of_project(tx: &mut Tx, project_id: &str) -> Result<()> {
    delete_where(tx, "project_id = ?", project_id).await
}

pub(crate) async fn delete_of_user(tx: &mut Tx, user_id: &str) -> Result<()> {
    delete_where(tx, "user_id = ?", user_id).await?;
    tx.execute("DELETE FROM access_rules WHERE user_id = ?", args![user_id]).await?;
    Ok(())
}

/// `which` is constant text with one placeholder.
async fn delete_where(tx: &mut Tx, which: &str, value: &str) -> Result<()> {
    for table in ["application_credential_roles", "application_credential_rules"] {
        let sql = format!(
            "DELETE FROM {table} WHERE credential_id IN (SELECT id FROM application_credentials WHERE {which})"
        );
        tx.execute(&sql, args![value]).await?;
    }
    tx.execute(&format!("DELETE FROM application_credentials WHERE {which}"), args![value]).await?;
    Ok(())
}

/// Credentials by which a user's role on a project lives on.
pub(crate) async fn with_role(tx: &mut Tx, user_id: &str, project_id: &str, role_id: &str) -> Result<Vec<String>> {
    let sql = "SELECT c.id FROM application_credentials c \
        JOIN application_credential_roles r ON r.credential_id = c.id \
        WHERE c.user_id = ? AND c.project_id = ? AND r.role_id = ?";
    let rows = tx.fetch_all(sql, args![user_id, project_id, role_id]).await?;
    rows.iter().map(|row| row.text("id")).collect()
}

pub(crate) async fn get_rule(tx: &mut Tx, user_id: &str, id: &str) -> Result<Option<AccessRuleRow>> {
    let rows = tx.select(Sql::new(RULES).and("user_id = ? AND id = ?", args![user_id, id])).await?;
    rows.first().map(AccessRuleRow::read).transpose()
}

pub(crate) async fn list_rules(tx: &mut Tx, user_id: &str, window: &Window) -> Result<Vec<AccessRuleRow>> {
    let sql = window.apply(Sql::new(RULES).and("user_id = ?", args![user_id]), "id");
    tx.select(sql).await?.iter().map(AccessRuleRow::read).collect()
}

/// The user's rule with these words: the one that stands, or this new one.
pub(crate) async fn ensure_rule(tx: &mut Tx, rule: AccessRuleRow) -> Result<AccessRuleRow> {
    tx.execute(
        "INSERT IGNORE INTO access_rules (id, user_id, service, path, method) VALUES (?, ?, ?, ?, ?)",
        args![&rule.id, &rule.user_id, &rule.service, &rule.path, &rule.method],
    )
    .await?;
    let row = tx
        .fetch_one(
            "SELECT id, user_id, service, path, method FROM access_rules \
             WHERE user_id = ? AND service = ? AND path = ? AND method = ?",
            args![&rule.user_id, &rule.service, &rule.path, &rule.method],
        )
        .await?;
    AccessRuleRow::read(&row)
}

pub(crate) async fn rule_in_use(tx: &mut Tx, id: &str) -> Result<bool> {
    let sql = "SELECT rule_id FROM application_credential_rules WHERE rule_id = ? LIMIT 1";
    Ok(tx.fetch_opt(sql, args![id]).await?.is_some())
}

pub(crate) async fn delete_rule(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM access_rules WHERE id = ?", args![id]).await?;
    Ok(())
}

/// What a login needs of a credential, by one statement.
pub(crate) struct LoginCredential {
    pub id: String,
    pub user_id: String,
    pub project_id: String,
    pub name: String,
    pub secret_hash: String,
    pub expires_at: Option<Timestamp>,
    pub unrestricted: bool,
    pub rules: Vec<AccessRuleRow>,
    pub role_ids: Vec<String>,
}

pub(crate) async fn for_login(tx: &mut Tx, id: &str) -> Result<Option<LoginCredential>> {
    login_one(tx, Sql::new(FOR_LOGIN).and("c.id = ?", args![id])).await
}

pub(crate) async fn named_for_login(tx: &mut Tx, user_id: &str, name: &str) -> Result<Option<LoginCredential>> {
    login_one(tx, Sql::new(FOR_LOGIN).and("c.user_id = ? AND c.name = ?", args![user_id, name])).await
}

/// A row per role, and one for a credential whose roles are all gone.
const FOR_LOGIN: &str = "SELECT c.id, c.user_id, c.project_id, c.name, c.secret_hash, c.expires_at, c.unrestricted, \
    r.role_id, x.rule_id FROM application_credentials c \
    LEFT JOIN application_credential_roles r ON r.credential_id = c.id \
    LEFT JOIN application_credential_rules x ON x.credential_id = c.id";

async fn login_one(tx: &mut Tx, sql: Sql) -> Result<Option<LoginCredential>> {
    let rows = tx.select(sql).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let id = row.text("id")?;
    let rules = match row.opt_text("rule_id")? {
        Some(_) => rules_of(tx, &id).await?,
        None => Vec::new(),
    };
    let role_ids = rows.iter().map(|row| row.opt_text("role_id")).collect::<Result<Vec<_>>>()?;
    Ok(Some(LoginCredential {
        id,
        user_id: row.text("user_id")?,
        project_id: row.text("project_id")?,
        name: row.text("name")?,
        secret_hash: row.text("secret_hash")?,
        expires_at: row.opt_time("expires_at")?,
        unrestricted: row.bool("unrestricted")?,
        rules,
        role_ids: role_ids.into_iter().flatten().collect(),
    }))
}

async fn rules_of(tx: &mut Tx, credential_id: &str) -> Result<Vec<AccessRuleRow>> {
    let sql = "SELECT r.id, r.user_id, r.service, r.path, r.method FROM application_credential_rules c \
        JOIN access_rules r ON r.id = c.rule_id WHERE c.credential_id = ? ORDER BY r.id";
    tx.fetch_all(sql, args![credential_id]).await?.iter().map(AccessRuleRow::read).collect()
}
