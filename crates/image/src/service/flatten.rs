//! Making clones stand alone, behind the scenes.
//!
//! Data that came by cloning (a server's snapshot, a copy into another store of the same cluster) are usable at once. They
//! still share with what they were cloned from, which therefore cannot be freed. This copies the rest: a few at a time, so
//! that guests keep their disks' speed, and for as long as it takes. The image can be used and deleted meanwhile.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use umbel_api::image::ImageStatus;
use umbel_core::{Error, Kind, Result, Timestamp};
use umbel_db::{Tx, read, tx};
use umbel_driver::Progress;
use umbel_workflow::{Flow, NewFlow, Next, Run, Step, finish};

use crate::Images;
use crate::model::{ImageId, Place};
use crate::store::{Image, images as rows, tasks};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Flatten {
    pub image: ImageId,
    pub store: String,
    pub disk: String,
    /// Ends with it.
    pub task: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlattenStep {
    Flatten,
}

impl Step for FlattenStep {
    const ALL: &'static [Self] = &[FlattenStep::Flatten];

    fn name(self) -> &'static str {
        "flatten"
    }
}

pub(super) struct FlattenFlow(pub Arc<Images>);

/// How long until it is looked again whether there is room for one more, and after a failure.
const BUSY: Duration = Duration::from_secs(1);
const FAILED: Duration = Duration::from_secs(30);

/// How often progress is noted.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// In the transaction that gives the image this place.
pub(super) async fn enqueue(
    tx: &mut Tx<Image>,
    id: &str,
    image: ImageId,
    place: &Place,
    task: Option<&str>,
    request: &str,
    now: Timestamp,
) -> Result<()> {
    let (store, disk) = (place.store.clone(), place.disk.clone());
    let state = Flatten { image, store, disk, task: task.map(str::to_owned) };
    let flow = NewFlow {
        id,
        kind: FlattenFlow::KIND,
        first_step: FlattenStep::Flatten.name(),
        state: &state,
        request_id: request,
        now,
        deadline: now.plus(FlattenFlow::DEADLINE),
    };
    umbel_workflow::enqueue(tx, flow).await
}

impl FlattenFlow {
    async fn there(&self, state: &Flatten) -> Result<bool> {
        let record = read!(self.0.db, "look before flattening", |tx| rows::get_any(tx, state.image).await)?;
        let is = |place: &Place| place.store == state.store && place.disk == state.disk;
        let kept = record.filter(|record| record.status != ImageStatus::PendingDelete);
        Ok(kept.is_some_and(|record| record.places.iter().any(is)))
    }

    /// With the task's message telling how far it is.
    async fn flatten(&self, state: &Flatten) -> Result<()> {
        let images = &self.0;
        let pool = &images.store(Some(&state.store))?.pool;
        let (told, heard) = watch::channel(0_u64);
        let progress: Progress = Arc::new(move |bytes| {
            told.send_replace(bytes);
        });
        let telling = async {
            loop {
                tokio::time::sleep(TOLD_EVERY).await;
                let Some(task) = &state.task else {
                    continue;
                };
                let (message, now) = (format!("Copied {} MiB", *heard.borrow() >> 20), images.clock.now());
                let noted = tx!(images.db, "tell progress", |tx| tasks::set_processing(tx, task, &message, now).await);
                if let Err(error) = noted {
                    tracing::debug!(image = %state.image, cause = error.cause(), "progress was not noted: {error}");
                }
            }
        };
        tokio::select! {
            done = pool.flatten(&state.disk, progress) => done,
            () = telling => Ok(()),
        }
    }

    async fn end(&self, state: &Flatten, run: &Run, outcome: Result<(), &str>) -> Result<()> {
        let now = self.0.clock.now();
        let result = json!({"image_id": state.image});
        let until = self.0.task_end(now);
        tx!(self.0.db, "end flattening", |tx| {
            finish(tx, run).await?;
            match &state.task {
                Some(task) => tasks::end(tx, task, outcome.map(|()| &result), now, until).await,
                None => Ok(()),
            }
        })
    }
}

#[async_trait]
impl Flow for FlattenFlow {
    type Schema = Image;
    type State = Flatten;
    type Step = FlattenStep;

    const KIND: &'static str = "image_flatten";

    /// A cluster that is ill for long must not leave a clone for ever.
    const DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);

    async fn run(&self, _: FlattenStep, state: &mut Flatten, run: &Run) -> Result<Next<FlattenStep>> {
        let images = &self.0;
        if !self.there(state).await? {
            self.end(state, run, Err("The image was deleted.")).await?;
            return Ok(Next::Done);
        }
        let Ok(_turn) = images.work.flattening.try_acquire() else {
            return Ok(Next::Wait(BUSY));
        };
        if let Some(task) = &state.task {
            let now = images.clock.now();
            tx!(images.db, "begin flattening", |tx| tasks::set_processing(tx, task, "Copying shared data", now).await)?;
        }
        match self.flatten(state).await {
            Ok(()) => {}
            // Deleted meanwhile; the next run finds that.
            Err(error) if error.is(Kind::NotFound) && !self.there(state).await? => {}
            Err(error) => {
                tracing::warn!(image = %state.image, cause = error.cause(), "a clone is flattened later: {error}");
                return Ok(Next::Wait(FAILED));
            }
        }
        tracing::info!(image = %state.image, store = state.store, "an image's data stand alone");
        self.end(state, run, Ok(())).await?;
        Ok(Next::Done)
    }

    /// What is half copied is as good as what is not copied.
    async fn undo(&self, _: FlattenStep, _: &mut Flatten, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, state: &mut Flatten, error: &Error, run: &Run) -> Result<()> {
        self.end(state, run, Err(error.message())).await
    }
}
