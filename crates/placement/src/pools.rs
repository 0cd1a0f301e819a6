use std::collections::HashMap;

use umbel_core::{Error, Id, Result, Timestamp};
use umbel_db::{Tx, args};

use crate::{HostId, InCell, Ratio};

pub type PoolId = Id<Pool>;

/// Whose a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The disks of one host: a pool of the same name on another host is another pool.
    Host(HostId),
    /// One pool that many hosts reach (Ceph): all of them report the same room, which counts once.
    Shared,
}

impl Reach {
    fn scope(self) -> String {
        match self {
            Reach::Host(id) => id.to_string(),
            Reach::Shared => String::new(),
        }
    }
}

/// A pool of disks as its cell knows it. Sizes in bytes as a user counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub id: PoolId,
    pub name: String,
    pub reach: Reach,
    pub driver: String,
    /// `hdd`, `ssd`, `pcie_ssd`; empty for none.
    pub tier: String,
    pub total: u64,
    /// Not yet written, as the pool says.
    pub free: u64,
    pub ratio: Ratio,
    /// Promised to servers.
    pub used: u64,
    /// Hosts that can open its disks.
    pub hosts: Vec<HostId>,
}

impl Pool {
    /// Bytes that may be promised.
    pub fn room(&self) -> u64 {
        self.ratio.of(self.total)
    }
}

/// What an agent reports of a pool that its host reaches. The ratio holds only for a pool not seen before.
pub struct PoolUpdate<'a> {
    pub name: &'a str,
    pub host: HostId,
    /// Whether other hosts reach the same pool.
    pub shared: bool,
    pub driver: &'a str,
    pub tier: &'a str,
    pub total: u64,
    pub free: u64,
    pub ratio: Ratio,
    pub now: Timestamp,
}

/// All pools of the cell with the hosts that reach them, by name.
pub async fn pools<S: InCell>(tx: &mut Tx<S>) -> Result<Vec<Pool>> {
    let mut reached: HashMap<PoolId, Vec<HostId>> = HashMap::new();
    for row in tx.fetch_all("SELECT pool_id, host_id FROM pool_hosts ORDER BY host_id", args![]).await? {
        reached.entry(row.id("pool_id")?).or_default().push(row.id("host_id")?);
    }
    let sql = "SELECT id, name, scope, driver, tier, total, free, ratio, used FROM pools ORDER BY name, scope";
    let rows = tx.fetch_all(sql, args![]).await?;
    let read = |row: &umbel_db::Row| -> Result<Pool> {
        let id = row.id("id")?;
        let scope = row.text("scope")?;
        let reach = match scope.as_str() {
            "" => Reach::Shared,
            host => Reach::Host(host.parse().map_err(|error| Error::internal(error).because("scope of a pool"))?),
        };
        Ok(Pool {
            id,
            name: row.text("name")?,
            reach,
            driver: row.text("driver")?,
            tier: row.text("tier")?,
            total: row.uint("total")?,
            free: row.uint("free")?,
            ratio: Ratio(row.uint("ratio")?),
            used: row.uint("used")?,
            hosts: reached.remove(&id).unwrap_or_default(),
        })
    };
    rows.iter().map(read).collect()
}

/// Adds the pool under `new_id`, or brings its room up to date, and notes that the host reaches it. The pool's id.
pub async fn upsert_pool<S: InCell>(tx: &mut Tx<S>, new_id: PoolId, update: &PoolUpdate<'_>) -> Result<PoolId> {
    let reach = if update.shared { Reach::Shared } else { Reach::Host(update.host) };
    tx.execute(
        "INSERT IGNORE INTO pools (id, name, scope, driver, tier, total, free, ratio, room, used, updated_at) \
         VALUES (?, ?, ?, ?, ?, 0, 0, ?, 0, 0, ?)",
        args![new_id, update.name, reach.scope(), update.driver, update.tier, update.ratio.0, update.now],
    )
    .await?;
    let sql = "SELECT id, ratio FROM pools WHERE name = ? AND scope = ?";
    let row = tx.fetch_one(sql, args![update.name, reach.scope()]).await?;
    let (id, ratio): (PoolId, _) = (row.id("id")?, Ratio(row.uint("ratio")?));
    tx.execute(
        "UPDATE pools SET driver = ?, tier = ?, total = ?, free = ?, room = ?, updated_at = ? WHERE id = ?",
        args![update.driver, update.tier, update.total, update.free, ratio.of(update.total), update.now, id],
    )
    .await?;
    tx.execute("INSERT IGNORE INTO pool_hosts (pool_id, host_id) VALUES (?, ?)", args![id, update.host]).await?;
    Ok(id)
}

/// Takes away what the host does not reach any more: `names` are all that it does. A pool that nobody reaches goes, once
/// nothing is promised of it; until then its row stays for those who hold it, and no host gets disks in it.
pub async fn keep_pools<S: InCell>(tx: &mut Tx<S>, host: HostId, names: &[&str]) -> Result<()> {
    for pool in pools(tx).await? {
        let reached = pool.hosts.contains(&host) && !names.contains(&pool.name.as_str());
        if reached {
            tx.execute("DELETE FROM pool_hosts WHERE pool_id = ? AND host_id = ?", args![pool.id, host]).await?;
        }
        let others = pool.hosts.len() - usize::from(reached);
        if others == 0 {
            tx.execute("DELETE FROM pools WHERE id = ? AND used = 0", args![pool.id]).await?;
        }
    }
    Ok(())
}
