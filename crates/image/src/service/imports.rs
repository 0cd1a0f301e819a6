//! Imports as they are asked for: what is refused at once, and what is written down so that it will be done.
//!
//! An import is a task that clients see, a workflow row of the same id that does it, and the image's property
//! `os_glance_import_task`, which keeps others off: all written in one transaction.

use serde_json::{Value, json};
use umbel_api::image::{ImageStatus, ImportMethod, ImportRequest, NewTask, TaskType};
use umbel_client::Fetcher;
use umbel_core::{Ctx, Error, Result};
use umbel_db::{Tx, tx};
use umbel_workflow::{Flow, NewFlow, Step};

use super::Caller;
use super::data::Aim;
use super::import_flow::{Import, ImportFlow, ImportStep, Source};
use crate::model::{FAILED_STORES, IMPORT_TASK, IMPORTING_STORES, ImageId, Record, Task};
use crate::store::{Image, images as rows, parts, tasks};
use crate::{Images, fields};

impl Images {
    /// The ways to import that are offered here.
    pub fn import_methods(&self) -> Vec<&str> {
        let offered = |method: &&str| *method != "glance-download" || self.work.regions.is_some();
        self.config.import_methods.iter().map(String::as_str).filter(offered).collect()
    }

    /// Begins an import; it goes on after the answer. `header` is the store of `x-image-meta-store`.
    ///
    /// # Errors
    /// 400 for what cannot be understood or must not be fetched; 409 if the image is in no state for it, is being
    /// imported already, or a store is unknown; 413 over a quota.
    pub async fn import(&self, ctx: &Ctx, id: ImageId, body: Value, header: Option<&str>) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let request = self.parse_import(&body)?;
        let source = self.source(&request.method)?;
        let stores = self.chosen(&request, header)?;
        let mut import = Import::new(id, source, stores, request.all_stores_must_succeed);
        let input = json!({"image_id": id, "import_req": body, "backend": import.left});
        let task = self.new_task(ctx, TaskType::ApiImageImport, id, input);
        self.keep_token(ctx, &import.source, &task)?;
        let begun = tx!(self.db, "begin import", |tx| {
            let record = caller.lock(tx, id).await?;
            check_status(&record, &import.source)?;
            match &import.source {
                Source::CopyImage => may_copy(&caller)?,
                _ => caller.may_change(&record)?,
            }
            check_lock(tx, &record).await?;
            let aim = if matches!(import.source, Source::WebDownload { .. }) { Aim::Stage } else { Aim::Store };
            if !matches!(import.source, Source::GlanceDirect | Source::CopyImage) {
                self.room(tx, record.meta.owner.as_deref(), aim).await?;
            }
            if matches!(import.source, Source::CopyImage) {
                import.left = missing(&record, &import.left, request.all_stores)?;
            }
            self.begin(tx, &record, &import, &task).await
        });
        if let Err(error) = begun {
            self.work.tokens.forget(&task.id);
            return Err(error);
        }
        self.nudge();
        Ok(())
    }

    /// An image that is made to be imported into at once.
    pub(super) async fn import_new(&self, ctx: &Ctx, new: NewTask) -> Result<Task> {
        let method = ImportMethod {
            name: "web-download".to_owned(),
            uri: Some(new.input.import_from.clone()),
            ..ImportMethod::default()
        };
        let source = self.source(&method)?;
        let input = serde_json::to_value(&new.input).map_err(Error::internal)?;
        let mut properties = new.input.image_properties;
        for (name, usual) in [("disk_format", "qcow2"), ("container_format", "bare")] {
            properties.entry(name).or_insert_with(|| json!(usual));
        }
        let record = self.new_record(ctx, properties)?;
        let store = self.store(None)?.name.clone();
        let import = Import::new(record.id, source, vec![store], true);
        let task = self.new_task(ctx, TaskType::Import, record.id, input);
        tx!(self.db, "begin import of a new image", |tx| {
            let owner = record.meta.owner.as_deref();
            self.check_count(tx, owner).await?;
            self.room(tx, owner, Aim::Stage).await?;
            rows::insert(tx, &record).await?;
            self.begin(tx, &record, &import, &task).await
        })?;
        self.nudge();
        Ok(task)
    }

    async fn begin(&self, tx: &mut Tx<Image>, record: &Record, import: &Import, task: &Task) -> Result<()> {
        let copies = import.source == Source::CopyImage;
        let status = if copies { record.status } else { ImageStatus::Importing };
        rows::set_status(tx, record, status, task.created_at).await?;
        tasks::insert(tx, task).await?;
        let failed = record.meta.properties.get(FAILED_STORES).cloned().flatten().unwrap_or_default();
        let failed: Vec<&str> =
            failed.split(',').filter(|name| !name.is_empty() && !import.left.iter().any(|left| left == name)).collect();
        let own = [
            (IMPORT_TASK, task.id.as_str()),
            (IMPORTING_STORES, &import.left.join(",")),
            (FAILED_STORES, &failed.join(",")),
        ];
        for (name, value) in own {
            parts::set_own(tx, record.id, name, Some(value)).await?;
        }
        let flow = NewFlow {
            id: &task.id,
            kind: ImportFlow::KIND,
            first_step: ImportStep::Describe.name(),
            state: import,
            request_id: task.request.as_deref().unwrap_or(""),
            now: task.created_at,
            deadline: task.created_at.plus(ImportFlow::DEADLINE),
        };
        umbel_workflow::enqueue(tx, flow).await
    }

    fn parse_import(&self, body: &Value) -> Result<ImportRequest> {
        let missing = |what: &str| Error::bad_request(format!("Import request requires a '{what}' field."));
        let method = body.get("method").ok_or_else(|| missing("method"))?;
        let name = method.get("name").and_then(Value::as_str).ok_or_else(|| missing("name"))?;
        if !self.import_methods().contains(&name) {
            return Err(Error::bad_request(format!("Unknown import method name '{name}'.")));
        }
        for name in ["all_stores_must_succeed", "all_stores"] {
            if body.get(name).is_some_and(|value| !value.is_boolean()) {
                return Err(Error::bad_request(format!("'{name}' must be boolean value only")));
            }
        }
        serde_json::from_value(body.clone()).map_err(|error| Error::bad_request(format!("Invalid input: {error}.")))
    }

    fn source(&self, method: &ImportMethod) -> Result<Source> {
        let needed = |value: &Option<String>, name: &str| {
            value.clone().ok_or_else(|| {
                Error::bad_request(format!("'{name}' needs to be set for {} import method", method.name))
            })
        };
        match method.name.as_str() {
            "web-download" => {
                let uri = needed(&method.uri, "uri")?;
                self.fetcher()?.check(&uri)?;
                Ok(Source::WebDownload { uri })
            }
            "glance-download" => {
                let region = needed(&method.glance_region, "glance_region")?;
                let image = needed(&method.glance_image_id, "glance_image_id")?;
                if !fields::is_uuid(&image) {
                    let message = format!("Remote image id does not look like a UUID: {image}");
                    return Err(Error::bad_request(message));
                }
                let interface = method.glance_service_interface.clone().unwrap_or_else(|| "public".to_owned());
                Ok(Source::GlanceDownload { region, image, interface })
            }
            "copy-image" => Ok(Source::CopyImage),
            _ => Ok(Source::GlanceDirect),
        }
    }

    pub(super) fn fetcher(&self) -> Result<Fetcher> {
        Fetcher::new(std::sync::Arc::new(self.config.web_download.clone()), self.config.upload_idle())
    }

    /// Names of the stores that are meant, each once.
    fn chosen(&self, request: &ImportRequest, header: Option<&str>) -> Result<Vec<String>> {
        let named = match (request.all_stores, &request.stores, header) {
            (true, None, None) => self.stores.iter().map(|store| store.name.clone()).collect(),
            (true, ..) => {
                let message = "All_stores parameter can't be used with x-image-meta-store header or stores parameter";
                return Err(Error::bad_request(message));
            }
            (false, Some(_), Some(_)) => {
                let message = "Stores parameter and x-image-meta-store header can't be both specified";
                return Err(Error::bad_request(message));
            }
            (false, Some(names), None) => names.clone(),
            (false, None, Some(name)) => vec![name.to_owned()],
            (false, None, None) => vec![self.store(None)?.name.clone()],
        };
        let mut stores: Vec<String> = Vec::with_capacity(named.len());
        for name in named {
            if !self.stores.iter().any(|store| store.name == name) {
                return Err(Error::conflict(format!("Unknown scheme '{name}' found in URI")));
            }
            if !stores.contains(&name) {
                stores.push(name);
            }
        }
        if stores.is_empty() {
            return Err(Error::bad_request("No store was named."));
        }
        // What is staged is in the default store, and can be renamed there once nobody else needs it.
        let default = &self.store(None)?.name;
        stores.sort_by_key(|name| name == default);
        Ok(stores)
    }

    fn keep_token(&self, ctx: &Ctx, source: &Source, task: &Task) -> Result<()> {
        if !matches!(source, Source::GlanceDownload { .. }) {
            return Ok(());
        }
        let token = ctx.token.clone().ok_or_else(|| Error::unauthorized("A token is needed."))?;
        self.work.tokens.keep(&task.id, token, task.created_at);
        Ok(())
    }
}

/// As upstream: what fills stores is for administrators.
fn may_copy(caller: &Caller) -> Result<()> {
    match caller.admin {
        true => Ok(()),
        false => Err(Error::forbidden("You are not authorized to complete copy_image action.")),
    }
}

fn check_status(record: &Record, source: &Source) -> Result<()> {
    let conflict = |message: &str| Err(Error::conflict(message.to_owned()));
    match (source, record.status) {
        (Source::CopyImage, ImageStatus::Active) => {}
        (Source::CopyImage, _) => return conflict("Only images with status active can be targeted for copying"),
        (_, ImageStatus::Active) => return conflict("Image with status active cannot be target for import"),
        (Source::GlanceDirect, ImageStatus::Uploading) if record.claim.is_none() => {}
        (Source::GlanceDirect, _) => {
            return conflict("Image needs to be staged before 'glance-direct' method can be used");
        }
        (_, ImageStatus::Queued) => {}
        (source, _) => {
            let name = source.name();
            return conflict(&format!("Image needs to be in 'queued' state to use '{name}' method"));
        }
    }
    if record.meta.container_format.is_none() {
        return conflict("'container_format' needs to be set before import");
    }
    if record.meta.disk_format.is_none() {
        return conflict("'disk_format' needs to be set before import");
    }
    Ok(())
}

/// One import at a time. A property without its workflow is left over and keeps nobody off.
async fn check_lock(tx: &mut Tx<Image>, record: &Record) -> Result<()> {
    let Some(Some(task)) = record.meta.properties.get(IMPORT_TASK) else {
        return Ok(());
    };
    match umbel_workflow::pending(tx, ImportFlow::KIND, task).await? {
        true => Err(Error::conflict(format!(
            "New operation on image '{}' is not permitted as prior operation is still in progress",
            record.id
        ))),
        false => Ok(()),
    }
}

/// Stores that lack the image. 400 if one of those that were named has it.
fn missing(record: &Record, wanted: &[String], all: bool) -> Result<Vec<String>> {
    let has = |name: &&String| record.places.iter().any(|place| place.store == **name);
    match wanted.iter().find(has) {
        Some(name) if !all => Err(Error::bad_request(format!("Image is already present at store '{name}'"))),
        _ => Ok(wanted.iter().filter(|name| !has(name)).cloned().collect()),
    }
}

#[cfg(test)]
mod tests {
    use umbel_api::image::{ContainerFormat, DiskFormat};
    use umbel_core::{Generation, Id, Kind, SystemRng, Timestamp};

    use super::*;
    use crate::model::{Data, Meta, Place};

    fn record(status: ImageStatus) -> Record {
        let meta = Meta {
            disk_format: Some(DiskFormat::Raw),
            container_format: Some(ContainerFormat::Bare),
            ..Meta::new(Some("p".into()))
        };
        let now = Timestamp::from_secs(1);
        Record {
            id: Id::random(&SystemRng::new()),
            generation: Generation::default(),
            status,
            meta,
            data: Data::default(),
            places: Vec::new(),
            web: Vec::new(),
            created_at: now,
            updated_at: now,
            claim: None,
            uploaded: 0,
        }
    }

    #[test]
    fn the_status_says_what_can_be_imported() {
        let web = Source::WebDownload { uri: "http://a".into() };
        let check = |status: ImageStatus, source: &Source, want: bool| {
            let result = check_status(&record(status), source);
            assert_eq!(result.is_ok(), want, "{status} {source:?}");
            assert!(result.err().is_none_or(|error| error.is(Kind::Conflict)));
        };
        check(ImageStatus::Queued, &web, true);
        check(ImageStatus::Queued, &Source::GlanceDirect, false);
        check(ImageStatus::Queued, &Source::CopyImage, false);
        check(ImageStatus::Uploading, &Source::GlanceDirect, true);
        check(ImageStatus::Uploading, &web, false);
        check(ImageStatus::Active, &Source::CopyImage, true);
        check(ImageStatus::Active, &web, false);
        check(ImageStatus::Active, &Source::GlanceDirect, false);
        check(ImageStatus::Importing, &web, false);
        check(ImageStatus::Saving, &Source::GlanceDirect, false);
        let mut bare = record(ImageStatus::Queued);
        bare.meta.disk_format = None;
        assert!(check_status(&bare, &web).is_err());
    }

    #[test]
    fn copies_go_where_the_image_is_not() {
        let mut image = record(ImageStatus::Active);
        let place = |store: &str| Place { store: store.into(), disk: "d".into(), url: "u".into(), format: None };
        image.places = vec![place("a"), place("b")];
        let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(missing(&image, &names(&["a", "b", "c"]), true).unwrap(), names(&["c"]));
        assert_eq!(missing(&image, &names(&["c"]), false).unwrap(), names(&["c"]));
        assert_eq!(missing(&image, &names(&["a", "c"]), false).unwrap_err().kind(), Kind::BadRequest);
        assert!(missing(&image, &names(&["a"]), true).unwrap().is_empty());
    }
}
