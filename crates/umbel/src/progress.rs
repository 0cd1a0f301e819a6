//! What long work shows: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Work of a known number of bytes.
pub struct Transfer {
    label: String,
    total: u64,
    bar: Option<ProgressBar>,
    /// The last tenth that a line told of.
    told: AtomicU64,
}

impl Transfer {
    pub fn start(label: &str, total: u64) -> Transfer {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("  {msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style).with_message(label.to_owned())
        });
        Transfer { label: label.to_owned(), total, bar, told: AtomicU64::new(0) }
    }

    pub fn add(&self, bytes: u64) {
        match &self.bar {
            Some(bar) => bar.inc(bytes),
            None => {
                let before = self.told.fetch_add(bytes, Ordering::Relaxed);
                let tenth = |done: u64| done * 10 / self.total.max(1);
                if tenth(before + bytes) > tenth(before) {
                    eprintln!("  {} {}%", self.label, tenth(before + bytes) * 10);
                }
            }
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Work whose end nobody knows; turns on a terminal, one line elsewhere.
pub struct Waiting(Option<ProgressBar>);

impl Waiting {
    pub fn start(label: &str) -> Waiting {
        if !std::io::stderr().is_terminal() {
            eprintln!("  {label} ...");
            return Waiting(None);
        }
        let bar = ProgressBar::new_spinner().with_message(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Waiting(Some(bar))
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
