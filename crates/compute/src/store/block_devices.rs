//! Which volumes which servers have: derived from the servers' states, here and nowhere else.

use umbel_core::Result;
use umbel_db::{Row, Tx, args};
use uuid::Uuid;

use crate::Cell;
use crate::model::{BlockDeviceId, Server, ServerId};

/// A volume of a server, as whoever comes from the volume finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDeviceRow {
    pub id: BlockDeviceId,
    pub server_id: ServerId,
    pub volume_id: Uuid,
    /// Empty until the volume is reserved.
    pub attachment_id: String,
}

const SELECT: &str = "SELECT id, server_id, volume_id, attachment_id FROM block_devices";

fn read(row: &Row) -> Result<BlockDeviceRow> {
    Ok(BlockDeviceRow {
        id: row.id("id")?,
        server_id: row.id("server_id")?,
        volume_id: row.id::<()>("volume_id")?.uuid(),
        attachment_id: row.text("attachment_id")?,
    })
}

pub(super) async fn index(tx: &mut Tx<Cell>, server: &Server) -> Result<()> {
    for device in &server.state.volumes {
        let Some(volume_id) = device.volume_id else {
            continue;
        };
        tx.execute(
            "INSERT IGNORE INTO block_devices (id, server_id, volume_id, attachment_id) VALUES (?, ?, ?, ?)",
            args![device.id, server.id, volume_id.to_string(), device.attachment_id.as_deref().unwrap_or("")],
        )
        .await?;
    }
    Ok(())
}

/// The server has none any more.
pub async fn clear(tx: &mut Tx<Cell>, server_id: ServerId) -> Result<()> {
    tx.execute("DELETE FROM block_devices WHERE server_id = ?", args![server_id]).await?;
    Ok(())
}

/// The servers of this cell that have the volume: more than one only if it allows that.
pub async fn of_volume(tx: &mut Tx<Cell>, volume_id: Uuid) -> Result<Vec<BlockDeviceRow>> {
    let sql = format!("{SELECT} WHERE volume_id = ? ORDER BY id");
    tx.fetch_all(&sql, args![volume_id.to_string()]).await?.iter().map(read).collect()
}

/// All of the cell: for the audit that compares them with the attachments of the volume service.
pub async fn all(tx: &mut Tx<Cell>) -> Result<Vec<BlockDeviceRow>> {
    tx.fetch_all(&format!("{SELECT} ORDER BY id"), args![]).await?.iter().map(read).collect()
}
