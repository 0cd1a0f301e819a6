//! Who may write an image's data. See [`Claim`].

use umbel_api::image::ImageStatus;
use umbel_core::{Result, Timestamp};
use umbel_db::{Row, Tx, args};

use super::{Image, parts, stages, web_places};
use crate::model::{self, Claim, Data, Place, Record, Stage};

/// The claim of a row, if it has one. Which disk it is about follows from the status: an import's claims are about
/// either of two, and its workflow knows which.
pub(super) fn of_row(row: &Row) -> Result<Option<Claim>> {
    let Some(token) = row.opt_text("upload_token")? else {
        return Ok(None);
    };
    let image = row.id("id")?;
    let disk = match row.text("status")?.as_str() {
        "uploading" => model::staged_disk(image),
        _ => image.to_string(),
    };
    let (store, expires_at) = (row.text("upload_store")?, row.time("upload_expires_at")?);
    Ok(Some(Claim { image, token, store, disk, expires_at }))
}

/// The image has this status from now on: `saving` for an upload, `uploading` for staging, its own for an import.
pub async fn take(
    tx: &mut Tx<Image>,
    before: &Record,
    claim: &Claim,
    status: ImageStatus,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE images SET generation = ?, status = ?, updated_at = ?, upload_token = ?, \
        upload_store = ?, upload_expires_at = ?, upload_bytes = 0 WHERE id = ? AND generation = ?";
    let values = args![
        before.generation.next(),
        status.name(),
        now,
        &claim.token,
        &claim.store,
        claim.expires_at,
        before.id,
        before.generation,
    ];
    tx.compare_and_swap(sql, values).await?;
    // Of an image that was queued again, since the data there were not what they should be.
    match before.web.is_empty() {
        true => Ok(()),
        false => web_places::write(tx, before.id, &[]).await,
    }
}

/// Still there, and this far. False if the claim is lost or the image deleted.
pub async fn renew(tx: &mut Tx<Image>, claim: &Claim, until: Timestamp, bytes: u64) -> Result<bool> {
    let sql = "UPDATE images SET upload_expires_at = ?, upload_bytes = ? \
        WHERE id = ? AND upload_token = ? AND status <> 'pending_delete'";
    Ok(tx.execute(sql, args![until, bytes, claim.image, &claim.token]).await? > 0)
}

/// From `saving` to `active`. False if the claim is lost or the image deleted.
pub async fn complete(tx: &mut Tx<Image>, claim: &Claim, data: &Data, place: &Place, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE images SET generation = generation + 1, status = 'active', size = ?, virtual_size = ?, \
        checksum = ?, hash_algorithm = ?, hash_value = ?, updated_at = ?, upload_token = NULL, upload_store = NULL, \
        upload_expires_at = NULL, upload_bytes = 0 WHERE id = ? AND upload_token = ? AND status = 'saving'";
    let values = args![
        data.size,
        data.virtual_size,
        &data.checksum,
        &data.hash_algorithm,
        &data.hash,
        now,
        claim.image,
        &claim.token,
    ];
    if tx.execute(sql, values).await? == 0 {
        return Ok(false);
    }
    parts::insert_place(tx, claim.image, place, now).await?;
    Ok(true)
}

/// The bytes are staged: the claim goes, the status stays. False if the claim is lost or the image deleted.
pub async fn complete_stage(tx: &mut Tx<Image>, claim: &Claim, stage: &Stage, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE images SET generation = generation + 1, size = ?, updated_at = ?, upload_token = NULL, \
        upload_store = NULL, upload_expires_at = NULL, upload_bytes = 0 \
        WHERE id = ? AND upload_token = ? AND status IN ('uploading', 'importing')";
    if tx.execute(sql, args![stage.size, now, claim.image, &claim.token]).await? == 0 {
        return Ok(false);
    }
    stages::insert(tx, claim.image, stage, now).await?;
    Ok(true)
}

/// An import has brought the data to one more store. `data` if they are not known yet; `status` is the image's from now
/// on. False if the claim is lost or the image deleted.
pub async fn complete_import(
    tx: &mut Tx<Image>,
    claim: &Claim,
    data: Option<&Data>,
    place: &Place,
    status: ImageStatus,
    now: Timestamp,
) -> Result<bool> {
    let sql = "UPDATE images SET generation = generation + 1, status = ?, updated_at = ?, upload_token = NULL, \
        upload_store = NULL, upload_expires_at = NULL, upload_bytes = 0 \
        WHERE id = ? AND upload_token = ? AND status <> 'pending_delete'";
    if tx.execute(sql, args![status.name(), now, claim.image, &claim.token]).await? == 0 {
        return Ok(false);
    }
    if let Some(data) = data {
        let sql = "UPDATE images SET size = ?, virtual_size = ?, checksum = ?, hash_algorithm = ?, hash_value = ? \
            WHERE id = ?";
        let values = args![data.size, data.virtual_size, &data.checksum, &data.hash_algorithm, &data.hash, claim.image];
        tx.execute(sql, values).await?;
    }
    parts::insert_place(tx, claim.image, place, now).await?;
    Ok(true)
}

/// Gives the claim back, after its disk is gone: to `queued`; a deleted image stays deleted.
pub async fn release(tx: &mut Tx<Image>, claim: &Claim, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE images SET generation = generation + 1, updated_at = ?, upload_token = NULL, \
        upload_store = NULL, upload_expires_at = NULL, upload_bytes = 0, \
        status = CASE WHEN status IN ('saving', 'uploading') THEN 'queued' ELSE status END WHERE id = ? AND upload_token = ?";
    Ok(tx.execute(sql, args![now, claim.image, &claim.token]).await? > 0)
}

/// Lets the claim run out now, for a clean-up that has to be tried again later.
pub async fn expire(tx: &mut Tx<Image>, claim: &Claim) -> Result<()> {
    let sql = "UPDATE images SET upload_expires_at = 0 WHERE id = ? AND upload_token = ?";
    tx.execute(sql, args![claim.image, &claim.token]).await?;
    Ok(())
}

/// Lets all claims run out now; how many there were.
pub async fn expire_all(tx: &mut Tx<Image>) -> Result<u64> {
    tx.execute("UPDATE images SET upload_expires_at = 0 WHERE upload_token IS NOT NULL", args![]).await
}

/// Claims of uploads and stagings whose holder was not heard of in time, of images that are still there. Imports look
/// after theirs.
pub async fn expired(tx: &mut Tx<Image>, now: Timestamp) -> Result<Vec<Claim>> {
    let sql = "SELECT id, status, upload_token, upload_store, upload_expires_at FROM images \
        WHERE status IN ('saving', 'uploading') AND upload_expires_at <= ? ORDER BY id";
    let rows = tx.fetch_all(sql, args![now]).await?;
    Ok(rows.iter().map(of_row).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Takes over a claim that ran out. False if another was faster, or its holder came back.
pub async fn take_over(tx: &mut Tx<Image>, old: &Claim, new: &Claim, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE images SET upload_token = ?, upload_expires_at = ? \
        WHERE id = ? AND upload_token = ? AND upload_expires_at <= ?";
    let values = args![&new.token, new.expires_at, old.image, &old.token, now];
    Ok(tx.execute(sql, values).await? > 0)
}
