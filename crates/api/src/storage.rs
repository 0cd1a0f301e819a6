//! What `umbel storage` asks a running cloud. No service of OpenStack has it, and the catalog does not name it: it is for
//! the operator, below `/storage` on the shared port.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

pub static SHOW_AUDIT: Route = Route::new(Method::Get, "/v1/audit", "storage:audit:show", Rule::Admin);
/// A [`LastAudit`], without comparing anew. 404 before the first comparison.
pub static SHOW_LAST: Route = Route::new(Method::Get, "/v1/audit/last", "storage:audit:show", Rule::Admin);
/// Compares anew and mends: takes a [`Mend`], answers with an [`Audit`] whose findings have outcomes.
pub static MEND: Route = Route::new(Method::Post, "/v1/audit", "storage:audit:mend", Rule::Admin);
/// `kind`: `any`, `image`, `server`, `volume`, or `disk` with `POOL/DISK` for the id, its slash encoded.
pub static SHOW_TREE: Route = Route::new(Method::Get, "/v1/tree/{kind}/{id}", "storage:tree:show", Rule::Admin);

/// Stands for a pool's name where the directory of backups is meant. No pool is called so: a slash ends a pool's name.
pub const BACKUPS: &str = "backups/directory";

/// What is being copied just now: a [`Progress`].
pub static SHOW_PROGRESS: Route = Route::new(Method::Get, "/v1/progress", "storage:progress:show", Rule::Admin);

/// What differs between pools and databases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    pub findings: Vec<Finding>,
    /// Disks and snapshots whose names are not of our making: somebody else's, never touched, and no fault.
    pub foreign: Vec<Foreign>,
    /// Disks and snapshots that somebody unmanaged: theirs by now, never touched, and no fault.
    #[serde(default)]
    pub unmanaged: Vec<Unmanaged>,
    /// Disks that were compared.
    pub disks: u64,
}

/// What came of the last comparison of this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastAudit {
    /// When it ended: ISO 8601, UTC.
    pub at: String,
    pub age_seconds: u64,
    pub took_seconds: f64,
    /// By [`FindingKind::name`], all of them.
    pub findings: BTreeMap<String, u64>,
    pub disks: u64,
    pub foreign: u64,
    pub unmanaged: u64,
    /// Comparisons that broke off since the process began.
    pub failures: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Names it in a [`Mend`]: `orphan:volumes/volume-…`.
    pub id: String,
    pub kind: FindingKind,
    /// [`BACKUPS`] for what is in the directory of backups.
    pub pool: String,
    /// The disk, and behind an `@` the snapshot.
    pub name: String,
    pub why: String,
    /// What mending does; none where that is for people to decide.
    pub fix: Option<String>,
    /// What mending did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingKind {
    /// A disk in a pool that no row knows.
    Orphan,
    /// A row whose disk or snapshot is not in its pool.
    Lost,
    /// A snapshot that no row knows, of a disk that one knows.
    Snapshot,
    /// A removed disk whose last clone is gone.
    Hidden,
    /// A pool that cannot be asked: nothing is known of it.
    Unreadable,
}

impl FindingKind {
    pub const ALL: [FindingKind; 5] =
        [FindingKind::Orphan, FindingKind::Lost, FindingKind::Snapshot, FindingKind::Hidden, FindingKind::Unreadable];

    pub const fn name(self) -> &'static str {
        match self {
            FindingKind::Orphan => "orphan",
            FindingKind::Lost => "lost",
            FindingKind::Snapshot => "snapshot",
            FindingKind::Hidden => "hidden",
            FindingKind::Unreadable => "unreadable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The finding is no more.
    pub mended: bool,
    pub told: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Foreign {
    pub pool: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unmanaged {
    pub pool: String,
    /// The disk, and behind an `@` the snapshot.
    pub name: String,
    /// ISO 8601, UTC.
    pub since: String,
}

/// `{"fix": true}`, or `{"fix": ["orphan:volumes/volume-…"]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mend {
    pub fix: Which,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Which {
    All(bool),
    /// By [`Finding::id`].
    Some(Vec<String>),
}

impl Which {
    pub fn has(&self, id: &str) -> bool {
        match self {
            Which::All(all) => *all,
            Which::Some(ids) => ids.iter().any(|known| known == id),
        }
    }
}

/// Who descends from whom, from the oldest that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub roots: Vec<Node>,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub owner: Option<Owner>,
    pub pool: String,
    pub disk: String,
    /// Bytes that a guest sees.
    pub size: Option<u64>,
    /// Bytes that the disk occupies beyond its newest snapshot, parents not counted.
    pub used: Option<u64>,
    /// It was removed and lives on for its clones, or its pool is none of ours.
    pub hidden: bool,
    /// It belongs to what was asked for.
    pub asked: bool,
    /// Oldest first.
    pub snapshots: Vec<SnapshotNode>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotNode {
    pub name: String,
    /// Bytes beyond the snapshot before.
    pub used: Option<u64>,
    /// Its clones.
    pub children: Vec<Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Oldest first.
    pub running: Vec<Running>,
}

/// Work under way. Numbers are missing where nobody knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// `upload`, `twin`, a task's or a workflow's kind.
    pub what: String,
    pub owner: Owner,
    /// ISO 8601, UTC.
    pub began: String,
    pub elapsed_seconds: u64,
    /// Bytes.
    pub done: Option<u64>,
    /// Bytes.
    pub total: Option<u64>,
    pub percent: Option<u64>,
    /// Bytes per second, since it began.
    pub rate: Option<u64>,
    pub remaining_seconds: Option<u64>,
    /// The step it is at, or why it waits.
    pub note: Option<String>,
}

/// Whose a disk is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// `image`, `server`, `volume`, `backup`, `snapshot`.
    pub kind: String,
    pub id: String,
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_mended_is_all_or_some() {
        let all: Mend = serde_json::from_str(r#"{"fix": true}"#).unwrap();
        assert!(all.fix.has("orphan:p/d"));
        let some: Mend = serde_json::from_str(r#"{"fix": ["orphan:p/d"]}"#).unwrap();
        assert!(some.fix.has("orphan:p/d") && !some.fix.has("orphan:p/e"));
        let none: Mend = serde_json::from_str(r#"{"fix": false}"#).unwrap();
        assert!(!none.fix.has("orphan:p/d"));
    }
}
