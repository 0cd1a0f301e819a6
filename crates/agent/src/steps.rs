use std::sync::Arc;

use umbel_bus::{Step, StepReport};
use umbel_core::{Clock, Result};

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

    pub fn into_reports(self) -> Vec<StepReport> {
        self.done
    }
}
