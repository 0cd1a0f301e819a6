//! What other services tell about servers.

use umbel_auth::Visible;
use umbel_core::{Ctx, GIB, Kind, Result};
use umbel_db::tx;
use umbel_workflow::pending;
use uuid::Uuid;

use super::Compute;
use super::servers::{Found, existing};
use super::volumes::Who;
use crate::CellHandle;
use crate::flows::{self, VolumeSwap};
use crate::model::{Phase, Server, ServerId, extend};
use crate::store::{actions, servers};

/// What became of an event, as an HTTP status of its own.
pub(crate) const DONE: u16 = 200;
pub(crate) const NO_SERVER: u16 = 404;
/// The server is on no host that could be told.
pub(crate) const NO_HOST: u16 = 422;

impl Compute {
    /// Nothing is to be done but to see whether there is a server: an event of a network.
    pub(crate) async fn note_event(&self, ctx: &Ctx, id: ServerId) -> Result<u16> {
        Ok(self.placed(ctx, id).await?.err().unwrap_or(DONE))
    }

    /// A volume of the server has grown: its host is told the new size.
    pub(crate) async fn volume_extended(&self, ctx: &Ctx, id: ServerId, volume_id: Uuid) -> Result<u16> {
        let (cell, server) = match self.placed(ctx, id).await? {
            Ok(found) => found,
            Err(code) => return Ok(code),
        };
        if server.volume(volume_id).is_none() {
            return Ok(NO_SERVER);
        }
        let size_bytes = self.volumes.show(Who::Compute, &volume_id.to_string()).await?.size * GIB;
        let now = self.clock.now();
        let request_id = ctx.request_id.to_string();
        let record = self.record(ctx, id, "extend_volume", now);
        tx!(cell.db, "extend volume", |tx| {
            let mut server = existing(tx, id, &Visible::All).await?;
            let Some(state) = extend(&server, volume_id, size_bytes, &request_id, now) else {
                return Ok(());
            };
            server.state = state;
            servers::update(tx, &mut server).await?;
            actions::start(tx, &record).await?;
            let event = actions::EventRow {
                server_id: id,
                request_id: request_id.clone(),
                // As upstream names it: clients wait for it.
                name: "compute_extend_volume".to_owned(),
                started_at: now,
                finished_at: Some(now),
                ok: Some(true),
                host: server.state.host.as_ref().map_or_else(String::new, |host| host.name.clone()),
                details: None,
            };
            actions::event(tx, &event, now).await?;
            // The size is noted; what the host makes of it are steps of an action that is over.
            actions::finish(tx, id, &request_id, false, now).await
        })?;
        self.nudge.server(cell.id, id);
        Ok(DONE)
    }

    /// A volume of the server is to go to another disk, with its guest. Told again, it is on its way.
    pub(crate) async fn volume_moving(&self, ctx: &Ctx, id: ServerId, volume_id: Uuid) -> Result<u16> {
        let (cell, server) = match self.placed(ctx, id).await? {
            Ok(found) => found,
            Err(code) => return Ok(code),
        };
        let Some(device) = server.volume(volume_id).map(|device| device.id) else {
            return Ok(NO_SERVER);
        };
        let now = self.clock.now();
        let record = self.record(ctx, id, "swap_volume", now);
        let begun = tx!(cell.db, "move volume", |tx| {
            let server = existing(tx, id, &Visible::All).await?;
            if pending(tx, flows::VOLUME_SWAP, &device.to_string()).await? {
                return Ok(true);
            }
            // What else is done to it comes to its end first.
            let attached = server.block_device(device).is_some_and(|device| device.phase == Phase::Attached);
            if !attached || pending(tx, flows::VOLUME_DETACH, &device.to_string()).await? {
                return Ok(false);
            }
            actions::start(tx, &record).await?;
            let state = VolumeSwap { server_id: id, device, new: None, old_attachment: None, moved: false };
            flows::swap_volume(tx, &state, &record.request_id, now).await?;
            Ok(true)
        })?;
        self.nudge.server(cell.id, id);
        Ok(if begun { DONE } else { NO_HOST })
    }

    /// The server and its cell, or the code of an event that cannot be told to it.
    async fn placed(
        &self,
        ctx: &Ctx,
        id: ServerId,
    ) -> Result<std::result::Result<(std::sync::Arc<CellHandle>, Server), u16>> {
        match self.find(ctx, id).await {
            Ok(Found::InCell(cell, server)) if server.state.host.is_some() => Ok(Ok((cell, *server))),
            Ok(_) => Ok(Err(NO_HOST)),
            Err(error) if error.is(Kind::NotFound) => Ok(Err(NO_SERVER)),
            Err(error) => Err(error),
        }
    }
}
