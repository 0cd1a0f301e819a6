//! How a type's volumes are encrypted.

use umbel_core::{Result, Timestamp};
use umbel_db::{Tx, args};

use super::Volume;
use super::types::VolumeTypeId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    pub volume_type_id: VolumeTypeId,
    pub encryption_id: String,
    /// `luks`, `plain` or, from old clients, the name of a class of Nova's.
    pub provider: String,
    /// `front-end`: the host does it. `back-end`: the pool.
    pub control_location: String,
    pub cipher: Option<String>,
    /// In bits.
    pub key_size: Option<i64>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

pub async fn get(tx: &mut Tx<Volume>, id: VolumeTypeId) -> Result<Option<Encryption>> {
    let sql = "SELECT encryption_id, provider, control_location, cipher, key_size, created_at, updated_at \
               FROM volume_type_encryption WHERE volume_type_id = ?";
    let Some(row) = tx.fetch_opt(sql, args![id]).await? else {
        return Ok(None);
    };
    Ok(Some(Encryption {
        volume_type_id: id,
        encryption_id: row.text("encryption_id")?,
        provider: row.text("provider")?,
        control_location: row.text("control_location")?,
        cipher: row.opt_text("cipher")?,
        key_size: row.opt_int("key_size")?,
        created_at: row.time("created_at")?,
        updated_at: row.opt_time("updated_at")?,
    }))
}

/// In place of the one that the type had.
pub async fn put(tx: &mut Tx<Volume>, new: &Encryption) -> Result<()> {
    delete(tx, new.volume_type_id).await?;
    tx.execute(
        "INSERT INTO volume_type_encryption (volume_type_id, encryption_id, provider, control_location, cipher, \
         key_size, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            new.volume_type_id,
            &new.encryption_id,
            &new.provider,
            &new.control_location,
            &new.cipher,
            new.key_size,
            new.created_at,
            new.updated_at
        ],
    )
    .await?;
    Ok(())
}

/// Whether there was one.
pub async fn delete(tx: &mut Tx<Volume>, id: VolumeTypeId) -> Result<bool> {
    Ok(tx.execute("DELETE FROM volume_type_encryption WHERE volume_type_id = ?", args![id]).await? > 0)
}
