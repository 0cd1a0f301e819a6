//! Who does the work that requests leave behind: one runner for all of the service's flows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use umbel_core::Timestamp;
use umbel_workflow::{Runner, RunnerConfig};

use super::flatten::FlattenFlow;
use super::import_flow::ImportFlow;
use super::stores::DiscardFlow;
use super::web_hash::WebHashFlow;
use crate::Images;
use crate::store::Image;

/// Tokens of callers whose imports need them, by task. They are kept in memory only: a token in a database could be used by
/// whoever reads its backup. So only the process that was asked can do such an import: others leave it alone for a while, in
/// which that one comes by, and then end it with the advice to ask again.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, Kept>>);

struct Kept {
    token: Arc<str>,
    since: Timestamp,
}

/// Longer than tokens live. What another process ended is forgotten then.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

impl Tokens {
    pub(super) fn keep(&self, task: &str, token: Arc<str>, now: Timestamp) {
        let mut kept = self.0.lock();
        kept.retain(|_, kept| now.since(kept.since) < KEPT_FOR);
        kept.insert(task.to_owned(), Kept { token, since: now });
    }

    pub(super) fn get(&self, task: &str) -> Option<Arc<str>> {
        self.0.lock().get(task).map(|kept| kept.token.clone())
    }

    pub(super) fn forget(&self, task: &str) {
        self.0.lock().remove(task);
    }
}

impl Images {
    /// What does the flows of this service. [`Images::run_background`] runs one; tests make theirs.
    pub fn runner(self: &Arc<Self>, config: RunnerConfig) -> Arc<Runner<Image>> {
        let runner = Runner::new(self.db.clone(), self.clock.clone(), &*self.rng, config)
            .nudged_by(&self.work.nudge)
            .fenced(self.work.process.as_ref())
            .with(ImportFlow(self.clone()))
            .with(FlattenFlow(self.clone()))
            .with(DiscardFlow(self.clone()))
            .with(WebHashFlow(self.clone()));
        Arc::new(runner)
    }

    /// There is something to do.
    pub(crate) fn nudge(&self) {
        self.work.nudge.now();
    }
}
