//! What this process logs, for those who change it while the process runs.
//!
//! One for the whole process, as its log is: services that share it share their levels. The refused alternative, handing
//! it to each service, would promise what cannot be kept.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::Result;

/// How much is logged, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warning,
    Info,
    Debug,
}

impl LogLevel {
    /// By the names that upstream's services take, in upper or lower case; `CRITICAL` is as little as we log.
    pub fn parse(name: &str) -> Option<LogLevel> {
        match name.to_ascii_uppercase().as_str() {
            "CRITICAL" | "ERROR" => Some(LogLevel::Error),
            "WARN" | "WARNING" => Some(LogLevel::Warning),
            "INFO" => Some(LogLevel::Info),
            "DEBUG" | "TRACE" => Some(LogLevel::Debug),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "ERROR",
            LogLevel::Warning => "WARNING",
            LogLevel::Info => "INFO",
            LogLevel::Debug => "DEBUG",
        }
    }
}

pub trait LogFilter: Send + Sync {
    /// By the beginning of what logs: `umbel_volume`; empty for all else.
    fn levels(&self) -> BTreeMap<String, LogLevel>;

    /// From now on. `BadRequest` for a beginning that nothing can have.
    fn set(&self, prefix: &str, level: LogLevel) -> Result<()>;
}

static FILTER: OnceLock<Box<dyn LogFilter>> = OnceLock::new();

/// To be called once, by whoever begins to log. A second filter is not taken.
pub fn install_log_filter(filter: Box<dyn LogFilter>) -> bool {
    FILTER.set(filter).is_ok()
}

/// None where the levels of this process cannot be changed.
pub fn log_filter() -> Option<&'static dyn LogFilter> {
    FILTER.get().map(|filter| &**filter)
}
