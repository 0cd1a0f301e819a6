//! Places of an image's data, for services: where to clone from, and data that a service put into a store itself (a
//! server's snapshot made inside the pool).

use serde_json::{Value, json};
use umbel_api::image::{DiskFormat, ImageStatus, NewLocation, TaskType, ValidationData};
use umbel_core::{Ctx, Error, Kind, Result};
use umbel_db::tx;
use umbel_driver::Location;

use super::data::{Aim, storage_fault};
use super::{Caller, flatten, intake, uploads, web_places};
use crate::model::{Claim, Data, ImageId, Place, Record, SNAPSHOT};
use crate::store::{claims, images as rows, locations, tasks, web_places as web_rows};
use crate::{Images, Store};

impl Images {
    /// Makes a queued image active with data that a service has somewhere as a snapshot.
    ///
    /// In one of our stores, the image owns the disk from then on: it goes when the image does. Anywhere else that a store
    /// can clone from, the store clones it, and the clone is made to stand alone later: the caller may remove its snapshot
    /// as soon as this has answered.
    pub async fn add_location(&self, ctx: &Ctx, id: ImageId, new: &NewLocation) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let hashes = check_hashes(new.validation_data.as_ref())?;
        let member = ctx.principal.as_ref().is_some_and(|principal| principal.has_role("member"));
        if !member && !caller.admin && !caller.service && !ctx.is_service() {
            return Err(Error::forbidden("Policy doesn't allow add_image_location to be performed."));
        }
        if web_places::is_web(&new.url) {
            return self.add_web_place(ctx, &caller, id, &new.url, hashes).await;
        }
        if !caller.service && !caller.admin && !ctx.is_service() {
            return Err(Error::forbidden("A place in a store is for services to tell."));
        }
        let location: Location = new.url.parse()?;
        match self.store_of(&location) {
            Some(store) => self.adopt_location(ctx, &caller, id, &location, store, hashes).await,
            None => self.clone_location(ctx, &caller, id, &location, hashes).await,
        }
    }

    async fn adopt_location(
        &self,
        ctx: &Ctx,
        caller: &Caller,
        id: ImageId,
        location: &Location,
        store: &Store,
        hashes: Data,
    ) -> Result<()> {
        let size = snapshot_size(store, location).await?;
        let now = self.clock.now();
        let task = self.done_task(ctx, TaskType::LocationImport, id, task_input(id, &location.to_string()));
        let added = tx!(self.db, "add location", |tx| {
            let record = caller.lock(tx, id).await?;
            check_ready(&record)?;
            let place = Place {
                store: store.name.clone(),
                disk: location.disk.clone(),
                url: location.to_string(),
                format: record.meta.disk_format,
            };
            locations::insert(tx, id, &place, now).await?;
            if !record.web.is_empty() {
                web_rows::write(tx, id, &[]).await?;
            }
            tasks::insert(tx, &task).await?;
            let data = Data { size: Some(size), virtual_size: Some(size), ..hashes.clone() };
            rows::set_data(tx, &record, &data, now).await
        });
        added.map_err(|error| match error.is(Kind::Conflict) && error.cause().is_some() {
            true => Error::conflict("Another image is at this location already.").because(error.for_log()),
            false => error,
        })
    }

    /// The clone is made under a claim, as uploads are: whoever dies in between leaves nothing behind that the sweep does
    /// not find.
    async fn clone_location(
        &self,
        ctx: &Ctx,
        caller: &Caller,
        id: ImageId,
        location: &Location,
        hashes: Data,
    ) -> Result<()> {
        let store = self.cloning_store(location).await?;
        let claim = self.new_claim(id, &store.name, id.to_string());
        let now = self.clock.now();
        let format = tx!(self.db, "claim location", |tx| {
            let record = caller.lock(tx, id).await?;
            check_ready(&record)?;
            let most = self.room(tx, record.meta.owner.as_deref(), Aim::Store).await?;
            claims::take(tx, &record, &claim, ImageStatus::Saving, now).await?;
            Ok((record.meta.disk_format, most))
        });
        let (format, most) = format?;
        let cloned = match clone(store, location, &claim.disk).await {
            Ok(size) if size > most => Err(intake::too_large(most)),
            cloned => cloned,
        };
        let done = match cloned {
            Ok(size) => {
                let data = Data { size: Some(size), virtual_size: Some(size), ..hashes };
                self.complete_clone(ctx, &claim, store, location, format, &data).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.give_up(&claim, &*store.pool).await;
            return Err(error);
        }
        self.nudge();
        Ok(())
    }

    async fn complete_clone(
        &self,
        ctx: &Ctx,
        claim: &Claim,
        store: &Store,
        from: &Location,
        format: Option<DiskFormat>,
        data: &Data,
    ) -> Result<()> {
        let url = store.pool.location(&claim.disk, SNAPSHOT).to_string();
        let place = Place { store: store.name.clone(), disk: claim.disk.clone(), url, format };
        let task =
            self.new_task(ctx, TaskType::LocationImport, claim.image, task_input(claim.image, &from.to_string()));
        let now = self.clock.now();
        let completed = tx!(self.db, "complete location", |tx| {
            if !claims::complete(tx, claim, data, &place, now).await? {
                return Ok(false);
            }
            tasks::insert(tx, &task).await?;
            flatten::enqueue(tx, &task.id, claim.image, &place, Some(&task.id), &ctx.request_id, now).await?;
            Ok(true)
        })?;
        match completed {
            true => Ok(()),
            false => Err(uploads::lost()),
        }
    }

    /// The default store if it can clone from there, or the first that can; 400 with the reason if none can.
    async fn cloning_store(&self, location: &Location) -> Result<&Store> {
        let default = self.store(None)?;
        let others = self.stores.iter().filter(|store| store.name != default.name);
        let mut reason = None;
        for store in std::iter::once(default).chain(others) {
            match store.pool.can_clone(location).await {
                Ok(()) => return Ok(store),
                Err(why) => reason = reason.or(Some(why)),
            }
        }
        let reason = reason.unwrap_or_default();
        let message =
            format!("The location {location} is in no store of this service, and none can clone it. {reason}");
        Err(Error::bad_request(message))
    }

    /// The store of ours that a location is in: same scheme, cluster and pool.
    fn store_of(&self, location: &Location) -> Option<&Store> {
        let ours = |store: &&Store| store.pool.location(&location.disk, &location.snapshot) == *location;
        self.stores.iter().find(ours)
    }
}

pub(super) fn task_input(id: ImageId, location: &str) -> Value {
    json!({"image_id": id, "loc_url": location, "validation_data": {}})
}

pub(super) fn check_ready(record: &Record) -> Result<()> {
    if record.status != ImageStatus::Queued {
        let status = record.status;
        return Err(Error::conflict(format!("It's not allowed to add locations if image status is {status}.")));
    }
    match (record.meta.disk_format, record.meta.container_format) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err(Error::bad_request("The image's disk_format and container_format must be set first.")),
    }
}

/// Its size.
async fn clone(store: &Store, location: &Location, disk: &str) -> Result<u64> {
    let pool = &store.pool;
    // Left by an upload that lost its claim: the name is ours now.
    pool.remove(disk).await?;
    let cloned = pool.clone_disk(location, disk, 0).await;
    cloned.map_err(|error| match error.kind() {
        Kind::NotFound => Error::bad_request(format!("There is no data at {location}.")).because(error.for_log()),
        _ => storage_fault(error),
    })?;
    pool.snapshot(disk, SNAPSHOT).await.map_err(storage_fault)?;
    let info = pool.stat(disk).await?;
    info.map(|info| info.size).ok_or_else(|| Error::internal("a clone is gone as soon as it was made"))
}

async fn snapshot_size(store: &Store, location: &Location) -> Result<u64> {
    let missing = || Error::bad_request(format!("There is no data at {location}."));
    let info = store.pool.stat(&location.disk).await?.ok_or_else(missing)?;
    match info.snapshots.contains(&location.snapshot) {
        true => Ok(info.size),
        false => Err(missing()),
    }
}

/// 400 for what is no hash.
pub(super) fn check_hashes(given: Option<&ValidationData>) -> Result<Data> {
    let Some(given) = given else {
        return Ok(Data::default());
    };
    let hex = |text: &Option<String>, length: usize, name: &str| match text {
        Some(text) if text.len() != length || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            Err(Error::bad_request(format!("{name} is not {length} hexadecimal digits.")))
        }
        _ => Ok(text.as_ref().map(|text| text.to_ascii_lowercase())),
    };
    let checksum = hex(&given.checksum, 32, "checksum")?;
    let algorithm = match (&given.os_hash_algo, &given.os_hash_value) {
        (Some(algorithm), _) => algorithm,
        (None, Some(_)) => return Err(Error::bad_request("os_hash_algo is missing.")),
        (None, None) => return Ok(Data { checksum, ..Data::default() }),
    };
    let Some((algorithm, length)) = intake::HASHES.into_iter().find(|(name, _)| name == algorithm) else {
        let known = intake::HASHES.map(|(name, _)| name).join(", ");
        return Err(Error::bad_request(format!("os_hash_algo must be one of {known}.")));
    };
    let hash = hex(&given.os_hash_value, length, "os_hash_value")?;
    Ok(Data { checksum, hash_algorithm: hash.as_ref().map(|_| algorithm.to_owned()), hash, ..Data::default() })
}
