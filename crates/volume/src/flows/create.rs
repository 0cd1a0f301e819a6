//! Creation of volumes: empty ones, and clones or copies of images, snapshots and volumes.
//!
//! The disk's name is the volume's id, so a disk of that name that is found is this flow's own: a clone or an empty one
//! is whole as soon as it is there, and what is copied begins anew.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_core::{Error, Kind, Result};
use umbel_db::tx;
use umbel_driver::{Location, WriteOptions};
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use super::flatten::FlattenFlow;
use super::start::{Meter, held, start};
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::service::messages;
use crate::store::{Volume, volumes};
use crate::{Backend, Volumes};

/// What the new volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub(crate) enum Source {
    Nothing,
    Image {
        id: String,
    },
    /// `disk@snapshot` in the pool of a backend. `made`: the snapshot is to be made for this, and to go after.
    Disk {
        backend: String,
        disk: String,
        snapshot: String,
        size_gib: u64,
        made: bool,
    },
}

impl Source {
    /// Whether there is a snapshot to be made first, and removed after.
    fn is_made(&self) -> bool {
        matches!(self, Source::Disk { made: true, .. })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Create {
    pub volume: VolumeId,
    pub source: Source,
    /// Backend that has the disk, once it is chosen.
    pub backend: Option<String>,
    /// Whether the clone stands on so many others that it is to be made to stand alone.
    pub deep: bool,
    /// A copy was begun: what is there may be a part of it. Written down before, since what can be cloned later than that must
    /// not take the part for the clone.
    #[serde(default)]
    pub copying: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreateStep {
    /// Chooses a backend.
    Place,
    /// Makes the snapshot of the volume that is cloned.
    Freeze,
    /// Makes the disk.
    Fill,
    /// Removes the snapshot.
    Thaw,
    Finish,
}

impl Step for CreateStep {
    const ALL: &'static [Self] =
        &[CreateStep::Place, CreateStep::Freeze, CreateStep::Fill, CreateStep::Thaw, CreateStep::Finish];

    fn name(self) -> &'static str {
        match self {
            CreateStep::Place => "place",
            CreateStep::Freeze => "freeze",
            CreateStep::Fill => "fill",
            CreateStep::Thaw => "thaw",
            CreateStep::Finish => "finish",
        }
    }
}

pub(crate) struct CreateFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(CreateFlow(state.clone()))
}

/// How long until it is looked again whether there is room for one more copy.
pub(super) const BUSY: Duration = Duration::from_millis(500);

#[async_trait]
impl Flow for CreateFlow {
    type Schema = Volume;
    type State = Create;
    type Step = CreateStep;

    const KIND: &'static str = "volume_create";

    /// Terabytes over a slow line.
    const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

    async fn run(&self, step: CreateStep, state: &mut Create, run: &Run) -> Result<Next<CreateStep>> {
        let volumes = &self.0;
        let look = async || tx!(volumes.db, "look at a new volume", |tx| held(tx, state.volume).await);
        match step {
            CreateStep::Place => {
                let row = look().await?;
                state.backend = Some(volumes.place(&row, &state.source).await?);
                Ok(Next::Go(if state.source.is_made() { CreateStep::Freeze } else { CreateStep::Fill }))
            }
            CreateStep::Freeze => {
                look().await?;
                if let Source::Disk { backend, disk, snapshot, made: true, .. } = &state.source {
                    volumes.backend(backend)?.pool.snapshot(disk, snapshot).await?;
                }
                Ok(Next::Go(CreateStep::Fill))
            }
            CreateStep::Fill => {
                let row = look().await?;
                volumes.fill(&row, state).await
            }
            CreateStep::Thaw => {
                volumes.thaw(state).await?;
                Ok(Next::Go(CreateStep::Finish))
            }
            CreateStep::Finish => {
                volumes.finish_creation(state, run).await?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: CreateStep, state: &mut Create, _: &Run) -> Result<()> {
        let volumes = &self.0;
        match (step, &state.backend) {
            (CreateStep::Freeze | CreateStep::Thaw, _) => volumes.thaw(state).await,
            (CreateStep::Fill, Some(backend)) => volumes.clear(backend, state.volume).await,
            _ => Ok(()),
        }
    }

    async fn failed(&self, state: &mut Create, error: &Error, run: &Run) -> Result<()> {
        let volumes = &self.0;
        let now = volumes.clock.now();
        tx!(volumes.db, "fail a volume's creation", |tx| {
            finish(tx, run).await?;
            let Some(row) = volumes::lock_any(tx, state.volume).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            let mut after = row.clone();
            after.status = VolumeStatus::Error;
            after.error = Some(error.message().to_owned());
            after.progress = None;
            volumes::update(tx, &row, &after, now).await?;
            crate::service::tell(tx, volumes, &row, what_failed(state, error), (error, &run.request_id)).await
        })
    }
}

/// In the words that upstream has for it.
fn what_failed(state: &Create, error: &Error) -> (messages::Action, messages::Detail) {
    match (&state.backend, &state.source) {
        (None, _) => (messages::SCHEDULE, messages::NO_BACKEND),
        (_, Source::Image { .. }) => (
            messages::IMAGE_TO_VOLUME,
            match error.kind() {
                Kind::TooLarge => messages::NO_SPACE,
                Kind::BadRequest => messages::UNFIT_IMAGE,
                _ => messages::CREATE_FAILED,
            },
        ),
        _ => (messages::SCHEDULE, messages::CREATE_FAILED),
    }
}

/// Name of the disk that holds an image of another format while it is read.
pub(super) fn scratch(id: VolumeId) -> String {
    format!("import-{id}")
}

impl Volumes {
    /// Takes away what a creation made in its backend.
    async fn clear(&self, backend: &str, id: VolumeId) -> Result<()> {
        let pool = &self.backend(backend)?.pool;
        pool.remove(&scratch(id)).await?;
        pool.remove(&crate::model::disk_name(id)).await?;
        Ok(())
    }

    async fn thaw(&self, state: &Create) -> Result<()> {
        let Source::Disk { backend, disk, snapshot, made: true, .. } = &state.source else { return Ok(()) };
        match self.backend(backend)?.pool.remove_snapshot(disk, snapshot).await {
            // The volume that was cloned has been removed since.
            Err(error) if error.is(Kind::NotFound) => Ok(()),
            other => other,
        }
    }

    async fn fill(self: &Arc<Self>, row: &VolumeRow, state: &mut Create) -> Result<Next<CreateStep>> {
        let name = state.backend.clone().ok_or_else(|| Error::internal("a volume was not placed"))?;
        let backend = self.backend(&name)?;
        if state.copying {
            backend.pool.remove(&row.disk).await?;
        }
        let clone = match &state.source {
            Source::Nothing => {
                unless_there(backend.pool.create(&row.disk, row.size_bytes()).await)?;
                self.limit_new(row, backend).await?;
                return Ok(Next::Go(CreateStep::Finish));
            }
            Source::Image { id } => self.clone_image(backend, row, id).await?,
            Source::Disk { backend: from, disk, snapshot, size_gib, .. } => {
                let at = self.backend(from)?.pool.location(disk, snapshot);
                let length = size_gib.saturating_mul(umbel_core::GIB);
                self.clone_disk(backend, &at, Some(length), row).await?.ok().map(|()| at)
            }
        };
        match clone {
            Some(at) => state.deep = self.depth(backend, at).await? > self.config.max_clone_depth,
            None if !state.copying => {
                state.copying = true;
                return Ok(Next::Go(CreateStep::Fill));
            }
            None if !self.copy(&state.source, backend, row).await? => return Ok(Next::Wait(BUSY)),
            None => {}
        }
        self.limit_new(row, backend).await?;
        Ok(Next::Go(if state.source.is_made() { CreateStep::Thaw } else { CreateStep::Finish }))
    }

    /// False: too many copies run already.
    async fn copy(self: &Arc<Self>, source: &Source, backend: &Backend, row: &VolumeRow) -> Result<bool> {
        match source {
            Source::Nothing => Ok(true),
            Source::Image { id } => self.copy_image(backend, row, id).await,
            Source::Disk { backend: from, disk, snapshot, size_gib, .. } => {
                let length = size_gib.saturating_mul(umbel_core::GIB);
                self.copy_from(self.backend(from)?, (disk, snapshot, length), backend, row).await
            }
        }
    }

    /// The reason if the backend's pool cannot make clones of what is there. It is asked only if it did not: each look at
    /// a parent costs Ceph about as much as a quarter of the clone. `length`: bytes of what is there, where that is known.
    async fn clone_disk(
        &self,
        backend: &Backend,
        at: &Location,
        length: Option<u64>,
        row: &VolumeRow,
    ) -> Result<Result<(), String>> {
        let pool = &backend.pool;
        match pool.clone_disk(at, &row.disk, row.size_bytes()).await {
            // It is as large as was asked for.
            Ok(()) if length.is_some_and(|length| length <= row.size_bytes()) => return Ok(Ok(())),
            Ok(()) => {}
            // Made by an earlier attempt, which may have ended before it was grown.
            Err(error) if error.is(Kind::Conflict) => {}
            Err(error) if error.is(Kind::Timeout) => return Err(error),
            Err(error) => match pool.can_clone(at).await {
                Err(reason) => return Ok(Err(reason)),
                Ok(()) => return Err(error),
            },
        }
        let size = pool.stat(&row.disk).await?.map_or(0, |info| info.size);
        if size > row.size_bytes() {
            return Err(too_big(size, row.size_gib));
        }
        if size < row.size_bytes() {
            pool.resize(&row.disk, row.size_bytes()).await?;
        }
        Ok(Ok(()))
    }

    /// From one pool into another. False: too many copies run already.
    async fn copy_from(
        self: &Arc<Self>,
        from: &Backend,
        (disk, snapshot, length): (&str, &str, u64),
        to: &Backend,
        row: &VolumeRow,
    ) -> Result<bool> {
        let Ok(_turn) = self.copying.try_acquire() else { return Ok(false) };
        to.pool.remove(&row.disk).await?;
        let data = from.pool.read(disk, Some(snapshot), 0, length).await?;
        let meter = Meter::start(self, row.id, length);
        let options = WriteOptions { size: Some(length), min_size: row.size_bytes(), progress: meter.progress() };
        to.pool.write(&row.disk, data, options).await?;
        Ok(true)
    }

    /// What the disk is a clone of now; none if the image must be copied.
    pub(super) async fn clone_image(
        &self,
        backend: &Backend,
        row: &VolumeRow,
        image: &str,
    ) -> Result<Option<Location>> {
        let view = self.images.show(None, image).await?;
        let format = view.disk_format.unwrap_or_default();
        // Of the bytes as a guest sees them.
        let length = if format == "raw" { view.size } else { view.virtual_size };
        // As that of a server that boots from a volume, which is in its properties. Ceph makes no clone of no bytes.
        if length == Some(0) {
            return Ok(None);
        }
        for at in self.raw_data(image, &format).await {
            match self.clone_disk(backend, &at, length, row).await {
                Ok(Ok(())) => return Ok(Some(at)),
                Ok(Err(reason)) => tracing::debug!(volume = %row.id, image, "an image is not cloned: {reason}"),
                // The image's data moved under our hands; there is still the other way.
                Err(error) if error.is(Kind::NotFound) => {
                    tracing::info!(volume = %row.id, image, cause = error.cause(), "an image is copied: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// False: too many copies run already.
    pub(super) async fn copy_image(self: &Arc<Self>, backend: &Backend, row: &VolumeRow, image: &str) -> Result<bool> {
        let Ok(_turn) = self.copying.try_acquire() else { return Ok(false) };
        let view = self.images.show(None, image).await?;
        let now = self.clock.now();
        tx!(self.db, "begin a download", |tx| {
            let row = held(tx, row.id).await?;
            match row.status {
                VolumeStatus::Creating => volumes::set_status(tx, &row, VolumeStatus::Downloading, now).await.map(drop),
                _ => Ok(()),
            }
        })?;
        self.download(backend, row, &view).await?;
        Ok(true)
    }

    /// Where raw snapshots of the image's data are. Some pools can make clones of some of them.
    pub(crate) async fn raw_data(&self, image: &str, format: &str) -> Vec<Location> {
        let locations = match self.images.locations(image).await {
            Ok(locations) => locations,
            Err(error) => {
                tracing::info!(image, cause = error.cause(), "an image's locations are not known: {error}");
                return Vec::new();
            }
        };
        let raw = locations.iter().filter(|location| location.is_raw(format));
        raw.filter_map(|location| location.url.parse().ok()).collect()
    }

    async fn download(
        self: &Arc<Self>,
        backend: &Backend,
        row: &VolumeRow,
        image: &umbel_client::ImageView,
    ) -> Result<()> {
        let format = image.disk_format.as_deref().unwrap_or_default();
        let pool = &backend.pool;
        pool.remove(&row.disk).await?;
        let meter = Meter::start(self, row.id, image.size.unwrap_or(row.size_bytes()));
        let data = self.images.download(&image.id).await?;
        // Since the look at the image its data may have been replaced by its raw twin.
        let found = data.disk_format.as_deref().unwrap_or(format);
        // Those of Amazon's are file systems and kernels, which upstream takes as they are too.
        if matches!(found, "raw" | "iso" | "ami" | "aki" | "ari") {
            let size = image.size.filter(|_| found == format);
            let options = WriteOptions { size, min_size: row.size_bytes(), progress: meter.progress() };
            let size = pool.write(&row.disk, data.bytes, options).await?;
            return if size > row.size_bytes() { Err(too_big(size, row.size_gib)) } else { Ok(()) };
        }
        super::convert::write(backend, row, &scratch(row.id), found, data.bytes, &meter).await
    }

    async fn finish_creation(&self, state: &Create, run: &Run) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "finish a volume's creation", |tx| {
            finish(tx, run).await?;
            let row = held(tx, state.volume).await?;
            let mut after = row.clone();
            (after.error, after.progress) = (None, None);
            if matches!(row.status, VolumeStatus::Creating | VolumeStatus::Downloading) {
                after.status = VolumeStatus::Available;
            }
            after.launched_at = Some(now);
            volumes::update(tx, &row, &after, now).await?;
            match state.deep {
                true => start::<FlattenFlow>(tx, row.id, super::flatten::Only, &row.id, "", now).await,
                false => Ok(()),
            }
        })?;
        if state.deep {
            self.nudge();
        }
        Ok(())
    }

    /// How many clones stand upon each other, a new one of what is there included.
    async fn depth(&self, backend: &Backend, at: Location) -> Result<u32> {
        let (mut depth, mut at) = (1, at);
        // What images in other pools stand on is theirs to keep short.
        while depth <= self.config.max_clone_depth && backend.pool.location(&at.disk, &at.snapshot) == at {
            match backend.pool.stat(&at.disk).await?.and_then(|info| info.parent) {
                Some(parent) => at = parent,
                None => break,
            }
            depth += 1;
        }
        Ok(depth)
    }
}

/// A disk of the volume's own name that is there is this flow's.
fn unless_there(made: Result<()>) -> Result<()> {
    match made {
        Err(error) if error.is(Kind::Conflict) => Ok(()),
        other => other,
    }
}

/// The image is larger than the volume, which shows only once its header is read.
pub(super) fn too_big(bytes: u64, size_gib: u64) -> Error {
    let image = umbel_core::bytes_to_gib_ceil(bytes);
    let message = format!("Image virtual size is {image}GB and doesn't fit in a volume of size {size_gib}GB.");
    Error::new(Kind::TooLarge, message)
}
