//! What the last comparison has found: for metrics, and for who does not want to wait for a new one.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use umbel_api::storage::{Audit, FindingKind, LastAudit};
use umbel_core::{Clock, Timestamp};

/// Kept by each comparison, asked for or not.
pub struct Last {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: Option<Done>,
    failures: u64,
}

struct Done {
    at: Timestamp,
    took: Duration,
    counts: BTreeMap<FindingKind, u64>,
    disks: u64,
    foreign: u64,
    unmanaged: u64,
}

impl Last {
    pub fn new(clock: Arc<dyn Clock>) -> Last {
        Last { clock, state: Mutex::default() }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A comparison that began then has ended now. What was mended is not counted.
    pub fn note(&self, began: Timestamp, audit: &Audit) {
        let at = self.clock.now();
        let mut counts: BTreeMap<FindingKind, u64> = FindingKind::ALL.into_iter().map(|kind| (kind, 0)).collect();
        let left = |outcome: &Option<_>| outcome.as_ref().is_none_or(|out: &umbel_api::storage::Outcome| !out.mended);
        for found in audit.findings.iter().filter(|found| left(&found.outcome)) {
            *counts.entry(found.kind).or_default() += 1;
        }
        let (foreign, unmanaged) = (audit.foreign.len() as u64, audit.unmanaged.len() as u64);
        let done = Done { at, took: at.since(began), counts, disks: audit.disks, foreign, unmanaged };
        self.state.lock().done = Some(done);
    }

    pub fn note_failure(&self) {
        self.state.lock().failures += 1;
    }

    /// `None` before the first.
    pub fn show(&self) -> Option<LastAudit> {
        let state = self.state.lock();
        let done = state.done.as_ref()?;
        Some(LastAudit {
            at: done.at.iso(),
            age_seconds: self.clock.now().since(done.at).as_secs(),
            took_seconds: done.took.as_secs_f64(),
            findings: done.counts.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect(),
            disks: done.disks,
            foreign: done.foreign,
            unmanaged: done.unmanaged,
            failures: state.failures,
        })
    }

    /// In Prometheus' text format.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        let state = self.state.lock();
        head(text, "failures_total", "counter", "Comparisons of pools with databases that broke off.")?;
        writeln!(text, "umbel_storage_audit_failures_total {}", state.failures)?;
        let Some(done) = &state.done else { return Ok(()) };
        head(text, "findings", "gauge", "What differed between pools and databases at the last comparison.")?;
        for (kind, count) in &done.counts {
            writeln!(text, "umbel_storage_audit_findings{{kind=\"{}\"}} {count}", kind.name())?;
        }
        let age = self.clock.now().since(done.at).as_secs_f64();
        for (name, help, value) in [
            ("disks", "Disks that were compared.", done.disks as f64),
            ("foreign", "Disks and snapshots that are not of our making.", done.foreign as f64),
            ("unmanaged", "Disks and snapshots that were unmanaged.", done.unmanaged as f64),
            ("duration_seconds", "How long the last comparison took.", done.took.as_secs_f64()),
            ("age_seconds", "Since the last comparison ended.", age),
        ] {
            head(text, name, "gauge", help)?;
            writeln!(text, "umbel_storage_audit_{name} {value}")?;
        }
        Ok(())
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP umbel_storage_audit_{name} {help}\n# TYPE umbel_storage_audit_{name} {kind}")
}

#[cfg(test)]
mod tests {
    use umbel_api::storage::{Finding, Outcome};
    use umbel_core::ManualClock;

    use super::*;

    #[test]
    fn the_last_comparison_is_counted_by_kind() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(100)));
        let last = Last::new(clock.clone());
        assert!(last.show().is_none() && !last.metrics().contains("findings"));
        let found = |kind, mended| Finding {
            id: String::new(),
            kind,
            pool: "p".into(),
            name: "d".into(),
            why: String::new(),
            fix: None,
            outcome: Some(Outcome { mended, told: String::new() }),
        };
        let findings = vec![
            found(FindingKind::Orphan, false),
            found(FindingKind::Orphan, true),
            Finding { outcome: None, ..found(FindingKind::Lost, false) },
        ];
        let began = last.now();
        clock.advance(Duration::from_secs(2));
        last.note(began, &Audit { findings, disks: 7, ..Audit::default() });
        last.note_failure();
        clock.advance(Duration::from_secs(30));
        let shown = last.show().unwrap();
        assert_eq!((shown.findings["orphan"], shown.findings["lost"], shown.findings["hidden"]), (1, 1, 0));
        assert_eq!((shown.age_seconds, shown.took_seconds, shown.disks, shown.failures), (30, 2.0, 7, 1));
        let text = last.metrics();
        for line in [
            "umbel_storage_audit_findings{kind=\"orphan\"} 1",
            "umbel_storage_audit_findings{kind=\"snapshot\"} 0",
            "umbel_storage_audit_duration_seconds 2",
            "umbel_storage_audit_age_seconds 30",
            "umbel_storage_audit_failures_total 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nnot in\n{text}");
        }
    }
}
