//! The guard of a request that reserves volumes before its server is written: if the server never comes, they are let go.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_compute::store::server_map;
use umbel_compute::{Api, flows};
use umbel_core::{Error, Result};
use umbel_db::read;
use umbel_workflow::{Flow, Next, Run, Step};

use crate::conductor::Parts;
use crate::volumes;

/// Between two looks for the server.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveStep {
    Watch,
}

impl Step for ReserveStep {
    const ALL: &'static [Self] = &[ReserveStep::Watch];

    fn name(self) -> &'static str {
        flows::SERVER_RESERVE_FIRST
    }
}

pub(crate) struct ServerReserve(pub Arc<Parts>);

#[async_trait]
impl Flow for ServerReserve {
    type Schema = Api;
    type State = flows::ServerReserve;
    type Step = ReserveStep;
    const KIND: &'static str = flows::SERVER_RESERVE;
    const DEADLINE: Duration = flows::FOREVER;
    const ATTEMPTS: u32 = u32::MAX;

    async fn run(&self, _: ReserveStep, state: &mut Self::State, run: &Run) -> Result<Next<ReserveStep>> {
        let id = state.server_id;
        if read!(self.0.api, "look for a server", |tx| server_map::is_known(tx, id).await)? {
            return Ok(Next::Done);
        }
        if self.0.clock.now() < run.created_at.plus(flows::RESERVING) {
            return Ok(Next::Wait(PAUSE));
        }
        volumes::release_all(&*self.0.volumes, id).await?;
        Ok(Next::Done)
    }

    async fn undo(&self, _: ReserveStep, _: &mut Self::State, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, state: &mut Self::State, error: &Error, _: &Run) -> Result<()> {
        tracing::error!(server = %state.server_id, cause = error.cause(), "volumes stay reserved for no server: {error}");
        Ok(())
    }
}
