use umbel_core::{Error, Id, Kind, Result, Timestamp};
use umbel_db::{Tx, args};

use crate::{HostId, InCell, PoolId};

/// Who holds a claim: a server.
pub enum Consumer {}

pub type ConsumerId = Id<Consumer>;

/// What a server asks of one host and of the pools it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub consumer: ConsumerId,
    pub host: HostId,
    pub vcpus: u64,
    pub memory_mib: u64,
    pub disks: Vec<DiskClaim>,
}

/// Bytes asked of one pool, all disks of the server together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskClaim {
    pub pool: PoolId,
    pub bytes: u64,
}

/// What a server holds on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub consumer: ConsumerId,
    pub host: HostId,
    pub vcpus: u64,
    pub memory_mib: u64,
}

/// Takes the room, or fails with [`Kind::NoSpace`] and the resource that lacks it; then the caller's transaction must
/// roll back. Holding the same already is a success: a workflow's step may run twice.
pub async fn claim<S: InCell>(tx: &mut Tx<S>, claim: &Claim, now: Timestamp) -> Result<()> {
    let added = tx
        .execute(
            "INSERT IGNORE INTO claims (consumer_id, host_id, vcpus, memory_mib, created_at) VALUES (?, ?, ?, ?, ?)",
            args![claim.consumer, claim.host, claim.vcpus, claim.memory_mib, now],
        )
        .await?;
    if added > 0 {
        take_host(tx, claim).await?;
    }
    // In one order for everybody, so that two claims on the same pools wait and do not deadlock.
    let mut disks = claim.disks.clone();
    disks.sort_by_key(|disk| disk.pool);
    for disk in disks {
        let added = tx
            .execute(
                "INSERT IGNORE INTO disk_claims (consumer_id, pool_id, bytes, created_at) VALUES (?, ?, ?, ?)",
                args![claim.consumer, disk.pool, disk.bytes, now],
            )
            .await?;
        if added > 0 {
            take_pool(tx, disk).await?;
        }
    }
    Ok(())
}

async fn take_host<S: InCell>(tx: &mut Tx<S>, claim: &Claim) -> Result<()> {
    let taken = tx
        .execute(
            "UPDATE hosts SET vcpus_used = vcpus_used + ?, memory_mib_used = memory_mib_used + ?, \
             generation = generation + 1 \
             WHERE id = ? AND disabled = 0 AND vcpus_used + ? <= room_vcpus AND memory_mib_used + ? <= room_memory_mib",
            args![claim.vcpus, claim.memory_mib, claim.host, claim.vcpus, claim.memory_mib],
        )
        .await?;
    if taken > 0 {
        return Ok(());
    }
    let Some(host) = crate::host(tx, claim.host).await? else {
        return Err(no_space("The host is gone."));
    };
    let lacking = match () {
        () if host.disabled.is_some() => "it is disabled",
        () if host.vcpus_used + claim.vcpus > host.room_vcpus() => "it has too few vCPUs left",
        () => "it has too little memory left",
    };
    Err(no_space(format!("Host {} cannot take the server: {lacking}.", host.name)))
}

async fn take_pool<S: InCell>(tx: &mut Tx<S>, disk: DiskClaim) -> Result<()> {
    let sql = "UPDATE pools SET used = used + ? WHERE id = ? AND used + ? <= room";
    if tx.execute(sql, args![disk.bytes, disk.pool, disk.bytes]).await? > 0 {
        return Ok(());
    }
    let row = tx.fetch_opt("SELECT name, room, used FROM pools WHERE id = ?", args![disk.pool]).await?;
    let Some(row) = row else {
        return Err(no_space("The pool is gone."));
    };
    let (name, room, used) = (row.text("name")?, row.uint("room")?, row.uint("used")?);
    let left = room.saturating_sub(used);
    Err(no_space(format!("Pool {name} is full: {} bytes asked for, {left} left.", disk.bytes)))
}

/// Gives back all that the server holds, wherever. Holding nothing is a success.
pub async fn release<S: InCell>(tx: &mut Tx<S>, consumer: ConsumerId) -> Result<()> {
    for claim in held(tx, consumer).await? {
        let sql = "DELETE FROM claims WHERE consumer_id = ? AND host_id = ?";
        // Only who deletes the row gives it back: two releases at once must not count twice.
        if tx.execute(sql, args![consumer, claim.host]).await? == 0 {
            continue;
        }
        tx.execute(
            "UPDATE hosts SET vcpus_used = vcpus_used - ?, memory_mib_used = memory_mib_used - ?, \
             generation = generation + 1 WHERE id = ?",
            args![claim.vcpus, claim.memory_mib, claim.host],
        )
        .await?;
    }
    for disk in held_disks(tx, consumer).await? {
        let sql = "DELETE FROM disk_claims WHERE consumer_id = ? AND pool_id = ?";
        if tx.execute(sql, args![consumer, disk.pool]).await? > 0 {
            tx.execute("UPDATE pools SET used = used - ? WHERE id = ?", args![disk.bytes, disk.pool]).await?;
        }
    }
    Ok(())
}

/// What a server holds on hosts: one entry, or two while it moves.
pub async fn held<S: InCell>(tx: &mut Tx<S>, consumer: ConsumerId) -> Result<Vec<Held>> {
    let sql = "SELECT host_id, vcpus, memory_mib FROM claims WHERE consumer_id = ? ORDER BY host_id";
    let rows = tx.fetch_all(sql, args![consumer]).await?;
    let read = |row: &umbel_db::Row| -> Result<Held> {
        let (vcpus, memory_mib) = (row.uint("vcpus")?, row.uint("memory_mib")?);
        Ok(Held { consumer, host: row.id("host_id")?, vcpus, memory_mib })
    };
    rows.iter().map(read).collect()
}

async fn held_disks<S: InCell>(tx: &mut Tx<S>, consumer: ConsumerId) -> Result<Vec<DiskClaim>> {
    let sql = "SELECT pool_id, bytes FROM disk_claims WHERE consumer_id = ? ORDER BY pool_id";
    let rows = tx.fetch_all(sql, args![consumer]).await?;
    rows.iter().map(|row| Ok(DiskClaim { pool: row.id("pool_id")?, bytes: row.uint("bytes")? })).collect()
}

/// A counter that does not equal the sum of its claims: a fault of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// `host <name>` or `pool <name>`.
    pub of: String,
    pub counted: u64,
    pub claimed: u64,
}

/// Compares every counter with its claims. Empty when all is well.
pub async fn audit<S: InCell>(tx: &mut Tx<S>) -> Result<Vec<Drift>> {
    let checks = [
        (
            "host",
            "SELECT h.name, h.memory_mib_used AS counted, SUM_INT(c.memory_mib) AS claimed FROM hosts h \
             LEFT JOIN claims c ON c.host_id = h.id GROUP BY h.name, h.memory_mib_used \
             HAVING h.memory_mib_used <> SUM_INT(c.memory_mib)",
        ),
        (
            "host",
            "SELECT h.name, h.vcpus_used AS counted, SUM_INT(c.vcpus) AS claimed FROM hosts h \
             LEFT JOIN claims c ON c.host_id = h.id GROUP BY h.name, h.vcpus_used \
             HAVING h.vcpus_used <> SUM_INT(c.vcpus)",
        ),
        (
            "pool",
            "SELECT p.name, p.used AS counted, SUM_INT(d.bytes) AS claimed FROM pools p \
             LEFT JOIN disk_claims d ON d.pool_id = p.id GROUP BY p.id, p.name, p.used \
             HAVING p.used <> SUM_INT(d.bytes)",
        ),
    ];
    let mut drifts = Vec::new();
    for (what, sql) in checks {
        for row in tx.fetch_all(sql, args![]).await? {
            let of = format!("{what} {}", row.text("name")?);
            drifts.push(Drift { of, counted: row.uint("counted")?, claimed: row.uint("claimed")? });
        }
    }
    Ok(drifts)
}

fn no_space(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::NoSpace, message)
}
