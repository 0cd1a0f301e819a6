//! One conversion: from the uploaded bytes in a store's pool to a raw disk beside them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;
use umbel_api::image::ImageStatus;
use umbel_core::{Error, Kind, Result};
use umbel_db::{read, tx};
use umbel_driver::convert::{Converter, DiskSource, ImageFormat};
use umbel_driver::{Change, ChangeStream, Location, Pool, no_progress};

use super::intake::{Digests, Hasher};
use super::uploads::Flow;
use crate::config::TwinPolicy;
use crate::model::{Data, HASH_ALGORITHM, Place, Record, SNAPSHOT, Twin, TwinState};
use crate::store::{images as rows, twins};
use crate::{Images, Store};

/// How often the lease is renewed and the progress noted.
const NOTED_EVERY: Duration = Duration::from_secs(2);

/// Disks are whole sectors.
const SECTOR: u64 = 512;

/// After a failure that may pass: doubled each time, up to the second.
const RETRY_FIRST: Duration = Duration::from_secs(30);
const RETRY_LAST: Duration = Duration::from_secs(3600);

/// A disk that holds all of the image.
struct Made {
    original: Place,
    /// Bytes of the disk, and of the image as its header tells.
    size: u64,
    virtual_size: u64,
    /// If the twin is to replace the image.
    digests: Option<Digests>,
}

/// What is known of a conversion from outside it.
struct Course {
    flow: Arc<Flow>,
    total: AtomicU64,
}

impl Images {
    /// Makes a twin that is due, unless another is faster; whether there is one now.
    pub(super) async fn make_twin(&self, due: &Twin) -> bool {
        if !self.is_rid_of(due.token.as_deref()).await {
            return false;
        }
        let now = self.clock.now();
        let token = self.new_token();
        let until = now.plus(self.config.upload_lease());
        match tx!(self.db, "take twin", |tx| twins::take(tx, due, &token, until, now).await) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                tracing::warn!(image = %due.image, cause = error.cause(), "a twin cannot be taken on: {error}");
                return false;
            }
        }
        let twin = Twin { token: Some(token), attempts: due.attempts + 1, ..due.clone() };
        let course = Course { flow: Flow::new(), total: AtomicU64::new(0) };
        self.twins.add(&twin, &course.flow);
        let made = tokio::select! {
            made = self.convert(&twin, &course) => made,
            never = self.keep_lease(&twin, &course) => match never {},
        };
        let outcome = match made {
            Ok(made) => self.finish_twin(&twin, made, now).await,
            Err(error) => Err(error),
        };
        let done = match outcome {
            Ok(()) => true,
            Err(error) => {
                self.abandon(&twin, error).await;
                false
            }
        };
        self.twins.remove(&twin);
        done
    }

    async fn convert(&self, twin: &Twin, course: &Course) -> Result<Made> {
        let record = read!(self.db, "find original", |tx| rows::get_any(tx, twin.image).await)?;
        let record = record.filter(|record| record.status != ImageStatus::PendingDelete);
        let place = |record: &Record| record.places.iter().find(|place| place.store == twin.store).cloned();
        let (Some(record), Some(original)) = (record.as_ref(), record.as_ref().and_then(place)) else {
            return Err(gone());
        };
        let store = self.store(Some(&twin.store))?;
        let pool = &*store.pool;
        let converter = self.converter(store, record, &original).await?;
        let virtual_size = converter.virtual_size();
        let size = virtual_size.next_multiple_of(SECTOR);
        if size > self.config.max_virtual_size {
            return Err(Error::bad_request(format!("The image's virtual size of {virtual_size} bytes is too large.")));
        }
        course.total.store(size, Ordering::Relaxed);
        if pool.stat(&twin.disk).await?.is_some() {
            // Left by a maker that lost its lease: the name is ours now.
            pool.remove(&twin.disk).await?;
        }
        pool.create(&twin.disk, size).await?;
        let changes = converter.into_changes(self.config.max_image_size);
        pool.patch(&twin.disk, self.guarded(changes, &course.flow), no_progress()).await?;
        pool.snapshot(&twin.disk, SNAPSHOT).await?;
        let digests = match self.config.twin_policy(&twin.store) {
            TwinPolicy::Replace if record.places.len() == 1 => Some(digest(pool, twin, size, &course.flow).await?),
            _ => None,
        };
        Ok(Made { original, size, virtual_size, digests })
    }

    async fn converter(&self, store: &Store, record: &Record, original: &Place) -> Result<Converter> {
        let format = original.format.or(record.meta.disk_format).map_or("none", |format| format.name());
        let format: ImageFormat = format.parse()?;
        let location: Location = original.url.parse()?;
        let size = match record.data.size {
            Some(size) => size,
            None => store.pool.stat(&original.disk).await?.map_or(0, |info| info.size),
        };
        let source = DiskSource {
            pool: store.pool.clone(),
            disk: original.disk.clone(),
            snapshot: Some(location.snapshot),
            size,
        };
        Converter::open(format, Arc::new(source)).await
    }

    /// The changes as they pass: counted, no faster than the configuration allows, and ended when nobody wants them.
    fn guarded(&self, changes: ChangeStream, flow: &Arc<Flow>) -> ChangeStream {
        let (flow, rate, twins) = (flow.clone(), self.config.twin_bytes_per_second, self.twins.clone());
        let guarded = futures_util::stream::unfold(changes, move |mut changes| {
            let (flow, twins) = (flow.clone(), twins.clone());
            async move {
                let change = tokio::select! {
                    biased;
                    () = flow.until_lost() => return Some((Err(gone()), changes)),
                    change = changes.next() => change?,
                };
                if let Ok(Change::Data { offset, bytes }) = &change {
                    if let Some(rate) = rate {
                        pace(&twins.pace, rate, bytes.len() as u64).await;
                    }
                    flow.received.send_replace(offset + bytes.len() as u64);
                }
                Some((change, changes))
            }
        });
        Box::pin(guarded)
    }

    /// Renews the lease and notes the progress; stops the conversion once the lease is lost or the image deleted.
    async fn keep_lease(&self, twin: &Twin, course: &Course) -> Infallible {
        let mut until = self.clock.now().plus(self.config.upload_lease());
        loop {
            let _ = tokio::time::timeout(NOTED_EVERY, course.flow.until_lost()).await;
            let now = self.clock.now();
            let next = now.plus(self.config.upload_lease());
            let (done, total) = (*course.flow.received.borrow(), course.total.load(Ordering::Relaxed));
            match tx!(self.db, "renew twin", |tx| twins::renew(tx, twin, next, done, total).await) {
                Ok(true) => until = next,
                Ok(false) => course.flow.lose(),
                Err(error) if now >= until => {
                    tracing::warn!(image = %twin.image, cause = error.cause(), "a twin's maker lost its lease");
                    course.flow.lose();
                }
                Err(_) => {}
            }
            if course.flow.is_lost() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn finish_twin(&self, twin: &Twin, made: Made, began: umbel_core::Timestamp) -> Result<()> {
        let pool = &self.store(Some(&twin.store))?.pool;
        let url = pool.location(&twin.disk, SNAPSHOT).to_string();
        let now = self.clock.now();
        let drop_at = now.plus(Duration::from_secs(self.config.twin_original_seconds));
        let place = Place {
            store: twin.store.clone(),
            disk: twin.disk.clone(),
            url: url.clone(),
            format: Some(umbel_api::image::DiskFormat::Raw),
        };
        let data = made.digests.as_ref().map(|digests| Data {
            size: Some(made.size),
            virtual_size: Some(made.size),
            checksum: Some(digests.md5.clone()),
            hash_algorithm: Some(HASH_ALGORITHM.to_owned()),
            hash: Some(digests.hash.clone()),
        });
        let finished = tx!(self.db, "finish twin", |tx| {
            // Deletion takes the same lock first, so it finds the twin or keeps us from finishing it.
            let Some(record) = rows::lock(tx, &umbel_auth::Visible::All, twin.image).await? else {
                return Ok(false);
            };
            if !record.places.contains(&made.original) || !twins::finish(tx, twin, &url, made.size, now).await? {
                return Ok(false);
            }
            twins::set_virtual_size(tx, twin.image, made.virtual_size).await?;
            match &data {
                // An import under way copies the original, and tells its checksums.
                Some(data) if record.places.len() == 1 && record.claim.is_none() => {
                    twins::replace(tx, twin, &made.original, &place, data, now, drop_at).await?;
                }
                _ => {}
            }
            Ok(true)
        })?;
        if !finished {
            return Err(gone());
        }
        let took = now.since(began).as_millis() as u64;
        tracing::info!(image = %twin.image, store = twin.store, bytes = made.size, ms = took, "an image has its raw twin");
        Ok(())
    }

    /// Takes the half-made disk away and gives the lease back. What cannot be done now, the next maker does.
    async fn abandon(&self, twin: &Twin, why: Error) {
        let now = self.clock.now();
        let until = now.plus(self.config.upload_lease());
        let settled = async {
            let held = tx!(self.db, "hold twin", |tx| twins::hold(tx, twin, until).await)?;
            let row = read!(self.db, "look after twin", |tx| twins::of_image(tx, twin.image).await)?;
            let ours = row.iter().any(|row| row.store == twin.store && row.disk == twin.disk);
            if !held && ours {
                // In another's hands, or finished after all by an answer that was lost.
                return Ok(());
            }
            self.store(Some(&twin.store))?.pool.remove(&twin.disk).await?;
            let (state, due_at) = match why.kind() {
                Kind::BadRequest | Kind::TooLarge => (TwinState::Failed, now),
                _ => (TwinState::Waiting, now.plus(backoff(twin.attempts))),
            };
            tx!(self.db, "release twin", |tx| twins::release(tx, twin, state, due_at, why.message()).await)?;
            self.finish_deletion(twin.image).await;
            Ok::<(), Error>(())
        };
        tracing::info!(image = %twin.image, store = twin.store, cause = why.cause(), "a twin was not made: {why}");
        if let Err(error) = settled.await {
            tracing::warn!(image = %twin.image, cause = error.cause(), "what a conversion left will be removed later");
        }
    }
}

/// Of all bytes of the twin, zeros too.
async fn digest(pool: &dyn Pool, twin: &Twin, size: u64, flow: &Flow) -> Result<Digests> {
    let mut bytes = pool.read(&twin.disk, Some(SNAPSHOT), 0, size).await?;
    let hasher = Hasher::start();
    while let Some(chunk) = bytes.next().await {
        if flow.is_lost() {
            return Err(gone());
        }
        hasher.feed(chunk?).await?;
    }
    hasher.finish().await
}

/// Waits until so many bytes more are allowed.
async fn pace(next: &parking_lot::Mutex<Option<Instant>>, rate: u64, bytes: u64) {
    let turn = {
        let mut next = next.lock();
        let turn = next.unwrap_or_else(Instant::now).max(Instant::now());
        *next = Some(turn + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
        turn
    };
    tokio::time::sleep_until(turn).await;
}

fn backoff(attempts: u64) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(RETRY_LAST)
}

fn gone() -> Error {
    Error::new(Kind::Gone, "The image has left the store, or another process makes its twin.")
}
