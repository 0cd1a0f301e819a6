//! Who does the work that requests leave behind: one runner for all of the service's flows, and sweeps.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use umbel_core::Result;
use umbel_workflow::{Runner, RunnerConfig};

use crate::store::Volume;
use crate::{Backend, Volumes, flows};

/// How long the end of the process waits for steps under way.
const WAIT: Duration = Duration::from_secs(2);

impl Volumes {
    /// What does the flows of this service. [`Volumes::run_background`] runs one; tests make theirs.
    pub fn runner(self: &Arc<Self>, config: RunnerConfig) -> Arc<Runner<Volume>> {
        let runner = Runner::new(self.db.clone(), self.clock.clone(), &*self.rng, config);
        Arc::new(flows::all(runner.nudged_by(&self.nudge).fenced(self.process.as_ref()), self))
    }

    /// There is something to do.
    pub(crate) fn nudge(&self) {
        self.nudge.now();
    }

    /// Ends the leases of earlier processes at once. Only where this is known to be the only process on the database.
    pub async fn take_over(self: &Arc<Self>) -> Result<()> {
        self.runner(RunnerConfig::default()).take_over().await
    }

    /// Runs all flows that there are until none is left. For tests.
    pub async fn run_until_idle(self: &Arc<Self>, limit: Duration) -> Result<()> {
        self.runner(RunnerConfig::default()).run_until_idle(limit).await
    }

    /// Runs flows and sweeps until `shutdown`.
    pub async fn run_background(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let sweeping = async {
            loop {
                self.tidy().await;
                tokio::time::sleep(self.config.sweep_period()).await;
            }
        };
        // A pool that hangs holds up neither the others nor the reports of this process being there.
        let purging = join_all(self.backends.iter().map(async |backend| {
            loop {
                purge(backend).await;
                tokio::time::sleep(self.config.sweep_period()).await;
            }
        }));
        let (stop, stopped) = watch::channel(false);
        let mut working = tokio::spawn(self.runner(RunnerConfig::default()).run(stopped));
        tokio::select! {
            () = sweeping => {}
            _ = purging => {}
            () = shutdown => {}
        }
        stop.send_replace(true);
        // A step can be the copying of a terabyte: it begins again when somebody has its lease.
        if tokio::time::timeout(WAIT, &mut working).await.is_err() {
            working.abort();
        }
    }

    /// One round of all sweeps: what it cannot do now it leaves to the next. For tests.
    pub async fn sweep(self: &Arc<Self>) {
        self.tidy().await;
        join_all(self.backends.iter().map(purge)).await;
    }

    /// What needs the database only.
    async fn tidy(self: &Arc<Self>) {
        if let Err(error) = self.resume_deletions().await {
            tracing::warn!(cause = error.cause(), "looking for unfinished deletions: {error}");
        }
        if let Err(error) = self.report_services().await {
            tracing::warn!(cause = error.cause(), "reporting services: {error}");
        }
        if let Err(error) = self.reap_messages().await {
            tracing::warn!(cause = error.cause(), "reaping messages: {error}");
        }
    }
}

async fn purge(backend: &Backend) {
    match backend.pool.purge().await {
        Ok(names) if names.is_empty() => {}
        Ok(names) => tracing::info!(backend = backend.name, purged = names.len(), "hidden disks were freed"),
        Err(error) => tracing::warn!(backend = backend.name, cause = error.cause(), "purging: {error}"),
    }
}
