//! Deletion, and the sweep that finishes what a crash or a failing pool left.
//!
//! A deleted image is out of everyone's sight in one statement; its row stays until its data are gone, so that no disk
//! is ever without a row. Living clones do not hinder: the pool hides the disk and frees it with the last of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use umbel_api::image::ImageStatus;
use umbel_core::{Ctx, Error, Result};
use umbel_db::{read, tx};
use umbel_workflow::{Flow, Runner, RunnerConfig};

use super::Caller;
use super::import_flow::ImportFlow;
use crate::Images;
use crate::model::{self, Claim, IMPORT_TASK, ImageId, Record, TwinState};
use crate::store::{claims, images as rows, stages, tasks, twins};

/// How long a request waits for the pool before it leaves the rest to the background. The image is gone by then.
const WAIT: Duration = Duration::from_secs(2);

/// Images whose data this process takes away just now.
#[derive(Default)]
pub(crate) struct Deleting(Mutex<HashSet<ImageId>>);

struct Turn<'a>(&'a Deleting, ImageId);

impl Deleting {
    /// None: somebody is at it.
    fn begin(&self, id: ImageId) -> Option<Turn<'_>> {
        self.0.lock().insert(id).then(|| Turn(self, id))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.lock().remove(&self.1);
    }
}

/// Deletions that a sweep finishes at once.
const AT_ONCE: usize = 8;

/// What a sweep has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads whose holder was not heard of, and whose images are queued again.
    pub uploads: usize,
    /// Deleted images whose data are gone now.
    pub deletions: usize,
    /// Hidden disks whose last clone was gone.
    pub purged: usize,
}

impl Images {
    /// 403 for a protected image.
    pub async fn delete(self: &Arc<Self>, ctx: &Ctx, id: ImageId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "delete image", |tx| {
            let record = caller.lock_unfilled(tx, id).await?;
            if record.meta.protected {
                return Err(Error::forbidden(format!("Image {id} is protected and cannot be deleted.")));
            }
            rows::set_status(tx, &record, ImageStatus::PendingDelete, now).await
        })?;
        self.uploads.lose(id);
        self.twins.lose(id);
        let service = self.clone();
        let rest = tokio::spawn(async move { service.finish_deletion(id).await });
        let _ = tokio::time::timeout(WAIT, rest).await;
        Ok(())
    }

    /// Takes a deleted image's data away and forgets it; whether that is done. Safe to run twice, also at once, in two
    /// processes; in this one, whoever comes second leaves it to the first, since pools refuse to remove a disk twice at
    /// once and would have it tried again.
    pub(super) async fn finish_deletion(&self, id: ImageId) -> bool {
        let Some(_turn) = self.work.deleting.begin(id) else {
            return false;
        };
        match self.try_deletion(id).await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(image = %id, cause = error.cause(), "a deletion will be finished later: {error}");
                false
            }
        }
    }

    async fn try_deletion(&self, id: ImageId) -> Result<bool> {
        let Some(record) = read!(self.db, "find deleted image", |tx| rows::get_any(tx, id).await)? else {
            return Ok(true);
        };
        let writing = record.claim.as_ref().is_some_and(|claim| claim.expires_at > self.clock.now());
        if record.status != ImageStatus::PendingDelete || writing || self.is_importing(&record).await? {
            return Ok(false);
        }
        let twins = read!(self.db, "find twins", |tx| twins::of_image(tx, id).await)?;
        if twins.iter().any(|twin| twin.state == TwinState::Running && twin.due_at > self.clock.now()) {
            return Ok(false);
        }
        for twin in &twins {
            self.store(Some(&twin.store))?.pool.remove(&twin.disk).await?;
        }
        for place in &record.places {
            self.store(Some(&place.store))?.pool.remove(&place.disk).await?;
        }
        if let Some(claim) = &record.claim {
            let pool = &self.store(Some(&claim.store))?.pool;
            pool.remove(&id.to_string()).await?;
            pool.remove(&model::staged_disk(id)).await?;
        }
        if let Some(stage) = read!(self.db, "find staged data", |tx| stages::get(tx, id).await)? {
            self.store(Some(&stage.store))?.pool.remove(&stage.disk).await?;
        }
        tx!(self.db, "forget image", |tx| rows::forget(tx, id).await)?;
        Ok(true)
    }

    /// Whether a workflow still holds the image: it finds the deletion, cleans up after itself and lets go.
    async fn is_importing(&self, record: &Record) -> Result<bool> {
        let Some(Some(task)) = record.meta.properties.get(IMPORT_TASK) else {
            return Ok(false);
        };
        read!(self.db, "look for import", |tx| umbel_workflow::pending(tx, ImportFlow::KIND, task).await)
    }

    /// Looks for what was left undone and does it. Re-reads the world each time; any number of processes may sweep.
    pub async fn sweep(&self) -> Swept {
        let mut swept = Swept::default();
        let now = self.clock.now();
        match read!(self.db, "find dead uploads", |tx| claims::expired(tx, now).await) {
            Ok(dead) => {
                for claim in dead {
                    swept.uploads += usize::from(self.bury(&claim).await);
                }
            }
            Err(error) => tracing::warn!(cause = error.cause(), "dead uploads cannot be looked for: {error}"),
        }
        match read!(self.db, "find deletions", |tx| rows::deleted(tx, now).await) {
            Ok(deleted) => {
                // Side by side: those in a pool that hangs do not hold up the others.
                let work = deleted.into_iter().map(|id| self.finish_deletion(id));
                let work = futures_util::stream::iter(work).buffer_unordered(AT_ONCE);
                swept.deletions += work.filter(|done| std::future::ready(*done)).count().await;
            }
            Err(error) => tracing::warn!(cause = error.cause(), "deletions cannot be looked for: {error}"),
        }
        if let Err(error) = tx!(self.db, "expire tasks", |tx| tasks::expire(tx, now).await) {
            tracing::warn!(cause = error.cause(), "old tasks are kept: {error}");
        }
        let purges = self.stores.iter().map(async |store| match store.pool.purge().await {
            Ok(names) => names.len(),
            Err(error) => {
                tracing::warn!(store = store.name, cause = error.cause(), "purging failed: {error}");
                0
            }
        });
        swept.purged += join_all(purges).await.into_iter().sum::<usize>();
        swept
    }

    /// Undoes an upload whose holder is dead.
    async fn bury(&self, dead: &Claim) -> bool {
        let now = self.clock.now();
        let claim = Claim { token: self.new_token(), expires_at: now.plus(self.config.upload_lease()), ..dead.clone() };
        let Ok(store) = self.store(Some(&dead.store)) else {
            tracing::warn!(image = %dead.image, store = dead.store, "an upload went to a store that is not configured");
            return false;
        };
        if !self.is_rid_of(Some(&dead.token)).await {
            return false;
        }
        match tx!(self.db, "take over upload", |tx| claims::take_over(tx, dead, &claim, now).await) {
            Ok(true) => {
                tracing::info!(image = %dead.image, "an upload was not heard of for too long and is undone");
                self.undo(&claim, &*store.pool).await;
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::warn!(image = %dead.image, cause = error.cause(), "a dead upload cannot be taken over");
                false
            }
        }
    }

    /// Takes all uploads that the database knows for dead, without waiting for their claims to run out; how many there
    /// were. For the start of a process that is its database's only user: whoever held them is gone.
    pub async fn take_over(&self) -> Result<u64> {
        let (clock, config) = (self.clock.clone(), RunnerConfig::default());
        Runner::new(self.db.clone(), clock, &*self.rng, config).take_over().await?;
        tx!(self.db, "take over twins", |tx| twins::expire_all(tx).await)?;
        tx!(self.db, "take over uploads", |tx| claims::expire_all(tx).await)
    }

    /// Sweeps at once and then periodically, and does what requests left to be done, until `shutdown` is ready.
    pub async fn run_background(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let sweeping = async {
            loop {
                let swept = self.sweep().await;
                if swept != Swept::default() {
                    tracing::info!(swept.uploads, swept.deletions, swept.purged, "the image service swept");
                }
                tokio::time::sleep(self.config.sweep_period()).await;
            }
        };
        let (stop, stopped) = watch::channel(false);
        let mut working = tokio::spawn(self.runner(RunnerConfig::default()).run(stopped));
        tokio::select! {
            () = sweeping => {}
            () = self.keep_twins() => {}
            () = shutdown => {}
        }
        stop.send_replace(true);
        // A step can be the copying of a terabyte: it begins again when somebody has its lease.
        if tokio::time::timeout(WAIT, &mut working).await.is_err() {
            working.abort();
        }
    }
}
