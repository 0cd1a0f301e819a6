//! Asking the pools, twice where something differs, and mending.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use umbel_api::storage::{Audit, BACKUPS, Finding, FindingKind, Outcome, Which};
use umbel_core::{Error, Kind, Result, Timestamp};
use umbel_driver::{Pool, Removed};
use umbel_volume::backup::DirectoryTarget;

use super::StorageAudit;
use super::compare::{Known, Seen, compare};

/// Disks that are looked at together: enough to hide the way to the cluster, few enough for guests not to notice.
const AT_ONCE: usize = 8;

/// Findings mended on one reading of the rows.
const BATCH: usize = 16;

impl StorageAudit {
    /// What differs now and differed a while before. Nothing is changed.
    pub async fn audit(&self) -> Result<Audit> {
        let _turn = self.turn.lock().await;
        let began = self.last.now();
        let audit = self.twice().await;
        self.note(began, audit)
    }

    fn note(&self, began: Timestamp, audit: Result<Audit>) -> Result<Audit> {
        match &audit {
            Ok(audit) => self.last.note(began, audit),
            Err(_) => self.last.note_failure(),
        }
        audit
    }

    /// Compares anew, and mends what can be mended and was asked for. All findings are told, with what came of it.
    pub async fn mend(&self, which: &Which) -> Result<Audit> {
        let _turn = self.turn.lock().await;
        let began = self.last.now();
        let audit = self.mend_now(which).await;
        self.note(began, audit)
    }

    async fn mend_now(&self, which: &Which) -> Result<Audit> {
        let mut audit = self.twice().await?;
        let wanted: Vec<&mut Finding> =
            audit.findings.iter_mut().filter(|found| found.fix.is_some() && which.has(&found.id)).collect();
        let mut known = Known::default();
        for (number, found) in wanted.into_iter().enumerate() {
            if number % BATCH == 0 {
                known = self.sources.known(&self.aliases()).await?;
            }
            let outcome = self.mend_one(found, &known).await;
            let outcome = outcome.unwrap_or_else(|error| Outcome { mended: false, told: error.message().to_owned() });
            tracing::info!(finding = found.id, mended = outcome.mended, "storage: {}", outcome.told);
            found.outcome = Some(outcome);
        }
        Ok(audit)
    }

    async fn twice(&self) -> Result<Audit> {
        let first = self.once(None).await?;
        if first.findings.is_empty() {
            return Ok(first);
        }
        // Twice is exact for what follows the order of rows and disks. The pause is for what does not: a disk that
        // changes its name, work of a host that reports when it is done.
        let grace = Duration::from_secs(self.config.grace_seconds);
        tokio::time::sleep(grace).await;
        let mut findings = self.still(first.findings).await?;
        let is_hidden = |found: &Finding| found.kind == FindingKind::Hidden;
        if findings.iter().any(is_hidden) {
            tokio::time::sleep(Duration::from_secs(self.config.hidden_seconds).saturating_sub(grace)).await;
            findings = self.still(findings).await?;
        }
        Ok(Audit { findings, ..first })
    }

    /// Those of the findings that are found again.
    async fn still(&self, before: Vec<Finding>) -> Result<Vec<Finding>> {
        let suspects = before.iter().map(|found| (found.pool.clone(), disk_of(found).to_owned())).collect();
        let now = self.once(Some(&suspects)).await?;
        let before: BTreeSet<&str> = before.iter().map(|found| found.id.as_str()).collect();
        Ok(now.findings.into_iter().filter(|found| before.contains(found.id.as_str())).collect())
    }

    /// Pools before rows: see [`compare`]. With suspects, only they are looked into; what is told of others means nothing.
    async fn once(&self, suspects: Option<&BTreeSet<(String, String)>>) -> Result<Audit> {
        let mut seen: Vec<(Seen, Arc<dyn Pool>)> = Vec::new();
        for pool in &self.pools {
            let wanted = |disk: &str| {
                suspects.is_none_or(|suspects| suspects.contains(&(pool.name().to_owned(), disk.to_owned())))
            };
            seen.push((look(&**pool, wanted).await, pool.clone()));
        }
        let backups = match &self.backups {
            Some(directory) => Some(look_at_backups(directory).await),
            None => None,
        };
        // Only now every cluster that answers has told who it is.
        let aliases = self.aliases();
        let mut seen: Vec<Seen> =
            seen.into_iter().filter(|(_, pool)| aliases.of(pool.name()) == pool.name()).map(|(seen, _)| seen).collect();
        seen.extend(backups);
        Ok(compare(&seen, &self.sources.known(&aliases).await?))
    }

    async fn mend_one(&self, found: &Finding, known: &Known) -> Result<Outcome> {
        let disk = disk_of(found);
        let done = |told: &str| Ok(Outcome { mended: true, told: told.to_owned() });
        let left = |told: &str| Ok(Outcome { mended: false, told: told.to_owned() });
        if let Some(directory) = self.backups.as_ref().filter(|_| found.pool == BACKUPS) {
            if found.kind != FindingKind::Orphan || !known.is_orphan(BACKUPS, disk) {
                return left("It has an owner by now.");
            }
            directory.discard(disk).await?;
            return done("It was removed.");
        }
        let pool = self.pool(&found.pool).ok_or_else(|| Error::internal("a finding in a pool that is not here"))?;
        match found.kind {
            FindingKind::Orphan if !known.is_orphan(&found.pool, disk) => left("It has an owner by now."),
            FindingKind::Orphan => match pool.remove(disk).await? {
                Removed::Gone => done("It was removed."),
                Removed::Hidden => done("It was removed, and lives on out of sight for its clones."),
                Removed::Absent => done("It was gone already."),
            },
            FindingKind::Snapshot => {
                let snapshot = found.name.split_once('@').map_or("", |(_, snapshot)| snapshot);
                if !known.is_stray(&found.pool, disk, snapshot) {
                    return left("It has an owner by now.");
                }
                pool.remove_snapshot(disk, snapshot).await?;
                done("The snapshot was removed.")
            }
            FindingKind::Hidden => {
                pool.purge().await?;
                let still = pool.hidden().await?.iter().any(|hidden| found.name.ends_with(&format!("({})", hidden.id)));
                match still {
                    true => left("The pool could not free it; its log says why."),
                    false => done("It was purged."),
                }
            }
            FindingKind::Lost | FindingKind::Unreadable => left("Nothing can be done about it here."),
        }
    }
}

/// The disk of a finding, without its snapshot or what the pool calls it out of sight.
fn disk_of(found: &Finding) -> &str {
    match found.kind {
        FindingKind::Hidden => found.name.rsplit_once(" (").map_or(&found.name, |(disk, _)| disk),
        FindingKind::Snapshot | FindingKind::Lost => found.name.split_once('@').map_or(&found.name, |(disk, _)| disk),
        FindingKind::Orphan | FindingKind::Unreadable => &found.name,
    }
}

async fn look(pool: &dyn Pool, wanted: impl Fn(&str) -> bool) -> Seen {
    let mut seen = Seen { pool: pool.name().to_owned(), ..Seen::default() };
    if let Err(error) = fill(pool, wanted, &mut seen).await {
        tracing::warn!(pool = pool.name(), cause = error.cause(), "a pool cannot be audited: {error}");
        seen.unreadable = Some(error.message().to_owned());
    }
    seen
}

async fn fill(pool: &dyn Pool, wanted: impl Fn(&str) -> bool, seen: &mut Seen) -> Result<()> {
    let disks = pool.list().await?;
    let (look_into, others): (Vec<String>, Vec<String>) = disks.into_iter().partition(|disk| wanted(disk));
    seen.disks = others.into_iter().map(|disk| (disk, Vec::new())).collect();
    let stats = stream::iter(look_into.into_iter().map(|disk| async move {
        let stat = pool.stat(&disk).await;
        (disk, stat)
    }));
    let stats: Vec<_> = stats.buffer_unordered(AT_ONCE).collect().await;
    for (disk, stat) in stats {
        let snapshots = match stat {
            Ok(Some(stat)) => stat.snapshots,
            // In the list and not there: on its way out, the rest of a removal that broke off, or without its parent.
            Ok(None) => {
                seen.hollow.insert(disk.clone());
                Vec::new()
            }
            // The pool, rather than the disk.
            Err(error) if error.is(Kind::Unavailable) || error.is(Kind::Timeout) => return Err(error),
            Err(error) => {
                seen.broken.insert(disk.clone(), error.message().to_owned());
                Vec::new()
            }
        };
        seen.disks.insert(disk, snapshots);
    }
    seen.hidden = match pool.hidden().await {
        // A pool that hides nothing.
        Err(error) if error.is(Kind::NotImplemented) => Vec::new(),
        hidden => hidden?,
    };
    Ok(())
}

/// The data in the directory of backups, as disks without snapshots.
async fn look_at_backups(directory: &DirectoryTarget) -> Seen {
    match directory.list().await {
        Ok(Some(data)) => {
            let disks = data.into_iter().map(|name| (name, Vec::new())).collect();
            Seen { pool: BACKUPS.to_owned(), disks, ..Seen::default() }
        }
        Ok(None) => Seen::missing(BACKUPS),
        Err(error) => {
            tracing::warn!(cause = error.cause(), "the directory of backups cannot be audited: {error}");
            Seen { unreadable: Some(error.message().to_owned()), ..Seen::missing(BACKUPS) }
        }
    }
}

/// Disks by pool with what they are clones of, all there are: for those whose parent cannot be asked any more.
pub(super) async fn parents(pools: &[Arc<dyn Pool>]) -> Result<BTreeMap<(String, String), umbel_driver::Location>> {
    let mut parents = BTreeMap::new();
    for pool in pools {
        let stats = stream::iter(pool.list().await?.into_iter().map(|disk| async move {
            let parent = pool.stat(&disk).await.ok().flatten().and_then(|stat| stat.parent);
            parent.map(|parent| ((pool.name().to_owned(), disk), parent))
        }));
        parents.extend(stats.buffer_unordered(AT_ONCE).filter_map(async |found| found).collect::<Vec<_>>().await);
    }
    Ok(parents)
}
