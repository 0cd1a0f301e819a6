//! Chunks of a volume: which ones to read, reading, comparing and writing them.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use umbel_core::{Error, Result};
use umbel_driver::{ByteStream, Change, ChangeStream, Extent, Pool};

/// Bytes of a chunk; a volume's last one may be shorter. What an object of Ceph holds by default, which is as fine as fast
/// comparisons there are.
pub const CHUNK: u64 = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// It begins at `index` times [`CHUNK`].
    pub index: u64,
    /// None: zeros.
    pub bytes: Option<Bytes>,
}

/// Chunks in ascending order. An `Err` item ends the stream and whatever is done with it.
pub type ChunkStream = Pin<Box<dyn Stream<Item = Result<Chunk>> + Send>>;

/// Neighbouring chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub chunks: Range<u64>,
    /// They are known to be zeros.
    pub zero: bool,
}

/// The chunks that these ranges of a disk of `size` bytes touch: ascending ranges in, ascending runs out. Of a range of
/// zeros, the chunks that it only begins or ends in have to be read.
pub fn runs(extents: &[Extent], size: u64) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    let mut push = |from: u64, to: u64, zero: bool| {
        let from = all.last().map_or(from, |last| from.max(last.chunks.end));
        if from >= to {
            return;
        }
        match all.last_mut() {
            Some(last) if last.zero == zero && last.chunks.end == from => last.chunks.end = to,
            _ => all.push(Run { chunks: from..to, zero }),
        }
    };
    for extent in extents {
        let end = extent.offset.saturating_add(extent.length).min(size);
        if extent.offset >= end {
            continue;
        }
        let (first, last) = (extent.offset / CHUNK, end.div_ceil(CHUNK));
        if !extent.zero {
            push(first, last, false);
            continue;
        }
        let whole = extent.offset.div_ceil(CHUNK)..if end == size { last } else { end / CHUNK };
        if whole.is_empty() {
            push(first, last, false);
            continue;
        }
        push(first, whole.start, false);
        push(whole.start, whole.end, true);
        push(whole.end, last, false);
    }
    all
}

/// Where a chunk is in a disk of `size` bytes.
pub(super) fn span(index: u64, size: u64) -> Range<u64> {
    index * CHUNK..((index + 1) * CHUNK).min(size)
}

/// Reads these runs of a disk's snapshot. A chunk that is read and has nothing but zeros says so.
pub fn read_runs(pool: Arc<dyn Pool>, disk: &str, snapshot: &str, size: u64, runs: Vec<Run>) -> ChunkStream {
    let at = (disk.to_owned(), snapshot.to_owned());
    let each = stream::iter(runs).then(move |run| {
        let (pool, (disk, snapshot)) = (pool.clone(), at.clone());
        async move {
            if run.zero {
                let zeros = run.chunks.map(|index| Ok(Chunk { index, bytes: None }));
                return Ok::<ChunkStream, Error>(Box::pin(stream::iter(zeros)));
            }
            let bytes = run.chunks.start * CHUNK..(run.chunks.end * CHUNK).min(size);
            let data = pool.read(&disk, Some(&snapshot), bytes.start, bytes.end - bytes.start).await?;
            Ok(cut(data, run.chunks, size))
        }
    });
    Box::pin(each.try_flatten())
}

/// Cuts a run's bytes into its chunks.
fn cut(data: ByteStream, chunks: Range<u64>, size: u64) -> ChunkStream {
    let state = (data, BytesMut::new(), chunks);
    Box::pin(stream::try_unfold(state, move |(mut data, mut held, mut chunks)| async move {
        let Some(index) = chunks.next() else {
            return Ok(None);
        };
        let span = span(index, size);
        let wanted = (span.end - span.start) as usize;
        while held.len() < wanted {
            let more = data.next().await.transpose()?;
            held.extend_from_slice(&more.ok_or_else(|| Error::internal("a disk's bytes end early"))?);
        }
        let bytes = held.split_to(wanted).freeze();
        let bytes = Some(bytes).filter(|bytes| !is_zero(bytes));
        Ok(Some((Chunk { index, bytes }, (data, held, chunks))))
    }))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The chunks of `new` that `old` has not, or has otherwise; and zeros for what `old` has and `new` has not.
pub fn changed(new: ChunkStream, old: ChunkStream) -> ChunkStream {
    let state = (new.peekable(), old.peekable());
    Box::pin(stream::try_unfold(state, |(mut new, mut old)| async move {
        loop {
            // A failure is passed on by whoever takes the item; until then it stands before all others.
            let next = Pin::new(&mut new).peek().await.map(index_of);
            let before = Pin::new(&mut old).peek().await.map(index_of);
            let (take_new, take_old) = match (next, before) {
                (None, None) => return Ok(None),
                (Some(_), None) => (true, false),
                (None, Some(_)) => (false, true),
                (Some(next), Some(before)) => (next <= before, before <= next),
            };
            let had = if take_old { old.next().await.transpose()? } else { None };
            let has = if take_new { new.next().await.transpose()? } else { None };
            let had_bytes = had.as_ref().and_then(|chunk| chunk.bytes.as_ref());
            let has_bytes = has.as_ref().and_then(|chunk| chunk.bytes.as_ref());
            if had_bytes == has_bytes {
                continue;
            }
            let index = has.as_ref().or(had.as_ref()).map_or(0, |chunk| chunk.index);
            return Ok(Some((Chunk { index, bytes: has_bytes.cloned() }, (new, old))));
        }
    }))
}

fn index_of(item: &Result<Chunk>) -> u64 {
    item.as_ref().map_or(0, |chunk| chunk.index)
}

/// What to write into a disk of `size` bytes. `over` an older content: everything between the chunks becomes zeros, to
/// the disk's end.
pub fn writes(chunks: ChunkStream, size: u64, over: bool) -> ChangeStream {
    let state = (Some(chunks), 0);
    let changes = stream::try_unfold(state, move |(chunks, done)| async move {
        let Some(mut chunks) = chunks else {
            return Ok::<_, Error>(None);
        };
        let Some(chunk) = chunks.next().await.transpose()? else {
            let rest = (over && done < size).then_some(Change::Zero { offset: done, length: size - done });
            return Ok(Some((rest.into_iter().collect::<Vec<_>>(), (None, size))));
        };
        let span = span(chunk.index, size);
        if span.start < done || span.is_empty() {
            return Err(Error::internal(format!("chunk {} is out of place", chunk.index)));
        }
        let mut changes = Vec::with_capacity(2);
        if over && done < span.start {
            changes.push(Change::Zero { offset: done, length: span.start - done });
        }
        let end = match chunk.bytes {
            Some(bytes) => {
                // The last chunk of a smaller volume is short.
                let end = span.start + bytes.len() as u64;
                changes.push(Change::Data { offset: span.start, bytes });
                end
            }
            None => {
                changes.push(Change::Zero { offset: span.start, length: span.end - span.start });
                span.end
            }
        };
        Ok(Some((changes, (Some(chunks), end))))
    });
    Box::pin(changes.map_ok(|changes| stream::iter(changes.into_iter().map(Ok))).try_flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_runs_of_chunks() {
        let check = |have: &[(u64, u64, bool)], size: u64, want: &[(u64, u64, bool)]| {
            let extents: Vec<_> = have.iter().map(|&(offset, length, zero)| Extent { offset, length, zero }).collect();
            let want: Vec<_> = want.iter().map(|&(from, to, zero)| Run { chunks: from..to, zero }).collect();
            assert_eq!(runs(&extents, size), want, "{have:?} of {size}");
        };
        let c = CHUNK;
        check(&[], c, &[]);
        check(&[(5, 1, false)], 10 * c, &[(0, 1, false)]);
        check(&[(5, 1, false), (9, c, false)], 10 * c, &[(0, 2, false)]);
        check(&[(c - 1, 2, false), (4 * c, c, false)], 10 * c, &[(0, 2, false), (4, 5, false)]);
        check(&[(1, 3 * c, true)], 10 * c, &[(0, 1, false), (1, 3, true), (3, 4, false)]);
        check(&[(1, 5, true)], 10 * c, &[(0, 1, false)]);
        check(&[(c, c / 2, true)], c + c / 2, &[(1, 2, true)]);
        check(&[(0, c + 1, false), (c + 1, 2 * c, true)], 10 * c, &[(0, 2, false), (2, 3, true), (3, 4, false)]);
        check(&[(9 * c, 9 * c, true)], 10 * c, &[(9, 10, true)]);
        check(&[(11 * c, c, true)], 10 * c, &[]);
    }

    fn chunks(list: &[(u64, Option<&'static [u8]>)]) -> ChunkStream {
        let all: Vec<_> = list
            .iter()
            .map(|(index, bytes)| Ok(Chunk { index: *index, bytes: bytes.map(Bytes::from_static) }))
            .collect();
        Box::pin(stream::iter(all))
    }

    #[tokio::test]
    async fn a_comparison_finds_what_came_and_what_went() {
        let old = chunks(&[(0, Some(b"a")), (2, Some(b"b")), (3, Some(b"c"))]);
        let new = chunks(&[(0, Some(b"a")), (1, Some(b"n")), (2, None), (3, Some(b"d")), (9, None)]);
        let found: Vec<_> = changed(new, old).try_collect().await.unwrap();
        let want: Vec<_> = chunks(&[(1, Some(b"n")), (2, None), (3, Some(b"d"))]).try_collect().await.unwrap();
        assert_eq!(found, want);
        let broken = Box::pin(stream::iter([Err(Error::internal("gone"))]));
        assert!(changed(chunks(&[(7, Some(b"a"))]), broken).try_collect::<Vec<_>>().await.is_err());
    }

    #[tokio::test]
    async fn old_content_is_written_over() {
        let data = |at: u64| Change::Data { offset: at, bytes: Bytes::from_static(b"x") };
        let zero = |offset: u64, end: u64| Change::Zero { offset, length: end - offset };
        let have: Vec<_> = writes(chunks(&[(1, Some(b"x")), (2, None)]), 4 * CHUNK, true).try_collect().await.unwrap();
        let want = [zero(0, CHUNK), data(CHUNK), zero(CHUNK + 1, 2 * CHUNK), zero(2 * CHUNK, 3 * CHUNK)];
        assert_eq!(have, [&want[..], &[zero(3 * CHUNK, 4 * CHUNK)]].concat());
        let have: Vec<_> = writes(chunks(&[(1, Some(b"x"))]), 4 * CHUNK, false).try_collect().await.unwrap();
        assert_eq!(have, [data(CHUNK)]);
        let past = writes(chunks(&[(4, Some(b"x"))]), 4 * CHUNK, false).try_collect::<Vec<_>>().await;
        assert!(past.is_err());
    }
}
