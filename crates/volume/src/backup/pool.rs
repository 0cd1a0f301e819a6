//! Backups as snapshots of disks in a pool: each chain is one disk, `volume-<id>.backup.<base>`, and each backup of it the
//! snapshot `backup.<id>`. The pool keeps of an increment what it changed and no more, and any backup of the chain can be
//! taken away, the oldest too.
//!
//! The disk's head is the backup that was stored last, or what a failed try made of it. It is compared with the parent's
//! snapshot before an increment is written, and rolled back to it if it differs.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use umbel_core::{Error, Result};
use umbel_driver::{Pool, no_progress};

use super::chunks::{ChunkStream, read_runs, runs, writes};
use super::{BackupTarget, Data};

pub struct PoolTarget {
    name: String,
    pool: Arc<dyn Pool>,
}

impl PoolTarget {
    pub fn new(pool: Arc<dyn Pool>) -> PoolTarget {
        PoolTarget { name: format!("pool:{}", pool.name()), pool }
    }

    /// Brings the chain's disk to where its next backup starts from.
    async fn prepare(&self, data: &Data, disk: &str) -> Result<()> {
        let size = data.size;
        let Some(parent) = data.parent.as_deref().map(snapshot_of) else {
            self.pool.remove(disk).await?;
            return self.pool.create(disk, size).await;
        };
        let info = self.pool.stat(disk).await?.ok_or_else(|| lost(disk))?;
        if !info.snapshots.contains(&parent) {
            return Err(lost(disk));
        }
        if !self.pool.diff(disk, Some(&parent), None).await?.is_empty() {
            self.pool.rollback(disk, &parent).await?;
        }
        let now = self.pool.stat(disk).await?.map_or(0, |info| info.size);
        match now < size {
            true => self.pool.resize(disk, size).await,
            false => Ok(()),
        }
    }

    async fn count(&self, disk: &str, data: &Data) -> Result<u64> {
        let parent = data.parent.as_deref().map(snapshot_of);
        let extents = self.pool.diff(disk, parent.as_deref(), Some(&snapshot_of(&data.id))).await?;
        let chunks = runs(&extents, data.size).into_iter().map(|run| run.chunks.end - run.chunks.start);
        Ok(chunks.sum())
    }
}

fn disk_of(data: &Data) -> String {
    format!("volume-{}.backup.{}", data.volume, data.base)
}

fn snapshot_of(id: &str) -> String {
    format!("backup.{id}")
}

fn lost(disk: &str) -> Error {
    Error::not_found("The backup that this one would be an increment of has lost its data.").because(disk)
}

#[async_trait]
impl BackupTarget for PoolTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn service(&self) -> String {
        format!("cinder.backup.drivers.umbel.{}", self.name)
    }

    async fn store(&self, data: &Data, chunks: ChunkStream) -> Result<u64> {
        let (disk, snapshot) = (disk_of(data), snapshot_of(&data.id));
        let there = self.pool.stat(&disk).await?;
        if there.is_some_and(|info| info.snapshots.contains(&snapshot)) {
            return self.count(&disk, data).await;
        }
        self.prepare(data, &disk).await?;
        let changes = writes(chunks, data.size, false);
        self.pool.patch(&disk, changes, no_progress()).await?;
        self.pool.snapshot(&disk, &snapshot).await?;
        self.count(&disk, data).await
    }

    async fn read(&self, data: &Data) -> Result<ChunkStream> {
        let (disk, snapshot) = (disk_of(data), snapshot_of(&data.id));
        let extents = self.pool.diff(&disk, None, Some(&snapshot)).await?;
        let extents: Vec<_> = extents.into_iter().filter(|extent| !extent.zero).collect();
        let runs = runs(&extents, data.size);
        let chunks = read_runs(self.pool.clone(), &disk, &snapshot, data.size, runs);
        let found = chunks.filter(|chunk| std::future::ready(!matches!(chunk, Ok(chunk) if chunk.bytes.is_none())));
        Ok(Box::pin(found))
    }

    async fn holds(&self, data: &Data) -> Result<bool> {
        let info = self.pool.stat(&disk_of(data)).await?;
        Ok(info.is_some_and(|info| info.snapshots.contains(&snapshot_of(&data.id))))
    }

    async fn remove(&self, data: &Data) -> Result<()> {
        let disk = disk_of(data);
        if self.pool.stat(&disk).await?.is_none() {
            return Ok(());
        }
        self.pool.remove_snapshot(&disk, &snapshot_of(&data.id)).await?;
        let left = self.pool.stat(&disk).await?;
        if left.is_some_and(|info| info.snapshots.is_empty()) {
            self.pool.remove(&disk).await?;
        }
        Ok(())
    }
}
