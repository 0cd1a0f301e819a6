//! Clones of clones of clones: past a depth, the newest is copied to stand alone. It is used meanwhile like any other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_core::{Error, Kind, Result};
use umbel_db::tx;
use umbel_workflow::{Flow, Next, Run, Runner, Step};

use super::create::BUSY;
use super::start::{Meter, held};
use crate::Volumes;
use crate::model::VolumeId;
use crate::store::{Volume, volumes as rows};

/// The only step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Only;

impl Step for Only {
    const ALL: &'static [Self] = &[Only];

    fn name(self) -> &'static str {
        "flatten"
    }
}

pub(crate) struct FlattenFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(FlattenFlow(state.clone()))
}

#[async_trait]
impl Flow for FlattenFlow {
    type Schema = Volume;
    type State = VolumeId;
    type Step = Only;

    const KIND: &'static str = "volume_flatten";
    const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

    async fn run(&self, _: Only, id: &mut VolumeId, _: &Run) -> Result<Next<Only>> {
        let volumes = &self.0;
        let Ok(_turn) = volumes.flattening.try_acquire() else { return Ok(Next::Wait(BUSY)) };
        let row = match tx!(volumes.db, "look at a deep volume", |tx| held(tx, *id).await) {
            Err(error) if error.is(Kind::Gone) => return Ok(Next::Done),
            other => other?,
        };
        let Some(backend) = &row.backend else { return Ok(Next::Done) };
        let meter = Meter::start(volumes, *id, row.size_bytes());
        let flattened = volumes.backend(backend)?.pool.flatten(&row.disk, meter.progress()).await;
        meter.stop().await;
        match flattened {
            Err(error) if !error.is(Kind::NotFound) => Err(error),
            _ => self.over(*id).await.map(|()| Next::Done),
        }
    }

    async fn undo(&self, _: Only, _: &mut VolumeId, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, id: &mut VolumeId, error: &Error, _: &Run) -> Result<()> {
        tracing::warn!(volume = %id, cause = error.cause(), "a volume stays a clone: {error}");
        self.over(*id).await
    }
}

impl FlattenFlow {
    /// Nothing is said any more of how far it is.
    async fn over(&self, id: VolumeId) -> Result<()> {
        tx!(self.0.db, "a volume is flat", |tx| rows::set_progress(tx, id, None).await)
    }
}
