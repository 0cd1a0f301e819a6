//! What a cluster says of itself, asked once for all who want to know, and waited for only so long.
//!
//! The question goes on when those who asked have given up, and is not asked again meanwhile: a cluster that is cut off
//! costs one thread, and whoever asks while it stays silent is told so at once. (Refused: a timer that keeps figures fresh.
//! Most processes ask seldom, and what nobody asks for need not be known.)

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::Instant;
use umbel_core::{Error, Result};

use crate::cluster::{Failure, silent};
use crate::usage::Usage;

/// From the question on. An idle cluster takes milliseconds, a busy machine with all of a cluster on it a second or two.
const PATIENCE: Duration = Duration::from_secs(5);

/// Figures this young still stand in for an answer that does not come in time: monitors that elect a leader, or a machine
/// that is too busy, are no cluster that is down.
const STALE: Duration = Duration::from_secs(30);

type Answer = Result<Arc<Usage>, Arc<Failure>>;

#[derive(Default)]
pub struct Figures {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    kept: Option<(Instant, Arc<Usage>)>,
    asking: Option<Question>,
}

#[derive(Clone)]
struct Question {
    since: Instant,
    answer: Shared<BoxFuture<'static, Answer>>,
}

impl Figures {
    /// Figures that are no older than this, if newer ones can be had in time; `ask` gets them unless somebody is at it.
    ///
    /// # Errors
    /// Those of `ask`; `Timeout` if it takes too long and what was heard before is of no use.
    pub async fn within(
        &self,
        age: Duration,
        ask: impl Future<Output = Result<Arc<Usage>>> + Send + 'static,
    ) -> Result<Arc<Usage>> {
        let question = {
            let mut state = self.state.lock();
            if let Some((at, usage)) = &state.kept
                && at.elapsed() < age
            {
                return Ok(usage.clone());
            }
            let under_way = state.asking.clone().filter(|question| question.answer.peek().is_none());
            let question = under_way.unwrap_or_else(|| self.put(ask));
            state.asking = Some(question.clone());
            question
        };
        match tokio::time::timeout_at(question.since + PATIENCE, question.answer).await {
            Ok(answer) => answer.map_err(|failure| failure.to_error()),
            Err(_) => match &self.state.lock().kept {
                Some((at, usage)) if at.elapsed() < STALE => Ok(usage.clone()),
                _ => Err(silent(format!("no figures for {:?}", question.since.elapsed()))),
            },
        }
    }

    fn put(&self, ask: impl Future<Output = Result<Arc<Usage>>> + Send + 'static) -> Question {
        let state = self.state.clone();
        let task = tokio::spawn(async move {
            let answer = ask.await.map_err(|error| Arc::new(Failure::of(&error)));
            if let Ok(usage) = &answer {
                state.lock().kept = Some((Instant::now(), usage.clone()));
            }
            answer
        });
        let answer = task.map(|done| done.unwrap_or_else(|error| Err(Arc::new(Failure::of(&Error::internal(error))))));
        Question { since: Instant::now(), answer: answer.boxed().shared() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;
    use umbel_core::Kind;

    use super::*;

    fn usage() -> Arc<Usage> {
        Arc::new(Usage::parse(br#"{"pools": []}"#).unwrap())
    }

    #[tokio::test]
    async fn silence_is_told_once_and_for_all() {
        let (figures, asked, heard) = (Figures::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (asked, heard) = (asked.clone(), heard.clone());
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                heard.notified().await;
                Ok(usage())
            }
        };
        let began = Instant::now();
        for _ in 0..5 {
            let silence = figures.within(Duration::from_secs(10), ask()).await;
            assert!(silence.is_err_and(|error| error.is(Kind::Timeout)));
        }
        assert!(began.elapsed() < 3 * PATIENCE, "each waited for itself");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        heard.notify_one();
        let question = figures.state.lock().asking.clone().unwrap();
        assert!(question.answer.await.is_ok());
        // What came too late for those who asked is good for the next.
        assert!(figures.within(Duration::from_secs(10), ask()).await.is_ok());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
