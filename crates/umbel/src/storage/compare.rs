//! The comparison itself: what pools have against what databases know. No IO.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use umbel_api::storage::{Audit, Finding, FindingKind, Foreign, Owner};
use umbel_driver::Hidden;
use uuid::Uuid;

use super::names::{self, Noun};

/// A pool as it was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub pool: String,
    /// Disks with their snapshots.
    pub disks: BTreeMap<String, Vec<String>>,
    /// Disks that could not be looked at, and why.
    pub broken: BTreeMap<String, String>,
    pub hidden: Vec<Hidden>,
    /// Why it could not be looked at.
    pub unreadable: Option<String>,
}

/// What the databases say.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By pool and disk.
    pub disks: BTreeMap<(String, String), KnownDisk>,
    /// Things that a workflow works on: what is theirs can be in any state.
    pub busy: HashSet<Uuid>,
    /// Services whose databases were read; disks of others are not judged.
    pub nouns: BTreeSet<Noun>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDisk {
    pub owner: Owner,
    /// It must be there, in a pool that this process reaches.
    pub expected: bool,
    /// Snapshots that rows know, and whether they must be there.
    pub snapshots: BTreeMap<String, bool>,
}

impl Known {
    pub fn get(&self, pool: &str, disk: &str) -> Option<&KnownDisk> {
        self.disks.get(&(pool.to_owned(), disk.to_owned()))
    }

    /// Adds a disk; one that several rows know is expected if any of them expects it.
    pub fn add(&mut self, pool: &str, disk: &str, owner: Owner, expected: bool) -> &mut KnownDisk {
        let new = KnownDisk { owner, expected: false, snapshots: BTreeMap::new() };
        let known = self.disks.entry((pool.to_owned(), disk.to_owned())).or_insert(new);
        known.expected |= expected;
        known
    }

    /// Whether a workflow works on what the name is about.
    pub fn is_busy(&self, name: &str) -> bool {
        names::uuids(name).iter().any(|id| self.busy.contains(id))
    }

    /// Whether a disk that has no row is one too many.
    pub fn is_orphan(&self, pool: &str, disk: &str) -> bool {
        let judged = names::noun_of(disk).is_some_and(|noun| self.nouns.contains(&noun));
        judged && self.get(pool, disk).is_none() && !self.is_busy(disk)
    }
}

/// Rows must be read after the pools: they are written before their disks and go after them, so that a disk without a row
/// never had one that counts, or is on its way out.
pub fn compare(seen: &[Seen], known: &Known) -> Audit {
    let mut audit = Audit::default();
    for pool in seen {
        match &pool.unreadable {
            Some(why) => audit.findings.push(unreadable(&pool.pool, "", why)),
            None => compare_pool(pool, known, &mut audit),
        }
    }
    for ((pool, disk), row) in &known.disks {
        let Some(seen) = seen.iter().find(|seen| seen.pool == *pool && seen.unreadable.is_none()) else {
            continue;
        };
        if known.is_busy(disk) || names::uuids(&row.owner.id).iter().any(|id| known.busy.contains(id)) {
            continue;
        }
        match seen.disks.get(disk) {
            None if row.expected => audit.findings.push(lost(pool, disk, row)),
            None => {}
            Some(_) if seen.broken.contains_key(disk) => {}
            Some(there) => {
                let missing = row.snapshots.iter().filter(|(name, expected)| **expected && !there.contains(name));
                for (name, _) in missing.filter(|(name, _)| !known.is_busy(name)) {
                    audit.findings.push(lost(pool, &format!("{disk}@{name}"), row));
                }
            }
        }
    }
    audit.findings.sort_by(|one, two| one.id.cmp(&two.id));
    audit.foreign.sort();
    audit
}

fn compare_pool(pool: &Seen, known: &Known, audit: &mut Audit) {
    let foreign = |name: String| Foreign { pool: pool.pool.clone(), name };
    for (disk, snapshots) in &pool.disks {
        audit.disks += 1;
        let Some(row) = known.get(&pool.pool, disk) else {
            if names::noun_of(disk).is_none() {
                audit.foreign.push(foreign(disk.clone()));
            } else if known.is_orphan(&pool.pool, disk) {
                audit.findings.push(orphan(&pool.pool, disk, snapshots.len()));
            }
            continue;
        };
        for snapshot in snapshots.iter().filter(|name| !row.snapshots.contains_key(*name)) {
            match names::is_our_snapshot(snapshot) {
                _ if known.is_busy(snapshot) || known.is_busy(disk) => {}
                true => audit.findings.push(unknown_snapshot(&pool.pool, disk, snapshot, &row.owner)),
                false => audit.foreign.push(foreign(format!("{disk}@{snapshot}"))),
            }
        }
    }
    let known_ones = pool.broken.iter().filter(|(disk, _)| known.get(&pool.pool, disk).is_some());
    audit.findings.extend(known_ones.map(|(disk, why)| unreadable(&pool.pool, disk, why)));
    for hidden in pool.hidden.iter().filter(|hidden| hidden.free) {
        let why = "It was removed, and no clone is left of it.".to_owned();
        let name = format!("{} ({})", hidden.disk, hidden.id);
        audit.findings.push(finding(FindingKind::Hidden, &pool.pool, &name, why, Some("purges it")));
    }
}

fn finding(kind: FindingKind, pool: &str, name: &str, why: String, fix: Option<&str>) -> Finding {
    let id = match name {
        "" => format!("{}:{pool}", kind.name()),
        name => format!("{}:{pool}/{name}", kind.name()),
    };
    let fix = fix.map(str::to_owned);
    Finding { id, kind, pool: pool.to_owned(), name: name.to_owned(), why, fix, outcome: None }
}

fn orphan(pool: &str, disk: &str, snapshots: usize) -> Finding {
    let noun = names::noun_of(disk).map_or("thing", Noun::name);
    let with = match snapshots {
        0 => String::new(),
        1 => " It has a snapshot.".to_owned(),
        more => format!(" It has {more} snapshots."),
    };
    // An unmanaged volume's row is gone and its disk is somebody's: only people can tell.
    let who = match noun {
        "volume" => " It is left over, was unmanaged, or is another cloud's.",
        _ => "",
    };
    let fix = "removes it, with its snapshots; clones live on";
    finding(FindingKind::Orphan, pool, disk, format!("No {noun} has this disk.{who}{with}"), Some(fix))
}

fn lost(pool: &str, name: &str, row: &KnownDisk) -> Finding {
    let Owner { kind, id, name: called } = &row.owner;
    let advice = match (kind.as_str(), name.contains('@')) {
        ("image", _) => format!("deactivate it: openstack image set --deactivate {id}"),
        ("volume", false) => format!("say so to its users: openstack volume set --state error {id}"),
        ("volume", true) => "delete that snapshot".to_owned(),
        ("backup", _) => format!("delete it and make another: openstack volume backup delete {id}"),
        _ => format!("rebuild or delete it: openstack server rebuild {id}"),
    };
    let why = format!("The pool has none, and the {kind} '{called}' ({id}) needs it; {advice}.");
    finding(FindingKind::Lost, pool, name, why, None)
}

fn unknown_snapshot(pool: &str, disk: &str, snapshot: &str, owner: &Owner) -> Finding {
    let why = format!("The {} '{}' ({}) has no such snapshot.", owner.kind, owner.name, owner.id);
    let name = format!("{disk}@{snapshot}");
    finding(FindingKind::Snapshot, pool, &name, why, Some("removes the snapshot; clones live on"))
}

fn unreadable(pool: &str, disk: &str, why: &str) -> Finding {
    finding(FindingKind::Unreadable, pool, disk, why.to_owned(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f6e4f0a-5f7e-4c44-9d53-0d3c8a9f6a11";
    const OTHER: &str = "1b1f5a4e-8c0e-4f53-a5a4-8b4c5a1d2e3f";

    fn owner(kind: &str) -> Owner {
        Owner { kind: kind.into(), id: ID.into(), name: "x".into() }
    }

    fn seen(disks: &[(&str, &[&str])]) -> Seen {
        let named = |(disk, snapshots): &(&str, &[&str])| {
            (disk.replace('#', ID), snapshots.iter().map(|name| name.replace('%', OTHER)).collect())
        };
        Seen { pool: "p".into(), disks: disks.iter().map(named).collect(), ..Seen::default() }
    }

    fn known() -> Known {
        Known { nouns: Noun::ALL.into(), ..Known::default() }
    }

    fn check(seen: &Seen, known: &Known, want: &[&str]) {
        let audit = compare(std::slice::from_ref(seen), known);
        let ids: Vec<String> =
            audit.findings.iter().map(|found| found.id.replace(ID, "#").replace(OTHER, "%")).collect();
        assert_eq!(ids, want, "{audit:?}");
    }

    #[test]
    fn disks_without_rows_are_orphans_unless_they_are_foreign_or_busy() {
        let disks = seen(&[("volume-#", &[]), ("golden", &[])]);
        check(&disks, &known(), &["orphan:p/volume-#"]);
        let foreign = compare(std::slice::from_ref(&disks), &known()).foreign;
        assert_eq!(foreign, [Foreign { pool: "p".into(), name: "golden".into() }]);
        let busy = Known { busy: names::uuids(ID).into_iter().collect(), ..known() };
        check(&disks, &busy, &[]);
        let no_volumes = Known { nouns: [Noun::Image].into(), ..Known::default() };
        check(&disks, &no_volumes, &[]);
    }

    #[test]
    fn rows_without_disks_are_lost_where_the_disk_must_be_there() {
        let mut rows = known();
        rows.add("p", &format!("volume-{ID}"), owner("volume"), false);
        check(&seen(&[]), &rows, &[]);
        rows.add("p", &format!("volume-{ID}"), owner("volume"), true);
        check(&seen(&[]), &rows, &["lost:p/volume-#"]);
        let elsewhere = Seen { pool: "q".into(), ..Seen::default() };
        check(&elsewhere, &rows, &[]);
        rows.busy.extend(names::uuids(ID));
        check(&seen(&[]), &rows, &[]);
    }

    #[test]
    fn snapshots_are_compared_both_ways() {
        let mut rows = known();
        let disk = rows.add("p", &format!("volume-{ID}"), owner("volume"), true);
        disk.snapshots.insert(format!("snapshot-{OTHER}"), true);
        check(&seen(&[("volume-#", &["snapshot-%"])]), &rows, &[]);
        check(&seen(&[("volume-#", &[])]), &rows, &["lost:p/volume-#@snapshot-%"]);
        check(&seen(&[("volume-#", &["snapshot-%", "backup.%"])]), &rows, &["snapshot:p/volume-#@backup.%"]);
        check(&seen(&[("volume-#", &["snapshot-%", "mine"])]), &rows, &[]);
    }

    #[test]
    fn what_was_removed_is_reported_when_it_can_go() {
        let hidden = |free: bool| Hidden { disk: "d".into(), id: "5".into(), free };
        let pool = Seen { hidden: vec![hidden(true), hidden(false)], ..seen(&[]) };
        check(&pool, &known(), &["hidden:p/d (5)"]);
    }

    #[test]
    fn a_pool_that_does_not_answer_is_no_pool_without_disks() {
        let mut rows = known();
        rows.add("p", &format!("volume-{ID}"), owner("volume"), true);
        let pool = Seen { unreadable: Some("It does not answer.".into()), ..seen(&[]) };
        check(&pool, &rows, &["unreadable:p"]);
    }
}
