//! Reading a disk through its layers.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::qcow2::{self, Cluster, Header};

/// The open files of a disk or snapshot, the uppermost first. Once open, it can be read even if all its names go.
pub(super) struct Chain {
    layers: Vec<OpenLayer>,
    size: u64,
}

pub(super) struct OpenLayer {
    pub file: File,
    /// `None` for raw.
    pub header: Option<Header>,
    /// Length of what the layer shows, in bytes.
    pub size: u64,
    /// The second-level table used last, and where in the file it stands.
    pub table: Option<(u64, Vec<u8>)>,
}

/// A stretch of a disk whose bytes are in one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub length: u64,
    /// The layer, and the offset in its file. `None`: zeros.
    pub source: Option<(usize, u64)>,
}

enum Here {
    Zeros,
    At(u64),
    Below,
}

impl Chain {
    /// `layers`: the uppermost first, and never empty.
    pub fn new(layers: Vec<OpenLayer>) -> Self {
        let size = layers.first().map_or(0, |layer| layer.size);
        Chain { layers, size }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the bytes from `at` are, as far as they are in one place and before `end`.
    pub fn extent(&mut self, at: u64, end: u64) -> io::Result<Extent> {
        let mut length = end.min(self.size).saturating_sub(at);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            if at >= layer.size {
                // An overlay may be longer than what it covers.
                break;
            }
            length = length.min(layer.size - at);
            let (here, run) = layer.find(at, length)?;
            length = run;
            match here {
                Here::Below => {}
                Here::Zeros => break,
                Here::At(offset) => return Ok(Extent { length, source: Some((index, offset)) }),
            }
        }
        Ok(Extent { length, source: None })
    }

    /// Whether one of the `tops` uppermost layers has the byte at `at`, and for how many bytes that holds, before `end`.
    pub fn touched(&mut self, tops: usize, at: u64, end: u64) -> io::Result<(bool, u64)> {
        let mut length = end.min(self.size).saturating_sub(at);
        for layer in self.layers.iter_mut().take(tops) {
            if at >= layer.size {
                // Hides what is below.
                return Ok((true, length));
            }
            length = length.min(layer.size - at);
            let (here, run) = layer.find(at, length)?;
            length = run;
            if !matches!(here, Here::Below) {
                return Ok((true, length));
            }
        }
        Ok((false, length))
    }

    /// Fills the buffer from `at` on. The range must lie within the size.
    pub fn read(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = at + buffer.len() as u64;
        if end > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut rest) = (at, buffer);
        while !rest.is_empty() {
            let extent = self.extent(at, end)?;
            let (now, later) = rest.split_at_mut(extent.length as usize);
            match extent.source {
                Some((layer, offset)) => read_or_zeros(&self.layers[layer].file, offset, now)?,
                None => now.fill(0),
            }
            at += extent.length;
            rest = later;
        }
        Ok(())
    }
}

/// A file that ends early goes on with zeros: the last cluster of an overlay may be cut.
fn read_or_zeros(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => {
                buffer.fill(0);
                return Ok(());
            }
            Ok(count) => {
                offset += count as u64;
                buffer = &mut buffer[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl OpenLayer {
    /// What this layer knows of the byte at `at`, and of how many bytes from there it holds, at most `length`.
    fn find(&mut self, at: u64, length: u64) -> io::Result<(Here, u64)> {
        let Some(header) = &self.header else {
            return raw_run(&self.file, at, length);
        };
        let (span, cluster) = (header.span(), header.cluster());
        let mut entry = [0; 8];
        self.file.read_exact_at(&mut entry, header.l1_entry_at(at))?;
        let table = qcow2::l2_offset(u64::from_be_bytes(entry));
        if table == 0 {
            return Ok((Here::Below, length.min(span - at % span)));
        }
        if self.table.as_ref().is_none_or(|(known, _)| *known != table) {
            let mut bytes = vec![0; cluster as usize];
            self.file.read_exact_at(&mut bytes, table)?;
            self.table = Some((table, bytes));
        }
        let slot = (at % span / cluster * 8) as usize;
        let entry = self.table.as_ref().map_or(&[][..], |(_, bytes)| &bytes[slot..slot + 8]);
        let entry = entry.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let within = at % cluster;
        let here = match qcow2::cluster(entry) {
            Cluster::Below => Here::Below,
            Cluster::Zeros => Here::Zeros,
            Cluster::At(offset) => Here::At(offset + within),
            Cluster::Compressed => return Err(io::Error::other("compressed cluster in a layer of a local store")),
        };
        Ok((here, length.min(cluster - within)))
    }
}

/// Skips holes without reading them.
fn raw_run(file: &File, at: u64, length: u64) -> io::Result<(Here, u64)> {
    let data = match seek(file, SeekFrom::Data(at)) {
        Ok(data) => data,
        // Nothing but a hole until the end.
        Err(Errno::NXIO) => return Ok((Here::Zeros, length)),
        Err(error) => return Err(error.into()),
    };
    if data > at {
        return Ok((Here::Zeros, length.min(data - at)));
    }
    let hole = seek(file, SeekFrom::Hole(at))?;
    Ok((Here::At(at), length.min(hole.saturating_sub(at).max(1))))
}
