//! Images of other formats, read as the raw disks that guests see.
//!
//! An image is hostile: its header can name other files, promise exabytes, or point at the same block a million times.
//! The readers here are therefore our own, in safe Rust, over a [`Source`] of bytes: they can open no file, start no
//! process and reach no network, whatever a header says, and hold a bounded part of an image in memory: some 20 MiB,
//! whatever its size. What refers to anything outside itself is refused, what reads its own bytes again and again runs
//! out of its allowance, and nothing is ever copied to a scratch file: the bytes go from the pool that has the image
//! into the pool that gets the disk.
//!
//! Formats: qcow2 (versions 2 and 3, compressed by deflate or zstd, extended entries, internal snapshots are ignored),
//! VMDK (monolithicSparse, streamOptimized), VDI, VHD (fixed and dynamic), VHDX (without a log to replay). The format is
//! always told, never guessed.
//!
//! Refused alternatives:
//! * `qemu-img convert`: two files of the image's size on this host, and a process that opens whatever hostile bytes
//!   name, with the rights of the service;
//! * `qemu-storage-daemon` and an NBD client of ours: no files, but the same parser of hostile bytes, which would need
//!   namespaces and limits around it, keys of the cluster in its hands, and a package on every image host.

mod qcow2;
mod source;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use umbel_core::{Error, Kind, Result};

pub use self::source::{DiskSource, FileSource, Source};
pub use self::vhdx::crc32c;

use self::source::Input;
use crate::{ByteStream, Change, ChangeStream, Pool, Progress};

/// Bytes read from the source at a time, where they lie together.
const RUN: u64 = 4 << 20;

/// Reads on their way. They come out in order.
const READS: usize = 4;

/// Disks are whole sectors.
const SECTOR: u64 = 512;

/// Zeros are left out in pieces of this size.
const PAGE: usize = 64 << 10;

/// What [`Converter::into_bytes`] sends of a hole at a time.
const ZEROS: usize = 1 << 20;

/// Largest piece that is compressed by itself. All formats have it.
const MAX_PACKED: u64 = 2 << 20;

/// What can be converted, by the image service's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    Qcow2,
    Vmdk,
    Vdi,
    Vhd,
    Vhdx,
}

/// An image whose header was read and found harmless.
pub struct Converter {
    size: u64,
    input: Input,
    map: Map,
}

/// Where the bytes of the disk are in the image.
enum Map {
    Qcow2(qcow2::Map),
    Vmdk(vmdk::Map),
    Vdi(vdi::Map),
    Vhd(vhd::Map),
    Vhdx(vhdx::Map),
}

/// A range of the disk, from where it was asked for.
struct Piece {
    length: u64,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Zero,
    /// As it stands in the image, from there.
    At(u64),
    /// `length` bytes from `offset` expand to at most the piece's.
    Packed {
        offset: u64,
        length: u64,
        codec: Codec,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Deflate,
    /// With zlib's header and trailer.
    Zlib,
    Zstd,
}

/// A range with data, to be fetched.
struct Job {
    at: u64,
    length: u64,
    from: From,
}

enum From {
    Run(u64),
    Packed(Bytes, Codec),
}

impl ImageFormat {
    pub const ALL: [ImageFormat; 5] =
        [ImageFormat::Qcow2, ImageFormat::Vmdk, ImageFormat::Vdi, ImageFormat::Vhd, ImageFormat::Vhdx];

    pub fn name(self) -> &'static str {
        match self {
            ImageFormat::Qcow2 => "qcow2",
            ImageFormat::Vmdk => "vmdk",
            ImageFormat::Vdi => "vdi",
            ImageFormat::Vhd => "vhd",
            ImageFormat::Vhdx => "vhdx",
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ImageFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = ImageFormat::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| Error::bad_request(format!("Images of format '{text}' cannot be converted.")))
    }
}

impl Converter {
    /// Reads the header.
    ///
    /// # Errors
    /// `BadRequest` for an image that is not of this format, is damaged, or refers to another; the source's own.
    pub async fn open(format: ImageFormat, source: Arc<dyn Source>) -> Result<Converter> {
        let mut input = Input::new(format, source);
        let (size, map) = match format {
            ImageFormat::Qcow2 => qcow2::open(&mut input).await.map(|(size, map)| (size, Map::Qcow2(map)))?,
            ImageFormat::Vmdk => vmdk::open(&mut input).await.map(|(size, map)| (size, Map::Vmdk(map)))?,
            ImageFormat::Vdi => vdi::open(&mut input).await.map(|(size, map)| (size, Map::Vdi(map)))?,
            ImageFormat::Vhd => vhd::open(&mut input).await.map(|(size, map)| (size, Map::Vhd(map)))?,
            ImageFormat::Vhdx => vhdx::open(&mut input).await.map(|(size, map)| (size, Map::Vhdx(map)))?,
        };
        if size > 1 << 60 {
            return Err(input.bad("has an absurd virtual size"));
        }
        Ok(Converter { size, input, map })
    }

    /// Bytes of the disk that a guest sees.
    pub fn virtual_size(&self) -> u64 {
        self.size
    }

    /// The disk's data in ascending order; what no item names is zeros, so a blank disk of [`Converter::virtual_size`]
    /// bytes becomes the image by [`crate::Pool::patch`]. More than `most` bytes of data are `TooLarge`.
    pub fn into_changes(self, most: u64) -> ChangeStream {
        let mut stored = 0;
        let changes = self.into_pieces().flat_map(|piece| {
            let changes = match piece {
                Ok((at, bytes)) => without_zeros(at, &bytes).into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            stream::iter(changes)
        });
        Box::pin(changes.map(move |change: Result<Change>| {
            if let Ok(Change::Data { bytes, .. }) = &change {
                stored += bytes.len() as u64;
                if stored > most {
                    let message = format!("The image has more than {most} bytes of data.");
                    return Err(Error::new(Kind::TooLarge, message));
                }
            }
            change
        }))
    }

    /// A new disk of the image's content, in whole sectors and of at least `min_size` bytes; its size. `most` as in
    /// [`Converter::into_changes`]; `progress` counts bytes of data. What fails leaves no disk behind; a dropped future
    /// may.
    ///
    /// # Errors
    /// `Conflict` if there is a disk of that name; the image's faults, the source's and the pool's.
    pub async fn write_disk(
        self,
        pool: &dyn Pool,
        disk: &str,
        min_size: u64,
        most: u64,
        progress: Progress,
    ) -> Result<u64> {
        let size = self.size.next_multiple_of(SECTOR).max(min_size);
        pool.create(disk, size).await?;
        match pool.patch(disk, self.into_changes(most), progress).await {
            Ok(_) => Ok(size),
            Err(error) => match pool.remove(disk).await {
                Ok(_) => Err(error),
                Err(worse) => Err(error.because(worse.for_log())),
            },
        }
    }

    /// All bytes of the disk, zeros too.
    pub fn into_bytes(self) -> ByteStream {
        let size = self.size;
        let state = (self.into_pieces(), 0_u64, None::<(u64, Bytes)>);
        Box::pin(stream::try_unfold(state, move |(mut pieces, at, mut next)| async move {
            if next.is_none() {
                next = pieces.next().await.transpose()?;
            }
            let until = next.as_ref().map_or(size, |(start, _)| *start);
            if at < until {
                let zeros = Bytes::from_static(&[0; ZEROS]);
                let length = (until - at).min(ZEROS as u64);
                return Ok(Some((zeros.slice(..length as usize), (pieces, at + length, next))));
            }
            Ok(next.map(|(start, bytes)| {
                let end = start + bytes.len() as u64;
                (bytes, (pieces, end, None))
            }))
        }))
    }

    /// Ranges with data, in ascending order.
    fn into_pieces(self) -> stream::BoxStream<'static, Result<(u64, Bytes)>> {
        let source = self.input.source();
        let jobs = stream::try_unfold((self, 0, None), |(mut converter, at, ahead)| async move {
            converter.next_job(at, ahead).await.map(|next| next.map(|(job, at, ahead)| (job, (converter, at, ahead))))
        });
        let fetched = jobs.map(move |job: Result<Job>| {
            let source = source.clone();
            async move { fetch(&*source, job?).await }
        });
        fetched.buffered(READS).boxed()
    }

    /// The next range with data at or behind `at`, where the one after it begins, and what was found there already.
    async fn next_job(&mut self, mut at: u64, mut ahead: Option<Piece>) -> Result<Option<(Job, u64, Option<Piece>)>> {
        loop {
            if at >= self.size {
                return Ok(None);
            }
            let piece = match ahead.take() {
                Some(piece) => piece,
                None => self.piece(at).await?,
            };
            let next = at + piece.length;
            match piece.what {
                What::Zero => at = next,
                What::Packed { offset, length, codec } => {
                    let packed = self.input.packed(offset, length).await?;
                    let job = Job { at, length: piece.length, from: From::Packed(packed, codec) };
                    return Ok(Some((job, next, None)));
                }
                What::At(offset) => {
                    let (length, ahead) = self.extend(at, offset, piece.length).await?;
                    self.input.charge(length)?;
                    return Ok(Some((Job { at, length, from: From::Run(offset) }, at + length, ahead)));
                }
            }
        }
    }

    /// How far the data go on in one piece; and the piece behind, if it had to be looked at.
    async fn extend(&mut self, at: u64, offset: u64, mut length: u64) -> Result<(u64, Option<Piece>)> {
        while length < RUN && at + length < self.size {
            let piece = self.piece(at + length).await?;
            match piece.what {
                What::At(next) if next == offset.saturating_add(length) => length += piece.length,
                _ => return Ok((length, Some(piece))),
            }
        }
        Ok((length, None))
    }

    async fn piece(&mut self, at: u64) -> Result<Piece> {
        let input = &mut self.input;
        let mut piece = match &mut self.map {
            Map::Qcow2(map) => map.piece(input, at).await?,
            Map::Vmdk(map) => map.piece(input, at).await?,
            Map::Vdi(map) => map.piece(input, at).await?,
            Map::Vhd(map) => map.piece(input, at).await?,
            Map::Vhdx(map) => map.piece(input, at).await?,
        };
        piece.length = piece.length.min(self.size - at);
        if let What::At(_) = piece.what {
            piece.length = piece.length.min(RUN);
        }
        match piece.length {
            0 => Err(input.bad("maps nothing")),
            _ => Ok(piece),
        }
    }
}

async fn fetch(source: &dyn Source, job: Job) -> Result<(u64, Bytes)> {
    let bytes = match job.from {
        From::Run(offset) => source::read_padded(source, offset, job.length).await?,
        From::Packed(packed, codec) => {
            let length = job.length as usize;
            let unpacking = tokio::task::spawn_blocking(move || unpack(&packed, codec, length));
            unpacking.await.map_err(|error| Error::internal(error).because("unpacking an image"))??
        }
    };
    Ok((job.at, bytes))
}

/// Bytes behind the end of what was packed are zeros; what expands to more is damaged, unless it is the disk's end.
fn unpack(packed: &[u8], codec: Codec, length: usize) -> Result<Bytes> {
    let damaged = |why: String| Error::bad_request("The image has compressed data that are damaged.").because(why);
    let mut out = vec![0; length];
    let filled = match codec {
        Codec::Deflate | Codec::Zlib => inflate(packed, codec, &mut out).map_err(damaged)?,
        Codec::Zstd => {
            let mut decoder =
                ruzstd::decoding::StreamingDecoder::new(packed).map_err(|error| damaged(error.to_string()))?;
            let mut filled = 0;
            while filled < length {
                match std::io::Read::read(&mut decoder, &mut out[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) => return Err(damaged(error.to_string())),
                }
            }
            filled
        }
    };
    if filled == 0 {
        return Err(damaged("they expand to nothing".to_owned()));
    }
    Ok(out.into())
}

/// How many bytes came out. A stream that goes on behind the end of `out` is not read further.
fn inflate(packed: &[u8], codec: Codec, out: &mut [u8]) -> std::result::Result<usize, String> {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

    let mut flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    if codec == Codec::Zlib {
        flags |= inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER;
    }
    let mut state = Box::<DecompressorOxide>::default();
    let (status, _, filled) = decompress(&mut state, packed, out, 0, flags);
    match status {
        TINFLStatus::Done | TINFLStatus::HasMoreOutput => Ok(filled),
        status => Err(format!("{status:?} after {filled} bytes")),
    }
}

/// The parts that hold something else than zeros.
fn without_zeros(at: u64, bytes: &Bytes) -> Vec<Change> {
    let (mut changes, mut begun) = (Vec::new(), None);
    let mut offset = 0;
    while offset < bytes.len() {
        // Pages of the disk, so that pieces which lie askew are cut at the same places.
        let end = (offset + PAGE - ((at + offset as u64) % PAGE as u64) as usize).min(bytes.len());
        let blank = is_blank(&bytes[offset..end]);
        match begun {
            None if !blank => begun = Some(offset),
            Some(start) if blank => {
                changes.push(Change::Data { offset: at + start as u64, bytes: bytes.slice(start..offset) });
                begun = None;
            }
            _ => {}
        }
        offset = end;
    }
    if let Some(start) = begun {
        changes.push(Change::Data { offset: at + start as u64, bytes: bytes.slice(start..) });
    }
    changes
}

fn is_blank(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

fn zeros(length: u64) -> Piece {
    Piece { length, what: What::Zero }
}

/// `bytes`, filled up with zeros.
fn padded(bytes: Bytes, length: usize) -> Bytes {
    if bytes.len() >= length {
        return bytes;
    }
    let mut whole = BytesMut::zeroed(length);
    whole[..bytes.len()].copy_from_slice(&bytes);
    whole.freeze()
}

#[cfg(test)]
mod tests;
