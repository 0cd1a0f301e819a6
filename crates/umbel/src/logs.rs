//! What is logged, and how much of it. Levels can be changed while the process runs, by volume's `set-log`.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};
use umbel_core::{Error, LogFilter, LogLevel, Result};

/// `directives`: as RUST_LOG has them.
pub fn begin(directives: &str) {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(directives));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    let levels = Mutex::new(levels_in(directives));
    umbel_core::install_log_filter(Box::new(Filter { handle, directives: directives.to_owned(), levels }));
}

struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
    /// What the process was started with, which has more to it than levels.
    directives: String,
    levels: Mutex<BTreeMap<String, LogLevel>>,
}

impl LogFilter for Filter {
    fn levels(&self) -> BTreeMap<String, LogLevel> {
        self.levels.lock().clone()
    }

    fn set(&self, prefix: &str, level: LogLevel) -> Result<()> {
        if !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')) {
            return Err(Error::bad_request(format!("Nothing that logs begins with '{prefix}'.")));
        }
        let mut levels = self.levels.lock();
        let mut wanted = levels.clone();
        // What is said of the whole is said of its parts too.
        wanted.retain(|known, _| !known.starts_with(prefix));
        wanted.insert(prefix.to_owned(), level);
        let filter = EnvFilter::new(with_levels(&self.directives, &wanted));
        self.handle.reload(filter).map_err(|error| Error::internal(error).because("changing what is logged"))?;
        *levels = wanted;
        Ok(())
    }
}

/// Those parts that are levels of targets: `warn,umbel=info`.
fn levels_in(directives: &str) -> BTreeMap<String, LogLevel> {
    let level = |part: &str| match part.trim().split_once('=') {
        Some((target, level)) => Some((target.to_owned(), LogLevel::parse(level)?)),
        None => Some((String::new(), LogLevel::parse(part.trim())?)),
    };
    directives.split(',').filter_map(level).collect()
}

/// These levels, and what the directives say beside levels.
fn with_levels(directives: &str, levels: &BTreeMap<String, LogLevel>) -> String {
    let others = directives.split(',').filter(|part| levels_in(part).is_empty() && !part.trim().is_empty());
    let words = |(target, level): (&String, &LogLevel)| {
        let level = match level {
            LogLevel::Error => "error",
            LogLevel::Warning => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        };
        if target.is_empty() { level.to_owned() } else { format!("{target}={level}") }
    };
    others.map(|part| part.trim().to_owned()).chain(levels.iter().map(words)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_written_as_directives() {
        let levels = levels_in("warn, umbel=info,umbel_agent=debug,[span]=trace,nonsense");
        let want = [("", LogLevel::Warning), ("umbel", LogLevel::Info), ("umbel_agent", LogLevel::Debug)];
        let mut want: BTreeMap<_, _> = want.map(|(target, level)| (target.to_owned(), level)).into();
        want.insert("[span]".to_owned(), LogLevel::Debug);
        assert_eq!(levels, want);
        let text = with_levels("nonsense,warn", &[(String::new(), LogLevel::Debug)].into());
        assert_eq!(text, "nonsense,debug");
    }

    #[test]
    fn a_level_replaces_those_of_parts() {
        let (_layer, handle) = reload::Layer::<EnvFilter, Registry>::new(EnvFilter::new("warn"));
        let levels = Mutex::new(levels_in("warn,umbel=info,umbel_agent=debug"));
        let filter = Filter { handle, directives: "warn,umbel=info,umbel_agent=debug".into(), levels };
        filter.set("umbel", LogLevel::Error).unwrap();
        let named = |filter: &Filter| {
            filter.levels().into_iter().map(|(target, level)| format!("{target}={}", level.name())).collect::<Vec<_>>()
        };
        assert_eq!(named(&filter), ["=WARNING", "umbel=ERROR"]);
        filter.set("", LogLevel::Debug).unwrap();
        assert_eq!(named(&filter), ["=DEBUG"]);
        assert!(filter.set("a b", LogLevel::Debug).is_err());
    }
}
