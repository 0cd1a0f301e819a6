//! Metadata definitions: version 4 of the schema.
//!
//! What a namespace holds is rows of one table whatever its kind: they have the same life (named within the namespace,
//! listed by age, gone with it), and differ only in a body that nothing is ever searched by. Four tables were refused:
//! they would have had the same statements four times.

mod items;

use umbel_api::image::metadefs::Visibility;
use umbel_auth::Visible;
use umbel_core::{Error, Id, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, Value, args};

use super::Image;

pub use items::{Item, Kind, Sort, clear, get, insert, list, of_all, remove, replace};

/// Text of 80 characters can have more when it is folded to lower case, hence 255.
///
/// The resource types are those that the definitions which come with upstream's service are for. They have no moment of
/// their own but that of this schema.
pub const METADEFS: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS metadef_namespaces (
        id VARCHAR(36) PRIMARY KEY,
        namespace VARCHAR(80) NOT NULL,
        display_name VARCHAR(80),
        description TEXT,
        visibility VARCHAR(16) NOT NULL,
        protected BIGINT NOT NULL,
        owner VARCHAR(255),
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS metadef_namespaces_by_name ON metadef_namespaces (namespace)",
    "CREATE INDEX IF NOT EXISTS metadef_namespaces_by_created ON metadef_namespaces (created_at, id)",
    "CREATE TABLE IF NOT EXISTS metadef_items (
        namespace_id VARCHAR(36) NOT NULL,
        kind VARCHAR(16) NOT NULL,
        folded VARCHAR(255) NOT NULL,
        name VARCHAR(80) NOT NULL,
        body TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL,
        PRIMARY KEY (namespace_id, kind, folded))",
    "CREATE INDEX IF NOT EXISTS metadef_items_by_name ON metadef_items (kind, name)",
    "CREATE TABLE IF NOT EXISTS metadef_resource_types (
        name VARCHAR(80) PRIMARY KEY,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL)",
    "INSERT IGNORE INTO metadef_resource_types (name, created_at, updated_at) VALUES
        ('OS::Cinder::Volume', 1795219200000000, 1795219200000000),
        ('OS::Glance::Image', 1795219200000000, 1795219200000000),
        ('OS::Nova::Aggregate', 1795219200000000, 1795219200000000),
        ('OS::Nova::Flavor', 1795219200000000, 1795219200000000),
        ('OS::Nova::Server', 1795219200000000, 1795219200000000),
        ('OS::Trove::Instance', 1795219200000000, 1795219200000000)",
];

pub type NamespaceId = Id<Namespace>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub id: NamespaceId,
    /// Unique in the whole service, whoever sees it.
    pub name: String,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub visibility: Visibility,
    pub protected: bool,
    pub owner: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A column by which namespaces are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Name,
    DisplayName,
    Owner,
    Visibility,
    CreatedAt,
    UpdatedAt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub visibility: Option<Visibility>,
    /// Meant for one of these.
    pub resource_types: Option<Vec<String>>,
    pub sort: Column,
    pub direction: Direction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceType {
    pub name: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

const COLUMNS: &str = "SELECT id, namespace, display_name, description, visibility, protected, owner, created_at, \
    updated_at FROM metadef_namespaces";

/// [`umbel_core::Kind::Conflict`] if the name is taken, be it by a namespace that the caller does not see.
pub async fn insert_namespace(tx: &mut Tx<Image>, namespace: &Namespace) -> Result<()> {
    let sql = "INSERT INTO metadef_namespaces (id, namespace, display_name, description, visibility, protected, owner, \
        created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = args![
        namespace.id,
        &namespace.name,
        &namespace.display_name,
        &namespace.description,
        namespace.visibility.name(),
        namespace.protected,
        &namespace.owner,
        namespace.created_at,
        namespace.updated_at,
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Writes all but the id and the moment of creation. Conflict as [`insert_namespace`].
pub async fn update_namespace(tx: &mut Tx<Image>, namespace: &Namespace) -> Result<()> {
    let sql = "UPDATE metadef_namespaces SET namespace = ?, display_name = ?, description = ?, visibility = ?, \
        protected = ?, owner = ?, updated_at = ? WHERE id = ?";
    let values = args![
        &namespace.name,
        &namespace.display_name,
        &namespace.description,
        namespace.visibility.name(),
        namespace.protected,
        &namespace.owner,
        namespace.updated_at,
        namespace.id,
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// With all that it holds.
pub async fn delete_namespace(tx: &mut Tx<Image>, id: NamespaceId) -> Result<()> {
    tx.execute("DELETE FROM metadef_items WHERE namespace_id = ?", args![id]).await?;
    tx.execute("DELETE FROM metadef_namespaces WHERE id = ?", args![id]).await?;
    Ok(())
}

/// A namespace that the caller sees: a public one, or one of its project.
pub async fn get_namespace(tx: &mut Tx<Image>, visible: &Visible, name: &str) -> Result<Option<Namespace>> {
    tx.select(named(visible, name)).await?.first().map(namespace).transpose()
}

/// As [`get_namespace`], held against other changes until the transaction ends.
pub async fn lock_namespace(tx: &mut Tx<Image>, visible: &Visible, name: &str) -> Result<Option<Namespace>> {
    tx.select(named(visible, name).push("FOR UPDATE")).await?.first().map(namespace).transpose()
}

/// At most `limit`, those after the marker if there is one.
pub async fn list_namespaces(
    tx: &mut Tx<Image>,
    visible: &Visible,
    filter: &Filter,
    after: Option<&Namespace>,
    limit: usize,
) -> Result<Vec<Namespace>> {
    let mut sql = seen(Sql::new(COLUMNS), visible);
    if let Some(visibility) = filter.visibility {
        sql = sql.and("visibility = ?", args![visibility.name()]);
    }
    if let Some(types) = &filter.resource_types {
        let marks = vec!["?"; types.len().max(1)].join(", ");
        let meant = format!("id IN (SELECT namespace_id FROM metadef_items WHERE kind = ? AND name IN ({marks}))");
        let mut values = args![Kind::ResourceType.name()];
        match types.is_empty() {
            true => values.push("".into()),
            false => values.extend(types.iter().map(Value::from)),
        }
        sql = sql.and(&meant, values);
    }
    let order = [(sortable(filter.sort), filter.direction), ("id", filter.direction)];
    if let Some(marker) = after {
        sql = sql.after(&order, &[value_of(marker, filter.sort), marker.id.into()]);
    }
    tx.select(sql.order(&order).limit(limit)).await?.iter().map(namespace).collect()
}

pub async fn resource_types(tx: &mut Tx<Image>) -> Result<Vec<ResourceType>> {
    let sql = "SELECT name, created_at, updated_at FROM metadef_resource_types ORDER BY name";
    let read = |row: &Row| {
        Ok(ResourceType {
            name: row.text("name")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    };
    tx.fetch_all(sql, args![]).await?.iter().map(read).collect()
}

/// Nothing happens if it is known already.
pub async fn add_resource_type(tx: &mut Tx<Image>, name: &str, now: Timestamp) -> Result<()> {
    let sql = "INSERT IGNORE INTO metadef_resource_types (name, created_at, updated_at) VALUES (?, ?, ?)";
    tx.execute(sql, args![name, now, now]).await?;
    Ok(())
}

fn named(visible: &Visible, name: &str) -> Sql {
    seen(Sql::new(COLUMNS).and("namespace = ?", args![name]), visible)
}

fn seen(sql: Sql, visible: &Visible) -> Sql {
    match visible {
        Visible::All => sql,
        Visible::Project(project) => sql.and("visibility = 'public' OR owner = ?", args![project]),
    }
}

/// The column, or what stands for it where it is null: keyset paging compares.
fn sortable(column: Column) -> &'static str {
    match column {
        Column::Name => "namespace",
        Column::DisplayName => "COALESCE(display_name, '')",
        Column::Owner => "COALESCE(owner, '')",
        Column::Visibility => "visibility",
        Column::CreatedAt => "created_at",
        Column::UpdatedAt => "updated_at",
    }
}

/// The marker's value of what [`sortable`] computes.
fn value_of(namespace: &Namespace, column: Column) -> Value {
    match column {
        Column::Name => (&namespace.name).into(),
        Column::DisplayName => namespace.display_name.as_deref().unwrap_or("").into(),
        Column::Owner => namespace.owner.as_deref().unwrap_or("").into(),
        Column::Visibility => namespace.visibility.name().into(),
        Column::CreatedAt => namespace.created_at.into(),
        Column::UpdatedAt => namespace.updated_at.into(),
    }
}

fn namespace(row: &Row) -> Result<Namespace> {
    let visibility = row.text("visibility")?;
    Ok(Namespace {
        id: row.id("id")?,
        name: row.text("namespace")?,
        display_name: row.opt_text("display_name")?,
        description: row.opt_text("description")?,
        visibility: visibility.parse().map_err(|error: Error| Error::internal(error).because("a namespace's row"))?,
        protected: row.bool("protected")?,
        owner: row.opt_text("owner")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
