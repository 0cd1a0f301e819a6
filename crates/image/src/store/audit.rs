//! What the comparison of pools with this database reads, and nothing else does: all of it at once.

use umbel_core::{Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, args};

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

/// Work on an image that takes its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub image: ImageId,
    /// The image's; empty if it has none.
    pub name: String,
    /// `upload`, `twin`, or a task's kind.
    pub what: String,
    pub began: Timestamp,
    /// Bytes.
    pub done: Option<u64>,
    /// Bytes.
    pub total: Option<u64>,
    pub note: Option<String>,
}

/// Uploads, conversions and tasks that are under way, some of them if there are more.
pub async fn running(tx: &mut Tx<Image>, limit: usize) -> Result<Vec<Running>> {
    let mut all = Vec::new();
    // An upload begins when its image was changed last: nothing else changes it meanwhile.
    let uploads = Sql::new("SELECT id, name, size, upload_bytes, updated_at FROM images")
        .and("upload_token IS NOT NULL", args![])
        .order(&[("id", Direction::Asc)]);
    for row in tx.select(uploads.limit(limit)).await? {
        all.push(Running {
            image: row.id("id")?,
            name: row.opt_text("name")?.unwrap_or_default(),
            what: "upload".to_owned(),
            began: row.time("updated_at")?,
            done: Some(row.uint("upload_bytes")?),
            total: row.opt_uint("size")?,
            note: None,
        });
    }
    let twins = "SELECT t.image_id AS id, i.name AS name, t.state AS state, t.bytes_done AS bytes_done, \
        t.bytes_total AS bytes_total, t.reason AS reason, t.created_at AS created_at \
        FROM image_twins t LEFT JOIN images i ON i.id = t.image_id";
    let twins = Sql::new(twins)
        .and_in("t.state", ["waiting", "running"])
        .order(&[("t.created_at", Direction::Asc), ("t.image_id", Direction::Asc)]);
    for row in tx.select(twins.limit(limit)).await? {
        let total = row.uint("bytes_total")?;
        let waits = row.text("state")? == "waiting";
        all.push(Running {
            image: row.id("id")?,
            name: row.opt_text("name")?.unwrap_or_default(),
            what: "twin".to_owned(),
            began: row.time("created_at")?,
            done: Some(row.uint("bytes_done")?),
            total: (total > 0).then_some(total),
            note: row.opt_text("reason")?.or_else(|| waits.then(|| "waiting".to_owned())),
        });
    }
    let tasks = "SELECT k.image_id AS id, i.name AS name, k.kind AS kind, k.message AS message, \
        k.created_at AS created_at FROM image_tasks k LEFT JOIN images i ON i.id = k.image_id";
    let tasks = Sql::new(tasks)
        .and_in("k.status", ["pending", "processing"])
        .and("k.image_id IS NOT NULL", args![])
        .order(&[("k.created_at", Direction::Asc), ("k.id", Direction::Asc)]);
    for row in tx.select(tasks.limit(limit)).await? {
        all.push(Running {
            image: row.id("id")?,
            name: row.opt_text("name")?.unwrap_or_default(),
            what: row.text("kind")?,
            began: row.time("created_at")?,
            done: None,
            total: None,
            note: row.opt_text("message")?.filter(|message| !message.is_empty()),
        });
    }
    Ok(all)
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
