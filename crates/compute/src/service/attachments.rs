//! Volumes of a server that is there: attached and detached by flows, of which the requests write the beginning.

use std::sync::Arc;

use umbel_auth::visible;
use umbel_core::{Ctx, Error, GIB, Kind, Result, Timestamp};
use umbel_db::{Tx, tx};
use umbel_workflow::{NewFlow, enqueue, pending};
use uuid::Uuid;

use super::Compute;
use super::block_devices::{may_attach, too_many};
use super::servers::{Found, Touches, cell_down, check_lock, existing};
use super::volumes::{Who, invalid_volume, of_volume, token};
use crate::flows::{self, VolumeChange};
use crate::model::{BlockDevice, BlockDeviceId, Phase, Server, ServerId, edit, may_change_volumes};
use crate::store::{actions, servers};
use crate::{Cell, CellHandle};

/// A volume for a server, as a request has it.
pub(crate) struct NewAttachment {
    pub volume_id: Uuid,
    pub tag: Option<String>,
    pub delete_on_termination: bool,
    /// Whether the version of the request knows volumes of several servers.
    pub multiattach: bool,
}

pub(crate) fn not_attached(server: ServerId, volume: Uuid) -> Error {
    Error::not_found(format!("Instance {server} is not attached to volume {volume}"))
}

impl Compute {
    /// The server and its cell, if its volumes may change now.
    async fn changeable(&self, ctx: &Ctx, id: ServerId, action: &str) -> Result<(Arc<CellHandle>, Server)> {
        let (cell, server) = match self.find(ctx, id).await? {
            Found::Unknown(_) => return Err(cell_down()),
            Found::Building(server) => (None, *server),
            Found::InCell(cell, server) => (Some(cell), *server),
        };
        check_lock(&server, ctx.is_admin())?;
        may_change_volumes(&server, action)?;
        let cell = cell.ok_or_else(|| Error::internal(format!("server {id} is built and in no cell")))?;
        Ok((cell, server))
    }

    /// Reserves the volume and has it attached. The device as it is then.
    pub(crate) async fn attach_volume(&self, ctx: &Ctx, id: ServerId, new: &NewAttachment) -> Result<BlockDevice> {
        let (cell, _) = self.changeable(ctx, id, "attach_volume").await?;
        let text = new.volume_id.to_string();
        let volume =
            self.volumes.show(Who::Caller(token(ctx)), &text).await.map_err(|error| of_volume(&text, error))?;
        may_attach(&volume, new.multiattach)?;
        let device = BlockDeviceId::random(&*self.rng);
        self.plan(ctx, &cell, (id, device), (new, volume.size * GIB)).await?;
        let reserved = self.volumes.reserve(Who::Caller(token(ctx)), &text, id).await;
        let attachment = match reserved {
            Ok(attachment) => attachment.id,
            Err(error) => {
                self.unplan(ctx, &cell, id, device).await?;
                return Err(of_volume(&text, error));
            }
        };
        let now = self.clock.now();
        let change = |server: &Server| {
            edit(server, device, |device| {
                device.attachment_id = Some(attachment.clone());
                (device.phase, device.since) = (Phase::Reserved, now);
            })
        };
        let server = match self.in_cell(&cell, id, &visible(ctx)?, Touches::Volumes, change, None).await {
            Ok(server) => server,
            Err(error) => {
                // The server went meanwhile, or the flow took the request for dead.
                self.let_go(&[(new.volume_id, attachment.clone())].into()).await;
                return Err(error);
            }
        };
        self.nudge.server(cell.id, id);
        server.block_device(device).cloned().ok_or_else(|| not_attached(id, new.volume_id))
    }

    /// The device, the record and the flow that goes on, or cleans up after a process that dies in the request.
    async fn plan(
        &self,
        ctx: &Ctx,
        cell: &CellHandle,
        (id, device): (ServerId, BlockDeviceId),
        (new, size_bytes): (&NewAttachment, u64),
    ) -> Result<()> {
        let now = self.clock.now();
        let (who, admin) = (visible(ctx)?, ctx.is_admin());
        let record = self.record(ctx, id, "attach_volume", now);
        let limit = self.config.max_disk_devices;
        tx!(cell.db, "plan attachment", |tx| {
            let mut server = existing(tx, id, &who).await?;
            check_lock(&server, admin)?;
            may_change_volumes(&server, "attach_volume")?;
            if server.volume(new.volume_id).is_some() {
                return Err(invalid_volume(format!("volume {} already attached", new.volume_id)));
            }
            if server.spec.disks.len() + server.state.volumes.len() >= limit {
                return Err(too_many(limit));
            }
            let mut planned = BlockDevice::planned(device, Some(new.volume_id), size_bytes, now);
            planned.device_name = server.free_device_name();
            planned.tag.clone_from(&new.tag);
            planned.delete_on_termination = new.delete_on_termination;
            server.state.volumes.push(planned);
            servers::update_volumes(tx, &mut server).await?;
            actions::start(tx, &record).await?;
            change_of(tx, flows::VOLUME_ATTACH, (id, device), &record.request_id, now).await
        })
    }

    async fn unplan(&self, ctx: &Ctx, cell: &CellHandle, id: ServerId, device: BlockDeviceId) -> Result<()> {
        let now = self.clock.now();
        let request_id = ctx.request_id.to_string();
        let who = visible(ctx)?;
        tx!(cell.db, "take attachment back", |tx| {
            let mut server = existing(tx, id, &who).await?;
            server.state.volumes.retain(|known| known.id != device);
            servers::update_volumes(tx, &mut server).await?;
            actions::finish(tx, id, &request_id, true, now).await
        })
    }

    pub(crate) async fn detach_volume(&self, ctx: &Ctx, id: ServerId, volume_id: Uuid) -> Result<()> {
        let (cell, server) = self.changeable(ctx, id, "detach_volume").await?;
        let device = may_detach(&server, volume_id)?.id;
        let text = volume_id.to_string();
        match self.volumes.show(Who::Caller(token(ctx)), &text).await {
            Ok(volume) if volume.status != "in-use" => return Err(not_in_use(&volume.status)),
            Ok(_) => {}
            // One that is gone, by force, is taken from the guest all the same.
            Err(error) if error.is(Kind::NotFound) => {}
            Err(error) => return Err(error),
        }
        let now = self.clock.now();
        let (who, admin) = (visible(ctx)?, ctx.is_admin());
        let record = self.record(ctx, id, "detach_volume", now);
        tx!(cell.db, "detach volume", |tx| {
            let server = existing(tx, id, &who).await?;
            check_lock(&server, admin)?;
            may_change_volumes(&server, "detach_volume")?;
            may_detach(&server, volume_id)?;
            if pending(tx, flows::VOLUME_DETACH, &device.to_string()).await? {
                return Err(not_in_use("detaching"));
            }
            actions::start(tx, &record).await?;
            change_of(tx, flows::VOLUME_DETACH, (id, device), &record.request_id, now).await
        })?;
        self.nudge.server(cell.id, id);
        Ok(())
    }

    /// Whether the volume goes with its server.
    pub(crate) async fn update_attachment(
        &self,
        ctx: &Ctx,
        id: ServerId,
        volume_id: Uuid,
        delete_on_termination: bool,
    ) -> Result<()> {
        let admin = ctx.is_admin();
        self.change(ctx, id, Touches::Volumes, |server| {
            check_lock(server, admin)?;
            let device = server.volume(volume_id).ok_or_else(|| not_attached(id, volume_id))?;
            edit(server, device.id, |device| device.delete_on_termination = delete_on_termination)
        })
        .await
        .map(drop)
    }

    /// Another volume in the place of one. Refused in words, once both are known to be there: the guest would have to
    /// write to both while one is copied, which no hypervisor of ours does.
    pub(crate) async fn swap_volume(&self, ctx: &Ctx, id: ServerId, old: Uuid, new: Uuid) -> Result<()> {
        let (_, server) = self.changeable(ctx, id, "swap_volume").await?;
        server.volume(old).ok_or_else(|| not_attached(id, old))?;
        let text = new.to_string();
        self.volumes.show(Who::Caller(token(ctx)), &text).await.map_err(|error| of_volume(&text, error))?;
        Err(Error::conflict(format!(
            "Volume {old} cannot be swapped for {new} while it is attached. To move it to another pool, retype or migrate \
             it; to replace it, detach it and attach the other."
        )))
    }
}

async fn change_of(
    tx: &mut Tx<Cell>,
    kind: &'static str,
    (server_id, device): (ServerId, BlockDeviceId),
    request_id: &str,
    now: Timestamp,
) -> Result<()> {
    let first_step = if kind == flows::VOLUME_ATTACH { flows::VOLUME_ATTACH_FIRST } else { flows::VOLUME_DETACH_FIRST };
    let flow = NewFlow {
        id: &device.to_string(),
        kind,
        first_step,
        state: &VolumeChange { server_id, device },
        request_id,
        now,
        deadline: now.plus(flows::VOLUME_DEADLINE),
    };
    enqueue(tx, flow).await
}

fn may_detach(server: &Server, volume_id: Uuid) -> Result<&BlockDevice> {
    let device = server.volume(volume_id).ok_or_else(|| not_attached(server.id, volume_id))?;
    if device.is_root() {
        return Err(Error::forbidden("Cannot detach a root device volume"));
    }
    match device.phase {
        Phase::Attached => Ok(device),
        Phase::Detaching => Err(not_in_use("detaching")),
        Phase::Planned | Phase::Reserved | Phase::Attaching => Err(not_in_use("attaching")),
    }
}

fn not_in_use(status: &str) -> Error {
    invalid_volume(format!(
        "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach. \
         Currently in '{status}' status"
    ))
}
