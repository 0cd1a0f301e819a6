use umbel_core::{Result, Timestamp};
use umbel_db::{Row, Tx, args};

use super::Image;
use crate::model::{ImageId, Stage};

pub async fn insert(tx: &mut Tx<Image>, image: ImageId, stage: &Stage, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO image_stages (image_id, store, disk, size, virtual_size, checksum, hash_value, refusal, \
        created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = args![
        image,
        &stage.store,
        &stage.disk,
        stage.size,
        stage.virtual_size,
        &stage.checksum,
        &stage.hash,
        &stage.refusal,
        now,
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

pub async fn get(tx: &mut Tx<Image>, image: ImageId) -> Result<Option<Stage>> {
    let sql = "SELECT store, disk, size, virtual_size, checksum, hash_value, refusal FROM image_stages \
        WHERE image_id = ?";
    tx.fetch_opt(sql, args![image]).await?.as_ref().map(stage).transpose()
}

pub async fn delete(tx: &mut Tx<Image>, image: ImageId) -> Result<()> {
    tx.execute("DELETE FROM image_stages WHERE image_id = ?", args![image]).await?;
    Ok(())
}

fn stage(row: &Row) -> Result<Stage> {
    Ok(Stage {
        store: row.text("store")?,
        disk: row.text("disk")?,
        size: row.uint("size")?,
        virtual_size: row.opt_uint("virtual_size")?,
        checksum: row.text("checksum")?,
        hash: row.text("hash_value")?,
        refusal: row.opt_text("refusal")?,
    })
}
