//! The flow that brings a server's volume to another disk, with the bytes and the guest: to that of another volume, which
//! takes its place, or to its own in another pool, where the volume service moves it.
//!
//! Both places are part of what should be from the beginning, so that a guest that is started anew meanwhile is started
//! where its volume is. The host does the work, and says when the guest has gone over; from there on nothing is taken
//! back. Before, all is: the host is asked to stop, **and asked where the volume is**, for it may have gone over just then,
//! and what the guest has written since is there alone.
//!
//! For the same reason a server that is deleted meanwhile is left on its host until the host has said so.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_bus::{DiskRef, Move, Moved, Task, TaskReply};
use umbel_compute::flows::{self, NewVolume};
use umbel_compute::model::{BlockDevice, Connection, Life, Server, edit, end_move, move_to};
use umbel_compute::store::servers;
use umbel_compute::{Cell, Who};
use umbel_core::{Error, Kind, Result};
use umbel_db::{read, tx};
use umbel_workflow::{Flow, Next, Run, Step, finish};

use crate::CellConductor;
use crate::attach::close;
use crate::cell::{must, one, unwanted};
use crate::volumes;

/// Between two looks for what takes its time.
const PAUSE: Duration = Duration::from_millis(200);

/// Between two tries to reach a host that is away.
const AWAY: Duration = Duration::from_secs(2);

/// Agents answer within seconds.
const ANSWER: Duration = Duration::from_secs(20);

/// A copying that is to end waits for what it has sent to storage.
const STOP: Duration = Duration::from_secs(90);

const EVENT: &str = "compute_swap_volume";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapStep {
    /// Finds out where the volume is to go, and writes that down.
    Connect,
    Copy,
    /// The volume is there, for everybody.
    Commit,
    /// Lets the old one go.
    Release,
}

impl Step for SwapStep {
    const ALL: &'static [Self] = &[SwapStep::Connect, SwapStep::Copy, SwapStep::Commit, SwapStep::Release];

    fn name(self) -> &'static str {
        match self {
            SwapStep::Connect => flows::VOLUME_SWAP_FIRST,
            SwapStep::Copy => "copy",
            SwapStep::Commit => "commit",
            SwapStep::Release => "release",
        }
    }
}

pub(crate) struct VolumeSwap(pub Arc<CellConductor>);

#[async_trait]
impl Flow for VolumeSwap {
    type Schema = Cell;
    type State = flows::VolumeSwap;
    type Step = SwapStep;
    const KIND: &'static str = flows::VOLUME_SWAP;
    const DEADLINE: Duration = flows::VOLUME_SWAP_DEADLINE;

    async fn run(&self, step: SwapStep, state: &mut Self::State, run: &Run) -> Result<Next<SwapStep>> {
        let found = self.found(state).await?;
        match (step, found) {
            (SwapStep::Release, found) => self.release(state, found.map(|(server, _)| server), run).await,
            // It has ended with its volumes, and none was moving.
            (_, None) => {
                self.let_new_go(state).await?;
                Ok(Next::Done)
            }
            (SwapStep::Connect, Some((server, device))) => self.connect(state, &server, &device, run).await,
            (SwapStep::Copy, Some((server, device))) => self.copy(&server, &device).await,
            (SwapStep::Commit, Some((_, device))) => {
                self.commit(state, &device, run).await?;
                Ok(Next::Go(SwapStep::Release))
            }
        }
    }

    async fn undo(&self, step: SwapStep, state: &mut Self::State, run: &Run) -> Result<()> {
        let Some((server, device)) = self.found(state).await? else {
            return self.let_new_go(state).await;
        };
        // Also where this was not noted: the process died.
        state.moved |= state.new.as_ref().is_some_and(|new| device.volume_id == Some(new.volume_id));
        match step {
            SwapStep::Release | SwapStep::Commit => Ok(()),
            SwapStep::Copy => self.settle(state, &server, &device, run).await,
            SwapStep::Connect => {
                // Of a try that died after it had written down where the volume goes.
                self.settle(state, &server, &device, run).await?;
                match state.moved {
                    true => Ok(()),
                    false => self.take_back(state, &device).await,
                }
            }
        }
    }

    async fn failed(&self, state: &mut Self::State, error: &Error, run: &Run) -> Result<()> {
        let found = self.found(state).await?;
        if state.moved {
            return self.release(state, found.map(|(server, _)| server), run).await.map(drop);
        }
        let (now, id) = (self.0.clock.now(), state.server_id);
        tx!(self.0.cell.db, "swap failed", |tx| {
            finish(tx, run).await?;
            match one(tx, id).await? {
                Some(server) => close(tx, &server, EVENT, (run, now), Some(error.message())).await,
                None => Ok(()),
            }
        })
    }
}

impl VolumeSwap {
    /// The server and the device, wanted or not.
    async fn found(&self, state: &flows::VolumeSwap) -> Result<Option<(Server, BlockDevice)>> {
        let id = state.server_id;
        let server = read!(self.0.cell.db, "read server", |tx| one(tx, id).await)?;
        let server = server.filter(|server| server.state.life != Life::Deleted);
        Ok(server.and_then(|server| Some((server.clone(), server.block_device(state.device)?.clone()))))
    }

    async fn connect(
        &self,
        state: &mut flows::VolumeSwap,
        server: &Server,
        device: &BlockDevice,
        run: &Run,
    ) -> Result<Next<SwapStep>> {
        let host = server.state.host.as_ref().map(|host| host.name.clone());
        let (Some(host), Some(attachment), Some(volume)) = (host, &device.attachment_id, device.volume_id) else {
            return Err(Error::conflict(format!("Instance {} is on no host.", server.id)));
        };
        if unwanted(server) {
            return Err(Error::conflict(format!("Instance {} is being deleted.", server.id)));
        }
        let to = match &state.new {
            None => volumes::goes_to(&*self.0.volumes, attachment, &host, device).await?,
            Some(new) => {
                state.old_attachment = Some(attachment.clone());
                self.begin_detaching(&volume.to_string()).await?;
                let attachment = volumes::reserve(&*self.0.volumes, &new.volume_id.to_string(), server.id).await?;
                Some(volumes::connect(&*self.0.volumes, &attachment, &host, device).await?)
            }
        };
        // Told of a move that is over by now.
        let Some(to) = to else {
            return Ok(Next::Go(SwapStep::Release));
        };
        self.write_down(state, to, run).await?;
        self.0.changed(server.id).await?;
        Ok(Next::Go(SwapStep::Copy))
    }

    async fn write_down(&self, state: &flows::VolumeSwap, to: Connection, run: &Run) -> Result<()> {
        let (id, device, now) = (state.server_id, state.device, self.0.clock.now());
        tx!(self.0.cell.db, "move volume", |tx| {
            let mut server = must(tx, id).await?;
            if unwanted(&server) || server.state.life != Life::Built {
                return Err(Error::conflict(format!("Instance {id} is in error, or is being deleted.")));
            }
            server.state = move_to(&server, device, to.clone(), &run.request_id, now)?;
            servers::update(tx, &mut server).await
        })
    }

    /// Nobody else detaches the volume meanwhile.
    async fn begin_detaching(&self, volume: &str) -> Result<()> {
        match self.0.volumes.begin_detaching(volume).await {
            // Of a step that ran before.
            Err(error) if volumes::is_refusal(&error) => {
                match self.0.volumes.show(Who::Compute, volume).await?.status.as_str() {
                    "detaching" => Ok(()),
                    _ => Err(error),
                }
            }
            begun => begun,
        }
    }

    async fn copy(&self, server: &Server, device: &BlockDevice) -> Result<Next<SwapStep>> {
        let Some(moving) = &device.moving else {
            return Err(Error::internal("a volume that moves nowhere"));
        };
        if unwanted(server) {
            return Err(Error::conflict(format!("Instance {} is being deleted.", server.id)));
        }
        // A host that starts the guest must know both places.
        if server.state.observed_generation < moving.generation {
            return Ok(Next::Wait(PAUSE));
        }
        match self.ask(server, device, Task::Move, ANSWER).await {
            Ok(Moved::There) => Ok(Next::Go(SwapStep::Commit)),
            Ok(Moved::Copying { .. }) => Ok(Next::Wait(PAUSE)),
            Ok(Moved::NotThere { reason }) => {
                let reason = reason.unwrap_or_else(|| "The host has stopped moving the volume.".to_owned());
                Err(Error::new(Kind::Internal, reason))
            }
            // It goes on with the work, or begins it again, once it is back.
            Err(error) if is_away(&error) => Ok(Next::Wait(AWAY)),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &self,
        server: &Server,
        device: &BlockDevice,
        task: impl FnOnce(Move) -> Task,
        limit: Duration,
    ) -> Result<Moved> {
        let at = |connection: &Connection| DiskRef { pool: connection.pool.clone(), name: connection.disk.clone() };
        let host = server.state.host.as_ref().map(|host| host.name.clone());
        let (Some(host), Some(moving), Some(from)) = (host, &device.moving, &device.connection) else {
            return Ok(Moved::NotThere { reason: None });
        };
        let Some(seen_as) = device.seen_as.or(device.volume_id) else {
            return Ok(Moved::NotThere { reason: None });
        };
        let wanted = Move { server_id: server.id.uuid(), seen_as, from: at(from), to: at(&moving.to) };
        match self.0.agents.task(&host, task(wanted), limit).await? {
            TaskReply::Moved(moved) => Ok(moved),
            _ => Err(Error::internal("an agent answered something else than was asked")),
        }
    }

    /// The volume service is told first: its row says where the volume is when a host asks the next time.
    async fn commit(&self, state: &mut flows::VolumeSwap, device: &BlockDevice, run: &Run) -> Result<()> {
        // Of a try before; since then the server may be let go, and must not be given anything anew.
        if device.moving.is_none() {
            state.moved = true;
            return Ok(());
        }
        match (&state.new, device.volume_id) {
            (None, Some(volume)) => {
                let told = self.0.volumes.complete_migration(&volume.to_string(), false).await;
                volumes::gone_is_good(told)?;
            }
            (Some(new), _) => {
                let attachment =
                    volumes::reserve(&*self.0.volumes, &new.volume_id.to_string(), state.server_id).await?;
                volumes::complete(&*self.0.volumes, &attachment).await?;
                self.take_its_place(state, new, &attachment).await?;
            }
            (None, None) => {}
        }
        self.end(state, true, run).await?;
        state.moved = true;
        self.0.changed(state.server_id).await
    }

    async fn take_its_place(&self, state: &flows::VolumeSwap, new: &NewVolume, attachment: &str) -> Result<()> {
        let (id, device) = (state.server_id, state.device);
        tx!(self.0.cell.db, "swap volume", |tx| {
            let mut server = must(tx, id).await?;
            server.state = edit(&server, device, |device| {
                if device.volume_id == Some(new.volume_id) {
                    return;
                }
                device.seen_as = device.seen_as.or(device.volume_id);
                device.volume_id = Some(new.volume_id);
                device.attachment_id = Some(attachment.to_owned());
                device.size_bytes = new.size_bytes;
            })?;
            servers::update_volumes(tx, &mut server).await
        })
    }

    async fn end(&self, state: &flows::VolumeSwap, there: bool, run: &Run) -> Result<()> {
        let (id, device, now) = (state.server_id, state.device, self.0.clock.now());
        tx!(self.0.cell.db, "end a volume's move", |tx| {
            let mut server = must(tx, id).await?;
            if server.block_device(device).is_none_or(|device| device.moving.is_none()) {
                return Ok(());
            }
            server.state = end_move(&server, device, there, &run.request_id, now)?;
            servers::update(tx, &mut server).await
        })
    }

    /// Has the host stop, and believes it where the volume is. `Unavailable` until it has said so.
    async fn settle(
        &self,
        state: &mut flows::VolumeSwap,
        server: &Server,
        device: &BlockDevice,
        run: &Run,
    ) -> Result<()> {
        if device.moving.is_none() {
            return Ok(());
        }
        match self.ask(server, device, Task::StopMove, STOP).await? {
            Moved::There => self.commit(state, device, run).await,
            Moved::NotThere { .. } => {
                self.end(state, false, run).await?;
                self.0.changed(state.server_id).await
            }
            Moved::Copying { .. } => Err(Error::unavailable("The host has not stopped moving a volume yet.")),
        }
    }

    async fn take_back(&self, state: &flows::VolumeSwap, device: &BlockDevice) -> Result<()> {
        let Some(volume) = device.volume_id.map(|id| id.to_string()) else {
            return Ok(());
        };
        if state.new.is_none() {
            return refused_is_good(volumes::gone_is_good(self.0.volumes.complete_migration(&volume, true).await));
        }
        self.let_new_go(state).await?;
        // It never began, perhaps.
        refused_is_good(volumes::gone_is_good(self.0.volumes.roll_detaching(&volume).await))
    }

    /// What was reserved of the volume that was to take the place. Also of a server that has ended meanwhile: nobody else
    /// knows of an attachment that a last try made.
    async fn let_new_go(&self, state: &flows::VolumeSwap) -> Result<()> {
        let Some(new) = state.new.as_ref().filter(|_| !state.moved) else {
            return Ok(());
        };
        let new = new.volume_id.to_string();
        for attachment in self.0.volumes.attachments_of(state.server_id).await? {
            if attachment.volume_id == new {
                volumes::release(&*self.0.volumes, &attachment.id).await?;
            }
        }
        Ok(())
    }

    async fn release(&self, state: &flows::VolumeSwap, server: Option<Server>, run: &Run) -> Result<Next<SwapStep>> {
        if let Some(attachment) = &state.old_attachment {
            volumes::release(&*self.0.volumes, attachment).await?;
        }
        if let Some(server) = server {
            let now = self.0.clock.now();
            tx!(self.0.cell.db, "volume is swapped", |tx| {
                finish(tx, run).await?;
                close(tx, &server, EVENT, (run, now), None).await
            })?;
        }
        Ok(Next::Done)
    }
}

fn refused_is_good(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if volumes::is_refusal(&error) => Ok(()),
        other => other,
    }
}

fn is_away(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Timeout | Kind::Busy)
}
