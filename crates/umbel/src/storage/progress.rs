//! What is being copied, converted and flattened just now, and how far it is.
//!
//! All of it is read from rows: who does the work notes how far it is as often as a second, so that any process can tell
//! of work in any other. Nothing is measured here. A rate is the average since the work began, which is when its row was
//! written, waiting included.

use std::time::Duration;

use umbel_api::storage::{Owner, Running};
use umbel_core::{Result, Timestamp};
use umbel_db::read;

use super::StorageAudit;
use super::names::Noun;
use super::rows::Sources;

/// Work of one answer; where there is more, the oldest is told.
const MOST: usize = 1_000;

impl StorageAudit {
    /// Oldest first.
    pub async fn running(&self) -> Result<Vec<Running>> {
        let mut all = self.sources.running(self.last.now()).await?;
        all.sort_by(|one, other| (&one.began, &one.what).cmp(&(&other.began, &other.what)));
        all.truncate(MOST);
        Ok(all)
    }
}

/// Work as a row tells it.
struct Work {
    what: String,
    owner: Owner,
    began: Timestamp,
    done: Option<u64>,
    total: Option<u64>,
    percent: Option<u64>,
    note: Option<String>,
}

impl Sources {
    async fn running(&self, now: Timestamp) -> Result<Vec<Running>> {
        let mut all = Vec::new();
        if let Some(db) = &self.image {
            let rows = read!(db, "look at images' work", |tx| umbel_image::store::audit::running(tx, MOST).await)?;
            all.extend(rows.into_iter().map(|row| {
                let owner = Owner { kind: Noun::Image.name().to_owned(), id: row.image.to_string(), name: row.name };
                let (done, total) = (row.done, row.total);
                Work { what: row.what, owner, began: row.began, done, total, percent: None, note: row.note }.told(now)
            }));
        }
        if let Some(db) = &self.volume {
            let rows = read!(db, "look at volumes' work", |tx| umbel_volume::store::audit::running(tx, MOST).await)?;
            all.extend(rows.into_iter().map(|row| {
                let owner = Owner { kind: row.noun.to_owned(), id: row.id, name: row.name };
                let total = row.percent.map(|_| row.size);
                let (what, percent) = (row.what, row.percent);
                Work { what, owner, began: row.began, done: None, total, percent, note: row.note }.told(now)
            }));
        }
        Ok(all)
    }
}

impl Work {
    fn told(self, now: Timestamp) -> Running {
        let of =
            |part: u64, of: u64, whole: u64| u64::try_from(u128::from(part) * u128::from(of) / u128::from(whole)).ok();
        let percent = self.percent.or_else(|| of(self.done?, 100, self.total.filter(|total| *total > 0)?));
        let done = self.done.or_else(|| of(self.total?, self.percent?, 100));
        let elapsed = now.since(self.began);
        let rate = done.filter(|done| *done > 0 && elapsed > Duration::ZERO).map(|done| rate(done, elapsed));
        let left = self.total.zip(done).map(|(total, done)| total.saturating_sub(done));
        let remaining = left.zip(rate).and_then(|(left, rate)| left.checked_div(rate));
        Running {
            what: self.what,
            owner: self.owner,
            began: self.began.iso(),
            elapsed_seconds: elapsed.as_secs(),
            done,
            total: self.total,
            percent: percent.map(|percent| percent.min(100)),
            rate,
            remaining_seconds: remaining,
            note: self.note,
        }
    }
}

/// Bytes per second.
fn rate(done: u64, elapsed: Duration) -> u64 {
    u64::try_from(u128::from(done) * 1_000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use umbel_core::MIB;

    use super::*;

    fn work(done: Option<u64>, total: Option<u64>, percent: Option<u64>) -> Running {
        let owner = Owner { kind: "volume".into(), id: "1".into(), name: "v".into() };
        let work = Work { what: "w".into(), owner, began: Timestamp::from_secs(0), done, total, percent, note: None };
        work.told(Timestamp::from_secs(10))
    }

    #[test]
    fn what_is_left_follows_from_what_is_done() {
        let half = work(Some(50 * MIB), Some(100 * MIB), None);
        assert_eq!((half.percent, half.rate, half.remaining_seconds), (Some(50), Some(5 * MIB), Some(10)));
        let by_percent = work(None, Some(100 * MIB), Some(25));
        assert_eq!((by_percent.done, by_percent.remaining_seconds), (Some(25 * MIB), Some(30)));
        let endless = work(Some(MIB), None, None);
        assert_eq!((endless.percent, endless.rate, endless.remaining_seconds), (None, Some(MIB / 10), None));
        let begun = work(Some(0), Some(0), None);
        assert_eq!((begun.percent, begun.rate, begun.remaining_seconds), (None, None, None));
        assert_eq!(work(None, None, None).done, None);
    }
}
