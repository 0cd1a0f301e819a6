//! Volumes of a server that is there: attached and detached by flows, of which the requests write the beginning.

use std::sync::Arc;

use umbel_auth::visible;
use umbel_client::VolumeView;
use umbel_core::{Ctx, Error, GIB, Kind, Result, Timestamp};
use umbel_db::{Tx, tx};
use umbel_workflow::{NewFlow, enqueue, pending};
use uuid::Uuid;

use super::Compute;
use super::block_devices::{may_attach, too_many};
use super::servers::{Found, Touches, cell_down, check_lock, existing};
use super::volumes::{Who, invalid_volume, of_volume, token};
use crate::flows::{self, NewVolume, VolumeChange, VolumeSwap};
use crate::model::{BlockDevice, BlockDeviceId, Phase, Server, ServerId, Want, edit, may_change_volumes};
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
            // Its serial may still be that of a disk whose place another volume has taken.
            if server.volume(new.volume_id).is_some() || server.sees(new.volume_id) {
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
            must_rest(tx, device).await?;
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

    /// Another volume in the place of one, with its bytes: the flow copies them under the guest, and lets the old one go.
    pub(crate) async fn swap_volume(&self, ctx: &Ctx, id: ServerId, old: Uuid, new: Uuid) -> Result<()> {
        let (cell, server) = self.changeable(ctx, id, "swap_volume").await?;
        if server.state.want == Want::Off {
            let text = format!("Cannot 'swap_volume' instance {id} while it is in vm_state stopped");
            return Err(Error::conflict(text));
        }
        let device = may_swap(&server, old)?.id;
        if old == new {
            return Err(invalid_volume("Old and new volume are the same."));
        }
        let show = async |volume: Uuid| {
            let text = volume.to_string();
            self.volumes.show(Who::Caller(token(ctx)), &text).await.map_err(|error| of_volume(&text, error))
        };
        let (old_volume, new_volume) = (show(old).await?, show(new).await?);
        check_swap(&old_volume, &new_volume)?;
        let now = self.clock.now();
        let (who, admin) = (visible(ctx)?, ctx.is_admin());
        let record = self.record(ctx, id, "swap_volume", now);
        let new = NewVolume { volume_id: new, size_bytes: new_volume.size * GIB };
        tx!(cell.db, "swap volume", |tx| {
            let server = existing(tx, id, &who).await?;
            check_lock(&server, admin)?;
            may_change_volumes(&server, "swap_volume")?;
            may_swap(&server, old)?;
            must_rest(tx, device).await?;
            let seen = device_of(&server, new.volume_id).is_some_and(|other| other != device);
            if seen || server.volume(new.volume_id).is_some() {
                return Err(invalid_volume(format!("volume {} already attached", new.volume_id)));
            }
            actions::start(tx, &record).await?;
            let new = Some(new.clone());
            let state = VolumeSwap { server_id: id, device, new, old_attachment: None, moved: false };
            flows::swap_volume(tx, &state, &record.request_id, now).await
        })?;
        self.nudge.server(cell.id, id);
        Ok(())
    }
}

/// No flow changes the device already.
async fn must_rest(tx: &mut Tx<Cell>, device: BlockDeviceId) -> Result<()> {
    for (kind, status) in [(flows::VOLUME_DETACH, "detaching"), (flows::VOLUME_SWAP, "migrating")] {
        if pending(tx, kind, &device.to_string()).await? {
            return Err(not_in_use(status));
        }
    }
    Ok(())
}

/// The device whose disk bears the serial of this volume.
fn device_of(server: &Server, volume: Uuid) -> Option<BlockDeviceId> {
    let sees = |device: &&BlockDevice| device.seen_as.or(device.volume_id) == Some(volume);
    server.state.volumes.iter().find(sees).map(|device| device.id)
}

fn may_swap(server: &Server, volume_id: Uuid) -> Result<&BlockDevice> {
    let device = server.volume(volume_id).ok_or_else(|| not_attached(server.id, volume_id))?;
    match device.phase {
        Phase::Attached => Ok(device),
        _ => Err(invalid_volume(format!("Old volume {volume_id} must be attached to swap it."))),
    }
}

/// As upstream has it, in its order.
fn check_swap(old: &VolumeView, new: &VolumeView) -> Result<()> {
    if old.status != "in-use" {
        return Err(invalid_volume(format!("Old volume is attached to a different instance, or is {}.", old.status)));
    }
    if new.size < old.size {
        return Err(invalid_volume("New volume must be the same size or larger."));
    }
    if new.status != "available" {
        return Err(invalid_volume("New volume must be detached in order to swap."));
    }
    if old.multiattach || new.multiattach {
        let text = "Swapping multi-attach volumes with more than one read/write attachment is not supported.";
        return Err(Error::bad_request(text));
    }
    Ok(())
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

/// Of a volume that is in use. One that is still on its way here is so a moment before the flow that brings it has noted
/// the same, and who waits for the one must not be refused for the other: the flow that takes it away waits for that.
fn may_detach(server: &Server, volume_id: Uuid) -> Result<&BlockDevice> {
    let device = server.volume(volume_id).ok_or_else(|| not_attached(server.id, volume_id))?;
    if device.is_root() {
        return Err(Error::forbidden("Cannot detach a root device volume"));
    }
    match device.phase {
        Phase::Detaching => Err(not_in_use("detaching")),
        Phase::Planned | Phase::Reserved | Phase::Attaching | Phase::Attached => Ok(device),
    }
}

fn not_in_use(status: &str) -> Error {
    invalid_volume(format!(
        "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach. \
         Currently in '{status}' status"
    ))
}
