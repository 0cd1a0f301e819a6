//! Bytes into disks and out of them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use umbel_core::{Error, GIB, Kind, Result};
use umbel_driver::{ByteStream, WriteOptions};

use crate::cluster::CephCluster;
use crate::errno::Failed;
use crate::ffi::{Access, DataImage, Which};
use crate::make;
use crate::pool::CephName;

/// Size of an RBD object by default. A write of one object is one request to one OSD.
pub const OBJECT: usize = 4 << 20;

/// Objects on their way to the cluster per upload, so at most 36 MiB of memory each.
pub const WRITES: usize = 8;

/// Objects on their way from the cluster per download.
const READS: usize = 4;

/// Zeros are looked for in pieces of this size.
const PAGE: usize = 4_096;

/// Bytes written to a pool of unknown room before it is looked at again.
const UNCOUNTED: u64 = 64 << 20;

/// After a try to remove what was begun. When the cluster has hung, the lock on the disk outlives its client for 30 s.
const UNDO_PAUSES: [Duration; 5] =
    [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(60), Duration::ZERO];

/// A disk of unknown size begins with this, and doubles. Space that is not written to costs nothing.
const FIRST_SIZE: u64 = GIB;

/// Bytes of a snapshot, whatever its disk has grown to.
pub async fn size_at(cluster: &CephCluster, ceph: &CephName, disk: &str, snapshot: &str) -> Result<u64> {
    let (ceph, disk, snapshot) = (ceph.clone(), disk.to_owned(), snapshot.to_owned());
    let look = cluster.run(move |connection| {
        let about = ceph.snapshot(&disk, &snapshot);
        let image = ceph.open(connection)?.open(Which::Name(&disk), Some(&snapshot), Access::Read);
        image.and_then(|image| image.size()).map_err(|failed| failed.about(&about))
    });
    look.await
}

pub async fn read(
    cluster: &CephCluster,
    ceph: &CephName,
    disk: &str,
    snapshot: Option<&str>,
    range: Range<u64>,
) -> Result<ByteStream> {
    let (ceph, disk, snapshot) = (ceph.clone(), disk.to_owned(), snapshot.map(str::to_owned));
    let subject = match &snapshot {
        Some(snapshot) => ceph.snapshot(&disk, snapshot),
        None => ceph.disk(&disk),
    };
    let about = subject.clone();
    let patience = cluster.config().operation_timeout();
    let open = cluster.run(move |connection| {
        let image = ceph.open(connection)?.open(Which::Name(&disk), snapshot.as_deref(), Access::Read);
        let image = image.map_err(|failed| failed.about(&about))?;
        let size = image.size().map_err(|failed| failed.about(&about))?;
        Ok((DataImage::new(image, patience), size))
    });
    let (image, size) = open.await?;
    if range.end > size {
        return Err(Error::bad_request(format!("{subject} has {size} bytes, not {}.", range.end)));
    }
    let pieces = stream::iter(pieces(range)).map(move |piece| {
        let (image, subject) = (image.clone(), subject.clone());
        async move { image.read(piece.start, piece.len()).await.map_err(|failed| failed.about(&subject)) }
    });
    Ok(Box::pin(pieces.buffered(READS)))
}

/// A piece of a range that lies in one object.
pub struct Piece {
    pub start: u64,
    end: u64,
}

impl Piece {
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }
}

pub fn pieces(range: Range<u64>) -> impl Iterator<Item = Piece> + Send {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let end = ((start / OBJECT as u64 + 1) * OBJECT as u64).min(range.end);
        let piece = (start < range.end).then_some(Piece { start, end });
        start = end;
        piece
    })
}

/// Runs as a task of its own: when the caller's future is dropped, the disk that was begun still has to be removed, and only
/// after every write on its way to it has ended.
pub async fn write(
    cluster: &Arc<CephCluster>,
    ceph: &CephName,
    disk: &str,
    data: ByteStream,
    options: WriteOptions,
) -> Result<u64> {
    let (caller, caller_gone) = oneshot::channel();
    let (cluster, ceph, disk) = (cluster.clone(), ceph.clone(), disk.to_owned());
    let task = tokio::spawn(async move { receive(&cluster, &ceph, &disk, data, options, caller_gone).await });
    let outcome = task.await;
    drop::<oneshot::Sender<()>>(caller);
    outcome.map_err(Error::internal)?
}

async fn receive(
    cluster: &Arc<CephCluster>,
    ceph: &CephName,
    disk: &str,
    data: ByteStream,
    options: WriteOptions,
    mut caller_gone: oneshot::Receiver<()>,
) -> Result<u64> {
    let room = ceph.room(cluster, disk).await?.unwrap_or(UNCOUNTED);
    let size = options.size.unwrap_or(FIRST_SIZE).max(options.min_size);
    let (image, id) = create(cluster, ceph, disk, size).await?;
    let mut filling = Filling {
        cluster,
        ceph,
        disk,
        image,
        size,
        received: 0,
        block: BytesMut::new(),
        in_flight: FuturesUnordered::new(),
        stored: 0,
        room,
        hangs: false,
    };
    let filled = filling.fill(data, &options, &mut caller_gone).await;
    let Filling { image, in_flight, hangs, .. } = filling;
    if filled.is_ok() {
        close(image).await;
        return filled;
    }
    let undone = undo(cluster.clone(), ceph.clone(), (disk.to_owned(), id), image, in_flight);
    if hangs {
        // It would take many more requests without an answer, and tell the caller nothing new.
        tokio::spawn(undone);
    } else {
        undone.await;
    }
    filled
}

pub async fn close(image: Arc<DataImage>) {
    // It fails only if it panics, and there is nothing to close then.
    let _ = tokio::task::spawn_blocking(move || image.close()).await;
}

/// The image, open for writing, and Ceph's id of it.
async fn create(cluster: &CephCluster, ceph: &CephName, disk: &str, size: u64) -> Result<(Arc<DataImage>, String)> {
    let (ceph, disk, patience) = (ceph.clone(), disk.to_owned(), cluster.config().operation_timeout());
    let work = move |connection: &Arc<_>| {
        let pool = ceph.open(connection)?;
        let about = |failed: Failed| failed.about(&ceph.disk(&disk));
        make::create(&pool, &disk, size).map_err(about)?;
        let open = || {
            let image = pool.open(Which::Name(&disk), None, Access::Write)?;
            image.lock()?;
            let id = image.id()?;
            Ok((image, id))
        };
        let opened = open().inspect_err(|_| {
            let _ = pool.remove(&disk);
        });
        let (image, id) = opened.map_err(about)?;
        Ok((DataImage::new(image, patience), id))
    };
    cluster.run(work).await
}

/// Takes back what was begun. The writes on their way must end before.
///
/// By its id: this goes on for minutes with a cluster that hangs, and after a process that stood still goes on. Meanwhile
/// whoever took the work over may have made a disk of this name.
async fn undo(
    cluster: Arc<CephCluster>,
    ceph: CephName,
    (disk, id): (String, String),
    image: Arc<DataImage>,
    mut in_flight: FuturesUnordered<Written>,
) {
    while in_flight.next().await.is_some() {}
    close(image).await;
    for pause in UNDO_PAUSES {
        let (pool, name, id) = (ceph.clone(), disk.clone(), id.clone());
        let remove = move |connection: &Arc<_>| {
            let at = pool.open(connection)?;
            let same = || Ok(at.open(Which::Name(&name), None, Access::Read)?.id()? == id);
            let removed = same().and_then(|same| if same { at.remove(&name) } else { Ok(()) });
            removed.map_err(|failed| failed.about(&pool.disk(&name)))
        };
        let Err(error) = cluster.run(remove).await else { return };
        match error.kind() {
            Kind::NotFound => return,
            Kind::Busy | Kind::Timeout | Kind::Unavailable => tokio::time::sleep(pause).await,
            _ => {
                tracing::error!(error = error.for_log(), "a disk that was not written whole is left behind");
                return;
            }
        }
    }
    tracing::error!(disk, pool = %ceph.0, "a disk that was not written whole is left behind: the cluster did not answer");
}

type Written = BoxFuture<'static, Result<(), Failed>>;

/// A disk while it is written.
struct Filling<'a> {
    cluster: &'a CephCluster,
    ceph: &'a CephName,
    disk: &'a str,
    image: Arc<DataImage>,
    /// Of the image, now.
    size: u64,
    received: u64,
    /// The end of what was received, less than an object.
    block: BytesMut,
    in_flight: FuturesUnordered<Written>,
    /// Bytes written, and how many may be: what was free in the pool. Ceph notices a full pool seconds late.
    stored: u64,
    room: u64,
    /// The cluster has not answered a request.
    hangs: bool,
}

impl Filling<'_> {
    async fn fill(
        &mut self,
        mut data: ByteStream,
        options: &WriteOptions,
        caller_gone: &mut oneshot::Receiver<()>,
    ) -> Result<u64> {
        loop {
            let next = tokio::select! {
                biased;
                _ = &mut *caller_gone => return Err(abandoned()),
                next = data.next() => next,
            };
            let Some(bytes) = next.transpose()? else { break };
            let objects = self.received / OBJECT as u64;
            self.take(bytes, options.size).await?;
            if self.received / OBJECT as u64 > objects {
                (options.progress)(self.received);
            }
        }
        if let Some(size) = options.size.filter(|size| *size != self.received) {
            return Err(Error::bad_request(format!("{} bytes came of the {size} announced.", self.received)));
        }
        self.put().await?;
        while let Some(written) = self.in_flight.next().await {
            written.map_err(|failed| self.about(failed))?;
        }
        self.image.flush().await.map_err(|failed| self.about(failed))?;
        self.resize(self.received.max(options.min_size)).await?;
        (options.progress)(self.received);
        match caller_gone.try_recv() {
            Err(oneshot::error::TryRecvError::Closed) => Err(abandoned()),
            _ => Ok(self.received),
        }
    }

    async fn take(&mut self, mut bytes: Bytes, announced: Option<u64>) -> Result<()> {
        if let Some(size) = announced
            && self.received + bytes.len() as u64 > size
        {
            return Err(Error::bad_request(format!("More bytes came than the {size} announced.")));
        }
        while !bytes.is_empty() {
            let now = bytes.split_to(bytes.len().min(OBJECT - self.block.len()));
            self.block.reserve(OBJECT - self.block.len());
            self.block.extend_from_slice(&now);
            self.received += now.len() as u64;
            if self.block.len() == OBJECT {
                self.put().await?;
            }
        }
        Ok(())
    }

    /// Sends the block, the last of what was received, on its way.
    async fn put(&mut self) -> Result<()> {
        let block = self.block.split().freeze();
        let start = self.received - block.len() as u64;
        if self.received > self.size {
            self.resize((self.size * 2).max(self.received)).await?;
        }
        let Some(used) = without_zeros(&block) else { return Ok(()) };
        self.stored += used.len() as u64;
        if self.stored > self.room {
            self.look_for_room().await?;
        }
        while self.in_flight.len() >= WRITES {
            if let Some(written) = self.in_flight.next().await {
                written.map_err(|failed| self.about(failed))?;
            }
        }
        let image = self.image.clone();
        let write = async move { image.write(start + used.start as u64, block.slice(used)).await };
        self.in_flight.push(write.boxed());
        // A future does nothing until it is polled, and the next piece of the stream may be long in coming.
        if let Some(written) = self.in_flight.next().now_or_never().flatten() {
            written.map_err(|failed| self.about(failed))?;
        }
        Ok(())
    }

    /// What was free at first is written to.
    async fn look_for_room(&mut self) -> Result<()> {
        let free = match self.cluster.capacity_now(&self.ceph.0).await {
            Ok(capacity) => capacity.map(|capacity| capacity.free),
            Err(error) if error.is(Kind::Timeout) => None,
            Err(error) => return Err(error),
        };
        self.room = match free {
            // Others have made room. Whether our own bytes are counted yet cannot be told, so they are taken to be not.
            Some(free) if free > self.stored => free,
            Some(_) => return Err(self.ceph.full(self.disk)),
            None => self.stored + UNCOUNTED,
        };
        Ok(())
    }

    fn about(&mut self, failed: Failed) -> Error {
        let error = failed.about(&self.ceph.disk(self.disk));
        self.hangs |= error.is(Kind::Timeout);
        error
    }

    async fn resize(&mut self, size: u64) -> Result<()> {
        if size == self.size {
            return Ok(());
        }
        let (image, subject) = (self.image.clone(), self.ceph.disk(self.disk));
        let work = move |_: &Arc<_>| image.resize(size).map_err(|failed| failed.about(&subject));
        let resized = self.cluster.run(work).await;
        self.hangs |= resized.as_ref().is_err_and(|error| error.is(Kind::Timeout));
        resized?;
        self.size = size;
        Ok(())
    }
}

/// The range of the block that holds all that is not zero, if any is.
fn without_zeros(block: &[u8]) -> Option<Range<usize>> {
    // Compared by pages rather than by bytes: that is a library call, and fast in every build.
    static ZEROS: [u8; PAGE] = [0; PAGE];
    let used = |page: &[u8]| page != &ZEROS[..page.len()];
    let first = block.chunks(PAGE).position(used)?;
    let last = block.chunks(PAGE).rposition(used)?;
    Some(first * PAGE..((last + 1) * PAGE).min(block.len()))
}

/// Nobody reads it: who would is gone.
fn abandoned() -> Error {
    Error::new(Kind::Gone, "The sender has gone away.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_both_ends_are_left_out() {
        let check = |used: &[usize], length: usize, want: Option<Range<usize>>| {
            let mut block = vec![0; length];
            for at in used {
                block[*at] = 1;
            }
            assert_eq!(without_zeros(&block), want, "{used:?} of {length}");
        };
        check(&[], 0, None);
        check(&[], OBJECT, None);
        check(&[0], 1, Some(0..1));
        check(&[5_000], 3 * PAGE, Some(PAGE..2 * PAGE));
        check(&[0, OBJECT - 1], OBJECT, Some(0..OBJECT));
        check(&[PAGE + 9], PAGE + 10, Some(PAGE..PAGE + 10));
    }

    #[test]
    fn reads_do_not_cross_objects() {
        let check = |range: Range<u64>, want: &[(u64, usize)]| {
            let have: Vec<_> = pieces(range.clone()).map(|piece| (piece.start, piece.len())).collect();
            assert_eq!(have, want, "{range:?}");
        };
        const FOUR: u64 = OBJECT as u64;
        check(0..0, &[]);
        check(7..7, &[]);
        check(3..5, &[(3, 2)]);
        check(FOUR - 1..FOUR + 1, &[(FOUR - 1, 1), (FOUR, 1)]);
        check(1..2 * FOUR, &[(1, OBJECT - 1), (FOUR, OBJECT)]);
    }
}
