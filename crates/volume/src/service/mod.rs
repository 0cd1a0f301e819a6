//! The rules: who may do what with a volume, and what then happens to rows and pools.

mod caller;
pub(crate) mod attachments;
pub(crate) mod connections;
pub(crate) mod transfers;
mod work;

pub(crate) use caller::Caller;

use std::fmt::Display;

use umbel_core::Error;

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
