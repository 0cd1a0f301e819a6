//! Places of an image's data, for services: where to clone from, and data that a service put into a store itself (a
//! server's snapshot made inside the pool).

use umbel_api::image::{ImageStatus, NewLocation, ValidationData};
use umbel_core::{Ctx, Error, Kind, Result};
use umbel_db::{read, tx};
use umbel_driver::Location;

use super::Caller;
use crate::model::{Data, HASH_ALGORITHM, ImageId, Place};
use crate::store::{images as rows, locations};
use crate::{Images, Store};

impl Images {
    pub async fn locations(&self, ctx: &Ctx, id: ImageId) -> Result<Vec<Place>> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "list locations", |tx| Ok(caller.get(tx, id).await?.places))
    }

    /// Makes a queued image active with data that are in one of our stores already, as a snapshot that clones can be
    /// made of. The image owns the disk from then on: it goes when the image does.
    pub async fn add_location(&self, ctx: &Ctx, id: ImageId, new: &NewLocation) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let hashes = check_hashes(new.validation_data.as_ref())?;
        let location: Location = new.url.parse()?;
        let store = self.store_of(&location)?;
        let size = snapshot_size(store, &location).await?;
        let now = self.clock.now();
        let added = tx!(self.db, "add location", |tx| {
            let record = caller.lock(tx, id).await?;
            if record.status != ImageStatus::Queued {
                let status = record.status;
                let message = format!("It's not allowed to add locations if image status is {status}.");
                return Err(Error::conflict(message));
            }
            if record.meta.disk_format.is_none() || record.meta.container_format.is_none() {
                return Err(Error::bad_request("The image's disk_format and container_format must be set first."));
            }
            let place = Place {
                store: store.name.clone(),
                disk: location.disk.clone(),
                url: location.to_string(),
                format: record.meta.disk_format,
            };
            locations::insert(tx, id, &place, now).await?;
            let data = Data { size: Some(size), virtual_size: Some(size), ..hashes.clone() };
            rows::set_data(tx, &record, &data, now).await
        });
        added.map_err(|error| match error.is(Kind::Conflict) && error.cause().is_some() {
            true => Error::conflict("Another image is at this location already.").because(error.for_log()),
            false => error,
        })
    }

    /// The store of ours that a location is in: same scheme, cluster and pool.
    fn store_of(&self, location: &Location) -> Result<&Store> {
        let ours = |store: &&Store| store.pool.location(&location.disk, &location.snapshot) == *location;
        self.stores
            .iter()
            .find(ours)
            .ok_or_else(|| Error::bad_request(format!("The location {location} is in no store of this service.")))
    }
}

async fn snapshot_size(store: &Store, location: &Location) -> Result<u64> {
    let missing = || Error::bad_request(format!("There is no data at {location}."));
    let info = store.pool.stat(&location.disk).await?.ok_or_else(missing)?;
    match info.snapshots.contains(&location.snapshot) {
        true => Ok(info.size),
        false => Err(missing()),
    }
}

fn check_hashes(given: Option<&ValidationData>) -> Result<Data> {
    let Some(given) = given else {
        return Ok(Data::default());
    };
    let hex = |text: &Option<String>, length: usize, name: &str| match text {
        Some(text) if text.len() != length || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            Err(Error::bad_request(format!("{name} is not {length} hexadecimal digits.")))
        }
        _ => Ok(text.as_ref().map(|text| text.to_ascii_lowercase())),
    };
    if given.os_hash_algo.as_deref().is_some_and(|algorithm| algorithm != HASH_ALGORITHM) {
        return Err(Error::bad_request(format!("os_hash_algo must be {HASH_ALGORITHM}.")));
    }
    let hash = hex(&given.os_hash_value, 128, "os_hash_value")?;
    Ok(Data {
        checksum: hex(&given.checksum, 32, "checksum")?,
        hash_algorithm: hash.as_ref().map(|_| HASH_ALGORITHM.to_owned()),
        hash,
        ..Data::default()
    })
}
