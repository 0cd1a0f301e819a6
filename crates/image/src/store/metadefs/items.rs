//! What a namespace holds.

use umbel_core::{Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, Value, args};

use super::super::Image;
use super::NamespaceId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Object,
    Property,
    Tag,
    /// A type of resources for which the namespace is meant.
    ResourceType,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub name: String,
    /// JSON of what there is beside the name.
    pub body: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Property => "property",
            Kind::Tag => "tag",
            Kind::ResourceType => "resource_type",
        }
    }

    /// Names that mean the same fold to the same text: of tags that differ only in case there is one, as upstream says.
    fn fold(self, name: &str) -> String {
        match self {
            Kind::Tag => name.to_lowercase(),
            _ => name.to_owned(),
        }
    }
}

const COLUMNS: &str = "SELECT namespace_id, name, body, created_at, updated_at FROM metadef_items";

/// [`umbel_core::Kind::Conflict`] if the namespace has one of this name.
pub async fn insert(tx: &mut Tx<Image>, namespace: NamespaceId, kind: Kind, item: &Item) -> Result<()> {
    let sql = "INSERT INTO metadef_items (namespace_id, kind, folded, name, body, created_at, updated_at) \
        VALUES (?, ?, ?, ?, ?, ?, ?)";
    let folded = kind.fold(&item.name);
    let values = args![namespace, kind.name(), folded, &item.name, &item.body, item.created_at, item.updated_at];
    tx.execute(sql, values).await?;
    Ok(())
}

/// False if there is none of this name. Conflict as [`insert`].
pub async fn replace(tx: &mut Tx<Image>, namespace: NamespaceId, kind: Kind, name: &str, after: &Item) -> Result<bool> {
    let sql = "UPDATE metadef_items SET folded = ?, name = ?, body = ?, updated_at = ? \
        WHERE namespace_id = ? AND kind = ? AND folded = ?";
    let folded = kind.fold(&after.name);
    let values = args![folded, &after.name, &after.body, after.updated_at, namespace, kind.name(), kind.fold(name)];
    Ok(tx.execute(sql, values).await? > 0)
}

/// False if there is none of this name.
pub async fn remove(tx: &mut Tx<Image>, namespace: NamespaceId, kind: Kind, name: &str) -> Result<bool> {
    let sql = "DELETE FROM metadef_items WHERE namespace_id = ? AND kind = ? AND folded = ?";
    Ok(tx.execute(sql, args![namespace, kind.name(), kind.fold(name)]).await? > 0)
}

/// Removes all of the kind.
pub async fn clear(tx: &mut Tx<Image>, namespace: NamespaceId, kind: Kind) -> Result<()> {
    let sql = "DELETE FROM metadef_items WHERE namespace_id = ? AND kind = ?";
    tx.execute(sql, args![namespace, kind.name()]).await?;
    Ok(())
}

pub async fn get(tx: &mut Tx<Image>, namespace: NamespaceId, kind: Kind, name: &str) -> Result<Option<Item>> {
    let sql = of(namespace, kind).and("folded = ?", args![kind.fold(name)]);
    tx.select(sql).await?.first().map(item).transpose()
}

/// At most `limit` and only those after the marker, where these are given.
pub async fn list(
    tx: &mut Tx<Image>,
    namespace: NamespaceId,
    kind: Kind,
    (sort, direction): (Sort, Direction),
    after: Option<&Item>,
    limit: Option<usize>,
) -> Result<Vec<Item>> {
    let order = [(sort.column(), direction), ("folded", direction)];
    let mut sql = of(namespace, kind);
    if let Some(marker) = after {
        sql = sql.after(&order, &[sort.value_of(marker), kind.fold(&marker.name).into()]);
    }
    sql = sql.order(&order);
    if let Some(limit) = limit {
        sql = sql.limit(limit);
    }
    tx.select(sql).await?.iter().map(item).collect()
}

/// Those of several namespaces, with the namespace of each.
pub async fn of_all(
    tx: &mut Tx<Image>,
    namespaces: impl IntoIterator<Item = NamespaceId>,
    kind: Kind,
) -> Result<Vec<(NamespaceId, Item)>> {
    let sql = Sql::new(COLUMNS)
        .and_in("namespace_id", namespaces)
        .and("kind = ?", args![kind.name()])
        .order(&[("folded", Direction::Asc)]);
    tx.select(sql).await?.iter().map(|row| Ok((row.id("namespace_id")?, item(row)?))).collect()
}

/// By what a namespace's items are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Name,
    CreatedAt,
    UpdatedAt,
}

impl Sort {
    fn column(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::CreatedAt => "created_at",
            Sort::UpdatedAt => "updated_at",
        }
    }

    fn value_of(self, item: &Item) -> Value {
        match self {
            Sort::Name => (&item.name).into(),
            Sort::CreatedAt => item.created_at.into(),
            Sort::UpdatedAt => item.updated_at.into(),
        }
    }
}

fn of(namespace: NamespaceId, kind: Kind) -> Sql {
    Sql::new(COLUMNS).and("namespace_id = ? AND kind = ?", args![namespace, kind.name()])
}

fn item(row: &Row) -> Result<Item> {
    Ok(Item {
        name: row.text("name")?,
        body: row.text("body")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
