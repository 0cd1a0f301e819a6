use umbel_core::{Error, Generation, Id, Result, Timestamp};
use umbel_db::{Row, Tx, args};

use crate::{InCell, Ratio};

pub type HostId = Id<Host>;

/// A host as its cell knows it. Its name is what agents, the bus and operators call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub id: HostId,
    pub name: String,
    pub zone: String,
    /// What the agent said about the host, as JSON.
    pub facts: String,
    pub vcpus: u64,
    pub vcpus_used: u64,
    pub cpu_ratio: Ratio,
    pub memory_mib: u64,
    pub memory_mib_used: u64,
    /// Kept for the host itself.
    pub memory_reserved_mib: u64,
    pub memory_ratio: Ratio,
    /// Takes no new servers, and why.
    pub disabled: Option<String>,
    /// An operator says it is dead, whatever it says itself.
    pub forced_down: bool,
    pub last_seen: Timestamp,
    pub generation: Generation,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Host {
    /// Processors that may be promised.
    pub fn room_vcpus(&self) -> u64 {
        self.cpu_ratio.of(self.vcpus)
    }

    /// Memory that may be promised, in MiB.
    pub fn room_memory_mib(&self) -> u64 {
        self.memory_ratio.of(self.memory_mib.saturating_sub(self.memory_reserved_mib))
    }
}

/// What an agent reports of its host. The ratios hold only for a host not seen before: later they are the operator's.
pub struct HostUpdate<'a> {
    pub name: &'a str,
    pub zone: &'a str,
    pub facts: &'a str,
    pub vcpus: u64,
    pub memory_mib: u64,
    pub memory_reserved_mib: u64,
    pub cpu_ratio: Ratio,
    pub memory_ratio: Ratio,
    pub now: Timestamp,
}

const COLUMNS: &str = "id, name, zone, facts, vcpus, vcpus_used, cpu_ratio, memory_mib, memory_mib_used, \
     memory_reserved_mib, memory_ratio, disabled, disabled_reason, forced_down, last_seen, generation, created_at, \
     updated_at";

fn read(row: &Row) -> Result<Host> {
    let disabled = match row.bool("disabled")? {
        true => Some(row.opt_text("disabled_reason")?.unwrap_or_default()),
        false => None,
    };
    Ok(Host {
        id: row.id("id")?,
        name: row.text("name")?,
        zone: row.text("zone")?,
        facts: row.text("facts")?,
        vcpus: row.uint("vcpus")?,
        vcpus_used: row.uint("vcpus_used")?,
        cpu_ratio: Ratio(row.uint("cpu_ratio")?),
        memory_mib: row.uint("memory_mib")?,
        memory_mib_used: row.uint("memory_mib_used")?,
        memory_reserved_mib: row.uint("memory_reserved_mib")?,
        memory_ratio: Ratio(row.uint("memory_ratio")?),
        disabled,
        forced_down: row.bool("forced_down")?,
        last_seen: row.time("last_seen")?,
        generation: row.generation("generation")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// All hosts of the cell, by name.
pub async fn hosts<S: InCell>(tx: &mut Tx<S>) -> Result<Vec<Host>> {
    let rows = tx.fetch_all(&format!("SELECT {COLUMNS} FROM hosts ORDER BY name"), args![]).await?;
    rows.iter().map(read).collect()
}

pub async fn host<S: InCell>(tx: &mut Tx<S>, id: HostId) -> Result<Option<Host>> {
    let row = tx.fetch_opt(&format!("SELECT {COLUMNS} FROM hosts WHERE id = ?"), args![id]).await?;
    row.as_ref().map(read).transpose()
}

pub async fn host_by_name<S: InCell>(tx: &mut Tx<S>, name: &str) -> Result<Option<Host>> {
    let row = tx.fetch_opt(&format!("SELECT {COLUMNS} FROM hosts WHERE name = ?"), args![name]).await?;
    row.as_ref().map(read).transpose()
}

/// Adds the host under `new_id`, or brings its totals up to date. Marks it seen. The host as it is now.
pub async fn upsert_host<S: InCell>(tx: &mut Tx<S>, new_id: HostId, update: &HostUpdate<'_>) -> Result<Host> {
    let HostUpdate { cpu_ratio, memory_ratio, now, .. } = *update;
    tx.execute(
        "INSERT IGNORE INTO hosts (id, name, zone, facts, vcpus, vcpus_used, cpu_ratio, room_vcpus, memory_mib, \
         memory_mib_used, memory_reserved_mib, memory_ratio, room_memory_mib, disabled, forced_down, last_seen, \
         generation, created_at, updated_at) VALUES (?, ?, ?, ?, 0, 0, ?, 0, 0, 0, 0, ?, 0, 0, 0, ?, 0, ?, ?)",
        args![new_id, update.name, update.zone, update.facts, cpu_ratio.0, memory_ratio.0, now, now, now],
    )
    .await?;
    let known = host_by_name(tx, update.name).await?;
    let mut host = known.ok_or_else(|| Error::internal(format!("host {} was not written", update.name)))?;
    host.zone = update.zone.to_owned();
    host.facts = update.facts.to_owned();
    host.vcpus = update.vcpus;
    host.memory_mib = update.memory_mib;
    host.memory_reserved_mib = update.memory_reserved_mib;
    host.last_seen = now;
    host.updated_at = now;
    tx.execute(
        "UPDATE hosts SET zone = ?, facts = ?, vcpus = ?, room_vcpus = ?, memory_mib = ?, memory_reserved_mib = ?, \
         room_memory_mib = ?, last_seen = ?, updated_at = ? WHERE id = ?",
        args![
            &host.zone,
            &host.facts,
            host.vcpus,
            host.room_vcpus(),
            host.memory_mib,
            host.memory_reserved_mib,
            host.room_memory_mib(),
            now,
            now,
            host.id
        ],
    )
    .await?;
    Ok(host)
}

/// Marks hosts alive, many at once: a heartbeat is not worth a transaction of its own.
pub async fn seen<S: InCell>(tx: &mut Tx<S>, names: &[String], now: Timestamp) -> Result<u64> {
    if names.is_empty() {
        return Ok(0);
    }
    let marks = vec!["?"; names.len()].join(", ");
    let mut args = args![now];
    args.extend(names.iter().map(Into::into));
    tx.execute(&format!("UPDATE hosts SET last_seen = ? WHERE name IN ({marks})"), args).await
}

/// The host takes no new servers; what runs there stays.
pub async fn disable<S: InCell>(tx: &mut Tx<S>, id: HostId, reason: &str, now: Timestamp) -> Result<()> {
    let sql = "UPDATE hosts SET disabled = 1, disabled_reason = ?, generation = generation + 1, updated_at = ? \
         WHERE id = ?";
    found(tx.execute(sql, args![reason, now, id]).await?, id)
}

pub async fn enable<S: InCell>(tx: &mut Tx<S>, id: HostId, now: Timestamp) -> Result<()> {
    let sql = "UPDATE hosts SET disabled = 0, disabled_reason = NULL, generation = generation + 1, updated_at = ? \
         WHERE id = ?";
    found(tx.execute(sql, args![now, id]).await?, id)
}

pub async fn force_down<S: InCell>(tx: &mut Tx<S>, id: HostId, down: bool, now: Timestamp) -> Result<()> {
    let sql = "UPDATE hosts SET forced_down = ?, generation = generation + 1, updated_at = ? WHERE id = ?";
    found(tx.execute(sql, args![down, now, id]).await?, id)
}

fn found(rows: u64, id: HostId) -> Result<()> {
    match rows {
        0 => Err(Error::not_found(format!("Compute host {id} could not be found."))),
        _ => Ok(()),
    }
}
