//! QoS specs. What they limit is their types' volumes: see [`super::types::VolumeType::qos_specs_id`].

use std::collections::BTreeMap;

use umbel_core::{Error, Id, Result, Timestamp};
use umbel_db::{Row, Tx, args};

use super::Volume;
use super::types::VolumeTypeId;

pub type QosId = Id<Qos>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qos {
    pub id: QosId,
    pub name: String,
    /// `front-end`, `back-end` or `both`.
    pub consumer: String,
    pub specs: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

const SELECT: &str = "SELECT id, name, consumer, created_at, updated_at FROM qos_specs";

fn read(row: &Row) -> Result<Qos> {
    Ok(Qos {
        id: row.id("id")?,
        name: row.text("name")?,
        consumer: row.text("consumer")?,
        specs: BTreeMap::new(),
        created_at: row.time("created_at")?,
        updated_at: row.opt_time("updated_at")?,
    })
}

pub async fn get(tx: &mut Tx<Volume>, id: QosId) -> Result<Option<Qos>> {
    let Some(row) = tx.fetch_opt(&format!("{SELECT} WHERE id = ?"), args![id]).await? else {
        return Ok(None);
    };
    let mut found = read(&row)?;
    let rows = tx.fetch_all("SELECT name, value FROM qos_spec_keys WHERE qos_specs_id = ?", args![id]).await?;
    found.specs = rows.iter().map(|row| Ok((row.text("name")?, row.text("value")?))).collect::<Result<_>>()?;
    Ok(Some(found))
}

/// Held against other changes until the transaction ends; 404 if there is none.
pub async fn lock(tx: &mut Tx<Volume>, id: QosId) -> Result<Qos> {
    tx.fetch_opt("SELECT id FROM qos_specs WHERE id = ? FOR UPDATE", args![id]).await?;
    get(tx, id).await?.ok_or_else(|| not_found(id))
}

pub async fn list(tx: &mut Tx<Volume>) -> Result<Vec<Qos>> {
    let mut all: Vec<Qos> = tx.fetch_all(SELECT, args![]).await?.iter().map(read).collect::<Result<_>>()?;
    let mut by_id: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for row in tx.fetch_all("SELECT qos_specs_id, name, value FROM qos_spec_keys", args![]).await? {
        by_id.entry(row.text("qos_specs_id")?).or_default().insert(row.text("name")?, row.text("value")?);
    }
    for one in &mut all {
        one.specs = by_id.remove(&one.id.to_string()).unwrap_or_default();
    }
    Ok(all)
}

/// 409 if the name is taken.
pub async fn insert(tx: &mut Tx<Volume>, new: &Qos) -> Result<()> {
    if tx.fetch_opt("SELECT id FROM qos_specs WHERE name = ?", args![&new.name]).await?.is_some() {
        return Err(Error::conflict(format!("QoS Specs {} already exists.", new.name)));
    }
    tx.execute(
        "INSERT INTO qos_specs (id, name, consumer, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
        args![new.id, &new.name, &new.consumer, new.created_at, new.updated_at],
    )
    .await?;
    put_keys(tx, new).await
}

/// Consumer and keys as they are now.
pub async fn update(tx: &mut Tx<Volume>, after: &Qos) -> Result<()> {
    tx.execute(
        "UPDATE qos_specs SET consumer = ?, updated_at = ? WHERE id = ?",
        args![&after.consumer, after.updated_at, after.id],
    )
    .await?;
    tx.execute("DELETE FROM qos_spec_keys WHERE qos_specs_id = ?", args![after.id]).await?;
    put_keys(tx, after).await
}

async fn put_keys(tx: &mut Tx<Volume>, of: &Qos) -> Result<()> {
    for (name, value) in &of.specs {
        let sql = "INSERT INTO qos_spec_keys (qos_specs_id, name, value) VALUES (?, ?, ?)";
        tx.execute(sql, args![of.id, name, value]).await?;
    }
    Ok(())
}

pub async fn delete(tx: &mut Tx<Volume>, id: QosId) -> Result<()> {
    tx.execute("DELETE FROM qos_spec_keys WHERE qos_specs_id = ?", args![id]).await?;
    tx.execute("DELETE FROM qos_specs WHERE id = ?", args![id]).await?;
    Ok(())
}

/// The types that have these, with their names.
pub async fn types(tx: &mut Tx<Volume>, id: QosId) -> Result<Vec<(VolumeTypeId, String)>> {
    let sql = "SELECT id, name FROM volume_types WHERE qos_specs_id = ? ORDER BY name";
    let rows = tx.fetch_all(sql, args![id]).await?;
    rows.iter().map(|row| Ok((row.id("id")?, row.text("name")?))).collect()
}

pub async fn leave_all_types(tx: &mut Tx<Volume>, id: QosId) -> Result<()> {
    tx.execute("UPDATE volume_types SET qos_specs_id = NULL WHERE qos_specs_id = ?", args![id]).await?;
    Ok(())
}

pub fn not_found(id: impl std::fmt::Display) -> Error {
    Error::not_found(format!("No such QoS spec {id}."))
}
