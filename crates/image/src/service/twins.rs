//! Raw twins: what servers and volumes are cloned from when an image is in another format.
//!
//! What is to be done is found by looking, not by being told: an active image in a store whose policy wants twins, and
//! none there, gets one; a twin whose image has left the store goes. So no other part of the service knows of twins,
//! whether an image came by upload, import, copy or location, and nothing is forgotten by a process that dies between
//! two statements. A nudge after an upload only makes the look earlier.
//!
//! A twin's row is there before its disk and goes after it. While one is made, its maker holds a lease and renews it; one
//! that runs out is taken over by whoever looks next, who owns the disk's name then, removes what is there and begins
//! anew. Repeating all of it is cheaper than a journal of what was written.
//!
//! The twin is in the same pool as the original, so deletion, hiding and purging treat it as they treat images. It does
//! not count for the project's storage quota: the project did not ask for it.
//!
//! Whoever boots a server meanwhile: a location is asked for, the raw one comes first if it is there, and if not the
//! image is imported. `GET .../locations?wait=30` (an extension) waits up to as many seconds, 60 at most, for a twin
//! under way; compute does not wait in a request, the workflows of servers and volumes may.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use umbel_api::image::DiskFormat;
use umbel_core::{Ctx, Result};
use umbel_db::{read, tx};
use umbel_driver::convert::ImageFormat;

use super::Caller;
use super::uploads::Flow;
use crate::Images;
use crate::config::TwinPolicy;
use crate::model::{ImageId, Place, Record, Twin, TwinState};
use crate::store::{images as rows, twins};

/// The longest that a request waits for a twin.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How often a twin that another process makes is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Rows looked at in one go. What is beyond is looked at after these.
const BATCH: usize = 100;

/// What this process makes, and who waits for it.
pub(crate) struct Twins {
    making: Mutex<HashMap<(ImageId, String), Arc<Flow>>>,
    nudge: Notify,
    changes: watch::Sender<u64>,
    pub(super) pace: Mutex<Option<Instant>>,
}

impl Default for Twins {
    fn default() -> Self {
        Twins { making: Mutex::default(), nudge: Notify::new(), changes: watch::Sender::new(0), pace: Mutex::default() }
    }
}

impl Twins {
    /// Somebody should look for work now.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// The image was deleted: nothing more is to be written.
    pub fn lose(&self, id: ImageId) {
        let making = self.making.lock();
        making.iter().filter(|((image, _), _)| *image == id).for_each(|(_, flow)| flow.lose());
    }

    pub fn add(&self, twin: &Twin, flow: &Arc<Flow>) {
        self.making.lock().insert((twin.image, twin.store.clone()), flow.clone());
    }

    pub fn remove(&self, twin: &Twin) {
        self.making.lock().remove(&(twin.image, twin.store.clone()));
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn done(&self, twin: &Twin) -> Option<u64> {
        self.making.lock().get(&(twin.image, twin.store.clone())).map(|flow| *flow.received.borrow())
    }
}

impl Images {
    /// Bytes of the disk that a conversion in this process has dealt with; its total is the image's virtual size.
    pub fn watch_twin(&self, id: ImageId, store: &str) -> Option<watch::Receiver<u64>> {
        self.twins.making.lock().get(&(id, store.to_owned())).map(|flow| flow.received.subscribe())
    }

    /// How far images' twins are, in words; those that have none are left out. One question for all of them.
    pub(crate) async fn twin_progress(&self, records: &[Record]) -> Result<HashMap<ImageId, String>> {
        let ids: Vec<ImageId> =
            records.iter().filter(|record| is_convertible(record)).map(|record| record.id).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut found: HashMap<ImageId, Vec<Twin>> = HashMap::new();
        for mut twin in read!(self.db, "show twins", |tx| twins::of_images(tx, &ids).await)? {
            // Fresher than what was noted last.
            twin.done = self.twins.done(&twin).unwrap_or(twin.done);
            found.entry(twin.image).or_default().push(twin);
        }
        let in_words = |(id, twins): (ImageId, Vec<Twin>)| match twins.as_slice() {
            [one] => (id, one.progress()),
            many => {
                let each = many.iter().map(|twin| format!("{}: {}", twin.store, twin.progress()));
                (id, each.collect::<Vec<_>>().join(", "))
            }
        };
        Ok(found.into_iter().map(in_words).collect())
    }

    /// Where the data are: the raw twins first, then what was uploaded. Waits as long as a twin is under way, until
    /// `wait` is over.
    pub async fn locations(&self, ctx: &Ctx, id: ImageId, wait: Duration) -> Result<Vec<Place>> {
        let caller = Caller::of(ctx)?;
        let deadline = Instant::now() + wait.min(MAX_WAIT);
        let mut changes = self.twins.changes.subscribe();
        self.want_for_use(&caller, id).await?;
        loop {
            changes.borrow_and_update();
            let (record, found) = read!(self.db, "list locations", |tx| {
                let record = caller.get(tx, id).await?;
                Ok((record, twins::of_image(tx, id).await?))
            })?;
            let now = Instant::now();
            if now >= deadline || !found.iter().any(Twin::is_under_way) {
                let ready = found.into_iter().filter(|twin| twin.state == TwinState::Ready).filter_map(place);
                return Ok(ready.chain(record.places).collect());
            }
            let _ = tokio::time::timeout_at(deadline.min(now + LOOK_AGAIN), changes.changed()).await;
        }
    }

    /// Whoever asks where the data are is about to use them.
    async fn want_for_use(&self, caller: &Caller, id: ImageId) -> Result<()> {
        let record = read!(self.db, "find image", |tx| caller.get(tx, id).await)?;
        if !is_convertible(&record) {
            return Ok(());
        }
        let stores = self.stores_with(|policy| policy != TwinPolicy::Off);
        if self.want(&stores, Some(id)).await? > 0 {
            self.twins.nudge();
        }
        Ok(())
    }

    /// Notes twins that are to be made; how many.
    async fn want(&self, stores: &[&str], only: Option<ImageId>) -> Result<usize> {
        let formats = ImageFormat::ALL.map(ImageFormat::name);
        let missing =
            read!(self.db, "look for missing twins", |tx| twins::missing(tx, stores, &formats, only, BATCH).await)?;
        let now = self.clock.now();
        for (image, store) in &missing {
            tx!(self.db, "want twin", |tx| {
                // Deletion looks at twins under this lock, and finds this one or keeps us from making it.
                if rows::lock(tx, &umbel_auth::Visible::All, *image).await?.is_some() {
                    twins::want(tx, *image, store, now).await?;
                }
                Ok(())
            })?;
        }
        Ok(missing.len())
    }

    fn stores_with(&self, fits: impl Fn(TwinPolicy) -> bool) -> Vec<&str> {
        let names = self.stores.iter().map(|store| store.name.as_str());
        names.filter(|name| fits(self.config.twin_policy(name))).collect()
    }

    /// Looks for twins to be made, makes them, and takes away those whose images have left; how many were made or
    /// taken away. Re-reads the world each time; any number of processes may look.
    pub async fn make_twins(&self) -> usize {
        match self.try_make_twins().await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(cause = error.cause(), "twins cannot be looked for: {error}");
                0
            }
        }
    }

    async fn try_make_twins(&self) -> Result<usize> {
        let stores = self.stores_with(|policy| matches!(policy, TwinPolicy::Upload | TwinPolicy::Replace));
        self.want(&stores, None).await?;
        let all = self.stores_with(|_| true);
        let now = self.clock.now();
        let orphans = read!(self.db, "look for orphaned twins", |tx| twins::orphans(tx, &all, now).await)?;
        let mut done = 0;
        for twin in &orphans {
            done += usize::from(self.drop_twin(twin).await);
        }
        let due = read!(self.db, "look for due twins", |tx| twins::due(tx, &all, now, BATCH).await)?;
        let work: Vec<_> = due.iter().map(|twin| self.see_to(twin).boxed()).collect();
        let work = futures_util::stream::iter(work);
        let outcomes: Vec<bool> = work.buffer_unordered(self.config.twin_jobs.max(1)).collect().await;
        Ok(done + outcomes.into_iter().filter(|made| *made).count())
    }

    async fn see_to(&self, due: &Twin) -> bool {
        match due.state {
            TwinState::Dropping => self.drop_twin(due).await,
            _ => self.make_twin(due).await,
        }
    }

    /// Removes the disk and forgets the row. Safe to run twice, also at once.
    async fn drop_twin(&self, twin: &Twin) -> bool {
        let dropped = async {
            self.store(Some(&twin.store))?.pool.remove(&twin.disk).await?;
            tx!(self.db, "forget twin", |tx| twins::forget(tx, twin.image, &twin.store).await)
        };
        match dropped.await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(image = %twin.image, cause = error.cause(), "a disk will be dropped later: {error}");
                false
            }
        }
    }

    /// Makes twins until dropped.
    pub(super) async fn keep_twins(&self) {
        loop {
            let done = self.make_twins().await;
            if done == 0 {
                let _ = tokio::time::timeout(self.config.sweep_period(), self.twins.nudge.notified()).await;
            }
        }
    }
}

fn place(twin: Twin) -> Option<Place> {
    Some(Place { store: twin.store, disk: twin.disk, url: twin.url?, format: Some(DiskFormat::Raw) })
}

fn is_convertible(record: &Record) -> bool {
    record.meta.disk_format.is_some_and(|format| format.name().parse::<ImageFormat>().is_ok())
}
