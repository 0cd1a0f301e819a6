//! Projects and domains: one table.

use std::collections::HashMap;

use umbel_api::identity::Extra;
use umbel_core::{Generation, Result};
use umbel_db::{Row, Sql, args};

use super::{Sees, TextFilter, Tx, Window, absent, document, read_document, select_in};

#[derive(Clone, Debug)]
pub(crate) struct ProjectRow {
    pub id: String,
    pub generation: Generation,
    pub name: String,
    /// None for a domain.
    pub domain_id: Option<String>,
    /// None for a domain; the domain's id for a project right below it.
    pub parent_id: Option<String>,
    pub is_domain: bool,
    pub enabled: bool,
    pub description: String,
    pub options: Extra,
    pub extra: Extra,
    pub tags: Vec<String>,
}

impl ProjectRow {
    /// The domain that owns it; its own id for a domain.
    pub fn owner(&self) -> &str {
        self.domain_id.as_deref().unwrap_or(&self.id)
    }

    fn read(row: &Row) -> Result<Self> {
        Ok(ProjectRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            name: row.text("name")?,
            domain_id: absent(row.text("domain_id")?),
            parent_id: absent(row.text("parent_id")?),
            is_domain: row.bool("is_domain")?,
            enabled: row.bool("enabled")?,
            description: row.text("description")?,
            options: read_document(row, "options")?,
            extra: read_document(row, "extra")?,
            tags: Vec::new(),
        })
    }
}

const SELECT: &str = "SELECT p.id, p.generation, p.name, p.domain_id, p.parent_id, p.is_domain, p.enabled, \
    p.description, p.options, p.extra FROM projects p";

#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectFilter {
    pub is_domain: bool,
    pub name: Option<TextFilter>,
    pub domain_id: Option<String>,
    pub parent_id: Option<String>,
    pub enabled: Option<bool>,
    /// Has all of these.
    pub tags: Vec<String>,
    /// Has one of these.
    pub tags_any: Vec<String>,
    /// Has not all of these.
    pub not_tags: Vec<String>,
    /// Has none of these.
    pub not_tags_any: Vec<String>,
}

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<ProjectRow>> {
    one(tx, Sql::new(SELECT).and("p.id = ?", args![id])).await
}

/// By name; of a domain where `domain_id` is empty.
pub(crate) async fn find(tx: &mut Tx, domain_id: &str, name: &str) -> Result<Option<ProjectRow>> {
    one(tx, Sql::new(SELECT).and("p.domain_id = ? AND p.name = ?", args![domain_id, name])).await
}

async fn one(tx: &mut Tx, sql: Sql) -> Result<Option<ProjectRow>> {
    let mut rows = with_tags(tx, sql).await?;
    Ok(rows.pop())
}

pub(crate) async fn list(tx: &mut Tx, sees: &Sees, filter: &ProjectFilter, window: &Window) -> Result<Vec<ProjectRow>> {
    let mut sql = Sql::new(SELECT).and("p.is_domain = ?", args![filter.is_domain]);
    sql = sees.filter(sql, if filter.is_domain { "p.id" } else { "p.domain_id" });
    if let Some(name) = &filter.name {
        sql = name.apply(sql, "p.name");
    }
    if let Some(domain_id) = &filter.domain_id {
        sql = sql.and("p.domain_id = ?", args![domain_id]);
    }
    if let Some(parent_id) = &filter.parent_id {
        sql = sql.and("p.parent_id = ?", args![parent_id]);
    }
    if let Some(enabled) = filter.enabled {
        sql = sql.and("p.enabled = ?", args![enabled]);
    }
    with_tags(tx, window.apply(tag_filters(sql, filter), "p.id")).await
}

fn tag_filters(mut sql: Sql, filter: &ProjectFilter) -> Sql {
    const HAS: &str = "EXISTS (SELECT 1 FROM project_tags t WHERE t.project_id = p.id AND t.name = ?)";
    let joined = |tags: &[String], with: &str| vec![HAS; tags.len()].join(with);
    let bound = |tags: &[String]| tags.iter().map(umbel_db::Value::from).collect::<Vec<_>>();
    if !filter.tags.is_empty() {
        sql = sql.and(&joined(&filter.tags, " AND "), bound(&filter.tags));
    }
    if !filter.tags_any.is_empty() {
        sql = sql.and(&joined(&filter.tags_any, " OR "), bound(&filter.tags_any));
    }
    if !filter.not_tags.is_empty() {
        sql = sql.and(&format!("NOT ({})", joined(&filter.not_tags, " AND ")), bound(&filter.not_tags));
    }
    if !filter.not_tags_any.is_empty() {
        sql = sql.and(&format!("NOT ({})", joined(&filter.not_tags_any, " OR ")), bound(&filter.not_tags_any));
    }
    sql
}

/// By ids, in the order of ids.
pub(crate) async fn get_all(tx: &mut Tx, ids: &[String]) -> Result<Vec<ProjectRow>> {
    let rows = select_in(tx, SELECT, "p.id", ids).await?;
    let mut all: Vec<ProjectRow> = rows.iter().map(ProjectRow::read).collect::<Result<_>>()?;
    all.sort_by(|a, b| a.id.cmp(&b.id));
    add_tags(tx, all).await
}

/// Every project of a domain, for walking the tree; deep trees are rare, domains are bounded.
pub(crate) async fn of_domain(tx: &mut Tx, domain_id: &str) -> Result<Vec<ProjectRow>> {
    with_tags(tx, Sql::new(SELECT).and("p.domain_id = ?", args![domain_id])).await
}

async fn with_tags(tx: &mut Tx, sql: Sql) -> Result<Vec<ProjectRow>> {
    let rows = tx.select(sql).await?;
    let all = rows.iter().map(ProjectRow::read).collect::<Result<_>>()?;
    add_tags(tx, all).await
}

async fn add_tags(tx: &mut Tx, mut projects: Vec<ProjectRow>) -> Result<Vec<ProjectRow>> {
    let ids: Vec<String> = projects.iter().map(|project| project.id.clone()).collect();
    let rows = select_in(tx, "SELECT project_id, name FROM project_tags", "project_id", &ids).await?;
    let mut tags: HashMap<String, Vec<String>> = HashMap::new();
    for row in &rows {
        tags.entry(row.text("project_id")?).or_default().push(row.text("name")?);
    }
    for project in &mut projects {
        project.tags = tags.remove(&project.id).unwrap_or_default();
        project.tags.sort();
    }
    Ok(projects)
}

pub(crate) async fn insert(tx: &mut Tx, row: &ProjectRow) -> Result<()> {
    tx.execute(
        "INSERT INTO projects (id, generation, name, domain_id, parent_id, is_domain, enabled, description, options, \
         extra) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            &row.id,
            &row.name,
            row.domain_id.as_deref().unwrap_or(""),
            row.parent_id.as_deref().unwrap_or(""),
            row.is_domain,
            row.enabled,
            &row.description,
            document(&row.options)?,
            document(&row.extra)?
        ],
    )
    .await?;
    write_tags(tx, &row.id, &row.tags).await
}

/// Writes what may change; tags too.
pub(crate) async fn update(tx: &mut Tx, row: &ProjectRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE projects SET generation = generation + 1, name = ?, enabled = ?, description = ?, options = ?, \
         extra = ? WHERE id = ? AND generation = ?",
        args![
            &row.name,
            row.enabled,
            &row.description,
            document(&row.options)?,
            document(&row.extra)?,
            &row.id,
            row.generation
        ],
    )
    .await?;
    tx.execute("DELETE FROM project_tags WHERE project_id = ?", args![&row.id]).await?;
    write_tags(tx, &row.id, &row.tags).await
}

async fn write_tags(tx: &mut Tx, id: &str, tags: &[String]) -> Result<()> {
    for tag in tags {
        tx.execute("INSERT IGNORE INTO project_tags (project_id, name) VALUES (?, ?)", args![id, tag]).await?;
    }
    Ok(())
}

pub(crate) async fn has_children(tx: &mut Tx, id: &str) -> Result<bool> {
    Ok(tx.fetch_opt("SELECT id FROM projects WHERE parent_id = ? LIMIT 1", args![id]).await?.is_some())
}

pub(crate) async fn has_enabled_children(tx: &mut Tx, id: &str) -> Result<bool> {
    let sql = "SELECT id FROM projects WHERE parent_id = ? AND enabled = 1 LIMIT 1";
    Ok(tx.fetch_opt(sql, args![id]).await?.is_some())
}

/// The row, and all that hangs on it: grants, credentials, tags, and the place it had as a default project.
pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    super::application_credentials::delete_of_project(tx, id).await?;
    super::trusts::delete_of_project(tx, id).await?;
    tx.execute("UPDATE users SET default_project_id = NULL WHERE default_project_id = ?", args![id]).await?;
    for sql in [
        "DELETE FROM assignments WHERE target_id = ?",
        "DELETE FROM credentials WHERE project_id = ?",
        "DELETE FROM project_tags WHERE project_id = ?",
        "DELETE FROM projects WHERE id = ?",
    ] {
        tx.execute(sql, args![id]).await?;
    }
    Ok(())
}
