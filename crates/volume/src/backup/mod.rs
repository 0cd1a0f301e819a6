//! Where backups are kept, and how their data gets there and back.
//!
//! A backup is cut into chunks of [`CHUNK`] bytes, counted from the volume's start. A full backup has every chunk that is
//! not all zeros; an increment has those that changed, also the ones that became zeros. Restoring takes each chunk from the
//! newest backup of the chain that has it. Chunks rather than the ranges that pools tell: two increments then cover one
//! another exactly, whatever the pools' own granularity is, and each chunk has one checksum that is checked as it comes
//! back.
//!
//! What changed is asked of the pool ([`umbel_driver::Pool::diff`]) while it still has the snapshot that the last backup
//! was made from. Without it (the volume moved, somebody removed it, the last backup was deleted) the volume is read and
//! compared with what the backup holds: slower, and still an increment. Refused: upstream's way of making a full backup
//! then without a word.

mod chunks;
mod directory;
mod pool;
mod targets;

use async_trait::async_trait;
use umbel_core::Result;

pub use self::chunks::{CHUNK, Chunk, ChunkStream, Run, changed, read_runs, runs, writes};
pub use self::directory::DirectoryTarget;
pub use self::pool::PoolTarget;
pub use self::targets::{BackupConfig, Targets};

/// Names the data of one backup. It is not the backup's own id for one that was imported under another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    pub id: String,
    /// The volume it was made of.
    pub volume: String,
    /// The data of the full backup that its chain begins with; its own id if it is full.
    pub base: String,
    /// The data that it is an increment of.
    pub parent: Option<String>,
    /// Bytes of the volume when it was made.
    pub size: u64,
}

/// A place for the data of backups. Everything may be repeated after a crash.
#[async_trait]
pub trait BackupTarget: Send + Sync {
    /// As backups keep it, to find their place again.
    fn name(&self) -> &str;

    /// As exported records have it. Tools expect upstream's prefix.
    fn service(&self) -> String;

    /// Keeps the chunks, ascending, as this data; a full backup's need not name zeros. Data that is whole already is left as it is
    /// and no chunk is asked for; what an earlier try left half done is thrown away. Nothing that was told to be stored is
    /// lost when the power fails then. Returns how many chunks the data has.
    async fn store(&self, data: &Data, chunks: ChunkStream) -> Result<u64>;

    /// All that the volume held, its parents' chunks included and zeros left out, ascending. A chunk that is not what was
    /// stored fails the stream.
    async fn read(&self, data: &Data) -> Result<ChunkStream>;

    /// Whether the data, and all that it is an increment of, is there.
    async fn holds(&self, data: &Data) -> Result<bool>;

    /// Takes the data away, whole or half stored. Nothing is an increment of it any more.
    async fn remove(&self, data: &Data) -> Result<()>;
}
