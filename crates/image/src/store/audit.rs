//! What the comparison of pools with this database reads, and nothing else does: all of it at once.

use umbel_core::Result;
use umbel_db::{Row, Sql, Tx, args};

use super::Image;
use crate::model::{ImageId, staged_disk};

/// A disk that the database knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub image: ImageId,
    /// The image's; empty if it has none.
    pub name: String,
    pub store: String,
    pub disk: String,
    /// The image is unusable without it; others may be on their way in or out.
    pub expected: bool,
}

/// Every disk of every image, deleted ones and uploads under way included.
pub async fn disks(tx: &mut Tx<Image>) -> Result<Vec<Known>> {
    let sql = "SELECT l.image_id AS id, i.name AS name, l.store AS store, l.disk AS disk, \
            CASE WHEN i.status IN ('active', 'deactivated') THEN 1 ELSE 0 END AS expected \
            FROM image_locations l LEFT JOIN images i ON i.id = l.image_id \
        UNION ALL SELECT t.image_id, i.name, t.store, t.disk, \
            CASE WHEN t.state = 'ready' AND i.status IN ('active', 'deactivated') THEN 1 ELSE 0 END \
            FROM image_twins t LEFT JOIN images i ON i.id = t.image_id \
        UNION ALL SELECT s.image_id, i.name, s.store, s.disk, 0 \
            FROM image_stages s LEFT JOIN images i ON i.id = s.image_id";
    let mut known: Vec<Known> = tx.fetch_all(sql, args![]).await?.iter().map(read).collect::<Result<_>>()?;
    // A claim can be about either of two disks: see `claims::of_row`.
    let claims = "SELECT id, name, upload_store FROM images WHERE upload_store IS NOT NULL";
    for row in tx.fetch_all(claims, args![]).await? {
        let (image, store): (ImageId, _) = (row.id("id")?, row.text("upload_store")?);
        let name = row.opt_text("name")?.unwrap_or_default();
        for disk in [image.to_string(), staged_disk(image)] {
            known.push(Known { image, name: name.clone(), store: store.clone(), disk, expected: false });
        }
    }
    Ok(known)
}

/// Images with this id or name, deleted ones left out.
pub async fn find(tx: &mut Tx<Image>, text: &str) -> Result<Vec<(ImageId, String)>> {
    let sql = Sql::new("SELECT id, name FROM images")
        .and("status <> 'pending_delete'", args![])
        .and("id = ? OR name = ?", args![text, text]);
    let rows = tx.select(sql.push("ORDER BY id")).await?;
    rows.iter().map(|row| Ok((row.id("id")?, row.opt_text("name")?.unwrap_or_default()))).collect()
}

fn read(row: &Row) -> Result<Known> {
    Ok(Known {
        image: row.id("id")?,
        name: row.opt_text("name")?.unwrap_or_default(),
        store: row.text("store")?,
        disk: row.text("disk")?,
        expected: row.bool("expected")?,
    })
}
