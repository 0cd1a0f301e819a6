//! Uploads.
//!
//! An upload is a claim on the image (see [`Claim`]), persisted before the first byte reaches a pool, renewed while it
//! runs, and given up or completed in one statement that names it. So whatever dies, and whenever: either the image is
//! active and its disk is there, or the claim runs out and the next sweep takes the disk away and queues the image
//! again. That holds for a dropped future too; requests that write are not dropped when their client goes, only their
//! bodies fail.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use umbel_api::image::{ContainerFormat, DiskFormat, ImageStatus};
use umbel_core::{Ctx, Error, Kind, Result, Timestamp};
use umbel_db::{read, tx};
use umbel_driver::{ByteStream, Pool, WriteOptions};

use super::Caller;
use super::intake::{self, Content, Intake, Limits, Outcome};
use super::uploads::{self, Flow};
use crate::Images;
use crate::inspect::Inspector;
use crate::model::{self, Claim, ImageId, Place, Record, SNAPSHOT, Stage};
use crate::store::{claims, images as rows, tasks};

/// How often an upload's progress is noted, and its claim renewed: by time, and by bytes.
const NOTED_EVERY: Duration = Duration::from_secs(2);
const NOTED_BYTES: u64 = 64 << 20;

/// How long the sender of an upload that failed waits for what it left to be gone; the rest goes on behind.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(5);

/// What a client says of its upload beside the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadRequest {
    pub store: Option<String>,
    /// Bytes, if announced.
    pub size: Option<u64>,
}

/// An upload under way.
pub(super) struct Upload {
    pub claim: Claim,
    pub format: Option<DiskFormat>,
    pub pool: Arc<dyn Pool>,
    pub announced: Option<u64>,
    pub flow: Arc<Flow>,
    pub outcome: Arc<Mutex<Outcome>>,
    pub started: Timestamp,
    /// In which its progress is told.
    pub task: Option<String>,
}

/// What becomes of the bytes that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// The image's data: it is active afterwards.
    Store,
    /// They wait for an import.
    Stage,
}

impl Images {
    /// From `queued` by `saving` to `active`. After a failure the image is `queued` again and nothing is left in the
    /// pool.
    ///
    /// # Errors
    /// 409 if it is not queued; 400 for content that is refused or incomplete; 413 over a limit or in a full pool; 410
    /// if the image was deleted meanwhile.
    pub async fn upload(self: &Arc<Self>, ctx: &Ctx, id: ImageId, how: UploadRequest, body: ByteStream) -> Result<()> {
        self.take_in(ctx, id, how, body, Aim::Store).await
    }

    /// From `queued` to `uploading`: the bytes are kept beside the stores until they are imported. What they are is
    /// judged then.
    ///
    /// # Errors
    /// As [`Images::upload`], but for refused content.
    pub async fn stage(self: &Arc<Self>, ctx: &Ctx, id: ImageId, how: UploadRequest, body: ByteStream) -> Result<()> {
        self.take_in(ctx, id, how, body, Aim::Stage).await
    }

    async fn take_in(
        self: &Arc<Self>,
        ctx: &Ctx,
        id: ImageId,
        how: UploadRequest,
        body: ByteStream,
        aim: Aim,
    ) -> Result<()> {
        let (claim, record, most) = match self.claim(ctx, id, &how, aim).await {
            Ok(claimed) => claimed,
            Err(error) => {
                intake::drain(Some(body)).await;
                return Err(error);
            }
        };
        let pool = self.store(Some(&claim.store))?.pool.clone();
        let flow = Flow::new();
        let judged_later = aim == Aim::Stage || !self.config.require_image_format_match;
        let limits = Limits { announced: how.size, most, idle: self.config.upload_idle(), judged_later };
        let intake = Intake::new(body, flow.clone(), limits, self.inspector(&record));
        let upload = Upload {
            claim,
            format: record.meta.disk_format,
            pool,
            announced: how.size,
            flow,
            outcome: intake.outcome(),
            started: self.clock.now(),
            task: None,
        };
        self.receive(upload, intake.into_stream(), aim).await
    }

    /// The claim, the image, and how many bytes it may have.
    async fn claim(&self, ctx: &Ctx, id: ImageId, how: &UploadRequest, aim: Aim) -> Result<(Claim, Record, u64)> {
        let caller = Caller::of(ctx)?;
        let store = self.store(how.store.as_deref())?;
        let now = self.clock.now();
        let (disk, status) = match aim {
            Aim::Store => (id.to_string(), ImageStatus::Saving),
            Aim::Stage => (model::staged_disk(id), ImageStatus::Uploading),
        };
        let claim = self.new_claim(id, &store.name, disk);
        tx!(self.db, "claim upload", |tx| {
            let record = caller.lock_unfilled(tx, id).await?;
            check_ready(&record, aim)?;
            let most = self.room(tx, record.meta.owner.as_deref(), aim).await?;
            if how.size.is_some_and(|size| size > most) {
                return Err(intake::too_large(most));
            }
            claims::take(tx, &record, &claim, status, now).await?;
            Ok((claim.clone(), record, most))
        })
    }

    pub(super) fn new_claim(&self, image: ImageId, store: &str, disk: String) -> Claim {
        let (token, store) = (self.new_token(), store.to_owned());
        Claim { image, token, store, disk, expires_at: self.clock.now().plus(self.config.upload_lease()) }
    }

    /// Only bare disks are looked into: a package is never opened as a disk.
    pub(super) fn inspector(&self, record: &Record) -> Option<Inspector> {
        let bare = [ContainerFormat::Bare, ContainerFormat::Ami, ContainerFormat::Ari, ContainerFormat::Aki];
        let format = record.meta.disk_format?;
        let container = record.meta.container_format?;
        bare.contains(&container).then(|| Inspector::new(format, self.config.max_virtual_size))
    }

    async fn receive(self: &Arc<Self>, upload: Upload, stream: ByteStream, aim: Aim) -> Result<()> {
        let id = upload.claim.image;
        self.uploads.add(id, &upload.flow);
        let result = match self.transfer(&upload, stream).await {
            Ok(content) => self.complete(&upload, content, aim).await,
            // To take it away can take as long again as to find out that the pool does not answer.
            Err(error) if matches!(error.kind(), Kind::Timeout | Kind::Unavailable) => {
                let (images, claim, pool) = (self.clone(), upload.claim.clone(), upload.pool.clone());
                let given_up = tokio::spawn(async move { images.give_up(&claim, &*pool).await });
                let _ = tokio::time::timeout(GIVEN_UP_WITHIN, given_up).await;
                Err(error)
            }
            Err(error) => {
                self.give_up(&upload.claim, &*upload.pool).await;
                Err(error)
            }
        };
        self.uploads.remove(id, &upload.flow);
        let rest = upload.outcome.lock().rest.take();
        if let Err(error) = &result {
            tracing::info!(image = %id, cause = error.cause(), "an upload failed: {error}");
            // Nobody reads the answer of one who was silent for too long.
            if !error.is(Kind::Timeout) {
                intake::drain(rest).await;
            }
        }
        result
    }

    /// Into the pool, with the claim kept alive meanwhile.
    pub(super) async fn transfer(&self, upload: &Upload, stream: ByteStream) -> Result<Content> {
        let disk = upload.claim.disk.clone();
        let pool = &upload.pool;
        let work = async {
            if pool.stat(&disk).await?.is_some() {
                // Left by an upload that lost its claim: the name is ours now.
                pool.remove(&disk).await?;
            }
            let options = WriteOptions { size: upload.announced, ..WriteOptions::default() };
            let written = pool.write(&disk, stream, options).await;
            if let Some(error) = upload.outcome.lock().failure.take() {
                return Err(error);
            }
            written.map_err(storage_fault)?;
            pool.snapshot(&disk, SNAPSHOT).await.map_err(storage_fault)
        };
        tokio::select! {
            done = work => done?,
            // Ends only by stopping the stream, after which the work ends by itself.
            () = self.keep_claim(upload) => {}
        }
        let content = upload.outcome.lock().content.take();
        content.ok_or_else(|| Error::internal("a pool finished a write before its stream ended"))
    }

    /// Renews the claim and notes the progress, until dropped; stops the upload once the claim is lost.
    async fn keep_claim(&self, upload: &Upload) {
        let mut received = upload.flow.received.subscribe();
        let (mut noted, mut until) = (0, upload.claim.expires_at);
        loop {
            let far = received.wait_for(|bytes| *bytes >= noted + NOTED_BYTES);
            let _ = tokio::time::timeout(NOTED_EVERY, far).await;
            noted = *received.borrow_and_update();
            let now = self.clock.now();
            let next = now.plus(self.config.upload_lease());
            match tx!(self.db, "renew upload", |tx| {
                if let Some(task) = &upload.task {
                    tasks::set_processing(tx, task, &format!("Copied {} MiB", noted >> 20), now).await?;
                }
                claims::renew(tx, &upload.claim, next, noted).await
            }) {
                Ok(true) => until = next,
                Ok(false) => upload.flow.lose(),
                Err(error) if now >= until => {
                    tracing::warn!(image = %upload.claim.image, cause = error.cause(), "an upload lost its claim");
                    upload.flow.lose();
                }
                Err(_) => {}
            }
            if upload.flow.is_lost() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn complete(&self, upload: &Upload, content: Content, aim: Aim) -> Result<()> {
        let claim = &upload.claim;
        let now = self.clock.now();
        let stage = staged(claim, &content);
        let completed = match aim {
            Aim::Stage => {
                tx!(self.db, "complete staging", |tx| claims::complete_stage(tx, claim, &stage, now).await)
            }
            Aim::Store => {
                let (data, place) = (stage.data(), place(upload));
                tx!(self.db, "complete upload", |tx| claims::complete(tx, claim, &data, &place, now).await)
            }
        };
        match completed {
            Ok(true) => {
                self.tell(upload, &content, now);
                self.twins.nudge();
                Ok(())
            }
            Ok(false) => {
                self.settle_lost(claim, &*upload.pool).await;
                Err(uploads::lost())
            }
            Err(error) => {
                self.give_up(claim, &*upload.pool).await;
                Err(error)
            }
        }
    }

    pub(super) fn tell(&self, upload: &Upload, content: &Content, now: Timestamp) {
        let took = now.since(upload.started);
        let rate = content.size as f64 / took.as_secs_f64().max(1e-6) / 1e6;
        tracing::info!(
            image = %upload.claim.image, store = upload.claim.store, disk = upload.claim.disk, bytes = content.size,
            ms = took.as_millis() as u64, content = content.facts.map(|facts| tracing::field::display(facts.content)),
            "an image's data were written at {rate:.1} MB/s"
        );
    }

    /// Takes the disk away and queues the image again. What cannot be done now, the sweep does once the claim is out.
    pub(super) async fn give_up(&self, claim: &Claim, pool: &dyn Pool) {
        let until = self.clock.now().plus(self.config.upload_lease());
        // An answer that was lost on its way may have been a completed upload, whose disk must stay.
        match tx!(self.db, "hold upload", |tx| claims::renew(tx, claim, until, 0).await) {
            Ok(true) => self.undo(claim, pool).await,
            Ok(false) => self.settle_lost(claim, pool).await,
            Err(error) => tracing::warn!(image = %claim.image, cause = error.cause(), "an upload is left to the sweep"),
        }
    }

    /// While the claim is held: removes what was written and lets the claim go.
    pub(super) async fn undo(&self, claim: &Claim, pool: &dyn Pool) {
        let now = self.clock.now();
        let undone = match pool.remove(&claim.disk).await {
            Ok(_) => tx!(self.db, "release upload", |tx| claims::release(tx, claim, now).await).map(|_| ()),
            Err(error) => match tx!(self.db, "expire upload", |tx| claims::expire(tx, claim).await) {
                Ok(()) => Err(error),
                Err(worse) => Err(error.because(worse.for_log())),
            },
        };
        if let Err(error) = undone {
            tracing::warn!(image = %claim.image, cause = error.cause(), "what an upload left will be removed later");
        }
    }

    /// The claim is no longer ours. What we wrote is garbage unless the image is somebody's.
    async fn settle_lost(&self, claim: &Claim, pool: &dyn Pool) {
        let record = match read!(self.db, "look after lost upload", |tx| rows::get_any(tx, claim.image).await) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(image = %claim.image, cause = error.cause(), "an upload is left to the sweep");
                return;
            }
        };
        match record.map(|record| record.status) {
            None => {
                if let Err(error) = pool.remove(&claim.disk).await {
                    tracing::warn!(image = %claim.image, cause = error.cause(), "a disk without an image is left");
                }
            }
            Some(ImageStatus::PendingDelete) => {
                self.undo(claim, pool).await;
                self.finish_deletion(claim.image).await;
            }
            Some(ImageStatus::Queued) => self.reclaim(claim, pool).await,
            // Complete after all, or in the hands of another upload, which removes what it finds.
            Some(_) => {}
        }
    }

    /// The image was queued again by a sweep that may have come before our last write.
    async fn reclaim(&self, lost: &Claim, pool: &dyn Pool) {
        let now = self.clock.now();
        let claim = self.new_claim(lost.image, &lost.store, lost.disk.clone());
        let status = match claim.disk == model::staged_disk(claim.image) {
            true => ImageStatus::Uploading,
            false => ImageStatus::Saving,
        };
        let taken = tx!(self.db, "reclaim upload", |tx| {
            match rows::get_any(tx, claim.image).await? {
                Some(record) if record.status == ImageStatus::Queued => {
                    claims::take(tx, &record, &claim, status, now).await?;
                    Ok(true)
                }
                _ => Ok(false),
            }
        });
        if let Ok(true) = taken {
            self.undo(&claim, pool).await;
        }
    }
}

/// Where the upload's bytes are.
pub(super) fn place(upload: &Upload) -> Place {
    let Claim { store, disk, .. } = &upload.claim;
    let url = upload.pool.location(disk, SNAPSHOT).to_string();
    Place { store: store.clone(), disk: disk.clone(), url, format: upload.format }
}

pub(super) fn staged(claim: &Claim, content: &Content) -> Stage {
    Stage {
        store: claim.store.clone(),
        disk: claim.disk.clone(),
        size: content.size,
        virtual_size: content.facts.as_ref().map(|facts| facts.virtual_size),
        checksum: content.digests.md5.clone(),
        hash: content.digests.hash.clone(),
        refusal: content.refusal.clone(),
    }
}

fn check_ready(record: &Record, aim: Aim) -> Result<()> {
    let wanted = if aim == Aim::Store { "saving" } else { "uploading" };
    if record.status != ImageStatus::Queued {
        let status = record.status;
        return Err(Error::conflict(format!("Image status transition from {status} to {wanted} is not allowed")));
    }
    match (record.meta.container_format, record.meta.disk_format) {
        (Some(_), Some(_)) => Ok(()),
        // An import refuses it later, as upstream does.
        _ if aim == Aim::Stage => Ok(()),
        _ => Err(Error::bad_request("Properties disk_format, container_format must be set prior to saving data.")),
    }
}

/// What a pool's failure means for the one who uploads.
pub(super) fn storage_fault(error: Error) -> Error {
    match error.kind() {
        Kind::NoSpace => {
            Error::new(Kind::TooLarge, format!("Image storage media is full: {error}")).because(error.for_log())
        }
        // Nobody else may use the name while we hold the claim: a write that was given up is still being undone.
        Kind::Conflict => {
            Error::unavailable("The image's data are still being cleaned up; try again.").because(error.for_log())
        }
        _ => error,
    }
}
