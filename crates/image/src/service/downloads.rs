//! Downloads, and which store to take data from.

use umbel_api::image::{DiskFormat, ImageStatus};
use umbel_core::{Ctx, Error, Result};
use umbel_db::read;
use umbel_driver::ByteStream;

use super::{Caller, Range};
use crate::model::{ImageId, Place, SNAPSHOT};
use crate::{Images, Store};

pub struct Download {
    /// Of all the data.
    pub size: u64,
    pub checksum: Option<String>,
    pub format: Option<DiskFormat>,
    /// The part that is sent; all if none.
    pub range: Option<Range>,
    pub stream: ByteStream,
}

impl Images {
    /// The data, or a part of them; none if there are none. `prefer` names the stores to read from, if they are there.
    pub async fn download(
        &self,
        ctx: &Ctx,
        id: ImageId,
        range: Option<&str>,
        prefer: &[&str],
    ) -> Result<Option<Download>> {
        let caller = Caller::of(ctx)?;
        let record = read!(self.db, "find data", |tx| caller.get(tx, id).await)?;
        if record.status == ImageStatus::Deactivated && !caller.admin {
            let message = "The requested image has been deactivated. Image data download is forbidden.";
            return Err(Error::forbidden(message));
        }
        let Some(size) = record.data.size else {
            return Ok(None);
        };
        let range = Range::parse(range, size)?;
        let Some(place) = self.preferred(&record.places, prefer) else {
            return match record.web.is_empty() {
                true => Ok(None),
                false => {
                    let stream = self.read_from_web(&record, range, size).await?;
                    let (checksum, format) = (record.data.checksum, record.meta.disk_format);
                    Ok(Some(Download { size, checksum, format, range, stream }))
                }
            };
        };
        let pool = &self.store(Some(&place.store))?.pool;
        let (offset, length) = range.map_or((0, size), |range| (range.first, range.length()));
        let stream = pool.read(&place.disk, Some(SNAPSHOT), offset, length).await?;
        let format = place.format.or(record.meta.disk_format);
        Ok(Some(Download { size, checksum: record.data.checksum, format, range, stream }))
    }

    /// The first that was asked for, or the one whose store weighs most.
    pub(crate) fn preferred<'a>(&self, places: &'a [Place], prefer: &[&str]) -> Option<&'a Place> {
        let asked = prefer.iter().find_map(|name| places.iter().find(|place| place.store == *name));
        // Of equal ones the first: `max_by_key` would take the last.
        asked.or_else(|| places.iter().rev().max_by_key(|place| self.weight(&place.store)))
    }

    pub(crate) fn weight(&self, store: &str) -> i64 {
        self.config.store_weights.get(store).copied().unwrap_or(0)
    }

    /// The store of this name, or the default one.
    pub(crate) fn store(&self, name: Option<&str>) -> Result<&Store> {
        let found = match name {
            Some(name) => self.stores.iter().find(|store| store.name == name),
            None => self.stores.iter().find(|store| store.default).or(self.stores.first()),
        };
        found.ok_or_else(|| Error::bad_request(format!("Unknown store '{}'.", name.unwrap_or("default"))))
    }
}
