//! Changes written into a disk that is there.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use umbel_core::Result;
use umbel_driver::{Change, ChangeStream, Progress};

use crate::cluster::CephCluster;
use crate::errno::Failed;
use crate::ffi::{Access, DataImage, Which};
use crate::pool::CephName;
use crate::transfer::{OBJECT, WRITES, close, pieces};

/// Zeros asked for at a time: each object of them is a request of its own that librbd has under way.
const ZEROS: u64 = 64 * OBJECT as u64;

/// Under the exclusive lock: a guest that has the disk open against the rules is not written into unseen.
pub async fn patch(
    cluster: &CephCluster,
    ceph: &CephName,
    disk: &str,
    changes: ChangeStream,
    progress: &Progress,
) -> Result<u64> {
    ceph.room(cluster, disk).await?;
    let (name, subject, patience) = (ceph.clone(), disk.to_owned(), cluster.config().operation_timeout());
    let open = move |connection: &Arc<_>| {
        let pool = name.open(connection)?;
        let open = || {
            let image = pool.open(Which::Name(&subject), None, Access::Write)?;
            image.lock()?;
            let size = image.size()?;
            Ok((DataImage::new(image, patience), size))
        };
        open().map_err(|failed: Failed| failed.about(&name.disk(&subject)))
    };
    let (image, size) = cluster.run(open).await?;
    let mut writing = Writing { image: image.clone(), subject: ceph.disk(disk), in_flight: FuturesUnordered::new() };
    let written = writing.run(changes, size, progress).await;
    drop(writing);
    close(image).await;
    written
}

struct Writing {
    image: Arc<DataImage>,
    subject: String,
    in_flight: FuturesUnordered<BoxFuture<'static, Result<(), Failed>>>,
}

impl Writing {
    async fn run(&mut self, changes: ChangeStream, size: u64, progress: &Progress) -> Result<u64> {
        let written = self.write(changes, size, progress).await;
        // Also when it failed: what is under way ends before the image is closed.
        let ended = self.wait_for(0).await;
        let written = written.and_then(|written| ended.map(|()| written))?;
        self.image.flush().await.map_err(|failed| failed.about(&self.subject))?;
        Ok(written)
    }

    async fn write(&mut self, mut changes: ChangeStream, size: u64, progress: &Progress) -> Result<u64> {
        let (mut written, mut told, mut end) = (0, 0, 0);
        while let Some(change) = changes.next().await {
            let change = change?;
            end = change.check(end, size)?;
            let range = change.range();
            match change {
                Change::Data { offset, bytes } => {
                    written += bytes.len() as u64;
                    for piece in pieces(range) {
                        let from = (piece.start - offset) as usize;
                        let (image, bytes) = (self.image.clone(), bytes.slice(from..from + piece.len()));
                        self.send(async move { image.write(piece.start, bytes).await }.boxed()).await?;
                    }
                }
                Change::Zero { .. } => {
                    let mut at = range.start;
                    while at < range.end {
                        let next = ((at / ZEROS + 1) * ZEROS).min(range.end);
                        let (image, length) = (self.image.clone(), (next - at) as usize);
                        self.send(async move { image.zero(at, length).await }.boxed()).await?;
                        at = next;
                    }
                }
            }
            if written - told >= OBJECT as u64 {
                told = written;
                progress(written);
            }
        }
        Ok(written)
    }

    async fn send(&mut self, work: BoxFuture<'static, Result<(), Failed>>) -> Result<()> {
        self.wait_for(WRITES - 1).await?;
        self.in_flight.push(work);
        // A future does nothing until it is polled, and the next change may be long in coming.
        match self.in_flight.next().now_or_never().flatten() {
            Some(done) => done.map_err(|failed| failed.about(&self.subject)),
            None => Ok(()),
        }
    }

    /// Until no more than `left` are under way; the first failure.
    async fn wait_for(&mut self, left: usize) -> Result<()> {
        let mut outcome = Ok(());
        while self.in_flight.len() > left
            && let Some(done) = self.in_flight.next().await
        {
            outcome = outcome.and(done);
        }
        outcome.map_err(|failed: Failed| failed.about(&self.subject))
    }
}
