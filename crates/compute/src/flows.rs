//! What compute's API hands to the conductors' flows.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use umbel_bus::DiskRef;
use umbel_core::{OnBehalf, Result, Timestamp};
use umbel_db::Tx;
use uuid::Uuid;

use crate::Cell;
use crate::model::{BlockDevice, BlockDeviceId, ServerId};

/// Kind of the flow that finds a new server its cell and host and brings it up. Its row is in `Db<Api>`, its id the
/// server's.
pub const SERVER_CREATE: &str = "server_create";

/// The step that it starts with.
pub const SERVER_CREATE_FIRST: &str = "choose_cell";

/// How long a create may take in all, as the flow's row is written.
pub const SERVER_CREATE_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// What the flow starts from; everything else about the server is in its build request. The flow's own state has these
/// members and defaults for its others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerCreate {
    pub server_id: ServerId,
}

/// For flows whose end nobody can do without: what they would leave behind is an orphan.
pub const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Kind of the flow that lets volumes go which were reserved for a server that was never written: its request was
/// refused, or died. Its row is in `Db<Api>`, its id the server's.
pub const SERVER_RESERVE: &str = "server_reserve";
pub const SERVER_RESERVE_FIRST: &str = "watch";

/// For how long a request may be between its first reservation and its server.
pub const RESERVING: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerReserve {
    pub server_id: ServerId,
}

/// Kind of the flow that lets go of all volumes of a server that is on no host any more, and then ends the server. Its
/// row is in `Db<Cell>`, its id the server's.
pub const SERVER_RELEASE: &str = "server_release";
pub const SERVER_RELEASE_FIRST: &str = "release";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerRelease {
    pub server_id: ServerId,
}

/// Has the volumes of a server that is on no host let go, and then the server ended.
pub async fn release_volumes(tx: &mut Tx<Cell>, server_id: ServerId, request_id: &str, now: Timestamp) -> Result<()> {
    let flow = umbel_workflow::NewFlow {
        id: &server_id.to_string(),
        kind: SERVER_RELEASE,
        first_step: SERVER_RELEASE_FIRST,
        state: &ServerRelease { server_id },
        request_id,
        now,
        deadline: now.plus(FOREVER),
    };
    umbel_workflow::enqueue(tx, flow).await
}

/// Kinds of the flows that bring a volume to a server that is there, and take it away. Their rows are in `Db<Cell>`, their
/// ids those of the block devices.
pub const VOLUME_ATTACH: &str = "volume_attach";
pub const VOLUME_ATTACH_FIRST: &str = "reserve";
pub const VOLUME_DETACH: &str = "volume_detach";
pub const VOLUME_DETACH_FIRST: &str = "begin";

/// How long an attach or a detach may take before it is taken back.
pub const VOLUME_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// What both start from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeChange {
    pub server_id: ServerId,
    pub device: BlockDeviceId,
}

/// Kind of the flow that brings a server's volume to another disk: that of another volume, or of its own in another pool.
/// Its row is in `Db<Cell>`, its id the block device's.
pub const VOLUME_SWAP: &str = "volume_swap";
pub const VOLUME_SWAP_FIRST: &str = "connect";

/// How long it may take: terabytes, and a host that is away for a while.
pub const VOLUME_SWAP_DEADLINE: Duration = Duration::from_secs(7 * 86_400);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeSwap {
    pub server_id: ServerId,
    pub device: BlockDeviceId,
    /// The volume that takes the place of the one that is there. `None`: the volume service moves that one.
    pub new: Option<NewVolume>,
    /// The attachment that ends with it.
    #[serde(default)]
    pub old_attachment: Option<String>,
    /// The guest has gone over: from here on nothing is taken back.
    #[serde(default)]
    pub moved: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVolume {
    pub volume_id: Uuid,
    pub size_bytes: u64,
}

/// Writes the flow, unless there is one for the device.
pub async fn swap_volume(tx: &mut Tx<Cell>, state: &VolumeSwap, request_id: &str, now: Timestamp) -> Result<()> {
    let flow = umbel_workflow::NewFlow {
        id: &state.device.to_string(),
        kind: VOLUME_SWAP,
        first_step: VOLUME_SWAP_FIRST,
        state,
        request_id,
        now,
        deadline: now.plus(VOLUME_SWAP_DEADLINE),
    };
    umbel_workflow::enqueue(tx, flow).await
}

/// Kind of the flow that makes an image of a server's root disk. Its row is in `Db<Cell>`, its id the image's.
pub const SERVER_IMAGE: &str = "server_image";
pub const SERVER_IMAGE_FIRST: &str = "name";

/// How long an image may take before it is given up; in the slowest case all bytes of a disk go to the image service.
pub const SERVER_IMAGE_DEADLINE: Duration = Duration::from_secs(6 * 3_600);

/// What it starts from, and what it adds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerImage {
    pub server_id: ServerId,
    pub image_id: String,
    pub host: String,
    pub disk: DiskRef,
    /// The guest's file systems must be held for the snapshot.
    pub quiesce: bool,
    /// Whose the image is, and the older ones that go with a backup.
    pub behalf: OnBehalf,
    pub rotation: Option<Rotation>,
    /// Of the snapshot, once it is there.
    #[serde(default)]
    pub location: Option<String>,
    /// The image service has the bytes: from here on nothing is taken back.
    #[serde(default)]
    pub published: bool,
}

/// Kind of the flow that makes an image of a server's volumes: a list of their snapshots. Its row is in `Db<Cell>`, its
/// id the image's.
pub const VOLUMES_IMAGE: &str = "volumes_image";
pub const VOLUMES_IMAGE_FIRST: &str = "name";

/// How long it may take. Snapshots are quick; what takes its time is a service that is away.
pub const VOLUMES_IMAGE_DEADLINE: Duration = Duration::from_secs(3_600);

/// What it starts from, and what it adds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumesImage {
    pub server_id: ServerId,
    pub image_id: String,
    /// Of the image.
    pub name: String,
    /// Which holds the guest meanwhile.
    pub host: Option<String>,
    /// The guest's file systems must be held for the snapshots.
    pub quiesce: bool,
    /// Whose the image is. The snapshots are the volumes' project's.
    pub behalf: OnBehalf,
    /// Disks that a server made from the image gets blank.
    pub blanks: Vec<BlankDisk>,
    /// Drawn before any is made.
    #[serde(default)]
    pub snapshots: Vec<DrawnSnapshot>,
    /// Of tries that broke off: ids of those that may be there.
    #[serde(default)]
    pub stale: Vec<String>,
    /// The image is active: from here on nothing is taken back.
    #[serde(default)]
    pub published: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawnSnapshot {
    pub id: String,
    pub device: BlockDevice,
    /// Once it is made.
    #[serde(default)]
    pub size_gib: u64,
}

/// An ephemeral disk, or swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlankDisk {
    pub swap: bool,
    /// GiB of an ephemeral disk, MiB of swap: as the API has both.
    pub size: u64,
}

/// Backups of one type are kept in such a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    pub backup_type: String,
    pub keep: usize,
}

impl ServerImage {
    /// As the snapshot is called in the disk's pool.
    pub fn snapshot(&self) -> String {
        format!("image-{}", self.image_id)
    }

    pub fn is_backup(&self) -> bool {
        self.rotation.is_some()
    }
}
