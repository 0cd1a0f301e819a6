//! Reads data on the web once, to know their hashes and to compare them with those that came with their URL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use umbel_api::image::ImageStatus;
use umbel_core::{Error, Generation, Kind, Result, Timestamp};
use umbel_db::{Tx, tx};
use umbel_workflow::{Flow, NewFlow, Next, Run, Step, finish};

use super::intake::{Digests, Hasher};
use super::uploads::{self, Flow as Progress};
use super::web_places::virtual_size;
use crate::Images;
use crate::model::{Data, HASH_ALGORITHM, ImageId, Record};
use crate::store::{Image, images as rows, tasks};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WebHash {
    image: ImageId,
    url: String,
    algorithm: String,
    /// What they must be, if somebody said.
    checksum: Option<String>,
    hash: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WebHashStep {
    Read,
}

impl Step for WebHashStep {
    const ALL: &'static [Self] = &[WebHashStep::Read];

    fn name(self) -> &'static str {
        "read"
    }
}

/// Its id is that of the task.
pub(super) struct WebHashFlow(pub Arc<Images>);

/// How long until it is looked again whether there is room for one more.
const BUSY: Duration = Duration::from_secs(1);

/// In the transaction that gives the image this URL.
pub(super) async fn enqueue(
    tx: &mut Tx<Image>,
    task: &str,
    image: ImageId,
    url: &str,
    given: &Data,
    request: &str,
    now: Timestamp,
) -> Result<()> {
    let state = WebHash {
        image,
        url: url.to_owned(),
        algorithm: given.hash_algorithm.clone().unwrap_or_else(|| HASH_ALGORITHM.to_owned()),
        checksum: given.checksum.clone(),
        hash: given.hash.clone(),
    };
    let flow = NewFlow {
        id: task,
        kind: WebHashFlow::KIND,
        first_step: WebHashStep::Read.name(),
        state: &state,
        request_id: request,
        now,
        deadline: now.plus(WebHashFlow::DEADLINE),
    };
    umbel_workflow::enqueue(tx, flow).await
}

impl WebHashFlow {
    /// The image, if it is still there and at this URL.
    async fn lock(&self, tx: &mut Tx<Image>, state: &WebHash) -> Result<Record> {
        let record = rows::lock_any(tx, state.image).await?;
        let there = |record: &Record| {
            let gone = matches!(record.status, ImageStatus::PendingDelete | ImageStatus::Queued);
            !gone && record.web.iter().any(|place| place.url == state.url)
        };
        record.filter(there).ok_or_else(uploads::lost)
    }

    async fn read(&self, state: &WebHash) -> Result<(u64, Digests)> {
        let progress = Progress::new();
        self.0.uploads.add(state.image, &progress);
        let read = async {
            let mut stream = self.0.fetcher()?.get(&state.url).await?.stream;
            let (hasher, mut size) = (Hasher::with(&state.algorithm), 0);
            while let Some(chunk) = stream.next().await {
                let chunk = chunk?;
                size += chunk.len() as u64;
                if size > self.0.config.max_image_size {
                    return Err(super::intake::too_large(self.0.config.max_image_size));
                }
                hasher.feed(chunk).await?;
            }
            Ok((size, hasher.finish().await?))
        };
        let done = tokio::select! {
            () = progress.until_lost() => Err(uploads::lost()),
            done = read => done,
        };
        self.0.uploads.remove(state.image, &progress);
        done
    }

    async fn note(&self, state: &WebHash, run: &Run, size: u64, digests: &Digests) -> Result<()> {
        let images = &self.0;
        let now = images.clock.now();
        let data = Data {
            size: Some(size),
            virtual_size: None,
            checksum: Some(digests.md5.clone()),
            hash_algorithm: Some(state.algorithm.clone()),
            hash: Some(digests.hash.clone()),
        };
        let result = json!({"image_id": state.image});
        // With the flow's end: read again, the data may be others, and an image in use keeps the hash that it was told by.
        tx!(images.db, "note hashes", |tx| {
            finish(tx, run).await?;
            let record = self.lock(tx, state).await?;
            let data = Data { virtual_size: virtual_size(&record, size), ..data.clone() };
            rows::set_known(tx, &record, &data, now).await?;
            if record.status == ImageStatus::Importing {
                let generation: Generation = record.generation.next();
                rows::set_status(tx, &Record { generation, ..record }, ImageStatus::Active, now).await?;
            }
            tasks::end(tx, &run.id, Ok(&result), now, images.task_end(now)).await
        })
    }
}

#[async_trait]
impl Flow for WebHashFlow {
    type Schema = Image;
    type State = WebHash;
    type Step = WebHashStep;

    const KIND: &'static str = "image_web_hash";

    const DEADLINE: Duration = Duration::from_secs(24 * 3600);

    async fn run(&self, _: WebHashStep, state: &mut WebHash, run: &Run) -> Result<Next<WebHashStep>> {
        let images = &self.0;
        let now = images.clock.now();
        let Ok(_turn) = images.work.importing.try_acquire() else {
            return Ok(Next::Wait(BUSY));
        };
        tx!(images.db, "begin hashing", |tx| {
            self.lock(tx, state).await?;
            tasks::set_processing(tx, &run.id, "Reading the data", now).await
        })?;
        let (size, digests) = self.read(state).await?;
        let wrong = |must: &Option<String>, is: &str| must.as_deref().is_some_and(|must| must != is);
        if wrong(&state.hash, &digests.hash) || wrong(&state.checksum, &digests.md5) {
            return Err(Error::bad_request(format!("The data at {} do not have the hash that was told.", state.url)));
        }
        self.note(state, run, size, &digests).await?;
        Ok(Next::Done)
    }

    async fn undo(&self, _: WebHashStep, _: &mut WebHash, _: &Run) -> Result<()> {
        Ok(())
    }

    /// An image that waited for this is queued again. Its URL stays to be looked at, as upstream leaves it, until other
    /// data come.
    async fn failed(&self, state: &mut WebHash, error: &Error, run: &Run) -> Result<()> {
        let images = &self.0;
        let now = images.clock.now();
        let until = images.task_end(now);
        tx!(images.db, "end hashing", |tx| {
            finish(tx, run).await?;
            match self.lock(tx, state).await {
                Ok(record) if record.status == ImageStatus::Importing => rows::requeue(tx, &record, now).await?,
                Ok(_) => {}
                Err(error) if error.is(Kind::Gone) => {}
                Err(error) => return Err(error),
            }
            tasks::end(tx, &run.id, Err(error.message()), now, until).await
        })
    }
}
