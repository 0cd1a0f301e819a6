//! Growing a volume, in use or not.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_core::{Error, GIB, Kind, Result};
use umbel_db::tx;
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use super::create::BUSY;
use super::start::{held, is_awaited, start};
use crate::Volumes;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::service::attachments::rest_status;
use crate::service::messages;
use crate::store::{Volume, attachments, volumes};

/// How soon a server that cannot be told is told again.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Extend {
    pub volume: VolumeId,
    /// GiB. The row has the new size from the start, so that the quota counts it.
    pub old_gib: u64,
    pub new_gib: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtendStep {
    Grow,
    Finish,
    /// There is no room, and nothing was touched: the volume is what it was.
    Refuse,
}

/// The servers that have a volume which has grown. It can grow again before they all know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Grown {
    pub volume: VolumeId,
    pub servers: Vec<String>,
}

/// The only step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tell;

impl Step for Tell {
    const ALL: &'static [Self] = &[Tell];

    fn name(self) -> &'static str {
        "tell"
    }
}

impl Step for ExtendStep {
    const ALL: &'static [Self] = &[ExtendStep::Grow, ExtendStep::Finish, ExtendStep::Refuse];

    fn name(self) -> &'static str {
        match self {
            ExtendStep::Grow => "grow",
            ExtendStep::Finish => "finish",
            ExtendStep::Refuse => "refuse",
        }
    }
}

pub(crate) struct ExtendFlow(pub Arc<Volumes>);
pub(crate) struct TellFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(ExtendFlow(state.clone())).with(TellFlow(state.clone()))
}

#[async_trait]
impl Flow for ExtendFlow {
    type Schema = Volume;
    type State = Extend;
    type Step = ExtendStep;

    const KIND: &'static str = "volume_extend";
    const DEADLINE: Duration = Duration::from_secs(3600);

    async fn run(&self, step: ExtendStep, state: &mut Extend, run: &Run) -> Result<Next<ExtendStep>> {
        let service = &self.0;
        match step {
            ExtendStep::Grow => {
                let (row, awaited) = tx!(service.db, "look at a growing volume", |tx| {
                    Ok((held(tx, state.volume).await?, is_awaited(tx, state.volume).await?))
                })?;
                if awaited {
                    return Ok(Next::Wait(BUSY));
                }
                let backend = service.backend(row.backend.as_deref().unwrap_or_default())?;
                let size = state.new_gib.saturating_mul(GIB);
                let there = backend.pool.stat(&row.disk).await?.map_or(0, |info| info.size);
                if there < size {
                    if !service.has_room_to_grow(backend).await? {
                        return Ok(Next::Go(ExtendStep::Refuse));
                    }
                    backend.pool.resize(&row.disk, size).await?;
                }
                // Limits may be per gigabyte.
                service.limit_new(&VolumeRow { size_gib: state.new_gib, ..row }, backend).await?;
                Ok(Next::Go(ExtendStep::Finish))
            }
            ExtendStep::Finish => {
                self.finish(state, run).await?;
                service.nudge();
                Ok(Next::Done)
            }
            ExtendStep::Refuse => self.refuse(state, run).await.map(|()| Next::Done),
        }
    }

    async fn undo(&self, _: ExtendStep, _: &mut Extend, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, state: &mut Extend, error: &Error, run: &Run) -> Result<()> {
        let service = &self.0;
        let now = service.clock.now();
        tx!(service.db, "fail a volume's growth", |tx| {
            finish(tx, run).await?;
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

impl ExtendFlow {
    /// The status is that of its attachments now: they may have changed while it grew.
    async fn finish(&self, state: &Extend, run: &Run) -> Result<()> {
        let now = self.0.clock.now();
        tx!(self.0.db, "finish a volume's growth", |tx| {
            finish(tx, run).await?;
            let row = held(tx, state.volume).await?;
            if row.status == VolumeStatus::Extending {
                let status = rest_status(tx, row.id).await?;
                let after = VolumeRow { status, previous_status: None, ..row.clone() };
                volumes::update(tx, &row, &after, now).await?;
            }
            let users = attachments::of_volume(tx, row.id).await?;
            let servers: Vec<_> =
                users.into_iter().filter(|one| one.is_connected()).filter_map(|one| one.instance_id).collect();
            if servers.is_empty() {
                return Ok(());
            }
            let told = format!("{}.{}", row.id, state.new_gib);
            start::<TellFlow>(tx, told, Tell, &Grown { volume: row.id, servers }, &run.request_id, now).await
        })
    }
}

impl ExtendFlow {
    async fn refuse(&self, state: &Extend, run: &Run) -> Result<()> {
        let (service, now) = (&self.0, self.0.clock.now());
        tx!(service.db, "refuse a volume's growth", |tx| {
            finish(tx, run).await?;
            let row = held(tx, state.volume).await?;
            if row.status != VolumeStatus::Extending {
                return Ok(());
            }
            let status = rest_status(tx, row.id).await?;
            let after = VolumeRow { status, previous_status: None, size_gib: state.old_gib, ..row.clone() };
            volumes::update(tx, &row, &after, now).await?;
            let error = Error::bad_request(format!("No valid backend was found for {} GiB.", state.new_gib));
            let what = (messages::EXTEND, messages::NO_BACKEND);
            crate::service::tell(tx, service, &row, what, (&error, &run.request_id)).await
        })
    }
}

#[async_trait]
impl Flow for TellFlow {
    type Schema = Volume;
    type State = Grown;
    type Step = Tell;

    const KIND: &'static str = "volume_grown";
    const DEADLINE: Duration = Duration::from_secs(3600);

    async fn run(&self, _: Tell, state: &mut Grown, _: &Run) -> Result<Next<Tell>> {
        for server in &state.servers {
            match self.0.servers.extended(server, &state.volume.to_string()).await {
                Err(error) if error.is(Kind::NotFound) => {}
                Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Timeout) => {
                    tracing::info!(volume = %state.volume, server, cause = error.cause(), "told later: {error}");
                    return Ok(Next::Wait(AGAIN));
                }
                other => other?,
            }
        }
        Ok(Next::Done)
    }

    async fn undo(&self, _: Tell, _: &mut Grown, _: &Run) -> Result<()> {
        Ok(())
    }

    /// A server that could not be told is no failure of the volume's, which has grown.
    async fn failed(&self, state: &mut Grown, error: &Error, _: &Run) -> Result<()> {
        tracing::warn!(volume = %state.volume, cause = error.cause(), "a server does not know its volume's size: {error}");
        Ok(())
    }
}
