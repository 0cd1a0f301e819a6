//! What an administrator asked to have cached. See [`crate::Images::cached`].

use umbel_core::{Result, Timestamp};
use umbel_db::{Tx, args};

use super::Image;
use crate::model::ImageId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    pub image: ImageId,
    /// Bytes.
    pub size: u64,
    pub since: Timestamp,
}

/// One that is there already keeps its time.
pub async fn insert(tx: &mut Tx<Image>, cached: &Cached) -> Result<()> {
    let sql = "INSERT IGNORE INTO image_cache (image_id, size, created_at) VALUES (?, ?, ?)";
    tx.execute(sql, args![cached.image, cached.size, cached.since]).await?;
    Ok(())
}

pub async fn list(tx: &mut Tx<Image>) -> Result<Vec<Cached>> {
    let sql = "SELECT image_id, size, created_at FROM image_cache ORDER BY created_at, image_id";
    let rows = tx.fetch_all(sql, args![]).await?;
    rows.iter()
        .map(|row| Ok(Cached { image: row.id("image_id")?, size: row.uint("size")?, since: row.time("created_at")? }))
        .collect()
}

/// False if it was not there.
pub async fn delete(tx: &mut Tx<Image>, image: ImageId) -> Result<bool> {
    Ok(tx.execute("DELETE FROM image_cache WHERE image_id = ?", args![image]).await? > 0)
}

pub async fn clear(tx: &mut Tx<Image>) -> Result<()> {
    tx.execute("DELETE FROM image_cache", args![]).await?;
    Ok(())
}
