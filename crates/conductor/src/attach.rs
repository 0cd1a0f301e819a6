//! The flow that brings a volume to a server that is there.
//!
//! Reserved by the request; then its host is named to the volume service, which says the way; then it becomes part of
//! what should be, and the agent plugs it; when the agent has said so, the attachment is complete. Taken back in the
//! reverse, and never before the agent has said that the guest does not have it: two hosts must not open one volume.
//!
//! A server that is deleted meanwhile takes its volumes with it: the flow just ends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use umbel_compute::model::{BlockDevice, BlockDeviceId, Life, Phase, Server, ServerId, edit, plug, unplug};
use umbel_compute::store::actions::{self, EventRow};
use umbel_compute::store::servers;
use umbel_compute::{Cell, flows};
use umbel_core::{Error, Kind, Result, Timestamp};
use umbel_db::{Tx, read, tx};
use umbel_workflow::{Flow, Next, Run, Step, finish};

use crate::CellConductor;
use crate::cell::{must, one, unwanted};
use crate::volumes;

/// For how long a request may be between its device and the reservation.
const RESERVING: Duration = Duration::from_secs(60);
/// How long a step waits for its agent before it gives the runner's slot to another flow.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon it looks again.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachStep {
    Reserve,
    Connect,
    Plug,
    Complete,
}

impl Step for AttachStep {
    const ALL: &'static [Self] = &[AttachStep::Reserve, AttachStep::Connect, AttachStep::Plug, AttachStep::Complete];

    fn name(self) -> &'static str {
        match self {
            AttachStep::Reserve => flows::VOLUME_ATTACH_FIRST,
            AttachStep::Connect => "connect",
            AttachStep::Plug => "plug",
            AttachStep::Complete => "complete",
        }
    }
}

pub(crate) struct VolumeAttach(pub Arc<CellConductor>);

#[async_trait]
impl Flow for VolumeAttach {
    type Schema = Cell;
    type State = flows::VolumeChange;
    type Step = AttachStep;
    const KIND: &'static str = flows::VOLUME_ATTACH;
    const DEADLINE: Duration = flows::VOLUME_DEADLINE;

    async fn run(&self, step: AttachStep, state: &mut Self::State, run: &Run) -> Result<Next<AttachStep>> {
        let Some((server, device)) = self.0.device(state).await? else {
            return Ok(Next::Done);
        };
        match step {
            AttachStep::Reserve => self.reserved(&device),
            AttachStep::Connect => self.connect(&server, &device, run).await,
            AttachStep::Plug => match self.0.settled(state).await? {
                Settled::AsWanted => Ok(Next::Go(AttachStep::Complete)),
                Settled::Fault(fault) => Err(Error::new(Kind::Internal, fault)),
                Settled::Gone => Ok(Next::Done),
                Settled::NotYet => Ok(Next::Wait(PAUSE)),
            },
            AttachStep::Complete => self.complete(state, &device, run).await,
        }
    }

    async fn undo(&self, step: AttachStep, state: &mut Self::State, run: &Run) -> Result<()> {
        let Some((server, device)) = self.0.device(state).await? else {
            return Ok(());
        };
        match step {
            AttachStep::Plug | AttachStep::Complete => Ok(()),
            AttachStep::Connect => self.take_back(state, &device, run).await,
            AttachStep::Reserve => self.let_go(&server, &device).await,
        }
    }

    async fn failed(&self, state: &mut Self::State, error: &Error, run: &Run) -> Result<()> {
        let (id, device) = (state.server_id, state.device);
        let now = self.0.clock.now();
        tx!(self.0.cell.db, "attach failed", |tx| {
            finish(tx, run).await?;
            let Some(mut server) = one(tx, id).await?.filter(|server| !unwanted(server)) else {
                return Ok(());
            };
            server.state.volumes.retain(|known| known.id != device);
            servers::update_volumes(tx, &mut server).await?;
            close(tx, &server, "compute_attach_volume", (run, now), Some(error.message())).await
        })
    }
}

impl VolumeAttach {
    /// Waits for the request to have reserved the volume. One that died in between has not answered: the device goes.
    fn reserved(&self, device: &BlockDevice) -> Result<Next<AttachStep>> {
        match device.phase {
            Phase::Planned if self.0.clock.now() < device.since.plus(RESERVING) => Ok(Next::Wait(PAUSE)),
            Phase::Planned => Err(Error::new(Kind::Internal, "The request that reserved the volume did not end.")),
            _ => Ok(Next::Through(AttachStep::Connect)),
        }
    }

    async fn connect(&self, server: &Server, device: &BlockDevice, run: &Run) -> Result<Next<AttachStep>> {
        let (id, device_id) = (server.id, device.id);
        let host = server.state.host.as_ref().map(|host| host.name.clone());
        let (Some(host), Some(attachment)) = (host, &device.attachment_id) else {
            return Err(Error::internal(format!("a volume for server {id} without host or attachment")));
        };
        let connection = volumes::connect(&*self.0.volumes, attachment, &host, device).await?;
        let now = self.0.clock.now();
        let changed = tx!(self.0.cell.db, "plug volume", |tx| {
            let mut server = must(tx, id).await?;
            if unwanted(&server) || server.block_device(device_id).is_none() {
                return Ok(false);
            }
            if server.state.life != Life::Built {
                return Err(Error::conflict(format!("Instance {id} is in error.")));
            }
            server.state = plug(&server, device_id, connection.clone(), &run.request_id, now)?;
            servers::update(tx, &mut server).await?;
            Ok(true)
        })?;
        if !changed {
            return Ok(Next::Done);
        }
        self.0.changed(id).await?;
        Ok(Next::Go(AttachStep::Plug))
    }

    async fn complete(&self, state: &flows::VolumeChange, device: &BlockDevice, run: &Run) -> Result<Next<AttachStep>> {
        if let Some(attachment) = &device.attachment_id {
            volumes::complete(&*self.0.volumes, attachment).await?;
        }
        let now = self.0.clock.now();
        let (id, device) = (state.server_id, state.device);
        // With the flow's end: from here on the volume may be detached, which this step must not come after.
        let attached = tx!(self.0.cell.db, "volume is attached", |tx| {
            finish(tx, run).await?;
            let mut server = must(tx, id).await?;
            if unwanted(&server) || server.block_device(device).is_none() {
                return Ok(None);
            }
            server.state = edit(&server, device, |device| {
                (device.phase, device.since) = (Phase::Attached, now);
            })?;
            servers::update(tx, &mut server).await?;
            close(tx, &server, "compute_attach_volume", (run, now), None).await?;
            Ok(Some(server))
        })?;
        if let Some(server) = attached {
            self.0.watchers.tell(id.uuid(), |news| news.server = Some(Arc::new(server)));
        }
        Ok(Next::Done)
    }

    /// The guest must not have it any more. `Unavailable` until the agent says so.
    async fn take_back(&self, state: &flows::VolumeChange, device: &BlockDevice, run: &Run) -> Result<()> {
        let (id, device_id) = (state.server_id, state.device);
        if device.connection.is_none() {
            return Ok(());
        }
        let now = self.0.clock.now();
        // Asked anew where the agent gave it up.
        if device.is_wanted() || device.fault.is_some() {
            tx!(self.0.cell.db, "unplug volume", |tx| {
                let mut server = must(tx, id).await?;
                if unwanted(&server) || server.block_device(device_id).is_none() {
                    return Ok(());
                }
                server.state = unplug(&server, device_id, &run.request_id, now)?;
                servers::update(tx, &mut server).await
            })?;
        }
        self.0.changed(id).await?;
        match self.0.settled(state).await? {
            Settled::AsWanted | Settled::Gone => Ok(()),
            Settled::Fault(fault) => Err(Error::unavailable("The guest holds a volume.").because(fault)),
            Settled::NotYet => Err(Error::unavailable("The host has not let go of a volume yet.")),
        }
    }

    async fn let_go(&self, server: &Server, device: &BlockDevice) -> Result<()> {
        if let Some(attachment) = &device.attachment_id {
            return volumes::release(&*self.0.volumes, attachment).await;
        }
        // Reserved, perhaps, by a request that did not live to write it down.
        let volume = device.volume_id.map(|id| id.to_string());
        for attachment in self.0.volumes.attachments_of(server.id).await? {
            if Some(&attachment.volume_id) == volume.as_ref() {
                volumes::release(&*self.0.volumes, &attachment.id).await?;
            }
        }
        Ok(())
    }
}

/// Whether the agent has made of a volume what is wanted of it.
pub(crate) enum Settled {
    AsWanted,
    Fault(String),
    /// The server, or the device, is no more, or is to be no more.
    Gone,
    NotYet,
}

impl CellConductor {
    /// The server and the device, while both are wanted.
    pub(crate) async fn device(&self, of: &flows::VolumeChange) -> Result<Option<(Server, BlockDevice)>> {
        let id = of.server_id;
        let server = read!(self.cell.db, "read server", |tx| one(tx, id).await)?;
        Ok(server.and_then(|server| found(server, of.device)))
    }

    /// Waits a while for the agent.
    pub(crate) async fn settled(&self, of: &flows::VolumeChange) -> Result<Settled> {
        let settled = |server: Server| match found(server, of.device) {
            None => Some(Settled::Gone),
            Some((server, _)) if server.state.host.is_none() => Some(Settled::AsWanted),
            Some((_, device)) if device.reported => Some(Settled::AsWanted),
            Some((_, BlockDevice { fault: Some(fault), .. })) => Some(Settled::Fault(fault)),
            Some(_) => None,
        };
        Ok(self.seen(of.server_id, settled).await?.unwrap_or(Settled::NotYet))
    }

    /// Waits a while for the flow that brings a device, or for that device to go.
    pub(crate) async fn has_arrived(&self, of: &flows::VolumeChange) -> Result<bool> {
        let arrived = |server: Server| match found(server, of.device) {
            Some((_, device)) if device.is_arriving() => None,
            _ => Some(()),
        };
        Ok(self.seen(of.server_id, arrived).await?.is_some())
    }

    /// What `look` says of the server as soon as it says something; `None` if it does not within [`PATIENCE`].
    async fn seen<T>(&self, id: ServerId, look: impl Fn(Server) -> Option<T>) -> Result<Option<T>> {
        let mut news = self.watchers.listen(id.uuid());
        let mut server = read!(self.cell.db, "read server", |tx| must(tx, id).await)?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            let version = server.version;
            if let Some(said) = look(server) {
                return Ok(Some(said));
            }
            let changed = news.wait_for(|news| news.server.as_ref().is_some_and(|newer| newer.version > version));
            server = match tokio::time::timeout_at(give_up, changed).await {
                Ok(Ok(news)) => match &news.server {
                    Some(newer) => (**newer).clone(),
                    None => return Ok(None),
                },
                _ => return Ok(None),
            };
        }
    }
}

fn found(server: Server, device: BlockDeviceId) -> Option<(Server, BlockDevice)> {
    if unwanted(&server) {
        return None;
    }
    let device = server.block_device(device)?.clone();
    Some((server, device))
}

/// Ends the action, with the event by which upstream's clients know it.
pub(crate) async fn close(
    tx: &mut Tx<Cell>,
    server: &Server,
    name: &str,
    (run, now): (&Run, Timestamp),
    error: Option<&str>,
) -> Result<()> {
    let event = EventRow {
        server_id: server.id,
        request_id: run.request_id.clone(),
        name: name.to_owned(),
        started_at: run.created_at,
        finished_at: Some(now),
        ok: Some(error.is_none()),
        host: server.state.host.as_ref().map_or_else(String::new, |host| host.name.clone()),
        details: error.map(str::to_owned),
    };
    actions::event(tx, &event, now).await?;
    actions::finish(tx, server.id, &run.request_id, error.is_some(), now).await
}
