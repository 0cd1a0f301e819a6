use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use umbel_core::Result;

use crate::{Attachment, Location};

/// Bytes on their way in or out. An `Err` item ends the stream: what was written so far is undone by the receiver.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Called with the total of bytes done so far, every few MiB.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

pub fn no_progress() -> Progress {
    Arc::new(|_| {})
}

/// Room in a pool, in bytes as a user counts them: replicas are already divided out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    pub total: u64,
    pub free: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// Size the guest sees, in bytes.
    pub size: u64,
    /// What it is a clone of, if it still is.
    pub parent: Option<Location>,
    /// Names of its snapshots, oldest first.
    pub snapshots: Vec<String>,
}

/// What became of a disk that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    Gone,
    /// Clones of it live on: it is out of sight and goes with the last of them ([`Pool::purge`]).
    Hidden,
    /// There was none. Not a failure: removal may run twice.
    Absent,
}

pub struct WriteOptions {
    /// Size if the sender told it: a stream that ends short of it, or runs past it, is refused and nothing is left.
    pub size: Option<u64>,
    /// The disk is never smaller than this after the write.
    pub min_size: u64,
    pub progress: Progress,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions { size: None, min_size: 0, progress: no_progress() }
    }
}

/// A place for disks: raw block images with copy-on-write clones and snapshots.
///
/// All operations but reading are safe to repeat: a caller that crashed between calling and noting the answer calls
/// again. `create`, `write` and `clone` of a name that exists fail with [`umbel_core::Kind::Conflict`] and leave it as
/// it is; `remove` of a name that does not exist is [`Removed::Absent`]. A name or snapshot that is needed and missing
/// is `NotFound`; a pool without room is `NoSpace`; a pool that does not answer is `Unavailable` or `Timeout`.
#[async_trait]
pub trait Pool: Send + Sync {
    /// Name by which the configuration, the scheduler and operators call it.
    fn name(&self) -> &str;

    /// Where `disk@snapshot` is, for other services and hosts.
    fn location(&self, disk: &str, snapshot: &str) -> Location;

    async fn capacity(&self) -> Result<Capacity>;

    /// Names of all visible disks, in no order. For audits; nothing on a request's path calls it.
    async fn list(&self) -> Result<Vec<String>>;

    async fn stat(&self, disk: &str) -> Result<Option<DiskInfo>>;

    /// A blank disk of `size` bytes that occupies none of them yet.
    async fn create(&self, disk: &str, size: u64) -> Result<()>;

    /// A new disk with the stream's bytes; ranges of zeros are not stored. Returns the number of bytes received.
    /// Whatever fails, the stream included, leaves no disk behind; a stream's failure comes back as it is.
    async fn write(&self, disk: &str, data: ByteStream, options: WriteOptions) -> Result<u64>;

    /// The bytes of a disk, or of one of its snapshots, from `offset`, `length` of them. A range past the end fails,
    /// with the call or in the stream.
    async fn read(&self, disk: &str, snapshot: Option<&str>, offset: u64, length: u64) -> Result<ByteStream>;

    /// One point in time. Creating it again is not a failure.
    async fn snapshot(&self, disk: &str, snapshot: &str) -> Result<()>;

    /// Clones of the snapshot live on. Removing it again is not a failure.
    async fn remove_snapshot(&self, disk: &str, snapshot: &str) -> Result<()>;

    /// The disk's content and size become those of its snapshot; later snapshots stay.
    async fn rollback(&self, disk: &str, snapshot: &str) -> Result<()>;

    /// Whether [`Pool::clone_disk`] from there can work, and if not the reason in words a user understands.
    async fn can_clone(&self, parent: &Location) -> Result<(), String>;

    /// A copy-on-write clone of the parent: takes the same time whatever its size. Grown to `size` if that is larger.
    async fn clone_disk(&self, parent: &Location, disk: &str, size: u64) -> Result<()>;

    /// Grows the disk. Never shrinks: a smaller size is `BadRequest`.
    async fn resize(&self, disk: &str, size: u64) -> Result<()>;

    /// Copies what the disk still shares with its parent, so that it stands alone.
    async fn flatten(&self, disk: &str) -> Result<()>;

    /// Takes the disk and its snapshots away at once, whoever clones it.
    async fn remove(&self, disk: &str) -> Result<Removed>;

    /// Frees the hidden disks whose last clone is gone; their names.
    async fn purge(&self) -> Result<Vec<String>>;

    /// How a hypervisor on this host opens the disk.
    fn attachment(&self, disk: &str) -> Attachment;
}
