use serde_json::{Map, Value};
use umbel_api::image::{ImageStatus, Visibility};
use umbel_core::{Ctx, Error, Generation, Id, Kind, Result};
use umbel_db::{read, tx};

use super::Caller;
use crate::listing::Listing;
use crate::model::{Data, ImageId, Meta, Record, TWIN_PROPERTY};
use crate::patch::{Change, Rights};
use crate::store::images as rows;
use crate::{Images, fields, patch};

impl Images {
    /// A new image without data. `body` is the request's, of which every member is an attribute or custom property.
    pub async fn create(&self, ctx: &Ctx, body: Map<String, Value>) -> Result<Record> {
        let record = self.new_record(ctx, body)?;
        let created = tx!(self.db, "create image", |tx| {
            self.check_count(tx, record.meta.owner.as_deref()).await?;
            rows::insert(tx, &record).await
        });
        created.map_err(|error| match error.kind() {
            Kind::Conflict => Error::conflict(format!("Image ID {} already exists!", record.id)),
            _ => error,
        })?;
        Ok(record)
    }

    pub(super) fn new_record(&self, ctx: &Ctx, mut body: Map<String, Value>) -> Result<Record> {
        let caller = Caller::of(ctx)?;
        let id = match body.remove("id") {
            Some(id) => chosen_id(&id)?,
            None => Id::random(&*self.rng),
        };
        let meta = self.new_meta(&caller, body)?;
        let now = self.clock.now();
        Ok(Record {
            id,
            generation: Generation::default(),
            status: ImageStatus::Queued,
            meta,
            data: Data::default(),
            places: Vec::new(),
            web: Vec::new(),
            created_at: now,
            updated_at: now,
            claim: None,
            uploaded: 0,
        })
    }

    fn new_meta(&self, caller: &Caller, body: Map<String, Value>) -> Result<Meta> {
        let mut meta = Meta::new(caller.project.clone());
        // Clients that make an image like another send what they were shown of that one.
        for (name, value) in body.into_iter().filter(|(name, _)| name != TWIN_PROPERTY) {
            fields::check_writable(&name)?;
            fields::set(&mut meta, &name, value)?;
        }
        if meta.owner != caller.project && !caller.admin {
            let owner = meta.owner.as_deref().unwrap_or("nobody");
            return Err(Error::forbidden(format!("You are not permitted to create images owned by '{owner}'.")));
        }
        patch::check_visibility(Visibility::Private, &meta, caller.admin)?;
        fields::check_quotas(&meta, &self.config)?;
        Ok(meta)
    }

    pub async fn show(&self, ctx: &Ctx, id: ImageId) -> Result<Record> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "show image", |tx| caller.get(tx, id).await)
    }

    /// A page of images, and whether another follows.
    pub async fn list(&self, ctx: &Ctx, listing: &Listing) -> Result<(Vec<Record>, bool)> {
        let caller = Caller::of(ctx)?;
        let own = caller.project.as_deref();
        read!(self.db, "list images", |tx| rows::list(tx, &caller.visible, own, listing).await)
    }

    /// All changes or none.
    pub async fn update(&self, ctx: &Ctx, id: ImageId, changes: Vec<Change>) -> Result<Record> {
        let caller = Caller::of(ctx)?;
        let (locations, changes) = self.locations_first(changes);
        let locations = self.look_at(locations).await?;
        let now = self.clock.now();
        tx!(self.db, "update image", |tx| {
            let mut record = caller.lock_own(tx, id).await?;
            for change in &locations {
                record = self.change_web_places(tx, &caller, record, change, now).await?;
            }
            if changes.is_empty() {
                return Ok(record);
            }
            let rights = Rights { admin: caller.admin, formats: record.status == ImageStatus::Queued };
            let mut meta = record.meta.clone();
            patch::apply(&mut meta, changes.clone(), rights)?;
            // An image over a limit that was lowered later can still be changed, only not grow.
            if meta.properties.len() > record.meta.properties.len() || meta.tags.len() > record.meta.tags.len() {
                fields::check_quotas(&meta, &self.config)?;
            }
            rows::update(tx, &record, &meta, now).await?;
            Ok(Record { meta, updated_at: now, generation: record.generation.next(), ..record })
        })
    }
}

/// Some clients choose the id, to be able to create the same image again.
fn chosen_id(value: &Value) -> Result<ImageId> {
    let text = value.as_str().filter(|text| fields::is_uuid(text));
    match text {
        Some(text) => text.parse(),
        None => Err(Error::bad_request("Invalid image object: 'id' must be a UUID.")),
    }
}
