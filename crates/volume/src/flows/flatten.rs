//! Clones of clones of clones: past a depth, the newest is copied to stand alone. It is used meanwhile like any other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_core::{Error, Kind, Result};
use umbel_db::tx;
use umbel_driver::no_progress;
use umbel_workflow::{Flow, Next, Run, Runner, Step};

use super::create::BUSY;
use super::start::held;
use crate::Volumes;
use crate::model::VolumeId;
use crate::store::Volume;

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
        match volumes.backend(backend)?.pool.flatten(&row.disk, no_progress()).await {
            Err(error) if error.is(Kind::NotFound) => Ok(Next::Done),
            other => other.map(|()| Next::Done),
        }
    }

    async fn undo(&self, _: Only, _: &mut VolumeId, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, id: &mut VolumeId, error: &Error, _: &Run) -> Result<()> {
        tracing::warn!(volume = %id, cause = error.cause(), "a volume stays a clone: {error}");
        Ok(())
    }
}
