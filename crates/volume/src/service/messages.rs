//! Messages: what users read about something that was accepted and came to nothing. The texts are upstream's; what an
//! error says beside them is for the log.

use std::time::Duration;

use umbel_core::{Error, Id, Kind, Result};
use umbel_db::{Tx, tx};

use crate::Volumes;
use crate::store::Volume;
use crate::store::messages::{self, MessageRow};

/// Of what it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Volume,
    Snapshot,
    Backup,
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Resource::Volume => "VOLUME",
            Resource::Snapshot => "VOLUME_SNAPSHOT",
            Resource::Backup => "VOLUME_BACKUP",
        }
    }
}

/// What was going on: upstream's number and words.
pub(crate) struct Action(&'static str, &'static str);

pub(crate) const SCHEDULE: Action = Action("001", "schedule allocate volume");
pub(crate) const VOLUME_TO_IMAGE: Action = Action("003", "copy volume to image");
pub(crate) const IMAGE_TO_VOLUME: Action = Action("005", "copy image to volume");
pub(crate) const EXTEND: Action = Action("007", "extend volume");
pub(crate) const MANAGE: Action = Action("008", "create volume from backend storage");
pub(crate) const SNAPSHOT_CREATE: Action = Action("009", "create snapshot");
pub(crate) const BACKUP_CREATE: Action = Action("013", "create backup");
pub(crate) const BACKUP_DELETE: Action = Action("014", "delete backup");
pub(crate) const BACKUP_RESTORE: Action = Action("015", "restore backup");
pub(crate) const REIMAGE: Action = Action("016", "reimage volume");
/// The others: they are told of, but nothing here fails in them.
const OTHER_ACTIONS: &[Action] = &[
    Action("002", "attach volume"),
    Action("004", "update attachment"),
    Action("006", "unmanage volume"),
    Action("010", "delete snapshot"),
    Action("011", "update snapshot"),
    Action("012", "update snapshot metadata"),
];
const ACTIONS: &[Action] = &[
    SCHEDULE,
    VOLUME_TO_IMAGE,
    IMAGE_TO_VOLUME,
    EXTEND,
    MANAGE,
    SNAPSHOT_CREATE,
    BACKUP_CREATE,
    BACKUP_DELETE,
    BACKUP_RESTORE,
    REIMAGE,
];

/// Why: upstream's number and words.
pub(crate) struct Detail(&'static str, &'static str);

pub(crate) const UNKNOWN: Detail = Detail("001", "An unknown error occurred.");
pub(crate) const NO_BACKEND: Detail = Detail("003", "Could not find any available weighted backend.");
pub(crate) const UPLOAD: Detail = Detail("004", "Failed to upload volume to image at backend.");
pub(crate) const OVER_QUOTA: Detail = Detail("006", "Not enough quota resource for operation.");
pub(crate) const NO_SPACE: Detail = Detail("007", "Image used for creating volume exceeds available space.");
pub(crate) const EXTEND_FAILED: Detail = Detail("010", "Volume Driver failed to extend volume.");
pub(crate) const CREATE_FAILED: Detail = Detail("012", "Driver failed to create the volume.");
pub(crate) const SNAPSHOT_FAILED: Detail = Detail("013", "Snapshot failed to create.");
pub(crate) const BACKUP_FAILED: Detail = Detail("020", "Backup driver failed to create backup.");
pub(crate) const BACKUP_DELETE_FAILED: Detail = Detail("025", "Backup driver failed to delete backup.");
pub(crate) const RESTORE_FAILED: Detail = Detail("026", "Backup driver failed to restore backup.");
pub(crate) const REIMAGE_FAILED: Detail = Detail("028", "Compute service failed to reimage volume.");
/// Upstream has no words for these three, which is most of what a user can do something about, or has to wait for.
pub(crate) const UNFIT_IMAGE: Detail = Detail("903", "The image cannot be read: its format or its content is unfit.");
const FULL: Detail = Detail("901", "The storage pool is full.");
const NOT_ANSWERING: Detail = Detail("902", "The storage cluster did not answer.");
const DETAILS: &[Detail] = &[
    UNKNOWN,
    NO_BACKEND,
    UPLOAD,
    OVER_QUOTA,
    NO_SPACE,
    EXTEND_FAILED,
    CREATE_FAILED,
    SNAPSHOT_FAILED,
    BACKUP_FAILED,
    BACKUP_DELETE_FAILED,
    RESTORE_FAILED,
    REIMAGE_FAILED,
    UNFIT_IMAGE,
    FULL,
    NOT_ANSWERING,
];

impl Detail {
    /// What the failure was, where it was the storage's, or else this.
    pub fn unless_storage(self, error: &Error) -> Detail {
        match error.kind() {
            Kind::NoSpace => FULL,
            Kind::Timeout | Kind::Unavailable => NOT_ANSWERING,
            _ => self,
        }
    }
}

/// A message that is to be left.
pub(crate) struct NewMessage<'a> {
    pub project_id: &'a str,
    pub resource: Resource,
    pub resource_id: String,
    pub action: Action,
    pub detail: Detail,
    pub request_id: &'a str,
}

impl Volumes {
    /// Leaves a message, in the transaction that writes the failure.
    pub(crate) async fn record(&self, tx: &mut Tx<Volume>, new: NewMessage<'_>) -> Result<()> {
        let now = self.clock.now();
        let row = MessageRow {
            id: Id::random(&*self.rng),
            project_id: new.project_id.to_owned(),
            request_id: new.request_id.to_owned(),
            resource_type: new.resource.name().to_owned(),
            resource_uuid: new.resource_id,
            action_id: new.action.0.to_owned(),
            detail_id: new.detail.0.to_owned(),
            level: "ERROR".to_owned(),
            created_at: now,
            expires_at: now.plus(Duration::from_secs(self.config.message_days.saturating_mul(86_400))),
        };
        messages::insert(tx, &row).await
    }

    /// Takes away messages whose time is over.
    pub(crate) async fn reap_messages(&self) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "reap messages", |tx| messages::reap(tx, now).await.map(drop))
    }
}

pub(crate) fn event_id(row: &MessageRow) -> String {
    format!("VOLUME_{}_{}_{}", row.resource_type, row.action_id, row.detail_id)
}

/// The words for the two numbers.
pub(crate) fn user_message(row: &MessageRow) -> String {
    let action = ACTIONS.iter().chain(OTHER_ACTIONS).find(|one| one.0 == row.action_id);
    let detail = DETAILS.iter().find(|one| one.0 == row.detail_id);
    format!("{}:{}", action.map_or("unknown action", |one| one.1), detail.map_or(UNKNOWN.1, |one| one.1))
}
