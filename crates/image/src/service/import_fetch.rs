//! How an import gets hold of bytes that are elsewhere: from the web, or from another region's image service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use umbel_api::image::{ContainerFormat, DiskFormat};
use umbel_client::{Fetched, Images as RemoteImages, find_endpoint};
use umbel_core::{Error, Kind, Result};
use umbel_db::{Tx, tx};
use umbel_driver::ByteStream;
use umbel_workflow::{Next, Run};

use super::data::{Aim, Upload, staged};
use super::import_flow::{Import, ImportStep, Source, lock_ours};
use super::intake::{Intake, Limits};
use super::uploads::{self, Flow};
use crate::Images;
use crate::model::{self, Meta, Record};
use crate::store::{Image, claims, images as rows, stages};

/// How long a process that cannot do an import leaves it to others, and how often.
const PASSED: Duration = Duration::from_millis(500);
const PASSES: u32 = 60;

/// What goes over from one image to another.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Described {
    pub disk_format: Option<DiskFormat>,
    pub container_format: Option<ContainerFormat>,
    pub properties: BTreeMap<String, Option<String>>,
}

impl Images {
    pub(super) async fn describe(&self, state: &mut Import, run: &Run) -> Result<Next<ImportStep>> {
        let record = tx!(self.db, "begin import's work", |tx| {
            crate::store::tasks::set_processing(tx, &run.id, "", self.clock.now()).await?;
            lock_ours(tx, state.image, run).await
        })?;
        let Source::GlanceDownload { image, .. } = state.source.clone() else {
            return Ok(Next::Through(ImportStep::Fetch));
        };
        let Some(token) = self.token(state, run)? else {
            return Ok(Next::Wait(PASSED));
        };
        let remote = self.remote(&state.source, &token).await?;
        let found = remote.show(&token, &image).await.map_err(elsewhere)?;
        if found.status != "active" {
            let message = format!("Source image status should be active instead of {}", found.status);
            return Err(Error::bad_request(message));
        }
        let wanted =
            |name: &str| self.config.download_properties.iter().any(|prefix| name.starts_with(prefix.as_str()));
        let properties = found.properties.iter().filter(|(name, _)| wanted(name));
        state.described = Some(Described {
            disk_format: found.disk_format.map(|text| text.parse()).transpose()?,
            container_format: found.container_format.map(|text| text.parse()).transpose()?,
            properties: properties
                .filter_map(|(name, value)| Some((name.clone(), Some(value.as_str()?.to_owned()))))
                .collect(),
        });
        state.before = Some(Described {
            disk_format: record.meta.disk_format,
            container_format: record.meta.container_format,
            properties: record.meta.properties,
        });
        Ok(Next::Go(ImportStep::Adopt))
    }

    pub(super) async fn adopt(&self, state: &Import, run: &Run) -> Result<Next<ImportStep>> {
        let described = state.described.clone().unwrap_or_default();
        self.rewrite(state, run, |meta| {
            meta.disk_format = described.disk_format;
            meta.container_format = described.container_format;
            meta.properties.extend(described.properties.clone());
        })
        .await?;
        Ok(Next::Go(ImportStep::Fetch))
    }

    /// What the image's owner said before the import stands again.
    pub(super) async fn disown(&self, state: &Import, run: &Run) -> Result<()> {
        let (Some(described), Some(before)) = (&state.described, &state.before) else {
            return Ok(());
        };
        let restored = self
            .rewrite(state, run, |meta| {
                meta.disk_format = before.disk_format;
                meta.container_format = before.container_format;
                for name in described.properties.keys() {
                    match before.properties.get(name) {
                        Some(value) => meta.properties.insert(name.clone(), value.clone()),
                        None => meta.properties.remove(name),
                    };
                }
            })
            .await;
        match restored {
            // Of a deleted image nothing is to be restored.
            Err(error) if error.is(Kind::Gone) => Ok(()),
            restored => restored,
        }
    }

    async fn rewrite(&self, state: &Import, run: &Run, change: impl Fn(&mut Meta)) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "rewrite imported image", |tx| {
            let record = lock_ours(tx, state.image, run).await?;
            let mut meta = record.meta.clone();
            change(&mut meta);
            rows::update(tx, &record, &meta, now).await
        })
    }

    pub(super) async fn fetch(&self, state: &mut Import, run: &Run) -> Result<Next<ImportStep>> {
        let staged = tx!(self.db, "look for staged data", |tx| {
            lock_ours(tx, state.image, run).await?;
            stages::get(tx, state.image).await
        })?;
        match (&state.source, staged) {
            (Source::CopyImage, _) => return Ok(Next::Through(ImportStep::Store)),
            (_, Some(stage)) => {
                return match stage.refusal {
                    Some(refusal) if self.config.require_image_format_match => Err(Error::bad_request(refusal)),
                    _ => Ok(Next::Go(ImportStep::Store)),
                };
            }
            (Source::GlanceDirect, None) => return Err(Error::conflict("The staged data are gone.")),
            _ => {}
        }
        let fetched = match &state.source {
            Source::WebDownload { uri } => self.fetcher()?.get(uri).await?,
            _ => {
                let Some(token) = self.token(state, run)? else {
                    return Ok(Next::Wait(PASSED));
                };
                self.fetch_remote(&state.source, &token).await?
            }
        };
        self.take_down(state, run, fetched).await?;
        Ok(Next::Go(ImportStep::Store))
    }

    /// Into the default store's pool, under a name of its own.
    async fn take_down(&self, state: &Import, run: &Run, fetched: Fetched) -> Result<()> {
        let store = self.store(None)?;
        let claim = self.new_claim(state.image, &store.name, model::staged_disk(state.image));
        let now = self.clock.now();
        let (record, most) = tx!(self.db, "claim staging", |tx| {
            let record = lock_ours(tx, state.image, run).await?;
            let most = self.most(tx, &record).await?;
            claims::take(tx, &record, &claim, record.status, now).await?;
            Ok((record, most))
        })?;
        let flow = Flow::new();
        let (idle, judged_later) = (self.config.upload_idle(), !self.config.require_image_format_match);
        let limits = Limits { announced: fetched.length, most, idle, judged_later };
        let intake = Intake::new(fetched.stream, flow.clone(), limits, self.inspector(&record));
        let upload = Upload {
            claim,
            format: record.meta.disk_format,
            pool: store.pool.clone(),
            announced: fetched.length,
            flow: flow.clone(),
            outcome: intake.outcome(),
            started: now,
            task: Some(run.id.clone()),
        };
        self.uploads.add(state.image, &flow);
        let result = self.transfer(&upload, intake.into_stream()).await;
        self.uploads.remove(state.image, &flow);
        let content = result?;
        let stage = staged(&upload.claim, &content);
        let now = self.clock.now();
        let kept = tx!(self.db, "complete staging", |tx| claims::complete_stage(tx, &upload.claim, &stage, now).await)?;
        match kept {
            true => {
                self.tell(&upload, &content, now);
                Ok(())
            }
            false => Err(uploads::lost()),
        }
    }

    async fn most(&self, tx: &mut Tx<Image>, record: &Record) -> Result<u64> {
        // The image itself is one of those under way already.
        let room = self.room(tx, record.meta.owner.as_deref(), Aim::Stage).await;
        match room {
            Err(error) if error.is(Kind::TooLarge) => Ok(self.config.max_image_size),
            room => room,
        }
    }

    async fn fetch_remote(&self, source: &Source, token: &str) -> Result<Fetched> {
        let Source::GlanceDownload { image, .. } = source else {
            return Err(Error::internal("an import that fetches nothing fetched"));
        };
        let remote = self.remote(source, token).await?;
        let stream: ByteStream = remote.download(token, image).await.map_err(elsewhere)?.bytes;
        let length = remote.show(token, image).await.map_err(elsewhere)?.size;
        Ok(Fetched { length, stream })
    }

    /// The token with which the import was asked for; none if another process may have it.
    fn token(&self, state: &mut Import, run: &Run) -> Result<Option<Arc<str>>> {
        let token = self.work.tokens.get(&run.id);
        if token.is_none() {
            state.passed_by += 1;
            if state.passed_by > PASSES {
                let message =
                    "The import was interrupted, and the token with which it was asked for is not kept. Ask again.";
                return Err(Error::conflict(message));
            }
        }
        Ok(token)
    }

    /// The other region's image service.
    async fn remote(&self, source: &Source, token: &str) -> Result<RemoteImages> {
        let (Source::GlanceDownload { region, interface, .. }, Some(regions)) = (source, &self.work.regions) else {
            return Err(Error::bad_request("Imports from other regions are not configured at this site."));
        };
        let transport = &regions.transport;
        let found = find_endpoint(&**transport, &regions.identity, token, "image", region, interface).await;
        let endpoint = found.map_err(elsewhere)?;
        Ok(RemoteImages::new(transport.clone(), &endpoint))
    }
}

/// What another service says of its own things says nothing of ours: only its being unreachable is passed on as it is.
fn elsewhere(error: Error) -> Error {
    match error.kind() {
        Kind::Unavailable | Kind::Timeout | Kind::Busy => error,
        _ => Error::bad_request(error.message().to_owned()).because(error.for_log()),
    }
}
