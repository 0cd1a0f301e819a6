//! Who does the work that requests leave behind: one runner for all of the service's flows.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use umbel_workflow::{Runner, RunnerConfig};

use super::flatten::FlattenFlow;
use super::import_flow::ImportFlow;
use super::stores::DiscardFlow;
use crate::Images;
use crate::store::Image;

/// Tokens of callers whose imports need them, by task. They are kept in memory only: a token in a database could be used by
/// whoever reads its backup. An import whose process dies with the token has to be asked for again, and says so.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, Arc<str>>>);

impl Tokens {
    pub(super) fn keep(&self, task: &str, token: Arc<str>) {
        self.0.lock().insert(task.to_owned(), token);
    }

    pub(super) fn get(&self, task: &str) -> Option<Arc<str>> {
        self.0.lock().get(task).cloned()
    }

    pub(super) fn forget(&self, task: &str) {
        self.0.lock().remove(task);
    }
}

impl Images {
    /// What does the flows of this service. [`Images::run_background`] runs one; tests make theirs.
    pub fn runner(self: &Arc<Self>, config: RunnerConfig) -> Arc<Runner<Image>> {
        let runner = Runner::new(self.db.clone(), self.clock.clone(), &*self.rng, config)
            .with(ImportFlow(self.clone()))
            .with(FlattenFlow(self.clone()))
            .with(DiscardFlow(self.clone()));
        // The first one is told of work at once; others find it by looking.
        let _ = self.work.nudge.set(runner.nudge());
        Arc::new(runner)
    }

    /// There is something to do.
    pub(crate) fn nudge(&self) {
        if let Some(nudge) = self.work.nudge.get() {
            nudge.now();
        }
    }
}
