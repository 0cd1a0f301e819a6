//! Raw twins of images in other formats, ready or in the making: version 3 of the schema.

use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Row, Sql, Tx, args};

use super::Image;
use crate::model::{Data, ImageId, Place, Twin, TwinState};

/// One twin for each store that has the image. The row is there before the disk, and goes after it.
///
/// `due_at` is when somebody should look: at a twin to be made, at one whose maker was not heard of (its lease), at a
/// disk to be dropped.
pub const TWINS: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS image_twins (
        image_id VARCHAR(36) NOT NULL,
        store VARCHAR(64) NOT NULL,
        disk VARCHAR(255) NOT NULL,
        url TEXT,
        state VARCHAR(16) NOT NULL,
        bytes_done BIGINT NOT NULL,
        bytes_total BIGINT NOT NULL,
        attempts BIGINT NOT NULL,
        reason TEXT,
        token VARCHAR(36),
        due_at BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        PRIMARY KEY (image_id, store))",
    "CREATE INDEX IF NOT EXISTS image_twins_by_due ON image_twins (state, due_at)",
    "CREATE INDEX IF NOT EXISTS image_locations_by_format ON image_locations (format)",
];

const COLUMNS: &str = "SELECT image_id, store, disk, url, state, bytes_done, bytes_total, attempts, reason, token, \
    due_at FROM image_twins";

/// Active bare images in these stores whose format is one of these, and that have no twin there.
pub async fn missing(
    tx: &mut Tx<Image>,
    stores: &[&str],
    formats: &[&str],
    only: Option<ImageId>,
    limit: usize,
) -> Result<Vec<(ImageId, String)>> {
    let columns = "SELECT l.image_id, l.store FROM image_locations l JOIN images i ON i.id = l.image_id \
        LEFT JOIN image_twins t ON t.image_id = l.image_id AND t.store = l.store";
    let mut sql = Sql::new(columns)
        .and_in("l.format", formats.iter().copied())
        .and_in("l.store", stores.iter().copied())
        .and("t.image_id IS NULL AND i.status = 'active' AND i.container_format = 'bare'", args![]);
    if let Some(id) = only {
        sql = sql.and("l.image_id = ?", args![id]);
    }
    let rows = tx.select(sql.limit(limit)).await?;
    rows.iter().map(|row| Ok((row.id("image_id")?, row.text("store")?))).collect()
}

/// A twin to be made. Nothing happens if there is one already.
pub async fn want(tx: &mut Tx<Image>, image: ImageId, store: &str, now: Timestamp) -> Result<()> {
    let sql = "INSERT IGNORE INTO image_twins (image_id, store, disk, state, bytes_done, bytes_total, attempts, due_at, \
        created_at) VALUES (?, ?, ?, 'waiting', 0, 0, 0, ?, ?)";
    tx.execute(sql, args![image, store, Twin::disk_of(image), now, now]).await?;
    Ok(())
}

pub async fn of_image(tx: &mut Tx<Image>, image: ImageId) -> Result<Vec<Twin>> {
    let sql = Sql::new(COLUMNS).and("image_id = ?", args![image]).push("ORDER BY store");
    tx.select(sql).await?.iter().map(twin).collect()
}

/// Those of several images, by store.
pub async fn of_images(tx: &mut Tx<Image>, images: &[ImageId]) -> Result<Vec<Twin>> {
    let sql = Sql::new(COLUMNS).and_in("image_id", images.iter().copied()).push("ORDER BY image_id, store");
    tx.select(sql).await?.iter().map(twin).collect()
}

/// Whether a disk belongs to a twin, and therefore to its image.
pub async fn owns(tx: &mut Tx<Image>, store: &str, disk: &str) -> Result<bool> {
    let sql = "SELECT COUNT(*) AS twins FROM image_twins WHERE store = ? AND disk = ?";
    Ok(tx.fetch_one(sql, args![store, disk]).await?.uint("twins")? > 0)
}

/// Twins in these stores that somebody should see to now.
pub async fn due(tx: &mut Tx<Image>, stores: &[&str], now: Timestamp, limit: usize) -> Result<Vec<Twin>> {
    let sql = Sql::new(COLUMNS)
        .and_in("store", stores.iter().copied())
        .and("state IN ('waiting', 'running', 'dropping') AND due_at <= ?", args![now]);
    tx.select(sql.push("ORDER BY due_at").limit(limit)).await?.iter().map(twin).collect()
}

/// Twins of images that are in the store no more: of one store's deletion, mostly.
pub async fn orphans(tx: &mut Tx<Image>, stores: &[&str], now: Timestamp) -> Result<Vec<Twin>> {
    let sql = Sql::new(COLUMNS).and_in("store", stores.iter().copied()).and(
        "state <> 'dropping' AND (state <> 'running' OR due_at <= ?) AND NOT EXISTS (SELECT 1 FROM image_locations l \
         WHERE l.image_id = image_twins.image_id AND l.store = image_twins.store)",
        args![now],
    );
    tx.select(sql).await?.iter().map(twin).collect()
}

/// The right to make the twin, until then. False if another was faster.
pub async fn take(tx: &mut Tx<Image>, twin: &Twin, token: &str, until: Timestamp, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE image_twins SET state = 'running', token = ?, due_at = ?, attempts = attempts + 1, \
        bytes_done = 0, reason = NULL \
        WHERE image_id = ? AND store = ? AND state IN ('waiting', 'running') AND due_at <= ?";
    Ok(tx.execute(sql, args![token, until, twin.image, &twin.store, now]).await? > 0)
}

/// Still there, and this far. False if another has taken over or the image was deleted.
pub async fn renew(tx: &mut Tx<Image>, twin: &Twin, until: Timestamp, done: u64, total: u64) -> Result<bool> {
    let sql = "UPDATE image_twins SET due_at = ?, bytes_done = ?, bytes_total = ? \
        WHERE image_id = ? AND store = ? AND token = ? AND state = 'running' AND EXISTS \
        (SELECT 1 FROM images i WHERE i.id = image_twins.image_id AND i.status <> 'pending_delete')";
    Ok(tx.execute(sql, args![until, done, total, twin.image, &twin.store, &twin.token]).await? > 0)
}

/// Holds the right for longer, whatever became of the image. False if another has taken over.
pub async fn hold(tx: &mut Tx<Image>, twin: &Twin, until: Timestamp) -> Result<bool> {
    let sql = "UPDATE image_twins SET due_at = ? WHERE image_id = ? AND store = ? AND token = ? AND state = 'running'";
    Ok(tx.execute(sql, args![until, twin.image, &twin.store, &twin.token]).await? > 0)
}

/// The twin is there. False if another has taken over.
pub async fn finish(tx: &mut Tx<Image>, twin: &Twin, url: &str, size: u64, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE image_twins SET state = 'ready', url = ?, bytes_done = ?, bytes_total = ?, token = NULL, \
        due_at = ? WHERE image_id = ? AND store = ? AND token = ? AND state = 'running'";
    let values = args![url, size, size, now, twin.image, &twin.store, &twin.token];
    Ok(tx.execute(sql, values).await? > 0)
}

/// What the disk's header told of its size.
pub async fn set_virtual_size(tx: &mut Tx<Image>, image: ImageId, size: u64) -> Result<()> {
    tx.execute("UPDATE images SET virtual_size = ? WHERE id = ?", args![size, image]).await?;
    Ok(())
}

/// The twin becomes the image, and the disk at `original` is to be dropped at `drop_at`.
pub async fn replace(
    tx: &mut Tx<Image>,
    twin: &Twin,
    original: &Place,
    place: &Place,
    data: &Data,
    now: Timestamp,
    drop_at: Timestamp,
) -> Result<()> {
    let sql = "UPDATE images SET generation = generation + 1, disk_format = 'raw', size = ?, virtual_size = ?, \
        checksum = ?, hash_algorithm = ?, hash_value = ?, updated_at = ? WHERE id = ?";
    let values = args![data.size, data.virtual_size, &data.checksum, &data.hash_algorithm, &data.hash, now, twin.image];
    tx.execute(sql, values).await?;
    tx.execute("DELETE FROM image_locations WHERE store = ? AND disk = ?", args![&original.store, &original.disk])
        .await?;
    super::parts::insert_place(tx, twin.image, place, now).await?;
    let sql = "UPDATE image_twins SET state = 'dropping', disk = ?, url = NULL, due_at = ? \
        WHERE image_id = ? AND store = ?";
    tx.execute(sql, args![&original.disk, drop_at, twin.image, &twin.store]).await?;
    Ok(())
}

/// Gives the right back: to be tried again at `due_at`, or never.
pub async fn release(
    tx: &mut Tx<Image>,
    twin: &Twin,
    state: TwinState,
    due_at: Timestamp,
    reason: &str,
) -> Result<bool> {
    let sql = "UPDATE image_twins SET state = ?, due_at = ?, reason = ?, token = NULL, bytes_done = 0 \
        WHERE image_id = ? AND store = ? AND token = ?";
    let values = args![state.name(), due_at, reason, twin.image, &twin.store, &twin.token];
    Ok(tx.execute(sql, values).await? > 0)
}

pub async fn forget(tx: &mut Tx<Image>, image: ImageId, store: &str) -> Result<()> {
    tx.execute("DELETE FROM image_twins WHERE image_id = ? AND store = ?", args![image, store]).await?;
    Ok(())
}

/// Lets all leases run out now.
pub async fn expire_all(tx: &mut Tx<Image>) -> Result<u64> {
    tx.execute("UPDATE image_twins SET due_at = 0 WHERE state = 'running'", args![]).await
}

fn twin(row: &Row) -> Result<Twin> {
    let state = row.text("state")?;
    Ok(Twin {
        image: row.id("image_id")?,
        store: row.text("store")?,
        disk: row.text("disk")?,
        url: row.opt_text("url")?,
        state: TwinState::of(&state).ok_or_else(|| Error::internal(format!("a twin in the state '{state}'")))?,
        done: row.uint("bytes_done")?,
        total: row.uint("bytes_total")?,
        attempts: row.uint("attempts")?,
        reason: row.opt_text("reason")?,
        token: row.opt_text("token")?,
        due_at: row.time("due_at")?,
    })
}
