//! What a login reads: three statements, whatever it asks for. The first also tells how old a copy of the directory
//! may be, so that none is needed for that.

use umbel_api::identity::Extra;
use umbel_core::{Result, Timestamp};
use umbel_db::{Row, Sql, args};

use super::Tx;
use super::assignments::TargetKind;
use super::read_document;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DomainKey {
    Id(String),
    Name(String),
}

/// A user or project as requests name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntityKey {
    Id(String),
    Name(String, DomainKey),
}

#[derive(Clone)]
pub(crate) struct LoginUser {
    pub id: String,
    pub name: String,
    pub enabled: bool,
    pub password_hash: Option<String>,
    pub password_expires_at: Option<Timestamp>,
    pub default_project_id: Option<String>,
    pub options: Extra,
    /// When it logged in last, or else was made, where that is known.
    pub active_at: Option<Timestamp>,
    pub domain_id: String,
    pub domain_name: String,
    pub domain_enabled: bool,
    pub directory_generation: i64,
}

impl LoginUser {
    fn read(row: &Row) -> Result<Self> {
        Ok(LoginUser {
            id: row.text("id")?,
            name: row.text("name")?,
            enabled: row.bool("enabled")?,
            password_hash: row.opt_text("password_hash")?,
            password_expires_at: row.opt_time("password_expires_at")?,
            default_project_id: row.opt_text("default_project_id")?,
            options: read_document(row, "options")?,
            active_at: row.opt_time("active_at")?,
            domain_id: row.text("domain_id")?,
            domain_name: row.text("domain_name")?,
            domain_enabled: row.bool("domain_enabled")?,
            directory_generation: row.int("directory_generation")?,
        })
    }
}

pub(crate) async fn user(tx: &mut Tx, key: &EntityKey) -> Result<Option<LoginUser>> {
    let sql = Sql::new(
        "SELECT e.id, e.name, e.enabled, e.password_hash, e.password_expires_at, e.default_project_id, e.options, \
         d.id AS domain_id, d.name AS domain_name, d.enabled AS domain_enabled, \
         v.generation AS directory_generation, g.active_at \
         FROM users e JOIN projects d ON d.id = e.domain_id AND d.is_domain = 1 JOIN directory v ON v.id = 1 \
         LEFT JOIN user_guards g ON g.user_id = e.id",
    );
    tx.select(keyed(sql, key)).await?.first().map(LoginUser::read).transpose()
}

#[derive(Clone, Debug)]
pub(crate) struct ScopeProject {
    pub id: String,
    pub name: String,
    pub enabled: bool,
    pub parent_id: String,
    pub domain_id: String,
    pub domain_name: String,
    pub domain_enabled: bool,
}

pub(crate) async fn project(tx: &mut Tx, key: &EntityKey) -> Result<Option<ScopeProject>> {
    let sql = Sql::new(
        "SELECT e.id, e.name, e.enabled, e.parent_id, d.id AS domain_id, d.name AS domain_name, \
         d.enabled AS domain_enabled FROM projects e JOIN projects d ON d.id = e.domain_id AND d.is_domain = 1",
    )
    .and("e.is_domain = 0", args![]);
    let rows = tx.select(keyed(sql, key)).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(ScopeProject {
        id: row.text("id")?,
        name: row.text("name")?,
        enabled: row.bool("enabled")?,
        parent_id: row.text("parent_id")?,
        domain_id: row.text("domain_id")?,
        domain_name: row.text("domain_name")?,
        domain_enabled: row.bool("domain_enabled")?,
    }))
}

fn keyed(sql: Sql, key: &EntityKey) -> Sql {
    match key {
        EntityKey::Id(id) => sql.and("e.id = ?", args![id]),
        EntityKey::Name(name, DomainKey::Id(domain)) => sql.and("e.name = ? AND e.domain_id = ?", args![name, domain]),
        EntityKey::Name(name, DomainKey::Name(domain)) => sql.and("e.name = ? AND d.name = ?", args![name, domain]),
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ScopeDomain {
    pub id: String,
    pub name: String,
    pub enabled: bool,
}

pub(crate) async fn domain(tx: &mut Tx, key: &DomainKey) -> Result<Option<ScopeDomain>> {
    let sql = Sql::new("SELECT id, name, enabled FROM projects").and("is_domain = 1", args![]);
    let sql = match key {
        DomainKey::Id(id) => sql.and("id = ?", args![id]),
        DomainKey::Name(name) => sql.and("name = ?", args![name]),
    };
    let rows = tx.select(sql).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(ScopeDomain { id: row.text("id")?, name: row.text("name")?, enabled: row.bool("enabled")? }))
}

/// A role that a user holds, itself or by a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub target_kind: TargetKind,
    pub target_id: String,
    pub role_id: String,
    pub inherited: bool,
}

pub(crate) async fn held(tx: &mut Tx, user_id: &str) -> Result<Vec<Held>> {
    let rows = tx
        .fetch_all(
            "SELECT a.target_kind, a.target_id, a.role_id, a.inherited FROM assignments a WHERE a.actor_id = ? \
             UNION ALL \
             SELECT a.target_kind, a.target_id, a.role_id, a.inherited FROM memberships m \
             JOIN assignments a ON a.actor_id = m.group_id WHERE m.user_id = ?",
            args![user_id, user_id],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Held {
                target_kind: TargetKind::read(row)?,
                target_id: row.text("target_id")?,
                role_id: row.text("role_id")?,
                inherited: row.bool("inherited")?,
            })
        })
        .collect()
}

/// Parents of a project that lies deeper than right below its domain, nearest first. Only a role inherited from a
/// project makes these matter, so most logins never ask.
pub(crate) async fn ancestors(tx: &mut Tx, parent_id: &str, domain_id: &str) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    let mut next = parent_id.to_owned();
    while !next.is_empty() && next != domain_id && !all.contains(&next) {
        let row = tx.fetch_opt("SELECT parent_id FROM projects WHERE id = ?", args![&next]).await?;
        all.push(next);
        next = row.map(|row| row.text("parent_id")).transpose()?.unwrap_or_default();
    }
    Ok(all)
}
