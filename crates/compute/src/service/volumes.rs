//! The volume service, as compute asks it.

use async_trait::async_trait;
use serde_json::Value;
use umbel_api::Method;
use umbel_client::{AttachmentView, NewVolume, SnapshotTogether, VolumeSnapshotView, VolumeView};
use umbel_core::{Ctx, Error, Kind, OnBehalf, Result};

use crate::model::{BlockDeviceId, ServerId};

/// In whose name the volume service is asked.
#[derive(Clone, Copy)]
pub enum Who<'a> {
    /// The caller, by this token: what the caller may not see or do is refused.
    Caller(&'a str),
    /// A user who asked for it, after the request has ended: by compute's own token, which then is good for what a
    /// member of the user's project may do. Nobody's token is kept.
    For(&'a OnBehalf),
    /// Compute itself, for what must be done whoever asked, and after the caller's token has ended.
    Compute,
}

/// What compute's API and the conductors' flows ask of the volume service. What is gone is `NotFound`; what the volume's
/// state does not allow is `BadRequest` or `Conflict`; `Unavailable` is worth another try.
#[async_trait]
pub trait VolumeCatalog: Send + Sync {
    async fn show(&self, who: Who<'_>, id: &str) -> Result<VolumeView>;

    async fn show_snapshot(&self, who: Who<'_>, id: &str) -> Result<VolumeSnapshotView>;

    /// Snapshots of volumes, attached or not, of one point in time in each pool. They may be `creating` still. Those of
    /// an earlier call with the same ids are told again.
    async fn snapshot_together(&self, request: &SnapshotTogether) -> Result<Vec<VolumeSnapshotView>>;

    async fn delete_snapshot(&self, who: Who<'_>, id: &str) -> Result<()>;

    /// In the name of somebody: the volume is that project's, and counts for its quota.
    async fn create(&self, of: &OnBehalf, new: &NewVolume) -> Result<VolumeView>;

    /// The volume whose metadata say ([`MADE_FOR`]) that it was made for this block device. Asked before one is made, so
    /// that a step that is run twice makes one volume.
    async fn made_for(&self, device: BlockDeviceId) -> Result<Option<VolumeView>>;

    async fn delete(&self, id: &str) -> Result<()>;

    /// Reserves the volume for a server.
    async fn reserve(&self, who: Who<'_>, volume_id: &str, server: ServerId) -> Result<AttachmentView>;

    /// All that a server has, or has reserved.
    async fn attachments_of(&self, server: ServerId) -> Result<Vec<AttachmentView>>;

    async fn attachment(&self, id: &str) -> Result<AttachmentView>;

    /// Names the host; the answer has the way to the volume. For another host it is asked again.
    async fn connect(&self, attachment_id: &str, connector: &Value) -> Result<AttachmentView>;

    async fn complete(&self, attachment_id: &str) -> Result<()>;

    /// Ends an attachment, in whatever state.
    async fn release(&self, attachment_id: &str) -> Result<()>;

    /// Ends the migration of a volume that a server has: its guest has gone over to the new disk, or `failed` to. Ended
    /// already is no failure.
    async fn complete_migration(&self, volume_id: &str, failed: bool) -> Result<()>;

    async fn begin_detaching(&self, volume_id: &str) -> Result<()>;

    async fn roll_detaching(&self, volume_id: &str) -> Result<()>;

    /// Any call, with the caller's token: for the old proxies.
    async fn raw(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value>;
}

/// Member of a volume's metadata: the block device it was made for.
pub const MADE_FOR: &str = "block_device_mapping";

/// The caller's token, for calls in the caller's name.
pub(crate) fn token(ctx: &Ctx) -> &str {
    ctx.token.as_deref().unwrap_or_default()
}

/// As upstream's `InvalidVolume`.
pub(crate) fn invalid_volume(why: impl std::fmt::Display) -> Error {
    Error::bad_request(format!("Invalid volume: {why}"))
}

/// What the volume service said of a volume, as compute says it: 404 for what is not there, 400 for a state that
/// forbids it.
pub(crate) fn of_volume(id: &str, error: Error) -> Error {
    match error.kind() {
        Kind::NotFound => Error::not_found(format!("Volume {id} could not be found.")),
        Kind::BadRequest | Kind::Conflict => invalid_volume(error.message()).because(error.for_log()),
        _ => error,
    }
}
