//! Images whose data stay on the web, which is a store that nobody writes: upstream's `http`.
//!
//! Such an image has URLs in place of disks. Its data are read from there whenever somebody wants them, by the filters of
//! `web-download`: a URL that passed once may not pass later. Nothing of it is ever deleted, and none of it counts for a
//! quota. An image is either in stores or on the web: places of both kinds in one list, as upstream has them, would let
//! an owner put other data beside those that the service has looked into.
//!
//! Who may: the image's owner, by `POST .../locations` since that is no way past the API here, and by `PATCH` where
//! `show_multiple_locations` says so. Taking a URL away is an administrator's matter, as upstream's policy has it.

use std::cmp::min;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, future};
use serde_json::{Map, Value};
use umbel_api::image::{DiskFormat, ImageStatus, TaskType, ValidationData};
use umbel_core::{Ctx, Error, Kind, Result, Timestamp};
use umbel_db::{Tx, tx};
use umbel_driver::ByteStream;

use super::locations::{check_hashes, check_ready, task_input};
use super::{Caller, Range, web_hash};
use crate::Images;
use crate::model::{Data, HASH_ALGORITHM, ImageId, Record, WebPlace};
use crate::patch::{Change, LocationsChange};
use crate::store::{Image, images as rows, tasks, web_places};

/// URLs of one image.
const MAX_PLACES: usize = 10;

/// A change to an image's URLs, each of which was asked for its data's size.
#[derive(Clone, Debug)]
pub(super) enum WebChange {
    Add(Option<usize>, Found),
    /// The same URLs with other metadata, or the first of an image.
    Replace(Vec<Found>),
    Remove(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Found {
    place: WebPlace,
    size: u64,
    validation: Option<ValidationData>,
}

pub(super) fn is_web(url: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| url.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme)))
}

impl Images {
    /// Changes to locations, where they can be seen, and all others.
    pub(super) fn locations_first(&self, changes: Vec<Change>) -> (Vec<LocationsChange>, Vec<Change>) {
        let (mut locations, mut others) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Locations(change) if self.config.show_multiple_locations => locations.push(change),
                other => others.push(other),
            }
        }
        (locations, others)
    }

    pub(super) async fn look_at(&self, changes: Vec<LocationsChange>) -> Result<Vec<WebChange>> {
        let mut looked_at = Vec::new();
        for change in changes {
            looked_at.push(match change {
                LocationsChange::Add(at, value) => WebChange::Add(at, self.find_on_web(value).await?),
                LocationsChange::Remove(at) => WebChange::Remove(at),
                LocationsChange::Replace(Value::Array(values)) if values.len() <= MAX_PLACES => {
                    let mut found = Vec::new();
                    for value in values {
                        found.push(self.find_on_web(value).await?);
                    }
                    WebChange::Replace(found)
                }
                LocationsChange::Replace(_) => {
                    return Err(Error::bad_request(format!("Locations are a list of at most {MAX_PLACES} objects.")));
                }
            });
        }
        Ok(looked_at)
    }

    async fn find_on_web(&self, value: Value) -> Result<Found> {
        let bad = || Error::bad_request("A location has a url, metadata, and perhaps validation_data.");
        let Value::Object(mut members) = value else {
            return Err(bad());
        };
        let url = members.remove("url").and_then(|url| url.as_str().map(str::to_owned)).ok_or_else(bad)?;
        let mut metadata: Map<String, Value> = match members.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            None => Map::new(),
            Some(_) => return Err(bad()),
        };
        // Shown, and not the owner's to say.
        metadata.remove("store");
        let validation = members.remove("validation_data").filter(|given| !given.is_null());
        let validation = validation.map(serde_json::from_value).transpose().map_err(|_| bad())?;
        let size = self.size_on_web(&url).await?;
        Ok(Found { place: WebPlace { url, metadata }, size, validation })
    }

    /// Bytes at a URL; 400 if it may not be asked, or does not tell.
    async fn size_on_web(&self, url: &str) -> Result<u64> {
        if !is_web(url) || self.config.web_store.is_none() {
            return Err(Error::bad_request(format!("Invalid location: {url} is in no store of this service.")));
        }
        let fetched = self.fetcher()?.get(url).await.map_err(|error| {
            Error::bad_request(format!("Invalid location: {}", error.message())).because(error.for_log())
        })?;
        fetched.length.ok_or_else(|| Error::bad_request(format!("Invalid location: {url} does not tell its size.")))
    }

    /// The record as it is then.
    pub(super) async fn change_web_places(
        &self,
        tx: &mut Tx<Image>,
        caller: &Caller,
        record: Record,
        change: &WebChange,
        now: Timestamp,
    ) -> Result<Record> {
        if !matches!(record.status, ImageStatus::Queued | ImageStatus::Active) {
            let status = record.status;
            return Err(Error::conflict(format!("It's not allowed to change locations if image status is {status}.")));
        }
        if !record.places.is_empty() {
            return Err(Error::conflict("The image's data are in a store, and cannot be on the web too."));
        }
        // What was found wanting, and stayed to be looked at.
        let mut web = if record.status == ImageStatus::Queued { Vec::new() } else { record.web.clone() };
        let mut data = record.data.clone();
        match change {
            WebChange::Add(at, found) => {
                data = known(&record, found, web.is_empty())?;
                web.insert(min(at.unwrap_or(web.len()), web.len()), found.place.clone());
            }
            WebChange::Replace(all) => {
                let urls = |places: &[WebPlace]| places.iter().map(|place| place.url.clone()).collect::<Vec<_>>();
                let new: Vec<WebPlace> = all.iter().map(|found| found.place.clone()).collect();
                if !web.is_empty() && urls(&new) != urls(&web) {
                    let message = "Cannot replace locations from a non-empty list to other locations.";
                    return Err(Error::bad_request(message));
                }
                for found in all {
                    data = known(&record, found, web.is_empty())?;
                }
                web = new;
            }
            WebChange::Remove(_) if !caller.admin => {
                return Err(Error::forbidden("Locations are removed by administrators."));
            }
            WebChange::Remove(at) if *at >= web.len() => {
                return Err(Error::not_found("Invalid position to remove location from."));
            }
            WebChange::Remove(_) if web.len() == 1 => {
                return Err(Error::forbidden("It's not allowed to remove the last location of an image."));
            }
            WebChange::Remove(at) => drop(web.remove(*at)),
        }
        if web.len() > MAX_PLACES {
            return Err(Error::bad_request(format!("An image has at most {MAX_PLACES} locations.")));
        }
        if web.is_empty() {
            return Ok(record);
        }
        web_places::write(tx, record.id, &web).await?;
        rows::set_data(tx, &record, &data, now).await?;
        let generation = record.generation.next();
        Ok(Record { web, data, status: ImageStatus::Active, updated_at: now, generation, ..record })
    }

    /// Makes a queued image of data that are on the web. With a hash to compare them with, it is active when they were
    /// read; else at once, and they are hashed behind.
    pub(super) async fn add_web_place(
        &self,
        ctx: &Ctx,
        caller: &Caller,
        id: ImageId,
        url: &str,
        given: Data,
    ) -> Result<()> {
        let size = self.size_on_web(url).await?;
        let now = self.clock.now();
        let place = WebPlace { url: url.to_owned(), metadata: Map::new() };
        let secure = self.config.do_secure_hash;
        let input = task_input(id, url);
        let task = match secure {
            true => self.new_task(ctx, TaskType::LocationImport, id, input),
            false => self.done_task(ctx, TaskType::LocationImport, id, input),
        };
        tx!(self.db, "add location on the web", |tx| {
            let record = caller.lock_own(tx, id).await?;
            check_ready(&record)?;
            web_places::write(tx, id, std::slice::from_ref(&place)).await?;
            tasks::insert(tx, &task).await?;
            let data = Data { size: Some(size), virtual_size: virtual_size(&record, size), ..given.clone() };
            if !secure {
                return rows::set_data(tx, &record, &data, now).await;
            }
            web_hash::enqueue(tx, &task.id, id, url, &given, &ctx.request_id, now).await?;
            match given.hash.is_some() {
                true => rows::set_status(tx, &record, ImageStatus::Importing, now).await,
                false => {
                    let hash_algorithm = Some(HASH_ALGORITHM.to_owned());
                    rows::set_data(tx, &record, &Data { hash_algorithm, ..data }, now).await
                }
            }
        })?;
        self.nudge();
        Ok(())
    }

    /// The data from the first URL that answers.
    pub(super) async fn read_from_web(&self, record: &Record, range: Option<Range>, size: u64) -> Result<ByteStream> {
        let fetcher = self.fetcher()?;
        let mut failure = Error::new(Kind::Gone, "The image has no place any more.");
        for place in &record.web {
            match fetcher.get(&place.url).await {
                Ok(found) if found.length.is_some_and(|length| length != size) => {
                    failure =
                        Error::unavailable("The image's data on the web have changed.").because(place.url.clone());
                }
                Ok(found) => {
                    return Ok(part(found.stream, range.map_or((0, size), |range| (range.first, range.length()))));
                }
                Err(error) => {
                    failure = Error::unavailable("The image's data on the web cannot be read.").because(error.for_log())
                }
            }
        }
        Err(failure)
    }
}

/// What is known of an image's data once one more URL has them. 409 for another hash than is known already.
fn known(record: &Record, found: &Found, first: bool) -> Result<Data> {
    let given = found.validation.as_ref();
    if !first {
        let data = &record.data;
        let differs = |given: &Option<String>, known: &Option<String>| given.is_some() && given != known;
        let wrong = given.is_some_and(|given| {
            differs(&given.checksum, &data.checksum)
                || differs(&given.os_hash_algo, &data.hash_algorithm)
                || differs(&given.os_hash_value, &data.hash)
        });
        return match wrong {
            true => Err(Error::conflict("The hashes are not those of the image's data.")),
            false => Ok(data.clone()),
        };
    }
    if record.meta.disk_format.is_none() || record.meta.container_format.is_none() {
        return Err(Error::bad_request("The image's disk_format and container_format must be set first."));
    }
    let hashes = check_hashes(given)?;
    Ok(Data { size: Some(found.size), virtual_size: virtual_size(record, found.size), ..hashes })
}

/// Nobody looks into what stays on the web.
pub(super) fn virtual_size(record: &Record, size: u64) -> Option<u64> {
    (record.meta.disk_format == Some(DiskFormat::Raw)).then_some(size)
}

/// So many bytes, from there on.
fn part(stream: ByteStream, (offset, length): (u64, u64)) -> ByteStream {
    let cut = stream.scan((offset, length), |(skip, left), item| {
        let cut = item.map(|mut chunk: Bytes| {
            let skipped = min(*skip, chunk.len() as u64);
            chunk.advance(usize::try_from(skipped).unwrap_or(chunk.len()));
            chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            (*skip, *left) = (*skip - skipped, *left - chunk.len() as u64);
            chunk
        });
        let over = *left == 0 && cut.as_ref().is_ok_and(Bytes::is_empty);
        future::ready((!over).then_some(cut))
    });
    Box::pin(cut)
}

#[cfg(test)]
mod tests {
    use futures_util::{TryStreamExt, stream};

    use super::*;

    #[test]
    fn urls_of_the_web_are_told_apart() {
        assert!(is_web("http://a/b") && is_web("HTTPS://a/b"));
        assert!(!is_web("rbd://a/b/c/d") && !is_web("gopher://a") && !is_web("http:"));
    }

    #[tokio::test]
    async fn parts_are_cut_out_of_chunks() {
        let check = async |offset, length, want: &str| {
            let chunks = ["abc", "", "defg", "h"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
            let got: Vec<Bytes> = part(Box::pin(stream::iter(chunks)), (offset, length)).try_collect().await.unwrap();
            assert_eq!(got.concat(), want.as_bytes(), "{offset}, {length}");
        };
        check(0, 8, "abcdefgh").await;
        check(2, 3, "cde").await;
        check(3, 1, "d").await;
        check(7, 9, "h").await;
        check(0, 0, "").await;
    }
}
