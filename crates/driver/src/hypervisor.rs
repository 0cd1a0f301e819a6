use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use umbel_core::Result;
use uuid::Uuid;

use crate::Limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    Raw,
    Qcow2,
}

/// How a hypervisor opens a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Attachment {
    File {
        path: PathBuf,
        format: DiskFormat,
    },
    /// The hypervisor speaks to the cluster itself; nothing passes through a kernel device.
    Rbd {
        pool: String,
        image: String,
        /// cephx user without the `client.` in front.
        user: String,
        conf: PathBuf,
    },
    /// A disk of a simulated pool.
    Simulated {
        pool: String,
        disk: String,
    },
}

/// How far a guest's disk is on its way to another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirroring {
    /// Bytes copied, and bytes to copy in all; the guest's writes can make the latter grow.
    Copying { done: u64, total: u64 },
    /// The guest has the disk there, and no more where it was.
    There,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainDisk {
    pub attachment: Attachment,
    /// What the guest finds in `/dev/disk/by-id`, at most 20 characters on virtio.
    pub serial: String,
    /// `Some(0)` is booted from first.
    pub boot_index: Option<u32>,
    pub read_only: bool,
    /// A CD drive, for a config drive in ISO form, rather than a virtio disk.
    pub cdrom: bool,
}

/// Everything a guest is started with. Kept by the hypervisor, so that a guest can be adopted without the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSpec {
    pub id: Uuid,
    pub name: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub disks: Vec<DomainDisk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    Running,
    Paused,
    /// Defined, and off.
    Shutdown,
    /// Ended without being asked to and not by the guest's own shutdown.
    Crashed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainState {
    pub id: Uuid,
    pub power: Power,
}

/// Sent when the power of a guest changes, whoever changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainEvent {
    pub id: Uuid,
    pub power: Power,
}

/// What a host is and has, as its hypervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// As compute's hypervisor list names it: `QEMU`, `fake`.
    pub hypervisor_type: String,
    /// Major * 1,000,000 + minor * 1,000 + micro.
    pub hypervisor_version: u64,
    /// `kvm`, `tcg`, `none`.
    pub accelerator: String,
    /// One sentence: why this accelerator and not the other.
    pub accelerator_reason: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub cpu_arch: String,
    pub cpu_model: String,
}

/// A hypervisor of one host.
///
/// Guests do not belong to the process that started them: they run on when it ends, and a new driver over the same
/// directory finds them ([`Hypervisor::list`]). Every call may be repeated: `start` of a running guest and `destroy` of
/// one that is off succeed and change nothing. A domain that is needed and unknown is `NotFound`.
#[async_trait]
pub trait Hypervisor: Send + Sync {
    fn facts(&self) -> HostFacts;

    /// All domains this hypervisor knows, running or off, including those of an earlier process.
    async fn list(&self) -> Result<Vec<DomainState>>;

    /// `None` if there is no such domain.
    async fn state(&self, id: Uuid) -> Result<Option<Power>>;

    /// Defines the domain, replacing an older definition, and starts it. Returns when the guest's processors run.
    async fn start(&self, spec: &DomainSpec) -> Result<()>;

    /// Asks the guest to power off (ACPI), and powers it off after `grace`.
    async fn shutdown(&self, id: Uuid, grace: Duration) -> Result<()>;

    /// Powers the guest off now. Its definition and its console log stay.
    async fn destroy(&self, id: Uuid) -> Result<()>;

    /// Resets the guest as its reset button would.
    async fn reset(&self, id: Uuid) -> Result<()>;

    async fn pause(&self, id: Uuid) -> Result<()>;

    async fn resume(&self, id: Uuid) -> Result<()>;

    /// Powers off and forgets the domain with its files. An unknown one is not a failure.
    async fn undefine(&self, id: Uuid) -> Result<()>;

    /// The last `limit` bytes the guest wrote on its first serial port, over all its starts.
    async fn console(&self, id: Uuid, limit: usize) -> Result<Bytes>;

    fn subscribe(&self) -> broadcast::Receiver<DomainEvent>;

    /// Serials of the disks that the guest has: those of its definition while it is off, those that are plugged in while
    /// it runs. Disks without a serial are left out.
    async fn disks(&self, id: Uuid) -> Result<Vec<String>>;

    /// Plugs a disk into a guest, running or off, and into its definition. One of the same serial that is there
    /// already is no failure. `BadRequest` for a disk without a serial, or one too many for the guest; what fails leaves
    /// nothing plugged in.
    async fn attach_disk(&self, id: Uuid, disk: &DomainDisk) -> Result<()>;

    /// Takes a disk away, once a running guest has let it go; `Timeout` if it does not: the disk stays attached then, and
    /// this may be called again. One that is not there is no failure.
    async fn detach_disk(&self, id: Uuid, serial: &str) -> Result<()>;

    /// Shows the guest that a disk has grown to `size` bytes. Nothing to do for a guest that is off, or that sees as much
    /// already; `NotFound` if a running guest has no such disk.
    async fn resize_disk(&self, id: Uuid, serial: &str, size: u64) -> Result<()>;

    /// Brings a running guest's disk to another place, where a disk lies that is at least as large and nobody uses; what is
    /// on it is overwritten. Begins, or does what is next to do, and returns at once: to be called until it says
    /// [`Mirroring::There`]. The copying goes on between calls, and outlives this process. What the guest writes meanwhile
    /// is written to both; once they are equal the guest stands still for a moment, and goes on with the new one. Its
    /// definition follows.
    ///
    /// # Errors
    /// `NotFound` if the guest has no such disk; `Conflict` if it is off; `BadRequest` if there is less room than the disk
    /// has bytes, or more and the driver cannot cope with it. After any failure the guest has its disk where it was.
    async fn mirror_disk(&self, id: Uuid, serial: &str, to: &Attachment) -> Result<Mirroring>;

    /// Gives up a copying that [`Hypervisor::mirror_disk`] began: the guest keeps its disk where it is, and nothing else
    /// is held open. No failure if there is none.
    async fn cancel_mirror(&self, id: Uuid, serial: &str) -> Result<()>;

    /// Whether the guest has this disk at this place: by its definition while it is off. False for a disk it does not
    /// have.
    async fn is_at(&self, id: Uuid, serial: &str, place: &Attachment) -> Result<bool>;

    /// Bounds a running guest's use of a disk; replaces earlier bounds. They end with the guest's power, and whoever starts
    /// it again sets them again: nothing to do for one that is off. `NotFound` if a running guest has no such disk.
    async fn limit_disk(&self, id: Uuid, serial: &str, limits: &Limits) -> Result<()>;

    /// Has the guest's agent flush and hold its file systems; their number, or 0 if they were held before. `Unavailable`
    /// where no agent answers.
    async fn freeze(&self, id: Uuid) -> Result<u32>;

    /// Undoes [`Hypervisor::freeze`]; no failure if nothing was frozen.
    async fn thaw(&self, id: Uuid) -> Result<()>;
}

/// What a pool of files asks of the hypervisor on its host: a file that a guest has open is the guest's to change.
#[async_trait]
pub trait LiveDisks: Send + Sync {
    /// Whether a running guest has the file open for writing.
    async fn is_live(&self, file: &Path) -> Result<bool>;

    /// Guests go over from each file to its overlay, all at one point in time. The overlays exist: qcow2, as large as the
    /// file, and with the file as backing. Files that no guest has open are left out. All go over or none.
    async fn switch(&self, moves: &[(PathBuf, PathBuf)]) -> Result<()>;

    /// Grows the file's disk to `size` bytes through the guest that has it open, which sees it at once.
    async fn grow(&self, file: &Path, size: u64) -> Result<()>;
}
