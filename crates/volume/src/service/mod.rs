//! The rules: who may do what with a volume, and what then happens to rows and pools.

pub(crate) mod attachments;
pub(crate) mod backup_create;
mod backup_records;
mod backup_restore;
pub(crate) mod backups;
mod caller;
pub(crate) mod capabilities;
pub(crate) mod connections;
pub(crate) mod create;
pub(crate) mod group_copies;
pub(crate) mod groups;
pub(crate) mod limits;
pub(crate) mod manageable;
pub(crate) mod messages;
pub(crate) mod moves;
pub(crate) mod place;
pub(crate) mod qos_specs;
pub(crate) mod reimage;
pub(crate) mod services;
pub(crate) mod snapshots;
pub(crate) mod together;
pub(crate) mod transfers;
pub(crate) mod types;
pub(crate) mod uploads;
pub(crate) mod volumes;
mod work;

pub(crate) use caller::Caller;

use std::fmt::Display;

use std::collections::BTreeMap;

use umbel_core::{Error, Result};
use umbel_db::Tx;

use crate::Volumes;
use crate::model::VolumeRow;
use crate::store::Volume;

/// 404 in upstream's words.
pub(crate) fn volume_not_found(id: impl Display) -> Error {
    Error::not_found(format!("Volume {id} could not be found."))
}

pub(crate) fn snapshot_not_found(id: impl Display) -> Error {
    Error::not_found(format!("Snapshot {id} could not be found."))
}

/// 400 with upstream's beginning for a volume that is not in the right state.
pub(crate) fn invalid_volume(reason: impl Display) -> Error {
    Error::bad_request(format!("Invalid volume: {reason}"))
}

pub(crate) fn invalid_snapshot(reason: impl Display) -> Error {
    Error::bad_request(format!("Invalid snapshot: {reason}"))
}

/// 409 in place of upstream's: the thing is in a state that passes.
pub(crate) fn conflict(message: impl Into<String>) -> Error {
    Error::conflict(message.into())
}

/// Names of 1 to 255 characters, values of 255 at most.
pub(crate) fn check_metadata(all: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in all {
        if name.trim().is_empty() {
            return Err(Error::bad_request("Metadata property key blank."));
        }
        if name.chars().count() > 255 {
            return Err(Error::bad_request("Metadata property key greater than 255 characters."));
        }
        if value.chars().count() > 255 {
            return Err(Error::bad_request("Metadata property value greater than 255 characters."));
        }
    }
    Ok(())
}

/// Leaves the reason of a volume's failure where its owner finds it, and where the operator does.
pub(crate) async fn tell(
    tx: &mut Tx<Volume>,
    state: &Volumes,
    row: &VolumeRow,
    what: (messages::Action, messages::Detail),
    (error, request_id): (&Error, &str),
) -> Result<()> {
    tracing::warn!(volume = %row.id, cause = error.cause(), "a volume failed: {error}");
    let message = messages::NewMessage {
        project_id: &row.project_id,
        resource: messages::Resource::Volume,
        resource_id: row.id.to_string(),
        action: what.0,
        detail: what.1.unless_storage(error),
        request_id,
    };
    state.record(tx, message).await
}
