//! New bytes from an image for a volume that is there.
//!
//! They are brought into a disk of their own, which then takes the volume's name: whoever opens the volume sees the old
//! bytes or the new ones. A volume with snapshots keeps its disk, because they are the disk's; the new bytes are written
//! over the old ones then.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use umbel_core::{Error, Result};
use umbel_db::tx;
use umbel_driver::{Change, ChangeStream, Extent, Pool};
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use super::create::{BUSY, scratch};
use super::start::{Meter, held, is_awaited};
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::service::attachments::rest_status;
use crate::service::messages;
use crate::store::metadata::{self, Kind as MetadataKind, Metadata};
use crate::store::{Volume, volumes};
use crate::{Backend, Volumes};

/// How soon the removal of a disk is tried again.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReimageStep {
    /// Brings the image into a disk of its own.
    Fill,
    /// Writes it over the volume, if the volume has snapshots.
    Overwrite,
    /// Puts the volume's disk aside, if it has none.
    Aside,
    /// The new disk takes its name.
    Take,
    /// Takes away what is not needed any more.
    Clear,
    Finish,
}

impl Step for ReimageStep {
    const ALL: &'static [Self] = &[
        ReimageStep::Fill,
        ReimageStep::Overwrite,
        ReimageStep::Aside,
        ReimageStep::Take,
        ReimageStep::Clear,
        ReimageStep::Finish,
    ];

    fn name(self) -> &'static str {
        match self {
            ReimageStep::Fill => "fill",
            ReimageStep::Overwrite => "overwrite",
            ReimageStep::Aside => "aside",
            ReimageStep::Take => "take",
            ReimageStep::Clear => "clear",
            ReimageStep::Finish => "finish",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reimage {
    pub volume: VolumeId,
    pub image: String,
    pub backend: String,
    pub disk: String,
    /// What the volume is to know of the image.
    pub image_metadata: Metadata,
    /// The volume's own bytes are being written over.
    #[serde(default)]
    pub overwriting: bool,
}

impl Reimage {
    fn new_disk(&self) -> String {
        format!("reimage-{}", self.volume)
    }

    fn old_disk(&self) -> String {
        format!("replaced-{}", self.volume)
    }
}

pub(crate) struct ReimageFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(ReimageFlow(state.clone()))
}

#[async_trait]
impl Flow for ReimageFlow {
    type Schema = Volume;
    type State = Reimage;
    type Step = ReimageStep;

    const KIND: &'static str = "volume_reimage";

    /// Terabytes over a slow line.
    const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

    async fn run(&self, step: ReimageStep, state: &mut Reimage, run: &Run) -> Result<Next<ReimageStep>> {
        let volumes = &self.0;
        let backend = volumes.backend(&state.backend)?;
        match step {
            ReimageStep::Fill => volumes.fill_reimage(backend, state).await,
            ReimageStep::Overwrite => {
                let row = tx!(volumes.db, "look at a volume", |tx| held(tx, state.volume).await)?;
                let meter = Meter::start(volumes, state.volume, row.size_bytes());
                let changes = everything(backend.pool.clone(), &state.new_disk()).await?;
                backend.pool.patch(&state.disk, changes, meter.progress()).await?;
                Ok(Next::Go(ReimageStep::Clear))
            }
            ReimageStep::Aside => {
                backend.pool.rename(&state.disk, &state.old_disk()).await?;
                Ok(Next::Go(ReimageStep::Take))
            }
            ReimageStep::Take => {
                backend.pool.rename(&state.new_disk(), &state.disk).await?;
                Ok(Next::Go(ReimageStep::Clear))
            }
            ReimageStep::Clear => {
                let row = tx!(volumes.db, "look at a volume", |tx| held(tx, state.volume).await)?;
                volumes.limit_new(&row, backend).await?;
                for disk in [state.new_disk(), state.old_disk()] {
                    // The volume has its new bytes: what cannot be removed yet is no reason to give up.
                    if let Err(error) = backend.pool.remove(&disk).await {
                        tracing::warn!(volume = %state.volume, disk, cause = error.cause(), "a disk is left: {error}");
                        return Ok(Next::Wait(AGAIN));
                    }
                }
                Ok(Next::Go(ReimageStep::Finish))
            }
            ReimageStep::Finish => {
                volumes.finish_reimage(state, run).await?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: ReimageStep, state: &mut Reimage, _: &Run) -> Result<()> {
        let pool = &self.0.backend(&state.backend)?.pool;
        match step {
            // Back to the old name, if it was put aside and nothing has taken its place.
            ReimageStep::Aside => {
                let aside = pool.stat(&state.old_disk()).await?.is_some();
                match aside && pool.stat(&state.disk).await?.is_none() {
                    true => pool.rename(&state.old_disk(), &state.disk).await,
                    false => Ok(()),
                }
            }
            // The new disk has the name: the old one has it again once this has gone.
            ReimageStep::Take => {
                let aside = pool.stat(&state.old_disk()).await?.is_some();
                match aside && pool.stat(&state.disk).await?.is_some() {
                    true => pool.remove(&state.disk).await.map(drop),
                    false => Ok(()),
                }
            }
            ReimageStep::Fill => {
                pool.remove(&scratch(state.volume)).await?;
                pool.remove(&state.new_disk()).await.map(drop)
            }
            ReimageStep::Overwrite | ReimageStep::Clear | ReimageStep::Finish => Ok(()),
        }
    }

    async fn failed(&self, state: &mut Reimage, error: &Error, run: &Run) -> Result<()> {
        let volumes = &self.0;
        let now = volumes.clock.now();
        tx!(volumes.db, "fail a reimage", |tx| {
            finish(tx, run).await?;
            let Some(row) = volumes::lock_any(tx, state.volume).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            let mut after = row.clone();
            (after.previous_status, after.progress) = (None, None);
            after.status = match state.overwriting {
                // Half the one, half the other.
                true => VolumeStatus::Error,
                false => rest_status(tx, row.id).await?,
            };
            after.error = Some(error.message().to_owned());
            volumes::update(tx, &row, &after, now).await?;
            let what = (messages::REIMAGE, messages::REIMAGE_FAILED);
            crate::service::tell(tx, volumes, &row, what, (error, &run.request_id)).await
        })
    }
}

impl Volumes {
    async fn fill_reimage(self: &Arc<Self>, backend: &Backend, state: &mut Reimage) -> Result<Next<ReimageStep>> {
        let (row, awaited) = tx!(self.db, "look at a volume", |tx| {
            Ok((held(tx, state.volume).await?, is_awaited(tx, state.volume).await?))
        })?;
        if awaited {
            return Ok(Next::Wait(BUSY));
        }
        backend.pool.remove(&state.new_disk()).await?;
        let aside = VolumeRow { disk: state.new_disk(), ..row };
        let clone = self.clone_image(backend, &aside, &state.image).await?;
        if clone.is_none() && !self.copy_image(backend, &aside, &state.image).await? {
            return Ok(Next::Wait(BUSY));
        }
        let info = backend.pool.stat(&state.disk).await?;
        let snapshots = info.ok_or_else(|| Error::not_found(format!("The disk {} is gone.", state.disk)))?.snapshots;
        state.overwriting = !snapshots.is_empty();
        Ok(Next::Go(match state.overwriting {
            true => ReimageStep::Overwrite,
            false => ReimageStep::Aside,
        }))
    }

    async fn finish_reimage(&self, state: &Reimage, run: &Run) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "finish a reimage", |tx| {
            finish(tx, run).await?;
            let Some(row) = volumes::lock_any(tx, state.volume).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            let mut after = row.clone();
            if row.status == VolumeStatus::Downloading {
                after.status = rest_status(tx, row.id).await?;
            }
            (after.previous_status, after.progress, after.error) = (None, None, None);
            after.image_id = Some(state.image.clone());
            after.bootable = true;
            volumes::update(tx, &row, &after, now).await?;
            metadata::set_volume(tx, row.id, MetadataKind::Image, &state.image_metadata).await
        })
    }
}

/// All of a disk as changes: what is stored, and zeros between.
async fn everything(pool: Arc<dyn Pool>, disk: &str) -> Result<ChangeStream> {
    let info = pool.stat(disk).await?;
    let size = info.ok_or_else(|| Error::not_found(format!("The disk {disk} is gone.")))?.size;
    let pieces = pieces(size, &pool.diff(disk, None, None).await?);
    let disk = disk.to_owned();
    let changes = stream::iter(pieces.into_iter().map(Ok)).and_then(move |(range, stored): (Range<u64>, bool)| {
        let (pool, disk) = (pool.clone(), disk.clone());
        async move { read_piece(&*pool, &disk, range, stored).await }
    });
    Ok(changes.try_flatten().boxed())
}

async fn read_piece(pool: &dyn Pool, disk: &str, range: Range<u64>, stored: bool) -> Result<ChangeStream> {
    let length = range.end - range.start;
    if !stored {
        return Ok(stream::iter([Ok(Change::Zero { offset: range.start, length })]).boxed());
    }
    let data = pool.read(disk, None, range.start, length).await?;
    let mut offset = range.start;
    let changes = data.map_ok(move |bytes| {
        let at = offset;
        offset += bytes.len() as u64;
        Change::Data { offset: at, bytes }
    });
    Ok(changes.boxed())
}

/// The whole disk, cut where what is stored begins and ends.
fn pieces(size: u64, extents: &[Extent]) -> Vec<(Range<u64>, bool)> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    for extent in extents.iter().filter(|extent| !extent.zero) {
        let (start, end) = (extent.offset.max(at), (extent.offset + extent.length).min(size));
        if start >= end {
            continue;
        }
        if start > at {
            pieces.push((at..start, false));
        }
        pieces.push((start..end, true));
        at = end;
    }
    if at < size {
        pieces.push((at..size, false));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_disk_is_written() {
        let data = |offset, length| Extent { offset, length, zero: false };
        let check = |extents: &[Extent], expected: &[(Range<u64>, bool)]| assert_eq!(pieces(100, extents), expected);
        check(&[], &[(0..100, false)]);
        check(&[data(0, 100)], &[(0..100, true)]);
        check(&[data(10, 20)], &[(0..10, false), (10..30, true), (30..100, false)]);
        check(
            &[data(10, 20), Extent { zero: true, ..data(30, 70) }],
            &[(0..10, false), (10..30, true), (30..100, false)],
        );
        check(&[data(90, 20)], &[(0..90, false), (90..100, true)]);
    }
}
