//! Limits that differ from the defaults, what is used, and [`charge`], which holds the one against the other.
//!
//! Upstream reserves, commits and rolls back, and keeps counters that drift from what is there. Here what is used is
//! summed from the things themselves, in the transaction that adds the new one, under a lock per project: there is
//! nothing to commit and nothing that can drift. The sums run over one project's rows by an index.

use std::collections::BTreeMap;

use umbel_api::volume::quotas::{PER_TYPE, RESOURCES};
use umbel_core::{Error, Kind, Result};
use umbel_db::{Row, Tx, args};

use super::Volume;
use crate::Config;

/// Limits by the resource's name; -1 for none.
pub type Limits = BTreeMap<String, i64>;

/// What is used, by the resource's name.
pub type Usage = BTreeMap<String, u64>;

/// The class whose limits hold for all projects without limits of their own.
pub const DEFAULT_CLASS: &str = "default";

/// What is about to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub volumes: u64,
    /// Of volumes and snapshots.
    pub gigabytes: u64,
    pub snapshots: u64,
    pub backups: u64,
    pub backup_gigabytes: u64,
    pub groups: u64,
}

/// Makes all who add to the project wait for each other until the transaction ends.
pub async fn lock(tx: &mut Tx<Volume>, project_id: &str) -> Result<()> {
    tx.execute("INSERT IGNORE INTO quota_locks (project_id) VALUES (?)", args![project_id]).await?;
    tx.fetch_one("SELECT project_id FROM quota_locks WHERE project_id = ? FOR UPDATE", args![project_id]).await?;
    Ok(())
}

/// Refuses what the project may not have, in the transaction that adds it: 413 in upstream's words.
///
/// `volume_type` is the name of the type whose own limits hold as well.
pub async fn charge(
    tx: &mut Tx<Volume>,
    config: &Config,
    project_id: &str,
    volume_type: Option<&str>,
    delta: Delta,
) -> Result<()> {
    lock(tx, project_id).await?;
    let limits = limits(tx, config, project_id).await?;
    let used = usage(tx, project_id).await?;
    check(&limits, &used, volume_type, delta)
}

/// 413 if a single volume may not be as large. [`charge`] asks for a new volume by itself; this is for others that grow
/// or come.
pub async fn check_size(tx: &mut Tx<Volume>, config: &Config, project_id: &str, size_gib: u64) -> Result<()> {
    fits(&limits(tx, config, project_id).await?, size_gib)
}

fn fits(limits: &Limits, size_gib: u64) -> Result<()> {
    match u64::try_from(limits.get("per_volume_gigabytes").copied().unwrap_or(-1)) {
        Ok(limit) if size_gib > limit => {
            Err(over(format!("Requested volume size {size_gib}G is larger than maximum allowed limit {limit}G.")))
        }
        _ => Ok(()),
    }
}

/// Sizes come before counts, as upstream reports them.
fn check(limits: &Limits, used: &Usage, volume_type: Option<&str>, delta: Delta) -> Result<()> {
    // One volume without snapshots: all that is added is its size.
    if delta.volumes == 1 && delta.snapshots == 0 {
        fits(limits, delta.gigabytes)?;
    }
    let asked = [
        ("gigabytes", delta.gigabytes),
        ("backup_gigabytes", delta.backup_gigabytes),
        ("volumes", delta.volumes),
        ("snapshots", delta.snapshots),
        ("backups", delta.backups),
        ("groups", delta.groups),
    ];
    for (resource, more) in asked.into_iter().filter(|(_, more)| *more > 0) {
        let own = volume_type.filter(|_| PER_TYPE.contains(&resource)).map(|name| format!("{resource}_{name}"));
        for name in [Some(resource.to_owned()), own].into_iter().flatten() {
            let Ok(limit) = u64::try_from(limits.get(&name).copied().unwrap_or(-1)) else {
                continue;
            };
            let used = used.get(&name).copied().unwrap_or(0);
            if used.saturating_add(more) > limit {
                return Err(exceeded(resource, &name, more, used, limit));
            }
        }
    }
    Ok(())
}

fn exceeded(resource: &str, name: &str, more: u64, used: u64, limit: u64) -> Error {
    over(match resource {
        "gigabytes" => format!(
            "Requested volume or snapshot exceeds allowed {name} quota. Requested {more}G, quota is {limit}G and \
             {used}G has been consumed."
        ),
        "backup_gigabytes" => format!(
            "Requested backup exceeds allowed Backup gigabytes quota. Requested {more}G, quota is {limit}G and \
             {used}G has been consumed."
        ),
        "volumes" => format!("Maximum number of volumes allowed ({limit}) exceeded for quota '{name}'."),
        other => format!("Maximum number of {other} allowed ({limit}) exceeded"),
    })
}

fn over(message: String) -> Error {
    Error::new(Kind::TooLarge, message)
}

/// What is built in, and what the configuration says instead; each type's own too.
fn built_in(config: &Config, types: &[String]) -> Limits {
    let mut limits: Limits = RESOURCES.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect();
    for name in types {
        limits.extend(PER_TYPE.iter().map(|resource| (format!("{resource}_{name}"), -1)));
    }
    for (name, limit) in &config.quota {
        if let Some(known) = limits.get_mut(name) {
            *known = *limit;
        }
    }
    limits
}

async fn type_names(tx: &mut Tx<Volume>) -> Result<Vec<String>> {
    tx.fetch_all("SELECT name FROM volume_types", args![]).await?.iter().map(|row| row.text("name")).collect()
}

/// The limits that hold for a project.
pub async fn limits(tx: &mut Tx<Volume>, config: &Config, project_id: &str) -> Result<Limits> {
    let mut limits = class_limits(tx, config, DEFAULT_CLASS).await?;
    let own = "SELECT resource, hard_limit FROM quotas WHERE project_id = ?";
    overlay(&mut limits, &tx.fetch_all(own, args![project_id]).await?)?;
    Ok(limits)
}

/// The limits of a class. All that are not set are the built-in ones.
pub async fn class_limits(tx: &mut Tx<Volume>, config: &Config, class: &str) -> Result<Limits> {
    let mut limits = built_in(config, &type_names(tx).await?);
    let set = "SELECT resource, hard_limit FROM quota_classes WHERE class_name = ?";
    overlay(&mut limits, &tx.fetch_all(set, args![class]).await?)?;
    Ok(limits)
}

/// A limit of what is not known any more says nothing.
fn overlay(limits: &mut Limits, rows: &[Row]) -> Result<()> {
    for row in rows {
        if let Some(known) = limits.get_mut(&row.text("resource")?) {
            *known = row.int("hard_limit")?;
        }
    }
    Ok(())
}

pub async fn set(tx: &mut Tx<Volume>, project_id: &str, resource: &str, limit: i64) -> Result<()> {
    let sql = "UPDATE quotas SET hard_limit = ? WHERE project_id = ? AND resource = ?";
    if tx.execute(sql, args![limit, project_id, resource]).await? == 0 {
        let sql = "INSERT INTO quotas (project_id, resource, hard_limit) VALUES (?, ?, ?)";
        tx.execute(sql, args![project_id, resource, limit]).await?;
    }
    Ok(())
}

/// Back to the defaults.
pub async fn clear(tx: &mut Tx<Volume>, project_id: &str) -> Result<()> {
    tx.execute("DELETE FROM quotas WHERE project_id = ?", args![project_id]).await?;
    Ok(())
}

pub async fn set_class(tx: &mut Tx<Volume>, class: &str, resource: &str, limit: i64) -> Result<()> {
    let sql = "UPDATE quota_classes SET hard_limit = ? WHERE class_name = ? AND resource = ?";
    if tx.execute(sql, args![limit, class, resource]).await? == 0 {
        let sql = "INSERT INTO quota_classes (class_name, resource, hard_limit) VALUES (?, ?, ?)";
        tx.execute(sql, args![class, resource, limit]).await?;
    }
    Ok(())
}

/// Limits that are of a type go with its name.
pub async fn rename_type(tx: &mut Tx<Volume>, from: &str, to: &str) -> Result<()> {
    for resource in PER_TYPE {
        let (old, new) = (format!("{resource}_{from}"), format!("{resource}_{to}"));
        for table in ["quotas", "quota_classes"] {
            tx.execute(&format!("UPDATE {table} SET resource = ? WHERE resource = ?"), args![&new, &old]).await?;
        }
    }
    Ok(())
}

pub async fn forget_type(tx: &mut Tx<Volume>, name: &str) -> Result<()> {
    for resource in PER_TYPE {
        for table in ["quotas", "quota_classes"] {
            let sql = format!("DELETE FROM {table} WHERE resource = ?");
            tx.execute(&sql, args![format!("{resource}_{name}")]).await?;
        }
    }
    Ok(())
}

/// What a project uses: every resource of [`RESOURCES`], and those of types that it has something of. What does not
/// consume quota is not in it.
pub async fn usage(tx: &mut Tx<Volume>, project_id: &str) -> Result<Usage> {
    let mut used: Usage = RESOURCES.iter().map(|(name, _)| ((*name).to_owned(), 0)).collect();
    for table in ["volumes", "snapshots"] {
        let sql = format!(
            "SELECT t.name AS type_name, COUNT(*) AS n, SUM_INT(v.size_gib) AS gib FROM {table} v \
             LEFT JOIN volume_types t ON t.id = v.volume_type_id \
             WHERE v.project_id = ? AND v.deleted = 0 AND v.use_quota = 1 GROUP BY t.name"
        );
        for row in tx.fetch_all(&sql, args![project_id]).await? {
            let (count, gib) = (row.uint("n")?, row.uint("gib")?);
            let own = row.opt_text("type_name")?.map(|name| format!("_{name}"));
            for suffix in [Some(String::new()), own].into_iter().flatten() {
                *used.entry(format!("{table}{suffix}")).or_default() += count;
                *used.entry(format!("gigabytes{suffix}")).or_default() += gib;
            }
        }
    }
    let sql = "SELECT COUNT(*) AS n, SUM_INT(size_gib) AS gib FROM backups WHERE project_id = ?";
    let row = tx.fetch_one(sql, args![project_id]).await?;
    used.insert("backups".to_owned(), row.uint("n")?);
    used.insert("backup_gigabytes".to_owned(), row.uint("gib")?);
    let sql = "SELECT COUNT(*) AS n FROM volume_groups WHERE project_id = ?";
    used.insert("groups".to_owned(), tx.fetch_one(sql, args![project_id]).await?.uint("n")?);
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts<T: Copy>(pairs: &[(&str, T)]) -> BTreeMap<String, T> {
        pairs.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
    }

    fn refused(
        limits: &[(&str, i64)],
        used: &[(&str, u64)],
        volume_type: Option<&str>,
        delta: Delta,
    ) -> Option<String> {
        let outcome = check(&amounts(limits), &amounts(used), volume_type, delta);
        outcome.err().map(|error| {
            assert_eq!(error.kind().status(), 413);
            error.message().to_owned()
        })
    }

    #[test]
    fn limits_hold() {
        let volume = Delta { volumes: 1, gigabytes: 2, ..Delta::default() };
        let limits = [("volumes", 2), ("gigabytes", 4)];
        assert_eq!(refused(&limits, &[("volumes", 1), ("gigabytes", 2)], None, volume), None);
        assert_eq!(refused(&[("volumes", -1)], &[("volumes", 1_000)], None, volume), None);
        assert_eq!(
            refused(&[("volumes", 1), ("gigabytes", -1)], &[("volumes", 1)], None, volume).as_deref(),
            Some("Maximum number of volumes allowed (1) exceeded for quota 'volumes'.")
        );
        assert_eq!(
            refused(&[("volumes", 0), ("gigabytes", 3)], &[("gigabytes", 2)], None, volume).as_deref(),
            Some(
                "Requested volume or snapshot exceeds allowed gigabytes quota. Requested 2G, quota is 3G and 2G has \
                 been consumed."
            )
        );
        let snapshot = Delta { snapshots: 1, gigabytes: 1, ..Delta::default() };
        assert_eq!(
            refused(&[("snapshots", 1)], &[("snapshots", 1)], None, snapshot).as_deref(),
            Some("Maximum number of snapshots allowed (1) exceeded")
        );
    }

    #[test]
    fn a_volume_has_a_largest_size() {
        let volume = Delta { volumes: 1, gigabytes: 3, ..Delta::default() };
        assert_eq!(refused(&[("per_volume_gigabytes", 3)], &[], None, volume), None);
        assert_eq!(refused(&[("per_volume_gigabytes", -1)], &[], None, volume), None);
        assert_eq!(
            refused(&[("per_volume_gigabytes", 2)], &[], None, volume).as_deref(),
            Some("Requested volume size 3G is larger than maximum allowed limit 2G.")
        );
        let with_snapshots = Delta { snapshots: 1, ..volume };
        assert_eq!(refused(&[("per_volume_gigabytes", 2)], &[], None, with_snapshots), None);
    }

    #[test]
    fn a_type_has_limits_of_its_own() {
        let volume = Delta { volumes: 1, gigabytes: 2, ..Delta::default() };
        let limits = [("volumes", 10), ("gigabytes", 10), ("volumes_fast", 1)];
        assert_eq!(refused(&limits, &[("volumes_fast", 1)], Some("slow"), volume), None);
        assert_eq!(
            refused(&limits, &[("volumes_fast", 1)], Some("fast"), volume).as_deref(),
            Some("Maximum number of volumes allowed (1) exceeded for quota 'volumes_fast'.")
        );
    }

    #[test]
    fn what_is_not_asked_for_is_not_checked() {
        let growth = Delta { gigabytes: 1, ..Delta::default() };
        assert_eq!(refused(&[("volumes", 1), ("gigabytes", 10)], &[("volumes", 5)], None, growth), None);
    }
}
