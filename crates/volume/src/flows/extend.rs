//! Growing a volume, in use or not.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_core::{Error, GIB, Kind, Result};
use umbel_db::tx;
use umbel_workflow::{Flow, Next, Run, Runner, Step};

use super::start::held;
use crate::Volumes;
use crate::model::{VolumeId, VolumeStatus};
use crate::service::messages;
use crate::store::{Volume, attachments, volumes};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Extend {
    pub volume: VolumeId,
    /// GiB. The row has the new size from the start, so that the quota counts it.
    pub old_gib: u64,
    pub new_gib: u64,
    /// The status to go back to.
    pub status: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtendStep {
    Grow,
    Finish,
    /// Tells the servers that have it.
    Tell,
}

impl Step for ExtendStep {
    const ALL: &'static [Self] = &[ExtendStep::Grow, ExtendStep::Finish, ExtendStep::Tell];

    fn name(self) -> &'static str {
        match self {
            ExtendStep::Grow => "grow",
            ExtendStep::Finish => "finish",
            ExtendStep::Tell => "tell",
        }
    }
}

pub(crate) struct ExtendFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(ExtendFlow(state.clone()))
}

#[async_trait]
impl Flow for ExtendFlow {
    type Schema = Volume;
    type State = Extend;
    type Step = ExtendStep;

    const KIND: &'static str = "volume_extend";
    const DEADLINE: Duration = Duration::from_secs(3600);

    async fn run(&self, step: ExtendStep, state: &mut Extend, _: &Run) -> Result<Next<ExtendStep>> {
        let service = &self.0;
        let now = service.clock.now();
        match step {
            ExtendStep::Grow => {
                let row = tx!(service.db, "look at a growing volume", |tx| held(tx, state.volume).await)?;
                let backend = service.backend(row.backend.as_deref().unwrap_or_default())?;
                let size = state.new_gib.saturating_mul(GIB);
                let there = backend.pool.stat(&row.disk).await?.map_or(0, |info| info.size);
                if there < size {
                    backend.pool.resize(&row.disk, size).await?;
                }
                Ok(Next::Go(ExtendStep::Finish))
            }
            ExtendStep::Finish => {
                tx!(service.db, "finish a volume's growth", |tx| {
                    let row = held(tx, state.volume).await?;
                    if row.status != VolumeStatus::Extending {
                        return Ok(());
                    }
                    let status = VolumeStatus::parse(&state.status).unwrap_or(VolumeStatus::Available);
                    volumes::set_status(tx, &row, status, now).await.map(drop)
                })?;
                Ok(Next::Go(ExtendStep::Tell))
            }
            ExtendStep::Tell => {
                let users = tx!(service.db, "find a volume's servers", |tx| {
                    attachments::of_volume(tx, state.volume).await
                })?;
                for server in users.iter().filter(|one| one.is_connected()).filter_map(|one| one.instance_id.as_ref()) {
                    match service.servers.extended(server, &state.volume.to_string()).await {
                        Err(error) if error.is(Kind::NotFound) => {}
                        other => other?,
                    }
                }
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, _: ExtendStep, _: &mut Extend, _: &Run) -> Result<()> {
        Ok(())
    }

    /// Once the volume has grown, a server that could not be told is no failure of the volume's.
    async fn failed(&self, state: &mut Extend, error: &Error, run: &Run) -> Result<()> {
        let service = &self.0;
        let now = service.clock.now();
        tx!(service.db, "fail a volume's growth", |tx| {
            let Some(row) = volumes::lock_any(tx, state.volume).await?.filter(|row| !row.deleted) else {
                return Ok(());
            };
            if row.status != VolumeStatus::Extending {
                return Ok(());
            }
            let mut after = row.clone();
            after.status = VolumeStatus::ErrorExtending;
            after.size_gib = state.old_gib;
            after.error = Some(error.message().to_owned());
            volumes::update(tx, &row, &after, now).await?;
            crate::service::tell(
                tx,
                service,
                &row,
                (messages::EXTEND, messages::EXTEND_FAILED),
                (error, &run.request_id),
            )
            .await
        })
    }
}
