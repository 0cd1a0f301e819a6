use std::collections::BTreeMap;

use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, Value, args};

use crate::Api;

/// A size of server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flavor {
    pub id: String,
    pub name: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub root_gib: u64,
    pub ephemeral_gib: u64,
    pub swap_mib: u64,
    /// As written by who made it: it has no meaning, but comes back.
    pub rxtx_factor: String,
    pub is_public: bool,
    pub description: Option<String>,
    pub extra_specs: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

/// Which flavors a list shows.
#[derive(Clone, Debug)]
pub struct FlavorFilter {
    /// `None` for both.
    pub is_public: Option<bool>,
    /// Private ones only of this project; `None` for those of any.
    pub project_id: Option<String>,
    pub min_memory_mib: u64,
    pub min_root_gib: u64,
    pub sort: (FlavorSort, Direction),
    pub marker: Option<String>,
    pub limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlavorSort {
    Id,
    Name,
    Vcpus,
    Memory,
    Root,
    Ephemeral,
    Swap,
    Created,
}

impl FlavorSort {
    fn column(self) -> &'static str {
        match self {
            FlavorSort::Id => "id",
            FlavorSort::Name => "name",
            FlavorSort::Vcpus => "vcpus",
            FlavorSort::Memory => "memory_mib",
            FlavorSort::Root => "root_gib",
            FlavorSort::Ephemeral => "ephemeral_gib",
            FlavorSort::Swap => "swap_mib",
            FlavorSort::Created => "created_at",
        }
    }

    fn of(self, flavor: &Flavor) -> Value {
        match self {
            FlavorSort::Id => Value::from(&flavor.id),
            FlavorSort::Name => Value::from(&flavor.name),
            FlavorSort::Vcpus => Value::from(flavor.vcpus),
            FlavorSort::Memory => Value::from(flavor.memory_mib),
            FlavorSort::Root => Value::from(flavor.root_gib),
            FlavorSort::Ephemeral => Value::from(flavor.ephemeral_gib),
            FlavorSort::Swap => Value::from(flavor.swap_mib),
            FlavorSort::Created => Value::from(flavor.created_at),
        }
    }
}

const SELECT: &str = "SELECT id, name, vcpus, memory_mib, root_gib, ephemeral_gib, swap_mib, rxtx_factor, is_public, \
     description, extra_specs, created_at, updated_at FROM flavors";

fn read(row: &Row) -> Result<Flavor> {
    let extra_specs = row.text("extra_specs")?;
    Ok(Flavor {
        id: row.text("id")?,
        name: row.text("name")?,
        vcpus: u32::try_from(row.uint("vcpus")?).unwrap_or(u32::MAX),
        memory_mib: row.uint("memory_mib")?,
        root_gib: row.uint("root_gib")?,
        ephemeral_gib: row.uint("ephemeral_gib")?,
        swap_mib: row.uint("swap_mib")?,
        rxtx_factor: row.text("rxtx_factor")?,
        is_public: row.bool("is_public")?,
        description: row.opt_text("description")?,
        extra_specs: serde_json::from_str(&extra_specs).map_err(Error::internal)?,
        created_at: row.time("created_at")?,
        updated_at: row.opt_time("updated_at")?,
    })
}

/// 409 if the id or the name is taken.
pub async fn insert(tx: &mut Tx<Api>, flavor: &Flavor) -> Result<()> {
    let (id, name) = (&flavor.id, &flavor.name);
    for (column, value, what) in [("name", name, "name"), ("id", id, "ID")] {
        let sql = Sql::new("SELECT id FROM flavors").and(&format!("{column} = ?"), args![value]);
        if !tx.select(sql).await?.is_empty() {
            return Err(Error::conflict(format!("Flavor with {what} {value} already exists.")));
        }
    }
    tx.execute(
        "INSERT INTO flavors (id, name, vcpus, memory_mib, root_gib, ephemeral_gib, swap_mib, rxtx_factor, is_public, \
         description, extra_specs, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            id,
            name,
            flavor.vcpus,
            flavor.memory_mib,
            flavor.root_gib,
            flavor.ephemeral_gib,
            flavor.swap_mib,
            &flavor.rxtx_factor,
            flavor.is_public,
            &flavor.description,
            serde_json::to_string(&flavor.extra_specs).map_err(Error::internal)?,
            flavor.created_at,
            flavor.updated_at
        ],
    )
    .await?;
    Ok(())
}

/// `None` if there is none, or it is private and `project_id` has no access; `None` for the project sees all.
pub async fn get(tx: &mut Tx<Api>, id: &str, project_id: Option<&str>) -> Result<Option<Flavor>> {
    let mut sql = Sql::new(SELECT).and("id = ?", args![id]);
    if let Some(project) = project_id {
        sql = sql.and(REACHABLE, args![project]);
    }
    tx.select(sql).await?.first().map(read).transpose()
}

const REACHABLE: &str = "is_public = 1 OR id IN (SELECT flavor_id FROM flavor_projects WHERE project_id = ?)";

/// `None` if the marker is no flavor.
pub async fn list(tx: &mut Tx<Api>, filter: &FlavorFilter) -> Result<Option<Vec<Flavor>>> {
    let mut sql = Sql::new(SELECT);
    if let Some(public) = filter.is_public {
        sql = sql.and("is_public = ?", args![public]);
    }
    if let Some(project) = &filter.project_id {
        sql = sql.and(REACHABLE, args![project]);
    }
    if filter.min_memory_mib > 0 {
        sql = sql.and("memory_mib >= ?", args![filter.min_memory_mib]);
    }
    if filter.min_root_gib > 0 {
        sql = sql.and("root_gib >= ?", args![filter.min_root_gib]);
    }
    let (by, direction) = filter.sort;
    let order = [(by.column(), direction), ("id", direction)];
    let order = if by == FlavorSort::Id { &order[1..] } else { &order[..] };
    if let Some(marker) = &filter.marker {
        let Some(last) = get(tx, marker, None).await? else {
            return Ok(None);
        };
        let values = args![by.of(&last), &last.id];
        let values = if by == FlavorSort::Id { &values[1..] } else { &values[..] };
        sql = sql.after(order, values);
    }
    tx.select(sql.order(order).limit(filter.limit)).await?.iter().map(read).collect::<Result<_>>().map(Some)
}

/// Replaces description and extra specs.
pub async fn update(tx: &mut Tx<Api>, flavor: &Flavor, now: Timestamp) -> Result<()> {
    let extra_specs = serde_json::to_string(&flavor.extra_specs).map_err(Error::internal)?;
    let sql = "UPDATE flavors SET description = ?, extra_specs = ?, updated_at = ? WHERE id = ?";
    tx.execute(sql, args![&flavor.description, extra_specs, now, &flavor.id]).await?;
    Ok(())
}

/// False if there was none. Servers keep their copy.
pub async fn delete(tx: &mut Tx<Api>, id: &str) -> Result<bool> {
    tx.execute("DELETE FROM flavor_projects WHERE flavor_id = ?", args![id]).await?;
    Ok(tx.execute("DELETE FROM flavors WHERE id = ?", args![id]).await? > 0)
}

/// Projects that may use a private flavor.
pub async fn projects(tx: &mut Tx<Api>, id: &str) -> Result<Vec<String>> {
    let sql = "SELECT project_id FROM flavor_projects WHERE flavor_id = ? ORDER BY project_id";
    tx.fetch_all(sql, args![id]).await?.iter().map(|row| row.text("project_id")).collect()
}

/// False if the project had access already.
pub async fn add_project(tx: &mut Tx<Api>, id: &str, project_id: &str) -> Result<bool> {
    let sql = "INSERT IGNORE INTO flavor_projects (flavor_id, project_id) VALUES (?, ?)";
    Ok(tx.execute(sql, args![id, project_id]).await? > 0)
}

/// False if the project had no access.
pub async fn remove_project(tx: &mut Tx<Api>, id: &str, project_id: &str) -> Result<bool> {
    let sql = "DELETE FROM flavor_projects WHERE flavor_id = ? AND project_id = ?";
    Ok(tx.execute(sql, args![id, project_id]).await? > 0)
}

/// Whether there is any.
pub async fn any(tx: &mut Tx<Api>) -> Result<bool> {
    Ok(tx.fetch_opt("SELECT id FROM flavors LIMIT 1", args![]).await?.is_some())
}
