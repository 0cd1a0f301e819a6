//! The volumes of a server that is being made: the step between its claim and its spawn.
//!
//! Volumes that exist were reserved by the request. The others are made here, in the caller's name, all at once and then
//! waited for. Each is made with the id of its block device in its metadata, and looked for by that first: a step that
//! runs twice makes one volume. When all are there, the host is named to the volume service, and what it says becomes
//! part of the first document that the host gets.
//!
//! Another host finds the volumes made: only the end of a create that failed takes them away again.

use std::time::Duration;

use umbel_client::VolumeView;
use umbel_compute::model::{
    BlockDevice, BlockDeviceId, Connection, Life, Phase, Server, ServerId, VolumeToMake, connect_all, edit,
};
use umbel_compute::store::servers;
use umbel_compute::{VolumeCatalog, Who};
use umbel_core::{Error, Kind, OnBehalf, Result};
use umbel_db::{read, tx};
use umbel_workflow::Next;
use uuid::Uuid;

use crate::CellConductor;
use crate::cell::{must, one, unwanted};
use crate::create::{CreateState, CreateStep, ServerCreate};
use crate::volumes;

/// Between two looks at volumes that are being made.
const PAUSE: Duration = Duration::from_millis(500);

impl ServerCreate {
    fn catalog(&self) -> &dyn VolumeCatalog {
        &*self.0.volumes
    }

    pub(crate) async fn volumes(&self, state: &mut CreateState) -> Result<Next<CreateStep>> {
        let id = state.server_id;
        let cell = self.cell(state)?.ok_or_else(|| Error::internal("volumes without a cell"))?;
        let server = read!(cell.cell.db, "read server", |tx| must(tx, id).await)?;
        if unwanted(&server) {
            // What it has noted is let go with it; what it has not is ours.
            for device in state.making.iter().flatten() {
                self.drop_unnoted(&server, *device).await?;
            }
            return Ok(Next::Done);
        }
        if server.state.life != Life::Building || server.state.volumes.is_empty() {
            return Ok(Next::Through(CreateStep::Spawn));
        }
        if server.state.volumes.iter().all(BlockDevice::is_wanted) {
            // Connected by a run whose end was lost.
            cell.changed(id).await?;
            return Ok(Next::Go(CreateStep::Spawn));
        }
        if state.making.is_none() {
            let to_make = server.state.volumes.iter().filter(|device| device.make.is_some());
            state.making = Some(to_make.map(|device| device.id).collect());
            return Ok(Next::Go(CreateStep::Volumes));
        }
        let (user_id, project_id) = (server.spec.user_id.clone(), server.spec.project_id.clone());
        let owner = OnBehalf { user_id, project_id };
        for device in &server.state.volumes {
            if let (None, Some(make)) = (device.volume_id, &device.make) {
                self.make(&cell, (id, &owner), device, make).await?;
            }
        }
        let server = read!(cell.cell.db, "read server", |tx| must(tx, id).await)?;
        if !self.reserve_made(&cell, &server).await? {
            return Ok(Next::Wait(PAUSE));
        }
        let server = read!(cell.cell.db, "read server", |tx| must(tx, id).await)?;
        if unwanted(&server) {
            return Ok(Next::Wait(Duration::ZERO));
        }
        self.connect(&cell, &server).await?;
        Ok(Next::Go(CreateStep::Spawn))
    }

    async fn make(
        &self,
        cell: &CellConductor,
        (server_id, owner): (ServerId, &OnBehalf),
        device: &BlockDevice,
        make: &VolumeToMake,
    ) -> Result<()> {
        let volume = match self.catalog().made_for(device.id).await? {
            Some(made) => made,
            None => self.catalog().create(owner, &make.request(device.id)).await?,
        };
        let volume_id = Uuid::try_parse(&volume.id).map_err(|error| Error::internal(error).because("a volume's id"))?;
        let device_id = device.id;
        tx!(cell.cell.db, "note volume", |tx| {
            let mut server = must(tx, server_id).await?;
            // One that is unwanted by now is not changed any more; the next look finds the volume unnoted.
            if unwanted(&server) {
                return Ok(());
            }
            server.state = edit(&server, device_id, |device| {
                device.volume_id = Some(volume_id);
                device.size_bytes = volume.size * umbel_core::GIB;
            })?;
            servers::update_volumes(tx, &mut server).await
        })
    }

    /// Reserves what was made and is ready. False if some are not ready yet.
    async fn reserve_made(&self, cell: &CellConductor, server: &Server) -> Result<bool> {
        let mut all = true;
        for device in server.state.volumes.iter().filter(|device| device.attachment_id.is_none()) {
            let Some(volume_id) = device.volume_id.map(|id| id.to_string()) else {
                return Ok(false);
            };
            let volume = self.catalog().show(Who::Compute, &volume_id).await?;
            if !is_ready(&volume)? {
                all = false;
                continue;
            }
            let attachment = volumes::reserve(self.catalog(), &volume_id, server.id).await?;
            let (server_id, device_id, now) = (server.id, device.id, self.0.clock.now());
            tx!(cell.cell.db, "note attachment", |tx| {
                let mut server = must(tx, server_id).await?;
                if unwanted(&server) {
                    return Ok(());
                }
                server.state = edit(&server, device_id, |device| {
                    device.attachment_id = Some(attachment.clone());
                    (device.phase, device.since) = (Phase::Reserved, now);
                })?;
                servers::update_volumes(tx, &mut server).await
            })?;
        }
        Ok(all)
    }

    /// Names the host to the volume service, and tells the host what to build.
    async fn connect(&self, cell: &CellConductor, server: &Server) -> Result<()> {
        let host = server.state.host.as_ref().map(|host| host.name.as_str());
        let host = host.ok_or_else(|| Error::internal(format!("server {} has volumes and no host", server.id)))?;
        let mut connections: Vec<(BlockDeviceId, Connection)> = Vec::new();
        for device in &server.state.volumes {
            let attachment = device.attachment_id.as_deref();
            let attachment =
                attachment.ok_or_else(|| Error::internal("a volume is connected before it is reserved"))?;
            connections.push((device.id, volumes::connect(self.catalog(), attachment, host, device).await?));
            volumes::complete(self.catalog(), attachment).await?;
        }
        let (id, now) = (server.id, self.0.clock.now());
        tx!(cell.cell.db, "connect volumes", |tx| {
            let mut server = must(tx, id).await?;
            if unwanted(&server) || server.state.volumes.iter().all(BlockDevice::is_wanted) {
                return Ok(());
            }
            server.state = connect_all(&server, &connections, now)?;
            servers::update(tx, &mut server).await
        })?;
        cell.changed(id).await
    }

    /// A server that came to no cell lets go of what was reserved for it.
    pub(crate) async fn let_go(&self, server: &Server) -> Result<()> {
        for device in &server.state.volumes {
            if let Some(attachment) = &device.attachment_id {
                volumes::release(self.catalog(), attachment).await?;
            }
            if let (Some(volume), true) = (device.volume_id, device.delete_on_termination) {
                // No attempts are counted here: the volume was available when it was reserved.
                volumes::delete(self.catalog(), &volume.to_string(), u32::MAX).await?;
            }
        }
        Ok(())
    }

    async fn drop_unnoted(&self, server: &Server, device: BlockDeviceId) -> Result<()> {
        let noted = server.block_device(device).is_some_and(|device| device.volume_id.is_some());
        match noted {
            true => Ok(()),
            false => volumes::delete_made(self.catalog(), device, 0).await,
        }
    }

    /// The create failed: what it made is taken away, and the server has no part in it any more. Volumes that existed
    /// before stay the server's until it is deleted.
    pub(crate) async fn drop_made(&self, state: &CreateState, cell: &CellConductor, attempt: u32) -> Result<()> {
        let made = state.making.as_deref().unwrap_or_default();
        if made.is_empty() {
            return Ok(());
        }
        let id = state.server_id;
        let held = self.catalog().attachments_of(id).await?;
        for device in made {
            let Some(volume) = self.catalog().made_for(*device).await? else {
                continue;
            };
            for attachment in held.iter().filter(|attachment| attachment.volume_id == volume.id) {
                volumes::release(self.catalog(), &attachment.id).await?;
            }
            volumes::delete_made(self.catalog(), *device, attempt).await?;
        }
        tx!(cell.cell.db, "drop made volumes", |tx| {
            let Some(mut server) = one(tx, id).await?.filter(|server| !unwanted(server)) else {
                return Ok(());
            };
            server.state.volumes.retain(|device| !made.contains(&device.id));
            servers::update_volumes(tx, &mut server).await
        })
    }
}

fn is_ready(volume: &VolumeView) -> Result<bool> {
    match volume.status.as_str() {
        "available" | "reserved" | "attaching" | "in-use" => Ok(true),
        status if status.starts_with("error") => Err(Error::new(
            Kind::Internal,
            format!("Volume {} did not finish being created: its status is {status}.", volume.id),
        )),
        _ => Ok(false),
    }
}
