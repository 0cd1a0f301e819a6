use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::Error;

/// A moment: microseconds since the Unix epoch, UTC. Stored as a 64-bit integer in every database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub const fn from_secs(secs: i64) -> Self {
        Timestamp(secs * 1_000_000)
    }

    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Timestamp(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How much later than `earlier`; zero if it is not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `2026-11-21T01:02:03Z`: compute, image and network.
    pub fn iso(self) -> String {
        self.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"))
    }

    /// `2026-11-21T01:02:03.000004Z`: identity.
    pub fn iso_micros(self) -> String {
        self.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"))
    }

    /// `2026-11-21T01:02:03.000004`, without a zone: volume, and compute's actions, services and hypervisors.
    pub fn iso_naive(self) -> String {
        self.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]"))
    }

    /// Any ISO 8601 moment a client may send as a filter: with or without zone, fraction and time.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::bad_request(format!("Invalid time format: '{text}'."));
        // A `+` that arrived undecoded in a query string is a space.
        let text = text.trim().replace(' ', "T");
        let full = match text.len() {
            10 => format!("{text}T00:00:00Z"),
            _ if text.ends_with('Z') || has_offset(&text) => text.clone(),
            _ => format!("{text}Z"),
        };
        let moment = OffsetDateTime::parse(&full, &Rfc3339).map_err(|_| bad())?;
        i64::try_from(moment.unix_timestamp_nanos() / 1_000).map(Timestamp).map_err(|_| bad())
    }

    fn format(self, format: &[time::format_description::BorrowedFormatItem<'_>]) -> String {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .ok()
            .and_then(|moment| moment.format(format).ok())
            .unwrap_or_default()
    }
}

fn has_offset(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 6 && bytes[bytes.len() - 3] == b':' && matches!(bytes[bytes.len() - 6], b'+' | b'-')
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso_micros())
    }
}

/// Where time comes from. Injected, so that a test can move it.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is moved.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn at(start: Timestamp) -> Self {
        ManualClock(AtomicI64::new(start.0))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_form_parses() {
        let moment = Timestamp(1_795_224_123_000_004);
        let check = |text: &str, want: Timestamp| assert_eq!(Timestamp::parse(text).unwrap(), want, "{text}");
        check(&moment.iso_micros(), moment);
        check(&moment.iso_naive(), moment);
        check(&moment.iso(), Timestamp::from_secs(moment.as_secs()));
        check("2026-11-21", Timestamp::parse("2026-11-21T00:00:00Z").unwrap());
        check("2026-11-21T02:00:00+01:00", Timestamp::parse("2026-11-21 01:00:00").unwrap());
        assert!(Timestamp::parse("yesterday").is_err());
    }
}
