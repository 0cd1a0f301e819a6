//! The flow that takes a volume from a server that is there.
//!
//! The volume service is told first, so that nobody else uses the volume meanwhile; then the volume is no part any more
//! of what should be; when the agent has said that the guest has let go, the attachment ends. A guest that does not let
//! go keeps it, and the volume service is told that too.
//!
//! It may be asked for as soon as the volume says that it is in use, which is before the flow that brings it has noted the
//! same. It waits for that here rather than in the request, where a crash of that flow's process would fail it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_compute::model::{BlockDevice, Phase, State, plug_again, unplug};
use umbel_compute::store::servers;
use umbel_compute::{Cell, Who, flows};
use umbel_core::{Error, Kind, Result};
use umbel_db::tx;
use umbel_workflow::{Flow, Next, Run, Step, finish};

use crate::CellConductor;
use crate::attach::{Settled, close};
use crate::cell::{must, one, unwanted};
use crate::volumes;

/// How soon a step looks again whose agent takes long.
const PAUSE: Duration = Duration::from_millis(200);

const EVENT: &str = "compute_detach_volume";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetachStep {
    Begin,
    Unplug,
    Release,
}

impl Step for DetachStep {
    const ALL: &'static [Self] = &[DetachStep::Begin, DetachStep::Unplug, DetachStep::Release];

    fn name(self) -> &'static str {
        match self {
            DetachStep::Begin => flows::VOLUME_DETACH_FIRST,
            DetachStep::Unplug => "unplug",
            DetachStep::Release => "release",
        }
    }
}

pub(crate) struct VolumeDetach(pub Arc<CellConductor>);

#[async_trait]
impl Flow for VolumeDetach {
    type Schema = Cell;
    type State = flows::VolumeChange;
    type Step = DetachStep;
    const KIND: &'static str = flows::VOLUME_DETACH;
    const DEADLINE: Duration = flows::VOLUME_DEADLINE;

    async fn run(&self, step: DetachStep, state: &mut Self::State, run: &Run) -> Result<Next<DetachStep>> {
        let Some((_, device)) = self.0.device(state).await? else {
            return self.gone(state, run).await;
        };
        match step {
            // Its volume is in use, and the flow that brought it has yet to note that.
            DetachStep::Begin if device.is_arriving() => match self.0.has_arrived(state).await? {
                true => Ok(Next::Through(DetachStep::Begin)),
                false => Ok(Next::Wait(PAUSE)),
            },
            DetachStep::Begin => self.begin(&device).await,
            DetachStep::Unplug => self.unplug(state, &device, run).await,
            DetachStep::Release => self.release(state, &device, run).await,
        }
    }

    async fn undo(&self, step: DetachStep, state: &mut Self::State, run: &Run) -> Result<()> {
        let Some((_, device)) = self.0.device(state).await? else {
            return Ok(());
        };
        match step {
            DetachStep::Release => Ok(()),
            DetachStep::Unplug if device.phase == Phase::Detaching => self.change(state, run, Change::PlugAgain).await,
            DetachStep::Unplug => Ok(()),
            DetachStep::Begin if device.is_arriving() => Ok(()),
            DetachStep::Begin => self.roll_back(&device).await,
        }
    }

    async fn failed(&self, state: &mut Self::State, error: &Error, run: &Run) -> Result<()> {
        let id = state.server_id;
        let now = self.0.clock.now();
        tx!(self.0.cell.db, "detach failed", |tx| {
            finish(tx, run).await?;
            match one(tx, id).await? {
                Some(server) => close(tx, &server, EVENT, (run, now), Some(error.message())).await,
                None => Ok(()),
            }
        })
    }
}

#[derive(Clone, Copy)]
enum Change {
    Unplug,
    PlugAgain,
}

impl VolumeDetach {
    /// It went with its server, or never came.
    async fn gone(&self, state: &flows::VolumeChange, run: &Run) -> Result<Next<DetachStep>> {
        let (id, now) = (state.server_id, self.0.clock.now());
        tx!(self.0.cell.db, "a detached volume is gone", |tx| {
            finish(tx, run).await?;
            match one(tx, id).await? {
                Some(server) => close(tx, &server, EVENT, (run, now), None).await,
                None => Ok(()),
            }
        })?;
        Ok(Next::Done)
    }

    async fn begin(&self, device: &BlockDevice) -> Result<Next<DetachStep>> {
        let Some(volume) = device.volume_id.map(|id| id.to_string()) else {
            return Err(Error::internal("a volume that was never made is detached"));
        };
        match volumes::gone_is_good(self.0.volumes.begin_detaching(&volume).await) {
            // Of a step that ran before.
            Err(error) if volumes::is_refusal(&error) => {
                match self.0.volumes.show(Who::Compute, &volume).await?.status.as_str() {
                    "detaching" => {}
                    _ => return Err(error),
                }
            }
            begun => begun?,
        }
        Ok(Next::Go(DetachStep::Unplug))
    }

    async fn roll_back(&self, device: &BlockDevice) -> Result<()> {
        let Some(volume) = device.volume_id.map(|id| id.to_string()) else {
            return Ok(());
        };
        match volumes::gone_is_good(self.0.volumes.roll_detaching(&volume).await) {
            // It never began.
            Err(error) if volumes::is_refusal(&error) => Ok(()),
            rolled => rolled,
        }
    }

    async fn unplug(&self, state: &flows::VolumeChange, device: &BlockDevice, run: &Run) -> Result<Next<DetachStep>> {
        if device.phase == Phase::Attached {
            self.change(state, run, Change::Unplug).await?;
        }
        match self.0.settled(state).await? {
            Settled::AsWanted => Ok(Next::Go(DetachStep::Release)),
            Settled::Fault(fault) => Err(Error::new(Kind::Internal, fault)),
            Settled::Gone => Ok(Next::Done),
            Settled::NotYet => Ok(Next::Wait(PAUSE)),
        }
    }

    async fn change(&self, state: &flows::VolumeChange, run: &Run, change: Change) -> Result<()> {
        let (id, device) = (state.server_id, state.device);
        let now = self.0.clock.now();
        tx!(self.0.cell.db, "change volume", |tx| {
            let mut server = must(tx, id).await?;
            if unwanted(&server) || server.block_device(device).is_none() {
                return Ok(());
            }
            let changed: Result<State> = match change {
                Change::Unplug => unplug(&server, device, &run.request_id, now),
                Change::PlugAgain => plug_again(&server, device, &run.request_id, now),
            };
            server.state = changed?;
            servers::update(tx, &mut server).await
        })?;
        self.0.changed(id).await
    }

    async fn release(&self, state: &flows::VolumeChange, device: &BlockDevice, run: &Run) -> Result<Next<DetachStep>> {
        if let Some(attachment) = &device.attachment_id {
            volumes::release(&*self.0.volumes, attachment).await?;
        }
        let (id, device) = (state.server_id, state.device);
        let now = self.0.clock.now();
        tx!(self.0.cell.db, "volume is detached", |tx| {
            finish(tx, run).await?;
            let mut server = must(tx, id).await?;
            if unwanted(&server) {
                return Ok(());
            }
            server.state.volumes.retain(|known| known.id != device);
            servers::update_volumes(tx, &mut server).await?;
            close(tx, &server, EVENT, (run, now), None).await
        })?;
        Ok(Next::Done)
    }
}
