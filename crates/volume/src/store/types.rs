//! Types of volumes. There are tens of them in a cloud, not thousands: lists read all and are paged by who shows them.

use std::collections::BTreeMap;

use umbel_auth::Visible;
use umbel_core::{Error, Id, Result, Timestamp};
use umbel_db::{Row, Sql, Tx, args};

use super::{Volume, qos_specs};

/// The type that always exists, as upstream's installations have it.
pub const DEFAULT_NAME: &str = "__DEFAULT__";

pub type VolumeTypeId = Id<VolumeType>;

/// Extra specs by their name. Clients may store null.
pub type Specs = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeType {
    pub id: VolumeTypeId,
    pub name: String,
    pub description: Option<String>,
    pub is_public: bool,
    pub qos_specs_id: Option<qos_specs::QosId>,
    pub extra_specs: Specs,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

impl VolumeType {
    /// The value of an extra spec.
    pub fn spec(&self, name: &str) -> Option<&str> {
        self.extra_specs.get(name)?.as_deref()
    }

    /// Whether an extra spec says `<is> True`.
    pub fn has(&self, name: &str) -> bool {
        self.spec(name).is_some_and(is_true)
    }
}

/// `<is> True`, in any case of its letters.
pub fn is_true(value: &str) -> bool {
    value.strip_prefix("<is>").is_some_and(|rest| rest.trim().eq_ignore_ascii_case("true"))
}

const SELECT: &str =
    "SELECT id, name, description, is_public, qos_specs_id, created_at, updated_at FROM volume_types WHERE 1 = 1";

/// What a project may use: what is public, and what was opened to it.
fn seen(sql: Sql, visible: &Visible) -> Sql {
    match visible {
        Visible::All => sql,
        Visible::Project(project) => sql.and(
            "is_public = 1 OR id IN (SELECT volume_type_id FROM volume_type_projects WHERE project_id = ?)",
            args![project],
        ),
    }
}

fn read(row: &Row) -> Result<VolumeType> {
    Ok(VolumeType {
        id: row.id("id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        is_public: row.bool("is_public")?,
        qos_specs_id: row.opt_id("qos_specs_id")?,
        extra_specs: Specs::new(),
        created_at: row.time("created_at")?,
        updated_at: row.opt_time("updated_at")?,
    })
}

async fn one(tx: &mut Tx<Volume>, sql: Sql) -> Result<Option<VolumeType>> {
    let Some(row) = tx.select(sql).await?.into_iter().next() else {
        return Ok(None);
    };
    let mut found = read(&row)?;
    found.extra_specs = specs(tx, found.id).await?;
    Ok(Some(found))
}

pub async fn get(tx: &mut Tx<Volume>, visible: &Visible, id: VolumeTypeId) -> Result<Option<VolumeType>> {
    one(tx, seen(Sql::new(SELECT).and("id = ?", args![id]), visible)).await
}

pub async fn by_name(tx: &mut Tx<Volume>, visible: &Visible, name: &str) -> Result<Option<VolumeType>> {
    one(tx, seen(Sql::new(SELECT).and("name = ?", args![name]), visible)).await
}

/// By id or name, as a request has it. 404 for one that the caller does not see.
pub async fn find(tx: &mut Tx<Volume>, visible: &Visible, id_or_name: &str) -> Result<VolumeType> {
    if let Ok(id) = id_or_name.parse()
        && let Some(found) = get(tx, visible, id).await?
    {
        return Ok(found);
    }
    let found = by_name(tx, visible, id_or_name).await?;
    found.ok_or_else(|| not_found(id_or_name))
}

/// The type, held against other changes until the transaction ends. 404 if there is none.
pub async fn lock(tx: &mut Tx<Volume>, id: VolumeTypeId) -> Result<VolumeType> {
    let held = tx.fetch_opt("SELECT id FROM volume_types WHERE id = ? FOR UPDATE", args![id]).await?;
    if held.is_none() {
        return Err(not_found(id));
    }
    get(tx, &Visible::All, id).await?.ok_or_else(|| not_found(id))
}

/// Keeps the type from being deleted or changed before the transaction ends, without keeping others from using it. 404 if
/// it is gone.
pub async fn keep(tx: &mut Tx<Volume>, id: VolumeTypeId) -> Result<()> {
    let held = tx.fetch_opt("SELECT id FROM volume_types WHERE id = ? FOR SHARE", args![id]).await?;
    held.map(drop).ok_or_else(|| not_found(id))
}

/// The type of a project's volumes that name none: the project's own default, or else the one of this name, or else
/// [`DEFAULT_NAME`].
pub async fn default_for(tx: &mut Tx<Volume>, project_id: Option<&str>, name: &str) -> Result<VolumeType> {
    if let Some(project) = project_id
        && let Some(id) = project_default(tx, project).await?
        && let Some(found) = get(tx, &Visible::All, id).await?
    {
        return Ok(found);
    }
    for name in [name, DEFAULT_NAME] {
        if let Some(found) = by_name(tx, &Visible::All, name).await? {
            return Ok(found);
        }
    }
    Err(Error::internal("there is no default volume type"))
}

pub async fn list(tx: &mut Tx<Volume>, visible: &Visible) -> Result<Vec<VolumeType>> {
    let rows = tx.select(seen(Sql::new(SELECT), visible)).await?;
    let mut all: Vec<VolumeType> = rows.iter().map(read).collect::<Result<_>>()?;
    let mut by_type: BTreeMap<String, Specs> = BTreeMap::new();
    for row in tx.fetch_all("SELECT volume_type_id, name, value FROM volume_type_extra_specs", args![]).await? {
        let specs = by_type.entry(row.text("volume_type_id")?).or_default();
        specs.insert(row.text("name")?, row.opt_text("value")?);
    }
    for one in &mut all {
        one.extra_specs = by_type.remove(&one.id.to_string()).unwrap_or_default();
    }
    Ok(all)
}

/// 409 if the name is taken.
pub async fn insert(tx: &mut Tx<Volume>, new: &VolumeType) -> Result<()> {
    free_name(tx, new).await?;
    tx.execute(
        "INSERT INTO volume_types (id, name, description, is_public, qos_specs_id, created_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        args![new.id, &new.name, &new.description, new.is_public, new.qos_specs_id, new.created_at, new.updated_at],
    )
    .await?;
    put_specs(tx, new.id, &new.extra_specs).await
}

/// All but the extra specs. 409 if the name is another's.
pub async fn update(tx: &mut Tx<Volume>, after: &VolumeType) -> Result<()> {
    free_name(tx, after).await?;
    tx.execute(
        "UPDATE volume_types SET name = ?, description = ?, is_public = ?, qos_specs_id = ?, updated_at = ? \
         WHERE id = ?",
        args![&after.name, &after.description, after.is_public, after.qos_specs_id, after.updated_at, after.id],
    )
    .await?;
    Ok(())
}

async fn free_name(tx: &mut Tx<Volume>, of: &VolumeType) -> Result<()> {
    let sql = "SELECT id FROM volume_types WHERE name = ? AND id <> ?";
    match tx.fetch_opt(sql, args![&of.name, of.id]).await? {
        Some(_) => Err(Error::conflict(format!("Volume Type {} already exists.", of.name))),
        None => Ok(()),
    }
}

/// With its specs, projects and encryption.
pub async fn delete(tx: &mut Tx<Volume>, id: VolumeTypeId) -> Result<()> {
    for table in ["volume_type_extra_specs", "volume_type_projects", "volume_type_encryption"] {
        tx.execute(&format!("DELETE FROM {table} WHERE volume_type_id = ?"), args![id]).await?;
    }
    tx.execute("DELETE FROM volume_types WHERE id = ?", args![id]).await?;
    Ok(())
}

/// Whether a volume is of this type, or anything else that would lose it.
pub async fn in_use(tx: &mut Tx<Volume>, id: VolumeTypeId) -> Result<bool> {
    let sql = "SELECT id FROM volumes WHERE volume_type_id = ? AND deleted = 0 LIMIT 1";
    Ok(tx.fetch_opt(sql, args![id]).await?.is_some())
}

pub async fn specs(tx: &mut Tx<Volume>, id: VolumeTypeId) -> Result<Specs> {
    let sql = "SELECT name, value FROM volume_type_extra_specs WHERE volume_type_id = ?";
    let rows = tx.fetch_all(sql, args![id]).await?;
    rows.iter().map(|row| Ok((row.text("name")?, row.opt_text("value")?))).collect()
}

/// Adds to the specs, and replaces those of the same name.
pub async fn put_specs(tx: &mut Tx<Volume>, id: VolumeTypeId, specs: &Specs) -> Result<()> {
    for (name, value) in specs {
        tx.execute("DELETE FROM volume_type_extra_specs WHERE volume_type_id = ? AND name = ?", args![id, name])
            .await?;
        let sql = "INSERT INTO volume_type_extra_specs (volume_type_id, name, value) VALUES (?, ?, ?)";
        tx.execute(sql, args![id, name, value]).await?;
    }
    Ok(())
}

/// Whether it was there.
pub async fn remove_spec(tx: &mut Tx<Volume>, id: VolumeTypeId, name: &str) -> Result<bool> {
    let sql = "DELETE FROM volume_type_extra_specs WHERE volume_type_id = ? AND name = ?";
    Ok(tx.execute(sql, args![id, name]).await? > 0)
}

/// The projects that a private type was opened to.
pub async fn projects(tx: &mut Tx<Volume>, id: VolumeTypeId) -> Result<Vec<String>> {
    let sql = "SELECT project_id FROM volume_type_projects WHERE volume_type_id = ? ORDER BY project_id";
    tx.fetch_all(sql, args![id]).await?.iter().map(|row| row.text("project_id")).collect()
}

/// Whether it was not open to the project yet.
pub async fn add_project(tx: &mut Tx<Volume>, id: VolumeTypeId, project_id: &str, now: Timestamp) -> Result<bool> {
    let sql = "INSERT IGNORE INTO volume_type_projects (volume_type_id, project_id, created_at) VALUES (?, ?, ?)";
    Ok(tx.execute(sql, args![id, project_id, now]).await? > 0)
}

/// Whether it was open to the project.
pub async fn remove_project(tx: &mut Tx<Volume>, id: VolumeTypeId, project_id: &str) -> Result<bool> {
    let sql = "DELETE FROM volume_type_projects WHERE volume_type_id = ? AND project_id = ?";
    Ok(tx.execute(sql, args![id, project_id]).await? > 0)
}

/// A project's own default.
pub async fn project_default(tx: &mut Tx<Volume>, project_id: &str) -> Result<Option<VolumeTypeId>> {
    let sql = "SELECT volume_type_id FROM default_volume_types WHERE project_id = ?";
    tx.fetch_opt(sql, args![project_id]).await?.map(|row| row.id("volume_type_id")).transpose()
}

/// Projects that have defaults, with them.
pub async fn project_defaults(tx: &mut Tx<Volume>) -> Result<Vec<(String, VolumeTypeId)>> {
    let sql = "SELECT project_id, volume_type_id FROM default_volume_types ORDER BY project_id";
    let rows = tx.fetch_all(sql, args![]).await?;
    rows.iter().map(|row| Ok((row.text("project_id")?, row.id("volume_type_id")?))).collect()
}

pub async fn set_project_default(tx: &mut Tx<Volume>, project_id: &str, id: VolumeTypeId) -> Result<()> {
    unset_project_default(tx, project_id).await?;
    let sql = "INSERT INTO default_volume_types (project_id, volume_type_id) VALUES (?, ?)";
    tx.execute(sql, args![project_id, id]).await?;
    Ok(())
}

pub async fn unset_project_default(tx: &mut Tx<Volume>, project_id: &str) -> Result<()> {
    tx.execute("DELETE FROM default_volume_types WHERE project_id = ?", args![project_id]).await?;
    Ok(())
}

pub fn not_found(id: impl std::fmt::Display) -> Error {
    Error::not_found(format!("Volume type {id} could not be found."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_spelled_with_an_operator() {
        for good in ["<is> True", "<is> true", "<is>TRUE"] {
            assert!(is_true(good), "{good}");
        }
        for bad in ["True", "<is> False", "<in> True", ""] {
            assert!(!is_true(bad), "{bad}");
        }
    }
}
