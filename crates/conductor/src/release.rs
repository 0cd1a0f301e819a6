//! The flow that ends a server with volumes: when nothing of it is on a host any more, its attachments are ended and the
//! volumes that go with it deleted; then the server is. In that order, so that who sees the server gone finds its
//! volumes available.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_compute::model::{BlockDevice, Life, Server, ServerId};
use umbel_compute::{Cell, flows};
use umbel_core::{Error, Result};
use umbel_db::{read, tx};
use umbel_workflow::{Flow, Next, Run, Step};

use crate::CellConductor;
use crate::cell::one;
use crate::observe::end_row;
use crate::volumes;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseStep {
    Release,
}

impl Step for ReleaseStep {
    const ALL: &'static [Self] = &[ReleaseStep::Release];

    fn name(self) -> &'static str {
        flows::SERVER_RELEASE_FIRST
    }
}

pub(crate) struct ServerRelease(pub Arc<CellConductor>);

#[async_trait]
impl Flow for ServerRelease {
    type Schema = Cell;
    type State = flows::ServerRelease;
    type Step = ReleaseStep;
    const KIND: &'static str = flows::SERVER_RELEASE;
    const DEADLINE: Duration = flows::FOREVER;
    const ATTEMPTS: u32 = u32::MAX;

    async fn run(&self, _: ReleaseStep, state: &mut Self::State, run: &Run) -> Result<Next<ReleaseStep>> {
        let id = state.server_id;
        let server = read!(self.0.cell.db, "read server", |tx| one(tx, id).await)?;
        if let Some(server) = server.filter(|server| server.state.life != Life::Deleted) {
            self.let_go(&server, run.attempt).await?;
            self.end(id).await?;
        }
        Ok(Next::Done)
    }

    async fn undo(&self, _: ReleaseStep, _: &mut Self::State, _: &Run) -> Result<()> {
        Ok(())
    }

    /// Refused for good: the server ends all the same, and what is left is for the audit to name.
    async fn failed(&self, state: &mut Self::State, error: &Error, _: &Run) -> Result<()> {
        tracing::error!(server = %state.server_id, cause = error.cause(), "volumes of a deleted server are left: {error}");
        self.end(state.server_id).await
    }
}

impl ServerRelease {
    async fn let_go(&self, server: &Server, attempt: u32) -> Result<()> {
        let catalog = &*self.0.volumes;
        for device in &server.state.volumes {
            if let Some(attachment) = &device.attachment_id {
                volumes::release(catalog, attachment).await?;
            }
        }
        volumes::release_all(catalog, server.id).await?;
        for device in &server.state.volumes {
            match (device.volume_id, device.delete_on_termination) {
                (Some(volume), true) => volumes::delete(catalog, &volume.to_string(), attempt).await?,
                (Some(_), false) => {}
                (None, _) => self.drop_unknown(device, attempt).await?,
            }
        }
        Ok(())
    }

    /// Made, perhaps, by a flow that did not live to write it down.
    async fn drop_unknown(&self, device: &BlockDevice, attempt: u32) -> Result<()> {
        match device.make {
            Some(_) => volumes::delete_made(&*self.0.volumes, device.id, attempt).await,
            None => Ok(()),
        }
    }

    async fn end(&self, id: ServerId) -> Result<()> {
        let now = self.0.clock.now();
        let ended = tx!(self.0.cell.db, "end server", |tx| {
            let Some(mut server) = one(tx, id).await?.filter(|server| server.state.life != Life::Deleted) else {
                return Ok(None);
            };
            end_row(tx, &mut server, now).await?;
            Ok(Some(server))
        })?;
        if let Some(server) = ended {
            self.0.watchers.tell(id.uuid(), |news| news.server = Some(Arc::new(server)));
        }
        Ok(())
    }
}
