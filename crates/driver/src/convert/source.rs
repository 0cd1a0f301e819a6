//! Where an image's bytes come from, and the careful way of reading them.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use umbel_core::{Error, Result};

use super::{ImageFormat, MAX_PACKED};
use crate::Pool;

/// Tables and compressed data are read in blocks of this size, of which so many are kept.
const BLOCK: u64 = 1 << 20;
const BLOCKS: usize = 8;

/// An image of honest make has each of its bytes read about once. Compressed pieces are counted in sectors, whatever
/// their size, hence the factor; small images are allowed something for the sectors around.
const ALLOWANCE: u64 = 8;
const ALLOWANCE_LEAST: u64 = 1 << 20;

/// Charged for each compressed piece at least.
const SECTOR: u64 = 512;

/// Bytes that can be read anywhere, of a size that is known: a disk in a pool, a download by ranges.
#[async_trait]
pub trait Source: Send + Sync {
    /// Bytes of the image.
    fn size(&self) -> u64;

    /// Exactly these bytes. Never asked for any behind the end.
    async fn read(&self, offset: u64, length: u64) -> Result<Bytes>;
}

/// An image that is stored in a pool as it was uploaded.
pub struct DiskSource {
    pub pool: Arc<dyn Pool>,
    pub disk: String,
    pub snapshot: Option<String>,
    /// Bytes of the image, of which the disk may have more.
    pub size: u64,
}

#[async_trait]
impl Source for DiskSource {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, offset: u64, length: u64) -> Result<Bytes> {
        let mut stream = self.pool.read(&self.disk, self.snapshot.as_deref(), offset, length).await?;
        let mut first = match stream.next().await.transpose()? {
            Some(bytes) if bytes.len() as u64 == length => return Ok(bytes),
            first => BytesMut::from(first.unwrap_or_default().as_ref()),
        };
        while let Some(bytes) = stream.next().await {
            first.extend_from_slice(&bytes?);
        }
        match first.len() as u64 == length {
            true => Ok(first.freeze()),
            false => Err(Error::internal(format!("{} bytes came of {length} at {offset}", first.len()))),
        }
    }
}

/// An image in a file of this host.
pub struct FileSource {
    file: Arc<File>,
    size: u64,
}

impl FileSource {
    pub fn new(file: File) -> std::io::Result<FileSource> {
        let size = file.metadata()?.len();
        Ok(FileSource { file: Arc::new(file), size })
    }
}

#[async_trait]
impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, offset: u64, length: u64) -> Result<Bytes> {
        let file = self.file.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, offset).map(|()| Bytes::from(bytes))
        });
        let read = reading.await.map_err(Error::internal)?;
        read.map_err(|error| Error::internal(error).because(format!("reading an image at {offset}")))
    }
}

/// The range, filled up with zeros where it runs past the end: writers may leave the last cluster short.
pub(super) async fn read_padded(source: &dyn Source, offset: u64, length: u64) -> Result<Bytes> {
    let size = source.size();
    if offset >= size {
        return Err(Error::bad_request("The image is cut short: parts that its tables name are missing."));
    }
    let bytes = source.read(offset, length.min(size - offset)).await?;
    Ok(super::padded(bytes, length as usize))
}

/// A source, with a memory for what was read last and an allowance of what may be read.
pub(super) struct Input {
    format: ImageFormat,
    source: Arc<dyn Source>,
    left: u64,
    /// Number and content, the one used last in front.
    blocks: VecDeque<(u64, Bytes)>,
}

impl Input {
    pub fn new(format: ImageFormat, source: Arc<dyn Source>) -> Self {
        let left = source.size().saturating_mul(ALLOWANCE).saturating_add(ALLOWANCE_LEAST);
        Input { format, source, left, blocks: VecDeque::new() }
    }

    pub fn source(&self) -> Arc<dyn Source> {
        self.source.clone()
    }

    pub fn size(&self) -> u64 {
        self.source.size()
    }

    pub fn bad(&self, what: &str) -> Error {
        Error::bad_request(format!("The {} image {what}.", self.format))
    }

    /// Counts bytes that are read.
    pub fn charge(&mut self, bytes: u64) -> Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.bad("refers to the same data over and over")),
        }
    }

    /// A part of a table, or of a header.
    pub async fn table(&mut self, offset: u64, length: u64) -> Result<Bytes> {
        self.charge(length)?;
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > self.size()) {
            return Err(self.bad("is cut short: parts that its header names are missing"));
        }
        self.cached(offset, length).await
    }

    pub async fn be32(&mut self, offset: u64) -> Result<u32> {
        let bytes = self.table(offset, 4).await?;
        Ok(be32(&bytes, 0))
    }

    pub async fn be64(&mut self, offset: u64) -> Result<u64> {
        let bytes = self.table(offset, 8).await?;
        Ok(be64(&bytes, 0))
    }

    pub async fn le32(&mut self, offset: u64) -> Result<u32> {
        let bytes = self.table(offset, 4).await?;
        Ok(le32(&bytes, 0))
    }

    pub async fn le64(&mut self, offset: u64) -> Result<u64> {
        let bytes = self.table(offset, 8).await?;
        Ok(le64(&bytes, 0))
    }

    /// Compressed data, whose last sector the image may not have whole.
    pub async fn packed(&mut self, offset: u64, length: u64) -> Result<Bytes> {
        self.charge(length.max(SECTOR))?;
        if length > 2 * MAX_PACKED || offset >= self.size() {
            return Err(self.bad("has compressed data out of range"));
        }
        let length = length.min(self.size() - offset);
        self.cached(offset, length).await
    }

    /// Within the source.
    async fn cached(&mut self, offset: u64, length: u64) -> Result<Bytes> {
        let number = offset / BLOCK;
        let block = self.block(number).await?;
        let start = offset - number * BLOCK;
        if start + length <= block.len() as u64 {
            return Ok(block.slice(start as usize..(start + length) as usize));
        }
        let mut whole = BytesMut::with_capacity(length as usize);
        let mut at = offset;
        while at < offset + length {
            let block = self.block(at / BLOCK).await?;
            let start = (at % BLOCK) as usize;
            let end = block.len().min(start + (offset + length - at) as usize);
            whole.extend_from_slice(&block[start..end]);
            at += (end - start) as u64;
        }
        Ok(whole.freeze())
    }

    async fn block(&mut self, number: u64) -> Result<Bytes> {
        if let Some(found) = self.blocks.iter().position(|(known, _)| *known == number) {
            if found > 0
                && let Some(block) = self.blocks.remove(found)
            {
                self.blocks.push_front(block);
            }
        } else {
            let start = number * BLOCK;
            let bytes = self.source.read(start, BLOCK.min(self.size() - start)).await?;
            self.blocks.truncate(BLOCKS - 1);
            self.blocks.push_front((number, bytes));
        }
        Ok(self.blocks.front().map(|(_, bytes)| bytes.clone()).unwrap_or_default())
    }
}

/// The bytes there; zeros where there are none, which no header that was read whole lacks.
fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(word(bytes, at))
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(word(bytes, at))
}

pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(word(bytes, at))
}

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(word(bytes, at))
}

pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(word(bytes, at))
}
