//! Imports as they are done.
//!
//! Every step asks first whether the image is still this import's: it may have been deleted. What is written into a
//! pool is written under a claim ([`Claim`]), so that of two processes that both think they run the step only one can say
//! that it is done. What a step has made is known from the rows or from the flow's own state, so that it can be taken back
//! by another process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use umbel_api::image::{ImageStatus, TaskType};
use umbel_core::{Error, Kind, Result};
use umbel_db::{Tx, tx};
use umbel_workflow::{Flow, Next, Run, Step, finish};

use super::import_fetch::Described;
use super::uploads;
use crate::Images;
use crate::model::{self, FAILED_STORES, IMPORT_TASK, IMPORTING_STORES, ImageId, Record};
use crate::store::{Image, images as rows, locations, parts, stages, tasks};

/// Where the bytes come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub(super) enum Source {
    GlanceDirect,
    WebDownload { uri: String },
    CopyImage,
    GlanceDownload { region: String, image: String, interface: String },
}

impl Source {
    pub fn name(&self) -> &'static str {
        match self {
            Source::GlanceDirect => "glance-direct",
            Source::WebDownload { .. } => "web-download",
            Source::CopyImage => "copy-image",
            Source::GlanceDownload { .. } => "glance-download",
        }
    }
}

/// The state of the flow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Import {
    pub image: ImageId,
    pub source: Source,
    /// Stores that are still to get the data; the first is at work.
    pub left: Vec<String>,
    /// Stores that got them from this import.
    pub done: Vec<String>,
    pub failed: Vec<String>,
    pub all_must_succeed: bool,
    /// What the other region says of its image, and what ours said before.
    pub described: Option<Described>,
    pub before: Option<Described>,
    /// How often a process came by that does not have the caller's token.
    #[serde(default)]
    pub passed_by: u32,
}

impl Import {
    pub fn new(image: ImageId, source: Source, stores: Vec<String>, all_must_succeed: bool) -> Self {
        Import {
            image,
            source,
            left: stores,
            done: Vec::new(),
            failed: Vec::new(),
            all_must_succeed,
            described: None,
            before: None,
            passed_by: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImportStep {
    /// Asks another region what its image is.
    Describe,
    /// Makes ours the same.
    Adopt,
    /// Brings the bytes beside the stores, if they are not there.
    Fetch,
    /// Brings them into one store; runs once for each.
    Store,
    Finish,
}

impl Step for ImportStep {
    const ALL: &'static [Self] =
        &[ImportStep::Describe, ImportStep::Adopt, ImportStep::Fetch, ImportStep::Store, ImportStep::Finish];

    fn name(self) -> &'static str {
        match self {
            ImportStep::Describe => "describe",
            ImportStep::Adopt => "adopt",
            ImportStep::Fetch => "fetch",
            ImportStep::Store => "store",
            ImportStep::Finish => "finish",
        }
    }
}

pub(super) struct ImportFlow(pub Arc<Images>);

/// How long until it is looked again whether there is room for one more.
const BUSY: Duration = Duration::from_millis(500);

#[async_trait]
impl Flow for ImportFlow {
    type Schema = Image;
    type State = Import;
    type Step = ImportStep;

    const KIND: &'static str = "image_import";

    /// Terabytes over a slow line.
    const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

    async fn run(&self, step: ImportStep, state: &mut Import, run: &Run) -> Result<Next<ImportStep>> {
        let images = &self.0;
        if matches!(step, ImportStep::Fetch | ImportStep::Store) {
            let Ok(_turn) = images.work.importing.try_acquire() else {
                return Ok(Next::Wait(BUSY));
            };
            return match step {
                ImportStep::Fetch => images.fetch(state, run).await,
                _ => images.store_next(state, run, Self::ATTEMPTS).await,
            };
        }
        match step {
            ImportStep::Describe => images.describe(state, run).await,
            ImportStep::Adopt => images.adopt(state, run).await,
            _ => images.finish_import(state, run).await,
        }
    }

    async fn undo(&self, step: ImportStep, state: &mut Import, run: &Run) -> Result<()> {
        let images = &self.0;
        match step {
            ImportStep::Adopt => images.disown(state, run).await,
            ImportStep::Fetch if state.source != Source::CopyImage => images.unstage(state.image).await,
            ImportStep::Store => images.take_back(state, run).await,
            _ => Ok(()),
        }
    }

    async fn failed(&self, state: &mut Import, error: &Error, run: &Run) -> Result<()> {
        let images = &self.0;
        images.work.tokens.forget(&run.id);
        let now = images.clock.now();
        let until = images.task_end(now);
        let failed = state.failed.iter().chain(&state.left).cloned().collect::<Vec<_>>();
        tx!(images.db, "fail import", |tx| {
            finish(tx, run).await?;
            tasks::end(tx, &run.id, Err(error.message()), now, until).await?;
            let Some(record) = rows::lock_any(tx, state.image).await? else {
                return Ok(());
            };
            if !is_ours(&record, run) {
                return Ok(());
            }
            rows::drop_any_claim(tx, state.image).await?;
            parts::set_own(tx, state.image, IMPORT_TASK, None).await?;
            parts::set_own(tx, state.image, IMPORTING_STORES, Some("")).await?;
            parts::set_own(tx, state.image, FAILED_STORES, Some(&failed.join(","))).await?;
            match record.status {
                ImageStatus::Importing => rows::requeue(tx, &record, now).await,
                ImageStatus::PendingDelete => Ok(()),
                status => rows::set_status(tx, &record, status, now).await,
            }
        })?;
        images.finish_deletion(state.image).await;
        Ok(())
    }
}

/// Whether this import holds the image, deleted or not.
pub(super) fn is_ours(record: &Record, run: &Run) -> bool {
    record.meta.properties.get(IMPORT_TASK).is_some_and(|task| task.as_ref() == Some(&run.id))
}

/// The image, held until the transaction ends; `Gone` if it was deleted or is not this import's.
pub(super) async fn lock_ours(tx: &mut Tx<Image>, image: ImageId, run: &Run) -> Result<Record> {
    match rows::lock_any(tx, image).await? {
        Some(record) if is_ours(&record, run) && record.status != ImageStatus::PendingDelete => Ok(record),
        _ => Err(uploads::lost()),
    }
}

impl Images {
    /// Ends well if the image has data.
    async fn finish_import(&self, state: &mut Import, run: &Run) -> Result<Next<ImportStep>> {
        let copies = state.source == Source::CopyImage;
        let now = self.clock.now();
        let stage = tx!(self.db, "look at import's end", |tx| {
            let record = lock_ours(tx, state.image, run).await?;
            if !copies && record.status != ImageStatus::Active {
                return Err(Error::bad_request("None of the uploads finished!"));
            }
            stages::get(tx, state.image).await
        })?;
        if let Some(stage) = &stage {
            self.store(Some(&stage.store))?.pool.remove(&stage.disk).await?;
        }
        let until = self.task_end(now);
        let result = json!({"image_id": state.image});
        tx!(self.db, "end import", |tx| {
            finish(tx, run).await?;
            let record = lock_ours(tx, state.image, run).await?;
            stages::delete(tx, state.image).await?;
            parts::set_own(tx, state.image, IMPORT_TASK, None).await?;
            parts::set_own(tx, state.image, IMPORTING_STORES, Some("")).await?;
            tasks::end(tx, &run.id, Ok(&result), now, until).await?;
            rows::set_status(tx, &record, record.status, now).await
        })?;
        self.work.tokens.forget(&run.id);
        let kind = TaskType::ApiImageImport;
        tracing::info!(image = %state.image, task = run.id, %kind, method = state.source.name(), "an import is done");
        Ok(Next::Done)
    }

    /// Takes the data out of the stores that this import filled, and what it was about to fill. Nobody has seen them yet,
    /// unless the image had data before.
    async fn take_back(&self, state: &Import, run: &Run) -> Result<()> {
        let now = self.clock.now();
        for store in state.done.iter().chain(state.left.first()) {
            let there = tx!(self.db, "take back import", |tx| {
                let Some(record) = rows::lock_any(tx, state.image).await? else {
                    return Ok(true);
                };
                if !is_ours(&record, run) {
                    return Ok(false);
                }
                if record.status == ImageStatus::Active && state.source != Source::CopyImage {
                    rows::set_status(tx, &record, ImageStatus::Importing, now).await?;
                }
                locations::delete(tx, state.image, store).await?;
                Ok(true)
            })?;
            if there {
                self.store(Some(store))?.pool.remove(&state.image.to_string()).await?;
            }
        }
        Ok(())
    }

    /// Removes what is staged for an image, or what is left of a staging.
    async fn unstage(&self, image: ImageId) -> Result<()> {
        let stage = tx!(self.db, "find staged data", |tx| stages::get(tx, image).await)?;
        let store = stage.as_ref().map(|stage| stage.store.as_str());
        self.store(store)?.pool.remove(&model::staged_disk(image)).await?;
        tx!(self.db, "forget staged data", |tx| stages::delete(tx, image).await)
    }

    /// One store less to fill. With `all_must_succeed` a failure is the import's; otherwise the store is noted, once
    /// trying again is over.
    async fn store_next(&self, state: &mut Import, run: &Run, attempts: u32) -> Result<Next<ImportStep>> {
        let Some(store) = state.left.first().cloned() else {
            return Ok(Next::Go(ImportStep::Finish));
        };
        match self.bring(state, run, &store).await {
            Ok(()) => state.done.push(store),
            Err(error) => {
                let again = matches!(error.kind(), Kind::Busy | Kind::Unavailable | Kind::Timeout);
                if state.all_must_succeed || error.is(Kind::Gone) || (again && run.attempt + 1 < attempts) {
                    return Err(error);
                }
                tracing::warn!(image = %state.image, store, cause = error.cause(), "one store was left out: {error}");
                self.leave_out(state, run, &store).await?;
                state.failed.push(store);
            }
        }
        state.left.remove(0);
        Ok(Next::Go(if state.left.is_empty() { ImportStep::Finish } else { ImportStep::Store }))
    }

    async fn leave_out(&self, state: &Import, run: &Run, store: &str) -> Result<()> {
        self.store(Some(store))?.pool.remove(&state.image.to_string()).await?;
        let now = self.clock.now();
        tx!(self.db, "leave out a store", |tx| {
            let record = lock_ours(tx, state.image, run).await?;
            rows::drop_any_claim(tx, state.image).await?;
            let failed = state.failed.iter().map(String::as_str).chain([store]).collect::<Vec<_>>().join(",");
            parts::set_own(tx, state.image, FAILED_STORES, Some(&failed)).await?;
            parts::set_own(tx, state.image, IMPORTING_STORES, Some(&state.left[1..].join(","))).await?;
            rows::set_status(tx, &record, record.status, now).await
        })
    }
}
