use umbel_core::{Result, Timestamp};
use umbel_db::Tx;

use super::{Image, parts};
use crate::model::{ImageId, Place};

/// [`umbel_core::Kind::Conflict`] if another image is there.
pub async fn insert(tx: &mut Tx<Image>, image: ImageId, place: &Place, now: Timestamp) -> Result<()> {
    parts::insert_place(tx, image, place, now).await
}

/// False if the image is not in this store.
pub async fn delete(tx: &mut Tx<Image>, image: ImageId, store: &str) -> Result<bool> {
    parts::delete_place(tx, image, store).await
}
