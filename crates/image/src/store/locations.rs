use umbel_core::{Result, Timestamp};
use umbel_db::{Tx, args};

use super::{Image, parts};
use crate::model::{ImageId, Place};

/// [`umbel_core::Kind::Conflict`] if another image is there.
pub async fn insert(tx: &mut Tx<Image>, image: ImageId, place: &Place, now: Timestamp) -> Result<()> {
    parts::insert_place(tx, image, place, now).await
}

/// Whether a place belongs to an image, deleted ones whose data are still there included.
pub async fn is_taken(tx: &mut Tx<Image>, store: &str, disk: &str) -> Result<bool> {
    let sql = "SELECT image_id FROM image_locations WHERE store = ? AND disk = ?";
    Ok(tx.fetch_opt(sql, args![store, disk]).await?.is_some())
}
