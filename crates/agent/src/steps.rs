use std::sync::Arc;

use umbel_bus::{Step, StepReport};
use umbel_core::{Clock, Kind, Result};

/// Measures what is done on the way to a generation.
pub(crate) struct Steps {
    clock: Arc<dyn Clock>,
    done: Vec<StepReport>,
}

impl Steps {
    pub fn new(clock: &Arc<dyn Clock>) -> Self {
        Steps { clock: clock.clone(), done: Vec::new() }
    }

    /// Runs and measures. A failure's own sentence takes the place of `detail`.
    pub async fn run<T>(
        &mut self,
        step: Step,
        detail: impl Into<String>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let started = self.clock.now();
        let outcome = work.await;
        let detail = match &outcome {
            Ok(_) => detail.into(),
            Err(error) => error.message().to_owned(),
        };
        self.done.push(StepReport { step, started, finished: self.clock.now(), ok: outcome.is_ok(), detail });
        outcome
    }

    /// As [`Steps::run`], but a name that is taken already is no failed step: it is for the caller to look at.
    pub async fn run_unless_there(
        &mut self,
        step: Step,
        detail: impl Into<String>,
        work: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let outcome = self.run(step, detail, work).await;
        if outcome.as_ref().is_err_and(|error| error.is(Kind::Conflict)) {
            self.done.pop();
        }
        outcome
    }

    /// Takes in what was done side by side.
    pub fn absorb(&mut self, other: Steps) {
        self.done.extend(other.done);
    }

    pub fn into_reports(self) -> Vec<StepReport> {
        self.done
    }
}
