//! A volume's bytes on their way to the image service.
//!
//! Inside a cluster nothing is copied: the image service makes its image a clone of a snapshot of the volume, and the
//! snapshot goes when it has. Everything else is streamed from the same snapshot, so a volume that a server writes to
//! gives one point in time too.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_core::{Error, Id, Kind, Result};
use umbel_db::tx;
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use super::create::BUSY;
use crate::Volumes;
use crate::blocks::{Blocks, Kind as BlockKind};
use crate::model::{VolumeId, VolumeStatus};
use crate::qcow2::Layout;
use crate::service::attachments::rest_status;
use crate::service::messages;
use crate::store::{Volume, volumes};

/// How long until it is looked again whether an upload that broke off has been given up by the image service.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadStep {
    /// Makes the snapshot.
    Freeze,
    /// Brings its bytes to the image.
    Send,
    /// Removes the snapshot.
    Thaw,
    Finish,
}

impl Step for UploadStep {
    const ALL: &'static [Self] = &[UploadStep::Freeze, UploadStep::Send, UploadStep::Thaw, UploadStep::Finish];

    fn name(self) -> &'static str {
        match self {
            UploadStep::Freeze => "freeze",
            UploadStep::Send => "send",
            UploadStep::Thaw => "thaw",
            UploadStep::Finish => "finish",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub volume: VolumeId,
    /// Queued, made by the request in its user's name.
    pub image: String,
    pub format: UploadFormat,
    pub backend: String,
    pub disk: String,
}

/// What a volume can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UploadFormat {
    Raw,
    Qcow2,
    Vmdk,
    Vdi,
    Vhd,
}

impl Upload {
    fn snapshot(&self) -> String {
        format!("upload-{}", self.image)
    }
}

pub(crate) struct UploadFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(UploadFlow(state.clone()))
}

#[async_trait]
impl Flow for UploadFlow {
    type Schema = Volume;
    type State = Upload;
    type Step = UploadStep;

    const KIND: &'static str = "volume_upload";

    /// Terabytes over a slow line.
    const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

    async fn run(&self, step: UploadStep, state: &mut Upload, run: &Run) -> Result<Next<UploadStep>> {
        match step {
            UploadStep::Freeze => {
                self.0.backend(&state.backend)?.pool.snapshot(&state.disk, &state.snapshot()).await?;
                Ok(Next::Go(UploadStep::Send))
            }
            UploadStep::Send => self.0.send(state).await,
            UploadStep::Thaw => {
                self.0.thaw_upload(state).await?;
                Ok(Next::Go(UploadStep::Finish))
            }
            UploadStep::Finish => {
                self.0.end_upload(state.volume, None, run).await?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: UploadStep, state: &mut Upload, _: &Run) -> Result<()> {
        match step {
            UploadStep::Freeze | UploadStep::Thaw => self.0.thaw_upload(state).await,
            UploadStep::Send | UploadStep::Finish => Ok(()),
        }
    }

    async fn failed(&self, state: &mut Upload, error: &Error, run: &Run) -> Result<()> {
        let volumes = &self.0;
        match volumes.images.delete(&state.image).await {
            Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Gone) => return Err(error),
            _ => {}
        }
        volumes.end_upload(state.volume, Some(error), run).await
    }
}

impl Volumes {
    /// The volume is again what its attachments make it. The reason of a failure is told to its owner.
    async fn end_upload(&self, id: VolumeId, failure: Option<&Error>, run: &Run) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "end an upload", |tx| {
            finish(tx, run).await?;
            let Some(row) = volumes::lock_any(tx, id).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            // Else an administrator set it.
            if row.status == VolumeStatus::Uploading {
                let mut after = row.clone();
                after.status = rest_status(tx, id).await?;
                (after.previous_status, after.progress) = (None, None);
                volumes::update(tx, &row, &after, now).await?;
            }
            let Some(error) = failure else { return Ok(()) };
            let what = (messages::VOLUME_TO_IMAGE, messages::UPLOAD);
            crate::service::tell(tx, self, &row, what, (error, &run.request_id)).await
        })
    }

    async fn send(&self, state: &Upload) -> Result<Next<UploadStep>> {
        let image = self.images.show(None, &state.image).await?;
        match image.status.as_str() {
            "active" => return Ok(Next::Go(UploadStep::Thaw)),
            "queued" => {}
            // An upload that a process of ours did not live to end: its claim runs out.
            "saving" => return Ok(Next::Wait(PAUSE)),
            other => return Err(Error::conflict(format!("Image {} is {other}.", state.image))),
        }
        let backend = self.backend(&state.backend)?;
        if state.format == UploadFormat::Raw {
            let url = backend.pool.location(&state.disk, &state.snapshot()).to_string();
            match self.images.add_location(&state.image, &url).await {
                Ok(()) => return Ok(Next::Go(UploadStep::Thaw)),
                // The image service has no store that can clone from there, or takes no locations at all.
                Err(error) if matches!(error.kind(), Kind::BadRequest | Kind::NotFound | Kind::Forbidden) => {
                    tracing::info!(volume = %state.volume, image = state.image, "a volume is uploaded: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        let Ok(_turn) = self.copying.try_acquire() else { return Ok(Next::Wait(BUSY)) };
        let snapshot = state.snapshot();
        let (pool, disk) = (&backend.pool, &state.disk);
        // The volume may have grown since.
        let size = pool.snapshot_size(disk, &snapshot).await?;
        let blocks = async |kind| {
            let stored = pool.diff(disk, None, Some(&snapshot)).await?;
            let id = state.image.parse::<Id<()>>().map_or(0, |id| id.uuid().as_u128());
            Ok(Blocks::new(kind, size, &stored, id)?.stream(pool.clone(), disk, &snapshot))
        };
        let (length, data) = match state.format {
            UploadFormat::Raw => (size, pool.read(disk, Some(&snapshot), 0, size).await?),
            UploadFormat::Qcow2 => {
                let layout = Layout::new(size, &pool.diff(disk, None, Some(&snapshot)).await?);
                (layout.length(), layout.stream(pool.clone(), disk, &snapshot))
            }
            UploadFormat::Vmdk => blocks(BlockKind::Vmdk).await?,
            UploadFormat::Vdi => blocks(BlockKind::Vdi).await?,
            UploadFormat::Vhd => blocks(BlockKind::Vhd).await?,
        };
        self.images.upload(&state.image, Some(length), data).await?;
        Ok(Next::Go(UploadStep::Thaw))
    }

    async fn thaw_upload(&self, state: &Upload) -> Result<()> {
        match self.backend(&state.backend)?.pool.remove_snapshot(&state.disk, &state.snapshot()).await {
            Err(error) if error.is(Kind::NotFound) => Ok(()),
            other => other,
        }
    }
}
