//! What the flows of backups have in common.

use std::sync::Arc;

use futures_util::StreamExt;
use umbel_core::{Error, Kind, Result};
use umbel_db::{Tx, tx};

use crate::Volumes;
use crate::backup::{CHUNK, Chunk, ChunkStream};
use crate::service::messages::{Action, Detail, NewMessage, Resource};
use crate::store::Volume;
use crate::store::backups::{self, Backup, BackupStatus};

/// How many chunks pass between two notes of how far the work is.
const NOTE_EVERY: u64 = 16;

/// What the flow works on was deleted, or its status was reset: the work is not wanted.
pub(super) fn gone() -> Error {
    Error::new(Kind::Gone, "The backup, or what it is made of, was deleted meanwhile.")
}

pub(super) fn absent_is_fine(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.is(Kind::NotFound) => Ok(()),
        outcome => outcome,
    }
}

/// The chunks, while the backup's row tells how far they are. Ends with `Gone` when the row says that nobody wants them.
pub(super) fn watched(volumes: &Arc<Volumes>, chunks: ChunkStream, backup: &Backup) -> ChunkStream {
    let (volumes, id, status) = (volumes.clone(), backup.id, backup.status);
    let size = backup.data.size.max(1);
    let numbered = chunks.enumerate().then(move |(number, chunk)| {
        let volumes = volumes.clone();
        async move {
            let chunk = chunk?;
            let number = number as u64;
            if number.is_multiple_of(NOTE_EVERY) {
                let percent = (chunk.index * CHUNK).saturating_mul(100) / size;
                let objects = (status == BackupStatus::Creating).then_some(number);
                let wanted = tx!(volumes.db, "note backup's progress", |tx| {
                    backups::note_progress(tx, id, status, percent, objects).await
                })?;
                if !wanted {
                    return Err(gone());
                }
            }
            Ok::<Chunk, Error>(chunk)
        }
    });
    Box::pin(numbered)
}

/// Leaves a message about it for the backup's owner.
pub(super) async fn tell(
    tx: &mut Tx<Volume>,
    volumes: &Volumes,
    backup: &Backup,
    (action, detail): (Action, Detail),
    request_id: &str,
) -> Result<()> {
    let message = NewMessage {
        project_id: &backup.project_id,
        resource: Resource::Backup,
        resource_id: backup.id.to_string(),
        action,
        detail,
        request_id,
    };
    volumes.record(tx, message).await
}
