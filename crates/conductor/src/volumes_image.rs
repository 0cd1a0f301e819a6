//! The flow that makes an image of a server's volumes: an image without bytes, that lists their snapshots.
//!
//! The host's agent has the guest hold its file systems; the volume service makes all snapshots, at one point in time in
//! each pool; the guest goes on. The ids of the snapshots are drawn and noted before any is made. A try that breaks off
//! in between cannot tell whether the guest was held when they were made, so its snapshots are thrown away and others
//! drawn.
//!
//! A failure takes the image and the snapshots with it. A server that is deleted meanwhile is not waited for: snapshots
//! outlive it, as do the volumes that have some.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_bus::{Task as AgentTask, TaskReply};
use umbel_client::{SnapshotOf, SnapshotTogether};
use umbel_compute::flows::{self, DrawnSnapshot, VolumesImage as State};
use umbel_compute::model::Task;
use umbel_compute::{Cell, Who, devices_of};
use umbel_core::{Error, Kind, Result};
use umbel_workflow::{Flow, Next, Run, Step};

use crate::CellConductor;
use crate::image::other_answer;
use crate::imaging::Imaging;
use crate::volumes::{gone_is_good, is_refusal};

/// Between two looks for what takes its time.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a guest is held for its snapshots. They take milliseconds; what takes longer is a service that is away.
const HOLD: Duration = Duration::from_secs(30);

/// For a host's answer. A guest with much to flush takes up to a minute.
const ANSWER: Duration = Duration::from_secs(70);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumesImageStep {
    Name,
    Draw,
    Snapshot,
    Wait,
    Publish,
    Finish,
}

impl Step for VolumesImageStep {
    const ALL: &'static [Self] = &[
        VolumesImageStep::Name,
        VolumesImageStep::Draw,
        VolumesImageStep::Snapshot,
        VolumesImageStep::Wait,
        VolumesImageStep::Publish,
        VolumesImageStep::Finish,
    ];

    fn name(self) -> &'static str {
        match self {
            VolumesImageStep::Name => flows::VOLUMES_IMAGE_FIRST,
            VolumesImageStep::Draw => "draw",
            VolumesImageStep::Snapshot => "snapshot",
            VolumesImageStep::Wait => "wait",
            VolumesImageStep::Publish => "publish",
            VolumesImageStep::Finish => "finish",
        }
    }
}

pub(crate) struct VolumesImage(pub Arc<CellConductor>);

#[async_trait]
impl Flow for VolumesImage {
    type Schema = Cell;
    type State = State;
    type Step = VolumesImageStep;
    const KIND: &'static str = flows::VOLUMES_IMAGE;
    const DEADLINE: Duration = flows::VOLUMES_IMAGE_DEADLINE;

    async fn run(&self, step: VolumesImageStep, state: &mut State, run: &Run) -> Result<Next<VolumesImageStep>> {
        match step {
            VolumesImageStep::Name => self.imaging(state).named(run, VolumesImageStep::Draw).await,
            VolumesImageStep::Draw => self.draw(state).await,
            VolumesImageStep::Snapshot => self.snapshot(state).await,
            VolumesImageStep::Wait => self.wait(state).await,
            VolumesImageStep::Publish => self.publish(state, run).await,
            VolumesImageStep::Finish => {
                self.imaging(state).end(run, None).await?;
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: VolumesImageStep, state: &mut State, _: &Run) -> Result<()> {
        match step {
            _ if state.published => Ok(()),
            VolumesImageStep::Name => self.imaging(state).drop_image().await,
            VolumesImageStep::Snapshot => {
                // The host lets it go by itself too, but not before its time.
                if let Err(error) = self.thaw(state).await {
                    tracing::debug!(server = %state.server_id, cause = error.cause(), "not thawed: {error}");
                }
                let drawn: Vec<String> = state.snapshots.iter().map(|drawn| drawn.id.clone()).collect();
                self.drop_snapshots(&drawn).await
            }
            VolumesImageStep::Draw => self.drop_snapshots(&state.stale).await,
            VolumesImageStep::Wait | VolumesImageStep::Publish | VolumesImageStep::Finish => Ok(()),
        }
    }

    async fn failed(&self, state: &mut State, error: &Error, run: &Run) -> Result<()> {
        self.imaging(state).end(run, Some(error).filter(|_| !state.published)).await
    }
}

impl VolumesImage {
    fn imaging<'a>(&'a self, state: &'a State) -> Imaging<'a> {
        let (server, image, behalf) = (state.server_id, &state.image_id, &state.behalf);
        Imaging { conductor: &self.0, server, image, behalf, event: "api_snapshot_instance" }
    }

    /// Names snapshots that are not there yet, and throws away those of a try that broke off.
    async fn draw(&self, state: &mut State) -> Result<Next<VolumesImageStep>> {
        if !state.snapshots.is_empty() {
            // They are noted as thrown away before others are drawn.
            state.stale.extend(state.snapshots.drain(..).map(|drawn| drawn.id));
            return Ok(Next::Go(VolumesImageStep::Draw));
        }
        self.drop_snapshots(&state.stale).await?;
        state.stale.clear();
        let server = self.imaging(state).read().await?;
        let server = server.ok_or_else(|| Error::conflict("The server is to have no image any more."))?;
        let devices = server.state.volumes.iter().filter(|device| device.volume_id.is_some());
        let id = || self.0.rng.uuid().to_string();
        state.snapshots =
            devices.map(|device| DrawnSnapshot { id: id(), device: device.clone(), size_gib: 0 }).collect();
        Ok(Next::Go(VolumesImageStep::Snapshot))
    }

    async fn snapshot(&self, state: &mut State) -> Result<Next<VolumesImageStep>> {
        for drawn in &state.snapshots {
            match self.0.volumes.show_snapshot(Who::Compute, &drawn.id).await {
                Ok(_) => return Ok(Next::Go(VolumesImageStep::Draw)),
                Err(error) if error.is(Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let held = self.freeze(state).await?;
        let made = self.make(state).await;
        let thawed = match held {
            true => self.thaw(state).await,
            false => Ok(false),
        };
        made?;
        match thawed {
            Ok(true) => Ok(Next::Go(VolumesImageStep::Wait)),
            _ if !state.quiesce => Ok(Next::Go(VolumesImageStep::Wait)),
            Ok(false) => Err(Error::conflict("The guest was not held for as long as its snapshots took.")),
            Err(error) => Err(error),
        }
    }

    /// All snapshots, and until they are made or the guest has been held for long enough.
    async fn make(&self, state: &mut State) -> Result<()> {
        let of = |drawn: &DrawnSnapshot| {
            let volume_id = drawn.device.volume_id.map(|id| id.to_string()).unwrap_or_default();
            SnapshotOf { id: drawn.id.clone(), volume_id }
        };
        let request = SnapshotTogether {
            user_id: state.behalf.user_id.clone(),
            name: format!("snapshot for {}", state.name).chars().take(255).collect(),
            snapshots: state.snapshots.iter().map(of).collect(),
        };
        for made in self.0.volumes.snapshot_together(&request).await? {
            if let Some(drawn) = state.snapshots.iter_mut().find(|drawn| drawn.id == made.id) {
                drawn.size_gib = made.size;
            }
        }
        let waiting = async {
            while !self.are_made(state).await? {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        match tokio::time::timeout(HOLD, waiting).await {
            Ok(made) => made,
            Err(_) if state.quiesce => {
                Err(Error::conflict("The snapshots of the volumes took longer than a guest may be held."))
            }
            Err(_) => Ok(()),
        }
    }

    async fn are_made(&self, state: &State) -> Result<bool> {
        let mut all = true;
        for drawn in &state.snapshots {
            match self.0.volumes.show_snapshot(Who::Compute, &drawn.id).await?.status.as_str() {
                "available" => {}
                status if status.starts_with("error") => {
                    let volume = drawn.device.volume_id.map(|id| id.to_string()).unwrap_or_default();
                    return Err(Error::new(Kind::Internal, format!("A snapshot of volume {volume} failed.")));
                }
                _ => all = false,
            }
        }
        Ok(all)
    }

    async fn wait(&self, state: &State) -> Result<Next<VolumesImageStep>> {
        Ok(match self.are_made(state).await? {
            true => Next::Go(VolumesImageStep::Publish),
            false => Next::Wait(PAUSE),
        })
    }

    async fn publish(&self, state: &mut State, run: &Run) -> Result<Next<VolumesImageStep>> {
        self.imaging(state).show(Task::ImageUploading, run).await?;
        let image = self.0.images.state(&state.image_id).await?;
        // Of a try whose answer was lost.
        if image.status != "active" {
            let behalf = Who::For(&state.behalf);
            let properties = devices_of(&state.snapshots, &state.blanks)?;
            self.0.images.set_properties(behalf, &state.image_id, &properties).await?;
            self.0.images.complete_empty(behalf, &state.image_id).await?;
        }
        state.published = true;
        Ok(Next::Go(VolumesImageStep::Finish))
    }

    /// Whether the guest is held. A host that does not answer holds nobody, which is good enough where the image does
    /// not say otherwise.
    async fn freeze(&self, state: &State) -> Result<bool> {
        let Some(host) = &state.host else {
            return Ok(false);
        };
        let limit_ms = u64::try_from((HOLD * 2).as_millis()).unwrap_or(u64::MAX);
        let task = AgentTask::Freeze { server_id: state.server_id.uuid(), limit_ms, required: state.quiesce };
        match self.0.agents.task(host, task, ANSWER).await {
            Ok(TaskReply::Held(held)) => Ok(held),
            Ok(_) => Err(other_answer()),
            Err(error) if !state.quiesce => {
                tracing::debug!(server = %state.server_id, cause = error.cause(), "not quiesced: {error}");
                // It may have begun.
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it was held until now.
    async fn thaw(&self, state: &State) -> Result<bool> {
        let Some(host) = &state.host else {
            return Ok(false);
        };
        let task = AgentTask::Thaw { server_id: state.server_id.uuid() };
        match self.0.agents.task(host, task, ANSWER).await? {
            TaskReply::Held(held) => Ok(held),
            _ => Err(other_answer()),
        }
    }

    /// One that is being made still is waited for.
    async fn drop_snapshots(&self, ids: &[String]) -> Result<()> {
        for id in ids {
            match gone_is_good(self.0.volumes.delete_snapshot(Who::Compute, id).await) {
                Err(error) if is_refusal(&error) => {
                    return Err(
                        Error::unavailable("A snapshot for no image cannot be deleted yet.").because(error.for_log())
                    );
                }
                dropped => dropped?,
            }
        }
        Ok(())
    }
}
