//! Places on the web, of images whose data are in no store.

use umbel_core::{Error, Result};
use umbel_db::{Tx, args};

use super::Image;
use crate::model::{ImageId, WebPlace};

/// `ordinal` is text, since it is read in one statement with texts.
pub(super) const WEB_PLACES: &[&str] = &["CREATE TABLE IF NOT EXISTS image_web_places (
        image_id VARCHAR(36) NOT NULL,
        ordinal VARCHAR(8) NOT NULL,
        url TEXT NOT NULL,
        metadata TEXT NOT NULL,
        PRIMARY KEY (image_id, ordinal))"];

/// These, in this order, and no others.
pub async fn write(tx: &mut Tx<Image>, image: ImageId, places: &[WebPlace]) -> Result<()> {
    tx.execute("DELETE FROM image_web_places WHERE image_id = ?", args![image]).await?;
    for (at, place) in places.iter().enumerate() {
        let metadata = serde_json::to_string(&place.metadata).map_err(Error::internal)?;
        let sql = "INSERT INTO image_web_places (image_id, ordinal, url, metadata) VALUES (?, ?, ?, ?)";
        tx.execute(sql, args![image, format!("{at:08}"), &place.url, metadata]).await?;
    }
    Ok(())
}
