use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use umbel_core::{Error, Result};

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

/// A range of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
    /// It reads as zeros, so nothing need be copied.
    pub zero: bool,
}

/// A range of a disk with what is to stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Data { offset: u64, bytes: Bytes },
    Zero { offset: u64, length: u64 },
}

impl Change {
    /// Where it begins and where it ends.
    pub fn range(&self) -> Range<u64> {
        match self {
            Change::Data { offset, bytes } => *offset..offset.saturating_add(bytes.len() as u64),
            Change::Zero { offset, length } => *offset..offset.saturating_add(*length),
        }
    }

    /// Its end, if it begins at `after` or later, and ends within the disk's `size`.
    pub fn check(&self, after: u64, size: u64) -> Result<u64> {
        let Range { start, end } = self.range();
        if start < after {
            return Err(Error::bad_request(format!("A change at {start} comes after one that ends at {after}.")));
        }
        if end > size {
            return Err(Error::bad_request(format!("A change that ends at {end} runs past the disk's {size} bytes.")));
        }
        Ok(end)
    }
}

/// Changes in ascending order. An `Err` item ends the stream and the writing.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Result<Change>> + Send>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Name of its pool in the cluster: Ceph's name, or that of a local pool.
    pub pool: String,
    pub disk: String,
    /// It was removed, and lives on for clones of its own.
    pub hidden: bool,
}

/// Bytes that a disk occupies, replicas not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By the disk as it is now, beyond its newest snapshot.
    pub head: u64,
    /// By each snapshot beyond the one before, oldest first.
    pub snapshots: Vec<(String, u64)>,
}

/// A disk that is out of sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The name that it had.
    pub disk: String,
    /// What the pool calls it now: Ceph's trash id.
    pub id: String,
    /// It can be purged: no clone is left.
    pub free: bool,
}

/// None: no limit. Bytes and operations per second. A burst is what may be used for one second after less was used; it
/// goes with its limit and is no smaller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub iops: Option<u64>,
    pub iops_burst: Option<u64>,
    pub read_iops: Option<u64>,
    pub read_iops_burst: Option<u64>,
    pub write_iops: Option<u64>,
    pub write_iops_burst: Option<u64>,
    pub bytes: Option<u64>,
    pub bytes_burst: Option<u64>,
    pub read_bytes: Option<u64>,
    pub read_bytes_burst: Option<u64>,
    pub write_bytes: Option<u64>,
    pub write_bytes_burst: Option<u64>,
    /// Bytes beyond which an operation counts as several. Ceph counts each as one.
    pub iops_size: Option<u64>,
}

impl Limits {
    /// Limits by the names that QoS specs and flavors have for them: `total_iops_sec`, `read_bytes_sec_max`, …
    ///
    /// Zeros, and bursts that their limit leaves without a meaning, say nothing: who spelled something wrongly should not
    /// keep volumes from being used.
    pub fn named(value: impl Fn(&str) -> Option<u64>) -> Limits {
        let number = |name: &str| value(name).filter(|number| *number > 0);
        let pair = |name: &str| {
            let limit = number(name);
            let burst = number(&format!("{name}_max")).filter(|burst| limit.is_some_and(|limit| *burst >= limit));
            (limit, burst)
        };
        let ((iops, iops_burst), (bytes, bytes_burst)) = (pair("total_iops_sec"), pair("total_bytes_sec"));
        let ((read_iops, read_iops_burst), (read_bytes, read_bytes_burst)) =
            (pair("read_iops_sec"), pair("read_bytes_sec"));
        let ((write_iops, write_iops_burst), (write_bytes, write_bytes_burst)) =
            (pair("write_iops_sec"), pair("write_bytes_sec"));
        Limits {
            iops,
            iops_burst,
            read_iops,
            read_iops_burst,
            write_iops,
            write_iops_burst,
            bytes,
            bytes_burst,
            read_bytes,
            read_bytes_burst,
            write_bytes,
            write_bytes_burst,
            iops_size: number("size_iops_sec"),
        }
    }

    /// What both allow.
    #[must_use]
    pub fn and(&self, other: &Limits) -> Limits {
        let less = |one: Option<u64>, two: Option<u64>| match (one, two) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        // What has no burst may be used up to its limit.
        let pair = |(limit, burst): (Option<u64>, Option<u64>), (other, other_burst): (Option<u64>, Option<u64>)| {
            let bound = less(limit, other);
            let burst = less(burst.or(limit), other_burst.or(other)).filter(|burst| Some(*burst) > bound);
            (bound, burst)
        };
        let (iops, iops_burst) = pair((self.iops, self.iops_burst), (other.iops, other.iops_burst));
        let (read_iops, read_iops_burst) =
            pair((self.read_iops, self.read_iops_burst), (other.read_iops, other.read_iops_burst));
        let (write_iops, write_iops_burst) =
            pair((self.write_iops, self.write_iops_burst), (other.write_iops, other.write_iops_burst));
        let (bytes, bytes_burst) = pair((self.bytes, self.bytes_burst), (other.bytes, other.bytes_burst));
        let (read_bytes, read_bytes_burst) =
            pair((self.read_bytes, self.read_bytes_burst), (other.read_bytes, other.read_bytes_burst));
        let (write_bytes, write_bytes_burst) =
            pair((self.write_bytes, self.write_bytes_burst), (other.write_bytes, other.write_bytes_burst));
        Limits {
            iops,
            iops_burst,
            read_iops,
            read_iops_burst,
            write_iops,
            write_iops_burst,
            bytes,
            bytes_burst,
            read_bytes,
            read_bytes_burst,
            write_bytes,
            write_bytes_burst,
            iops_size: less(self.iops_size, other.iops_size),
        }
    }

    /// `BadRequest` if a limit is 0, or a burst is smaller than its limit or has none.
    pub fn check(&self) -> Result<()> {
        let pairs = [
            ("operations", self.iops, self.iops_burst),
            ("read operations", self.read_iops, self.read_iops_burst),
            ("write operations", self.write_iops, self.write_iops_burst),
            ("bytes", self.bytes, self.bytes_burst),
            ("bytes read", self.read_bytes, self.read_bytes_burst),
            ("bytes written", self.write_bytes, self.write_bytes_burst),
        ];
        for (what, limit, burst) in pairs {
            if limit == Some(0) {
                return Err(Error::bad_request(format!("A limit of 0 {what} per second would stop the disk.")));
            }
            if burst.is_some_and(|burst| limit.is_none_or(|limit| burst < limit)) {
                return Err(Error::bad_request(format!("The burst of {what} per second is smaller than its limit.")));
            }
        }
        Ok(())
    }
}

/// Each disk is there once: a snapshot of several disks at once is no chain of snapshots.
pub fn check_together(disks: &[(&str, &str)]) -> Result<()> {
    let mut names: Vec<_> = disks.iter().map(|(disk, _)| *disk).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::bad_request(format!("The disk '{}' is named twice.", pair[0]))),
        None => Ok(()),
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

    /// The disk's size in bytes when the snapshot was made; the disk may have grown since.
    async fn snapshot_size(&self, disk: &str, snapshot: &str) -> Result<u64>;

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

    /// Copies what the disk still shares with its parent, so that it stands alone. The progress is the part of the disk
    /// that is done, in bytes; what lies above zeros or was written already is passed over in no time.
    async fn flatten(&self, disk: &str, progress: Progress) -> Result<()>;

    /// Takes the disk and its snapshots away at once, whoever clones it.
    async fn remove(&self, disk: &str) -> Result<Removed>;

    /// Frees the hidden disks whose last clone is gone; their names.
    async fn purge(&self) -> Result<Vec<String>>;

    /// How a hypervisor on this host opens the disk.
    fn attachment(&self, disk: &str) -> Attachment;

    /// Gives the disk another name; its snapshots, clones and the guest that runs on it keep it. `to` that exists is
    /// `Conflict`, unless `disk` is gone: then this was done before.
    async fn rename(&self, disk: &str, to: &str) -> Result<()>;

    /// As [`Pool::rename`], for a snapshot.
    async fn rename_snapshot(&self, disk: &str, snapshot: &str, to: &str) -> Result<()>;

    /// One point in time for all of these `(disk, snapshot)`: no write that a disk has at its point was issued after
    /// one that another disk lacks, whoever writes to them. All are made or none. If all are there, this was done before.
    /// If some are, a call like this broke off: those are removed, and all are made anew.
    async fn snapshot_together(&self, disks: &[(&str, &str)]) -> Result<()>;

    /// The ranges that differ between snapshot `from` and snapshot `to`, ascending and not overlapping. No `from`: from
    /// a disk of zeros, so all that is stored, inherited from parents or not. No `to`: the disk as it is now. May name
    /// more than differs, never less. Where the disk was shorter at `from`, what it has gained differs.
    async fn diff(&self, disk: &str, from: Option<&str>, to: Option<&str>) -> Result<Vec<Extent>>;

    /// Writes changes into an existing disk that nothing else writes to; the bytes of data written. What fails half-way
    /// stays half done, or undone: the caller repeats all of it. A change out of order or past the end is `BadRequest`.
    async fn patch(&self, disk: &str, changes: ChangeStream, progress: Progress) -> Result<u64>;

    /// Disks that are direct clones of the snapshot, in all pools that can tell, hidden ones too.
    async fn children(&self, disk: &str, snapshot: &str) -> Result<Vec<Child>>;

    /// Bytes really stored for the disk and each of its snapshots, parents not counted.
    async fn usage(&self, disk: &str) -> Result<Usage>;

    /// What was removed and still has clones, or waits to be purged.
    async fn hidden(&self) -> Result<Vec<Hidden>>;

    /// Limits on the I/O of whoever has the disk open; replaces all earlier ones. Where the pool's own clients keep them
    /// (Ceph), they hold from now on for those that have it open already. Elsewhere the pool only keeps them for the
    /// hypervisor, which asks for [`Pool::limits`] when it opens the disk.
    async fn limit(&self, disk: &str, limits: &Limits) -> Result<()>;

    /// What [`Pool::limit`] has set.
    async fn limits(&self, disk: &str) -> Result<Limits>;

    /// After this nothing takes effect any more of what the process of this name has asked for and has no answer to, for those
    /// who take its work over. Of the caller's own process too, which can go on with the pool at once. A pool that one process
    /// at a time works on has nothing to do.
    async fn shut_out(&self, _process: &str) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(values: &[(&str, u64)]) -> Limits {
        Limits::named(|name| values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn limits_have_the_names_of_specs() {
        let limits = named(&[
            ("total_iops_sec", 100),
            ("total_iops_sec_max", 200),
            ("read_bytes_sec", 1024),
            ("write_bytes_sec", 0),
            ("write_iops_sec_max", 5),
            ("read_bytes_sec_max", 5),
            ("size_iops_sec", 4096),
        ]);
        let want = Limits {
            iops: Some(100),
            iops_burst: Some(200),
            read_bytes: Some(1024),
            iops_size: Some(4096),
            ..Limits::default()
        };
        assert_eq!(limits, want);
        limits.check().unwrap();
    }

    #[test]
    fn of_two_limits_the_stricter_holds() {
        let check = |one: &[(&str, u64)], two: &[(&str, u64)], want: &[(&str, u64)]| {
            let (one, two, want) = (named(one), named(two), named(want));
            assert_eq!((one.and(&two), two.and(&one)), (want.clone(), want.clone()));
            want.check().unwrap();
        };
        check(
            &[],
            &[("read_iops_sec", 5), ("read_iops_sec_max", 9)],
            &[("read_iops_sec", 5), ("read_iops_sec_max", 9)],
        );
        check(&[("total_iops_sec", 10)], &[("total_iops_sec", 7)], &[("total_iops_sec", 7)]);
        // The burst of one is beyond what the other allows at any time.
        check(
            &[("total_iops_sec", 5), ("total_iops_sec_max", 100)],
            &[("total_iops_sec", 50)],
            &[("total_iops_sec", 5), ("total_iops_sec_max", 50)],
        );
        check(
            &[("total_iops_sec", 5), ("total_iops_sec_max", 100)],
            &[("total_iops_sec", 5)],
            &[("total_iops_sec", 5)],
        );
    }
}
