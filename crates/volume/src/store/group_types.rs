//! Types of groups. Tens at most, as [`super::types`].

use std::collections::BTreeMap;

use umbel_core::{Error, Id, Result, Timestamp};
use umbel_db::{Row, Tx, args};

use super::Volume;

pub type GroupTypeId = Id<GroupType>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupType {
    pub id: GroupTypeId,
    pub name: String,
    pub description: Option<String>,
    pub is_public: bool,
    pub specs: BTreeMap<String, Option<String>>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

impl GroupType {
    /// Whether a spec says `<is> True`.
    pub fn has(&self, name: &str) -> bool {
        self.specs.get(name).and_then(Option::as_deref).is_some_and(super::types::is_true)
    }
}

const SELECT: &str = "SELECT id, name, description, is_public, created_at, updated_at FROM group_types";

fn read(row: &Row) -> Result<GroupType> {
    Ok(GroupType {
        id: row.id("id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        is_public: row.bool("is_public")?,
        specs: BTreeMap::new(),
        created_at: row.time("created_at")?,
        updated_at: row.opt_time("updated_at")?,
    })
}

async fn one(tx: &mut Tx<Volume>, column: &str, value: &str) -> Result<Option<GroupType>> {
    let Some(row) = tx.fetch_opt(&format!("{SELECT} WHERE {column} = ?"), args![value]).await? else {
        return Ok(None);
    };
    let mut found = read(&row)?;
    let sql = "SELECT name, value FROM group_type_specs WHERE group_type_id = ?";
    let rows = tx.fetch_all(sql, args![found.id]).await?;
    found.specs = rows.iter().map(|row| Ok((row.text("name")?, row.opt_text("value")?))).collect::<Result<_>>()?;
    Ok(Some(found))
}

pub async fn get(tx: &mut Tx<Volume>, id: GroupTypeId) -> Result<Option<GroupType>> {
    one(tx, "id", &id.to_string()).await
}

/// By id or name, as a request has it; 404 if there is none. A private one is open to nobody but administrators, as
/// upstream offers no way to open it.
pub async fn find(tx: &mut Tx<Volume>, id_or_name: &str, admin: bool) -> Result<GroupType> {
    let by_id = match id_or_name.parse::<GroupTypeId>() {
        Ok(id) => get(tx, id).await?,
        Err(_) => None,
    };
    let found = match by_id {
        Some(found) => Some(found),
        None => one(tx, "name", id_or_name).await?,
    };
    found.filter(|one| admin || one.is_public).ok_or_else(|| not_found(id_or_name))
}

/// Held against other changes until the transaction ends; 404 if there is none.
pub async fn lock(tx: &mut Tx<Volume>, id: GroupTypeId) -> Result<GroupType> {
    tx.fetch_opt("SELECT id FROM group_types WHERE id = ? FOR UPDATE", args![id]).await?;
    get(tx, id).await?.ok_or_else(|| not_found(id))
}

pub async fn list(tx: &mut Tx<Volume>) -> Result<Vec<GroupType>> {
    let mut all: Vec<GroupType> = tx.fetch_all(SELECT, args![]).await?.iter().map(read).collect::<Result<_>>()?;
    let mut by_id: BTreeMap<String, BTreeMap<String, Option<String>>> = BTreeMap::new();
    for row in tx.fetch_all("SELECT group_type_id, name, value FROM group_type_specs", args![]).await? {
        by_id.entry(row.text("group_type_id")?).or_default().insert(row.text("name")?, row.opt_text("value")?);
    }
    for one in &mut all {
        one.specs = by_id.remove(&one.id.to_string()).unwrap_or_default();
    }
    Ok(all)
}

/// 409 if the name is taken.
pub async fn insert(tx: &mut Tx<Volume>, new: &GroupType) -> Result<()> {
    free_name(tx, new).await?;
    tx.execute(
        "INSERT INTO group_types (id, name, description, is_public, created_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?)",
        args![new.id, &new.name, &new.description, new.is_public, new.created_at, new.updated_at],
    )
    .await?;
    put_specs(tx, new.id, &new.specs).await
}

/// All but the specs. 409 if the name is another's.
pub async fn update(tx: &mut Tx<Volume>, after: &GroupType) -> Result<()> {
    free_name(tx, after).await?;
    tx.execute(
        "UPDATE group_types SET name = ?, description = ?, is_public = ?, updated_at = ? WHERE id = ?",
        args![&after.name, &after.description, after.is_public, after.updated_at, after.id],
    )
    .await?;
    Ok(())
}

async fn free_name(tx: &mut Tx<Volume>, of: &GroupType) -> Result<()> {
    let sql = "SELECT id FROM group_types WHERE name = ? AND id <> ?";
    match tx.fetch_opt(sql, args![&of.name, of.id]).await? {
        Some(_) => Err(Error::conflict(format!("Group Type {} already exists.", of.name))),
        None => Ok(()),
    }
}

pub async fn delete(tx: &mut Tx<Volume>, id: GroupTypeId) -> Result<()> {
    tx.execute("DELETE FROM group_type_specs WHERE group_type_id = ?", args![id]).await?;
    tx.execute("DELETE FROM group_types WHERE id = ?", args![id]).await?;
    Ok(())
}

/// Whether a group is of this type.
pub async fn in_use(tx: &mut Tx<Volume>, id: GroupTypeId) -> Result<bool> {
    let sql = "SELECT id FROM volume_groups WHERE group_type_id = ? LIMIT 1";
    Ok(tx.fetch_opt(sql, args![id]).await?.is_some())
}

/// Adds to the specs, and replaces those of the same name.
pub async fn put_specs(tx: &mut Tx<Volume>, id: GroupTypeId, specs: &BTreeMap<String, Option<String>>) -> Result<()> {
    for (name, value) in specs {
        remove_spec(tx, id, name).await?;
        let sql = "INSERT INTO group_type_specs (group_type_id, name, value) VALUES (?, ?, ?)";
        tx.execute(sql, args![id, name, value]).await?;
    }
    Ok(())
}

/// Whether it was there.
pub async fn remove_spec(tx: &mut Tx<Volume>, id: GroupTypeId, name: &str) -> Result<bool> {
    let sql = "DELETE FROM group_type_specs WHERE group_type_id = ? AND name = ?";
    Ok(tx.execute(sql, args![id, name]).await? > 0)
}

pub fn not_found(id: impl std::fmt::Display) -> Error {
    Error::not_found(format!("Group type {id} could not be found."))
}
