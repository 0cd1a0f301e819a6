//! Changes written into a disk that is there.
//!
//! A raw head is written in place. Changes to a disk whose head is an overlay go into a new overlay above it, which
//! becomes the head when all of them are in it: all or nothing, and nothing to repair after a crash. Refused: allocating in
//! an overlay that QEMU has written, whose reference counts would have to be right at every moment; and to have QEMU
//! write, which is a process to start and speak to for each disk of a group.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use umbel_core::{Error, Result};

use super::chain::Chain;
use super::change::NewLayer;
use super::names::Layer;
use super::qcow2::{self, Header, Refcounts};
use super::store::{Store, failed};
use crate::Change;

/// Zeros that are written where a file system cannot make holes.
const ZEROS: u64 = 1 << 20;

pub(super) struct Patch {
    pub size: u64,
    target: Target,
}

enum Target {
    Raw { file: File, path: PathBuf },
    Overlay(Box<Overlay>),
}

pub(super) fn begin(store: &Store, pool: &str, disk: &str) -> Result<Patch> {
    let change = store.change()?;
    let head = change.head(pool, disk)?;
    change.must_not_be_written(&head, disk)?;
    let size = change.size(&head)?;
    if change.header(&head)?.is_none() {
        let path = change.layer_path(&head);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(|error| failed("open", &path, error))?;
        return Ok(Patch { size, target: Target::Raw { file, path } });
    }
    let new = change.overlay(pool, &head, size, None, head.number)?;
    let header = change.header(&new.layer)?.ok_or_else(|| Error::internal("an overlay without a header"))?;
    let chain = change.chain(&head)?;
    Ok(Patch { size, target: Target::Overlay(Box::new(Overlay::new(head, new, header, chain)?)) })
}

impl Patch {
    /// In order and within the size, which [`Change::check`] has seen to.
    pub fn apply(mut self, changes: &[Change]) -> Result<Self> {
        for change in changes {
            match (&mut self.target, change) {
                (Target::Raw { file, path }, Change::Data { offset, bytes }) => {
                    file.write_all_at(bytes, *offset).map_err(|error| failed("write", path, error))?;
                }
                (Target::Raw { file, path }, Change::Zero { offset, length }) => {
                    zero(file, *offset, *length).map_err(|error| failed("write", path, error))?;
                }
                (Target::Overlay(overlay), Change::Data { offset, bytes }) => overlay.write(*offset, bytes)?,
                (Target::Overlay(overlay), Change::Zero { offset, length }) => overlay.zero(*offset, *length)?,
            }
        }
        Ok(self)
    }

    pub fn finish(self, store: &Store, pool: &str, disk: &str) -> Result<()> {
        let overlay = match self.target {
            Target::Raw { file, path } => return file.sync_all().map_err(|error| failed("sync", &path, error)),
            Target::Overlay(overlay) => overlay,
        };
        let (head, new) = overlay.finish()?;
        new.sync()?;
        let change = store.change()?;
        let now = change.head(pool, disk)?;
        change.must_not_be_written(&now, disk)?;
        if now != head {
            return Err(Error::conflict(format!("The disk '{disk}' was changed meanwhile; try again.")));
        }
        change.set_head(pool, disk, new)
    }
}

fn zero(file: &File, offset: u64, length: u64) -> std::io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
        Err(Errno::OPNOTSUPP) => {}
        done => return done.map_err(Into::into),
    }
    let zeros = vec![0; ZEROS.min(length) as usize];
    let end = offset + length;
    for at in (offset..end).step_by(ZEROS as usize) {
        file.write_all_at(&zeros[..ZEROS.min(end - at) as usize], at)?;
    }
    Ok(())
}

/// A fresh overlay that is filled from its beginning to its end.
struct Overlay {
    head: Layer,
    new: NewLayer,
    header: Header,
    /// What is below.
    chain: Chain,
    /// Clusters of the file that are taken, all of them before this one.
    taken: u64,
    /// Where in the file the second-level tables are, by their place in the first.
    tables: BTreeMap<u64, u64>,
    /// The table that is being filled, and its place.
    table: Option<(u64, Vec<u8>)>,
    /// A cluster that changes only in part, and its place in the disk.
    partial: Option<(u64, Vec<u8>)>,
}

impl Overlay {
    fn new(head: Layer, new: NewLayer, header: Header, chain: Chain) -> Result<Self> {
        let length = new.file.metadata().map_err(|error| Error::internal(error).because("a new overlay"))?.len();
        let taken = length / header.cluster();
        Ok(Overlay { head, new, header, chain, taken, tables: BTreeMap::new(), table: None, partial: None })
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let cluster = self.header.cluster();
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let within = at % cluster;
            let (now, later) = rest.split_at(rest.len().min((cluster - within) as usize));
            if now.len() as u64 == cluster {
                self.close_partial()?;
                self.put(at / cluster, now)?;
            } else {
                let start = within as usize;
                self.partial(at / cluster)?[start..start + now.len()].copy_from_slice(now);
            }
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    fn zero(&mut self, offset: u64, length: u64) -> Result<()> {
        let (cluster, end) = (self.header.cluster(), offset + length);
        let mut at = offset;
        while at < end {
            let below = self.chain.extent(at, end).map_err(unreadable)?;
            if below.source.is_none() && below.length > 0 && !self.is_partial(at / cluster) {
                // Zeros already.
                at += below.length;
                continue;
            }
            let within = at % cluster;
            let now = (cluster - within).min(end - at);
            if now == cluster {
                self.close_partial()?;
                self.set(at / cluster, qcow2::ZERO_CLUSTER)?;
            } else {
                let start = within as usize;
                self.partial(at / cluster)?[start..start + now as usize].fill(0);
            }
            at += now;
        }
        Ok(())
    }

    fn is_partial(&self, cluster: u64) -> bool {
        self.partial.as_ref().is_some_and(|(known, _)| *known == cluster)
    }

    /// The cluster's bytes, to be changed.
    fn partial(&mut self, cluster: u64) -> Result<&mut [u8]> {
        if !self.is_partial(cluster) {
            self.close_partial()?;
            let length = self.header.cluster();
            let mut bytes = vec![0; length as usize];
            let start = cluster * length;
            // The disk may end within the cluster.
            let there = length.min(self.chain.size().saturating_sub(start)) as usize;
            self.chain.read(start, &mut bytes[..there]).map_err(unreadable)?;
            self.partial = Some((cluster, bytes));
        }
        self.partial.as_mut().map(|(_, bytes)| &mut bytes[..]).ok_or_else(|| Error::internal("no cluster is open"))
    }

    fn close_partial(&mut self) -> Result<()> {
        match self.partial.take() {
            Some((cluster, bytes)) => self.put(cluster, &bytes),
            None => Ok(()),
        }
    }

    /// A whole cluster.
    fn put(&mut self, cluster: u64, bytes: &[u8]) -> Result<()> {
        if bytes.iter().all(|byte| *byte == 0) {
            return self.set(cluster, qcow2::ZERO_CLUSTER);
        }
        let offset = self.take();
        self.new.write_at(bytes, offset)?;
        self.set(cluster, qcow2::data_cluster(offset))
    }

    fn take(&mut self) -> u64 {
        self.taken += 1;
        (self.taken - 1) * self.header.cluster()
    }

    fn set(&mut self, cluster: u64, entry: u64) -> Result<()> {
        let entries = self.header.span() / self.header.cluster();
        let (place, slot) = (cluster / entries, (cluster % entries * 8) as usize);
        if self.table.as_ref().is_none_or(|(known, _)| *known != place) {
            self.close_table()?;
            let mut bytes = vec![0; self.header.cluster() as usize];
            if let Some(offset) = self.tables.get(&place) {
                self.new.file.read_exact_at(&mut bytes, *offset).map_err(unreadable)?;
            }
            self.table = Some((place, bytes));
        }
        if let Some((_, bytes)) = &mut self.table {
            bytes[slot..slot + 8].copy_from_slice(&entry.to_be_bytes());
        }
        Ok(())
    }

    fn close_table(&mut self) -> Result<()> {
        let Some((place, bytes)) = self.table.take() else {
            return Ok(());
        };
        let offset = match self.tables.get(&place) {
            Some(offset) => *offset,
            None => self.take(),
        };
        self.tables.insert(place, offset);
        self.new.write_at(&bytes, offset)
    }

    /// The layer below, and this one, whole.
    fn finish(mut self) -> Result<(Layer, NewLayer)> {
        self.close_partial()?;
        self.close_table()?;
        for (place, offset) in &self.tables {
            let entry = self.header.l1_entry_at(place * self.header.span());
            self.new.write_at(&qcow2::data_cluster(*offset).to_be_bytes(), entry)?;
        }
        let Some(Refcounts { parts, clusters }) = Refcounts::of(self.taken) else {
            return Err(Error::bad_request("The changes are more than an overlay of the local store can hold."));
        };
        for (offset, bytes) in parts {
            self.new.write_at(&bytes, offset)?;
        }
        self.new.set_size(clusters * self.header.cluster())?;
        Ok((self.head, self.new))
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::internal(format!("cannot read the layers of a disk: {error}"))
}
