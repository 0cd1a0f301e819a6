use umbel_core::{Error, Result, Timestamp};
use umbel_db::Tx;

use super::{Image, parts, twins};
use crate::model::{ImageId, Place};

/// [`umbel_core::Kind::Conflict`] if another image is there.
pub async fn insert(tx: &mut Tx<Image>, image: ImageId, place: &Place, now: Timestamp) -> Result<()> {
    if twins::owns(tx, &place.store, &place.disk).await? {
        return Err(Error::conflict("Another image is at this location.").because("a twin's disk"));
    }
    parts::insert_place(tx, image, place, now).await
}

/// False if the image is not in this store.
pub async fn delete(tx: &mut Tx<Image>, image: ImageId, store: &str) -> Result<bool> {
    parts::delete_place(tx, image, store).await
}
