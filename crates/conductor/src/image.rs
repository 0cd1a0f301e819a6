//! The flow that makes an image of a server's root disk.
//!
//! The host's agent makes a snapshot; the image service clones it where it lies, and the image is active at once; the
//! snapshot goes. Only where the image service cannot clone from that pool, the host sends the bytes. The server's task
//! ends as soon as the image service has the image, and the snapshot is removed behind its owner's back.
//!
//! A failure takes the image with it and leaves the server as it was, with the reason in its action and its fault. A
//! server that is deleted meanwhile is not waited for: what the image service has by then is an image.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_bus::{Task as AgentTask, TaskReply};
use umbel_compute::flows::{self, Rotation, ServerImage as State};
use umbel_compute::model::Task;
use umbel_compute::{Cell, Who};
use umbel_core::{Error, Kind, Result};
use umbel_workflow::{Flow, Next, Run, Step};

use crate::CellConductor;
use crate::imaging::Imaging;
use crate::volumes::{gone_is_good, is_refusal};

/// Between two looks for what takes its time.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a step waits for its agent at once; asked again, it finds its work under way.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(60);
const EXPORT_WAIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageStep {
    Name,
    Snapshot,
    Publish,
    Export,
    Finish,
    Tidy,
}

impl Step for ImageStep {
    const ALL: &'static [Self] = &[
        ImageStep::Name,
        ImageStep::Snapshot,
        ImageStep::Publish,
        ImageStep::Export,
        ImageStep::Finish,
        ImageStep::Tidy,
    ];

    fn name(self) -> &'static str {
        match self {
            ImageStep::Name => flows::SERVER_IMAGE_FIRST,
            ImageStep::Snapshot => "snapshot",
            ImageStep::Publish => "publish",
            ImageStep::Export => "export",
            ImageStep::Finish => "finish",
            ImageStep::Tidy => "tidy",
        }
    }
}

pub(crate) struct ServerImage(pub Arc<CellConductor>);

#[async_trait]
impl Flow for ServerImage {
    type Schema = Cell;
    type State = State;
    type Step = ImageStep;
    const KIND: &'static str = flows::SERVER_IMAGE;
    const DEADLINE: Duration = flows::SERVER_IMAGE_DEADLINE;

    async fn run(&self, step: ImageStep, state: &mut State, run: &Run) -> Result<Next<ImageStep>> {
        match step {
            ImageStep::Name => self.imaging(state).named(run, ImageStep::Snapshot).await,
            ImageStep::Snapshot => self.snapshot(state).await,
            ImageStep::Publish => self.publish(state, run).await,
            ImageStep::Export => self.export(state).await,
            ImageStep::Finish => self.finish(state, run).await,
            ImageStep::Tidy => self.tidy(state).await.map(|()| Next::Done),
        }
    }

    async fn undo(&self, step: ImageStep, state: &mut State, _: &Run) -> Result<()> {
        match step {
            ImageStep::Tidy | ImageStep::Finish | ImageStep::Export | ImageStep::Publish => Ok(()),
            ImageStep::Snapshot => self.tidy(state).await,
            ImageStep::Name if state.published => Ok(()),
            ImageStep::Name => self.imaging(state).drop_image().await,
        }
    }

    async fn failed(&self, state: &mut State, error: &Error, run: &Run) -> Result<()> {
        self.imaging(state).end(run, Some(error).filter(|_| !state.published)).await
    }
}

impl ServerImage {
    async fn snapshot(&self, state: &mut State) -> Result<Next<ImageStep>> {
        let task = AgentTask::Snapshot {
            server_id: state.server_id.uuid(),
            disks: vec![state.disk.clone()],
            snapshot: state.snapshot(),
            quiesce: state.quiesce,
        };
        match self.0.agents.task(&state.host, task, SNAPSHOT_WAIT).await? {
            TaskReply::Snapshot(made) => state.location = made.into_iter().next().map(|made| made.location),
            _ => return Err(other_answer()),
        }
        Ok(Next::Go(ImageStep::Publish))
    }

    async fn publish(&self, state: &mut State, run: &Run) -> Result<Next<ImageStep>> {
        let location = state.location.as_deref().ok_or_else(other_answer)?;
        self.imaging(state).show(Task::ImageUploading, run).await?;
        match self.0.images.add_location(&state.image_id, location).await {
            Ok(()) => {}
            Err(error) if is_refusal(&error) => {
                match self.0.images.state(&state.image_id).await?.status.as_str() {
                    // Of a try whose answer was lost.
                    "active" => {}
                    "saving" => return Ok(Next::Wait(PAUSE)),
                    _ => {
                        tracing::info!(image = state.image_id, cause = error.message(), "an image's bytes are sent");
                        return Ok(Next::Go(ImageStep::Export));
                    }
                }
            }
            Err(error) => return Err(error),
        }
        state.published = true;
        Ok(Next::Go(ImageStep::Finish))
    }

    async fn export(&self, state: &mut State) -> Result<Next<ImageStep>> {
        let task = AgentTask::Export {
            server_id: state.server_id.uuid(),
            disk: state.disk.clone(),
            snapshot: state.snapshot(),
            image_id: state.image_id.clone(),
        };
        match self.0.agents.task(&state.host, task, EXPORT_WAIT).await {
            Ok(TaskReply::Done) => {
                state.published = true;
                Ok(Next::Go(ImageStep::Finish))
            }
            Ok(_) => Err(other_answer()),
            Err(error) if error.is(Kind::Timeout) => Ok(Next::Wait(PAUSE)),
            Err(error) => Err(error),
        }
    }

    async fn finish(&self, state: &State, run: &Run) -> Result<Next<ImageStep>> {
        // A step before, whose end was lost, has done it if the server is free: a later backup may keep others since.
        if let Some(rotation) = &state.rotation
            && self.imaging(state).is_under_way(run).await?
        {
            self.rotate(state, rotation).await;
        }
        self.imaging(state).end(run, None).await?;
        Ok(Next::Go(ImageStep::Tidy))
    }

    /// A snapshot or a disk that is gone is none.
    async fn tidy(&self, state: &State) -> Result<()> {
        let task = AgentTask::RemoveSnapshot {
            server_id: state.server_id.uuid(),
            disks: vec![state.disk.clone()],
            snapshot: state.snapshot(),
        };
        gone_is_good(self.0.agents.task(&state.host, task, SNAPSHOT_WAIT).await.map(drop))
    }

    /// Deletes the oldest backups of the same type beyond the number that is kept. Those that cannot be deleted stay, as
    /// upstream has it: the next backup tries again.
    async fn rotate(&self, state: &State, rotation: &Rotation) {
        let server = state.server_id.to_string();
        let having =
            [("image_type", "backup"), ("backup_type", rotation.backup_type.as_str()), ("instance_uuid", &server)];
        let backups = match self.0.images.find(Who::For(&state.behalf), &having).await {
            Ok(backups) => backups,
            Err(error) => {
                tracing::warn!(%server, cause = error.cause(), "old backups are kept: {error}");
                return;
            }
        };
        for old in backups.into_iter().skip(rotation.keep) {
            if let Err(error) = gone_is_good(self.0.images.delete(Who::For(&state.behalf), &old.id).await) {
                tracing::warn!(%server, image = old.id, cause = error.cause(), "an old backup is kept: {error}");
            }
        }
    }

    fn imaging<'a>(&'a self, state: &'a State) -> Imaging<'a> {
        let event = if state.is_backup() { "compute_backup_instance" } else { "compute_snapshot_instance" };
        let (server, image, behalf) = (state.server_id, &state.image_id, &state.behalf);
        Imaging { conductor: &self.0, server, image, behalf, event }
    }
}

pub(crate) fn other_answer() -> Error {
    Error::internal("a host answered another question")
}
