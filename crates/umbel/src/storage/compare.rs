//! The comparison itself: what pools have against what databases know. No IO.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use umbel_api::storage::{Audit, BACKUPS, Finding, FindingKind, Foreign, Owner, Unmanaged};
use umbel_core::Timestamp;
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
    /// Disks that the pool names and has nothing of: on their way in or out, or half of one.
    pub hollow: BTreeSet<String>,
    pub hidden: Vec<Hidden>,
    /// Why it could not be looked at.
    pub unreadable: Option<String>,
    /// It is not there at all, which is no fault while nothing is expected in it.
    pub missing: bool,
}

impl Seen {
    /// The directory of backups, which the database may know data in, is not there.
    pub fn missing(pool: &str) -> Seen {
        Seen { pool: pool.to_owned(), missing: true, ..Seen::default() }
    }
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
    /// What left the books and stayed: pool, disk, and snapshot if it was one.
    pub unmanaged: BTreeMap<(String, String, Option<String>), Timestamp>,
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
        let judged = noun_of(pool, disk).is_some_and(|noun| self.nouns.contains(&noun));
        judged
            && self.get(pool, disk).is_none()
            && self.unmanaged_since(pool, disk, None).is_none()
            && !self.is_busy(disk)
    }

    /// Whether a snapshot of a disk that a row knows is one too many.
    pub fn is_stray(&self, pool: &str, disk: &str, snapshot: &str) -> bool {
        let unknown = self.get(pool, disk).is_some_and(|row| !row.snapshots.contains_key(snapshot));
        unknown
            && names::is_our_snapshot(snapshot)
            && self.unmanaged_since(pool, disk, Some(snapshot)).is_none()
            && !self.is_busy(snapshot)
            && !self.is_busy(disk)
    }

    /// When the disk or its snapshot was unmanaged, if it was.
    pub fn unmanaged_since(&self, pool: &str, disk: &str, snapshot: Option<&str>) -> Option<Timestamp> {
        self.unmanaged.get(&(pool.to_owned(), disk.to_owned(), snapshot.map(str::to_owned))).copied()
    }

    /// Whether a workflow works on a disk that a row knows, or on its owner.
    fn is_held(&self, disk: &str, row: &KnownDisk) -> bool {
        self.is_busy(disk) || self.is_busy(&row.owner.id)
    }
}

/// Rows must be read after the pools: they are written before their disks and go after them, so that a disk without a row
/// never had one that counts, or is on its way out.
pub fn compare(seen: &[Seen], known: &Known) -> Audit {
    let mut audit = Audit::default();
    for pool in seen {
        let needed = || known.disks.iter().any(|((at, _), row)| *at == pool.pool && row.expected);
        match &pool.unreadable {
            Some(why) => audit.findings.push(unreadable(&pool.pool, "", why)),
            None if pool.missing && needed() => {
                audit.findings.push(unreadable(&pool.pool, "", "It is not there. Is its file system mounted?"));
            }
            None => compare_pool(pool, known, &mut audit),
        }
    }
    for ((pool, disk), row) in &known.disks {
        let Some(seen) = seen.iter().find(|seen| seen.pool == *pool && seen.unreadable.is_none() && !seen.missing)
        else {
            continue;
        };
        if !known.is_held(disk, row) {
            compare_row(seen, disk, row, known, &mut audit);
        }
    }
    audit.findings.sort_by(|one, two| one.id.cmp(&two.id));
    audit.foreign.sort();
    audit.unmanaged.sort();
    audit
}

/// From a row to its disk.
fn compare_row(seen: &Seen, disk: &str, row: &KnownDisk, known: &Known, audit: &mut Audit) {
    let pool = &seen.pool;
    match seen.disks.get(disk) {
        None if row.expected => audit.findings.push(lost(pool, disk, row)),
        Some(_) if row.expected && seen.hollow.contains(disk) => {
            let why = "The pool names it and cannot open it: half of it is gone, or what it is a clone of.";
            audit.findings.push(unreadable(pool, disk, why));
        }
        None => {}
        Some(_) if seen.broken.contains_key(disk) || seen.hollow.contains(disk) => {}
        Some(there) => {
            let missing = row.snapshots.iter().filter(|(name, expected)| **expected && !there.contains(name));
            for (name, _) in missing.filter(|(name, _)| !known.is_busy(name)) {
                audit.findings.push(lost(pool, &format!("{disk}@{name}"), row));
            }
        }
    }
}

/// From disks to their rows.
fn compare_pool(pool: &Seen, known: &Known, audit: &mut Audit) {
    let foreign = |name: String| Foreign { pool: pool.pool.clone(), name };
    let unmanaged = |name: String, since: Timestamp| Unmanaged { pool: pool.pool.clone(), name, since: since.iso() };
    for (disk, snapshots) in &pool.disks {
        audit.disks += 1;
        let Some(row) = known.get(&pool.pool, disk) else {
            if let Some(since) = known.unmanaged_since(&pool.pool, disk, None) {
                audit.unmanaged.push(unmanaged(disk.clone(), since));
            } else if noun_of(&pool.pool, disk).is_none() {
                audit.foreign.push(foreign(disk.clone()));
            } else if known.is_orphan(&pool.pool, disk) {
                audit.findings.push(orphan(&pool.pool, disk, snapshots.len()));
            }
            continue;
        };
        for snapshot in snapshots.iter().filter(|name| !row.snapshots.contains_key(*name)) {
            if let Some(since) = known.unmanaged_since(&pool.pool, disk, Some(snapshot)) {
                audit.unmanaged.push(unmanaged(format!("{disk}@{snapshot}"), since));
            } else if !names::is_our_snapshot(snapshot) {
                audit.foreign.push(foreign(format!("{disk}@{snapshot}")));
            } else if known.is_stray(&pool.pool, disk, snapshot) {
                audit.findings.push(unknown_snapshot(&pool.pool, disk, snapshot, &row.owner));
            }
        }
    }
    let known_ones =
        pool.broken.iter().filter(|(disk, _)| known.get(&pool.pool, disk).is_some_and(|row| !known.is_held(disk, row)));
    audit.findings.extend(known_ones.map(|(disk, why)| unreadable(&pool.pool, disk, why)));
    for hidden in pool.hidden.iter().filter(|hidden| hidden.free) {
        let why = "It was removed, and no clone is left of it.".to_owned();
        let name = format!("{} ({})", hidden.disk, hidden.id);
        audit.findings.push(finding(FindingKind::Hidden, &pool.pool, &name, why, Some("purges it")));
    }
}

/// Whose a disk of this name would be; in the directory of backups, whose the data.
fn noun_of(pool: &str, disk: &str) -> Option<Noun> {
    match pool == BACKUPS {
        true => names::is_backup_data(disk).then_some(Noun::Volume),
        false => names::noun_of(disk),
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
    if pool == BACKUPS {
        return finding(FindingKind::Orphan, pool, disk, "No backup has this data.".to_owned(), Some("removes it"));
    }
    let noun = noun_of(pool, disk).map_or("thing", Noun::name);
    let with = match snapshots {
        0 => String::new(),
        1 => " It has a snapshot.".to_owned(),
        more => format!(" It has {more} snapshots."),
    };
    // Names do not tell two clouds apart: only people can.
    let who = match noun {
        "volume" => " It is left over, or another cloud's.",
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
    let place = if pool == BACKUPS { "directory" } else { "pool" };
    let why = format!("The {place} has none, and the {kind} '{called}' ({id}) needs it; {advice}.");
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
    fn what_was_unmanaged_is_told_and_no_fault() {
        let disk = format!("volume-{ID}");
        let mut rows = known();
        rows.unmanaged.insert(("p".into(), disk.clone(), None), Timestamp::from_secs(1_000));
        let there = seen(&[("volume-#", &["snapshot-%"])]);
        check(&there, &rows, &[]);
        assert!(!rows.is_orphan("p", &disk));
        let told = compare(std::slice::from_ref(&there), &rows).unmanaged;
        assert_eq!(told, [Unmanaged { pool: "p".into(), name: disk.clone(), since: "1970-01-01T00:16:40Z".into() }]);
        // Managed again, it is a volume's whatever the table says; what it says of its snapshots counts.
        rows.add("p", &disk, owner("volume"), true);
        check(&there, &rows, &["snapshot:p/volume-#@snapshot-%"]);
        rows.unmanaged.insert(("p".into(), disk.clone(), Some(format!("snapshot-{OTHER}"))), Timestamp(0));
        check(&there, &rows, &[]);
        assert!(!rows.is_stray("p", &disk, &format!("snapshot-{OTHER}")));
        assert!(rows.is_stray("p", &disk, &format!("backup.{OTHER}")));
        // Of another pool nothing is said.
        check(&Seen { pool: "q".into(), ..there }, &rows, &["orphan:q/volume-#"]);
    }

    #[test]
    fn a_directory_of_backups_is_compared_both_ways() {
        let at = |disks: &[(&str, &[&str])]| Seen { pool: BACKUPS.into(), ..seen(disks) };
        let mut rows = known();
        check(&Seen::missing(BACKUPS), &rows, &[]);
        let all = at(&[("#", &[]), ("#.part", &[]), ("lost+found", &[])]);
        check(&all, &rows, &["orphan:backups/directory/#", "orphan:backups/directory/#.part"]);
        rows.add(BACKUPS, ID, owner("backup"), true);
        check(&all, &rows, &["orphan:backups/directory/#.part"]);
        check(&at(&[]), &rows, &["lost:backups/directory/#"]);
        check(&Seen::missing(BACKUPS), &rows, &["unreadable:backups/directory"]);
        rows.busy.extend(names::uuids(ID));
        check(&at(&[("#.part", &[])]), &rows, &[]);
    }

    #[test]
    fn a_disk_that_cannot_be_opened_is_told_once() {
        let mut rows = known();
        let hollow = Seen { hollow: [format!("volume-{ID}")].into(), ..seen(&[("volume-#", &[])]) };
        check(&hollow, &rows, &["orphan:p/volume-#"]);
        rows.add("p", &format!("volume-{ID}"), owner("volume"), false).snapshots.insert("snap".into(), true);
        check(&hollow, &rows, &[]);
        rows.add("p", &format!("volume-{ID}"), owner("volume"), true);
        check(&hollow, &rows, &["unreadable:p/volume-#"]);
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
