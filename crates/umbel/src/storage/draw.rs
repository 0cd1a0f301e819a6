//! Findings and trees as text.

use std::fmt::Write;

use umbel_api::storage::{Audit, Finding, Node, Progress, SnapshotNode, Tree};
use umbel_core::{GIB, MIB};

/// One line of a finding.
pub fn finding(found: &Finding) -> String {
    let what = match found.name.as_str() {
        "" => found.pool.clone(),
        name => format!("{}/{name}", found.pool),
    };
    let fix = match (&found.outcome, &found.fix) {
        (Some(outcome), _) => outcome.told.clone(),
        (None, Some(fix)) => format!("--fix {fix}."),
        (None, None) => "--fix leaves it as it is.".to_owned(),
    };
    format!("{} {what}: {} {fix}", found.kind.name(), found.why)
}

/// `0`, or a line for each finding.
pub fn audit(audit: &Audit) -> String {
    match audit.findings.as_slice() {
        [] => "0\n".to_owned(),
        findings => findings.iter().map(|found| finding(found) + "\n").collect(),
    }
}

/// A line for each work under way.
pub fn progress(progress: &Progress) -> String {
    let mut text = String::new();
    for one in &progress.running {
        let percent = one.percent.map_or_else(|| "   -".to_owned(), |percent| format!("{percent:>3}%"));
        let owner = match one.owner.name.as_str() {
            "" => one.owner.id.clone(),
            name => format!("{name} ({})", one.owner.id),
        };
        let amount = match (one.done, one.total) {
            (Some(done), Some(total)) => format!("  {} of {}", bytes(done), bytes(total)),
            (Some(done), None) => format!("  {}", bytes(done)),
            _ => String::new(),
        };
        let rate = one.rate.map_or_else(String::new, |rate| format!(", {}/s", bytes(rate)));
        let time = match one.remaining_seconds {
            Some(left) => format!("{} left", span(left)),
            None => format!("for {}", span(one.elapsed_seconds)),
        };
        let note = one.note.as_ref().map_or_else(String::new, |note| format!("  {note}"));
        let (what, kind) = (&one.what, &one.owner.kind);
        let _ = writeln!(text, "{percent}  {what} {kind} {owner}{amount}{rate}, {time}{note}");
    }
    match text.is_empty() {
        true => "Nothing is being copied.\n".to_owned(),
        false => text,
    }
}

/// `45 s`, `12 min`, `3 h 5 min`.
fn span(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

pub fn tree(tree: &Tree) -> String {
    let mut text = String::new();
    for root in &tree.roots {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", node_line(root));
        branches(&mut text, root, "");
    }
    text
}

fn branches(text: &mut String, node: &Node, before: &str) {
    for (number, snapshot) in node.snapshots.iter().enumerate() {
        let (branch, beyond) = lines(number + 1 == node.snapshots.len());
        let _ = writeln!(text, "{before}{branch}{}", snapshot_line(snapshot));
        let before = format!("{before}{beyond}");
        for (number, child) in snapshot.children.iter().enumerate() {
            let (branch, beyond) = lines(number + 1 == snapshot.children.len());
            let _ = writeln!(text, "{before}{branch}{}", node_line(child));
            branches(text, child, &format!("{before}{beyond}"));
        }
    }
}

fn lines(last: bool) -> (&'static str, &'static str) {
    match last {
        true => ("└─ ", "   "),
        false => ("├─ ", "│  "),
    }
}

fn node_line(node: &Node) -> String {
    let mut line = match &node.owner {
        Some(owner) if owner.name.is_empty() => format!("{} {}", owner.kind, owner.id),
        Some(owner) => format!("{} {} ({})", owner.kind, owner.name, owner.id),
        None if node.hidden => "removed".to_owned(),
        None => "nobody's".to_owned(),
    };
    let _ = write!(line, "  {}/{}", node.pool, node.disk);
    if let Some(size) = node.size {
        let _ = write!(line, "  {}", bytes(size));
    }
    if let Some(used) = node.used {
        let _ = write!(line, ", {} used", bytes(used));
    }
    if node.asked {
        line.push_str("  <--");
    }
    line
}

fn snapshot_line(snapshot: &SnapshotNode) -> String {
    match snapshot.used {
        Some(used) => format!("@{}  {} used", snapshot.name, bytes(used)),
        None => format!("@{}", snapshot.name),
    }
}

/// With one digit behind the point, in the largest unit of which there is one.
pub fn bytes(bytes: u64) -> String {
    for (unit, name) in [(GIB, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use umbel_api::storage::{FindingKind, Owner, Running};

    use super::*;

    #[test]
    fn an_audit_is_a_zero_or_lines() {
        assert_eq!(audit(&Audit::default()), "0\n");
        let found = Finding {
            id: "orphan:p/d".into(),
            kind: FindingKind::Orphan,
            pool: "p".into(),
            name: "d".into(),
            why: "No volume has this disk.".into(),
            fix: Some("removes it".into()),
            outcome: None,
        };
        let told = audit(&Audit { findings: vec![found], ..Audit::default() });
        assert_eq!(told, "orphan p/d: No volume has this disk. --fix removes it.\n");
    }

    #[test]
    fn work_is_a_line() {
        assert_eq!(progress(&Progress::default()), "Nothing is being copied.\n");
        let owner = Owner { kind: "image".into(), id: "1".into(), name: "web".into() };
        let twin = Running {
            what: "twin".into(),
            owner: owner.clone(),
            began: String::new(),
            elapsed_seconds: 4,
            done: Some(MIB),
            total: Some(GIB),
            percent: Some(0),
            rate: Some(MIB / 4),
            remaining_seconds: Some(4_092),
            note: None,
        };
        let task = Running {
            what: "import".into(),
            done: None,
            total: None,
            percent: None,
            rate: None,
            remaining_seconds: None,
            note: Some("Copied 3 MiB".into()),
            ..twin.clone()
        };
        let text = "  0%  twin image web (1)  1 MiB of 1 GiB, 256 KiB/s, 1 h 8 min left\n   \
                    -  import image web (1), for 4 s  Copied 3 MiB\n";
        assert_eq!(progress(&Progress { running: vec![twin, task] }), text);
    }

    #[test]
    fn a_tree_has_branches() {
        let owner = |kind: &str, name: &str| Some(Owner { kind: kind.into(), id: "1".into(), name: name.into() });
        let child = |name: &str| Node {
            owner: owner("server", name),
            pool: "vms".into(),
            disk: name.into(),
            size: Some(GIB),
            used: Some(3 * MIB / 2),
            asked: name == "b",
            ..Node::default()
        };
        let children = vec![child("a"), child("b")];
        let first = SnapshotNode { name: "snap".into(), used: Some(0), children };
        let last = SnapshotNode { name: "later".into(), used: None, children: vec![] };
        let root = Node {
            owner: owner("image", ""),
            pool: "images".into(),
            disk: "1".into(),
            size: Some(512),
            snapshots: vec![first, last],
            ..Node::default()
        };
        let text = "image 1  images/1  512 B\n\
                    ├─ @snap  0 B used\n\
                    │  ├─ server a (1)  vms/a  1 GiB, 1.5 MiB used\n\
                    │  └─ server b (1)  vms/b  1 GiB, 1.5 MiB used  <--\n\
                    └─ @later\n";
        assert_eq!(tree(&Tree { roots: vec![root] }), text);
    }
}
