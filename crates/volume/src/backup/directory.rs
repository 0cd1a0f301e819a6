//! Backups as files, on whatever is mounted at the directory.
//!
//! ```text
//! <root>/3f/3f1c…/manifest.json    which chunks the backup has, where they are, and their checksums
//! <root>/3f/3f1c…/00000000.data    chunks one after another, up to 64 MiB of them
//! <root>/3f/3f1c….part/            one that is being written; its name tells, whatever is in it
//! ```
//! A backup is there when its directory has its name: files and directories are flushed before the rename, and the rename
//! after it. An increment names its parent and holds only its own chunks. Chunks of zeros take no room.
//!
//! Each backup has files of its own. Refused: one store of chunks by their checksums, shared by all backups. It saves room
//! where volumes resemble each other, and needs counting of references, which a crash or a restored copy of the directory
//! can get wrong; here deleting a backup is deleting its directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use umbel_core::{Error, Kind, Result};

use super::chunks::{CHUNK, Chunk, ChunkStream};
use super::{BackupTarget, Data};

const NAME: &str = "directory";
const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;

/// Chunks in one file.
const PER_FILE: u64 = 16;

/// Longer chains are not made by us; a manifest that names its own descendant must not be followed for ever.
const LONGEST_CHAIN: usize = 10_000;

pub struct DirectoryTarget {
    root: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    id: String,
    volume: String,
    base: String,
    parent: Option<String>,
    size: u64,
    chunk_size: u64,
    chunks: Vec<Stored>,
}

/// One chunk; without a place it is zeros.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Place {
    file: u64,
    offset: u64,
    length: u64,
    sha256: String,
}

impl DirectoryTarget {
    /// `root` is made with the first backup, so that a file system that is not mounted is missed then.
    pub fn new(root: &Path) -> DirectoryTarget {
        DirectoryTarget { root: root.to_owned() }
    }

    /// Names of all data that is there, `<id>.part` for what is half written or half removed, and whatever else lies where
    /// data are kept; `None` if the directory is not there. For audits; nothing on a request's path calls it.
    pub async fn list(&self) -> Result<Option<Vec<String>>> {
        let root = self.root.clone();
        blocking(move || {
            let Some(shards) = entries(&root)? else { return Ok(None) };
            let mut found = Vec::new();
            for shard in shards {
                // A shard is named as the first two characters of what is in it.
                let plain = shard.len() == 2 && shard.bytes().all(|byte| byte.is_ascii_hexdigit());
                match plain {
                    true => found.extend(entries(&root.join(&shard))?.unwrap_or_default()),
                    false => found.push(shard),
                }
            }
            Ok(Some(found))
        })
        .await
    }

    /// Removes what [`DirectoryTarget::list`] named, whole or not. Removing it again is not a failure.
    pub async fn discard(&self, name: &str) -> Result<()> {
        let id = name.strip_suffix(".part").unwrap_or(name);
        let data = Data { id: id.to_owned(), volume: String::new(), base: String::new(), parent: None, size: 0 };
        if name == id {
            return self.remove(&data).await;
        }
        let part = part_of(&self.home(id)?);
        blocking(move || clear_out(&part)).await
    }

    /// Ids are checked: they come from imported records too, and must not lead elsewhere.
    fn home(&self, id: &str) -> Result<PathBuf> {
        let plain = id.len() >= 2 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        match plain {
            true => Ok(self.root.join(&id[..2]).join(id)),
            false => Err(Error::bad_request(format!("'{id}' is not the id of a backup."))),
        }
    }

    async fn manifest(&self, id: &str) -> Result<Option<Manifest>> {
        let path = self.home(id)?.join(MANIFEST);
        blocking(move || match fs::read(&path) {
            Ok(bytes) => {
                let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error))?;
                match manifest.format == FORMAT && manifest.chunk_size == CHUNK {
                    true => Ok(Some(manifest)),
                    false => Err(damaged(&path, "a format that this version does not know")),
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, error)),
        })
        .await
    }

    /// The manifests from this backup to the full one.
    async fn chain(&self, id: &str) -> Result<Option<Vec<Manifest>>> {
        let mut chain: Vec<Manifest> = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(id) = next {
            let Some(manifest) = self.manifest(&id).await? else {
                return Ok(None);
            };
            next = manifest.parent.clone();
            chain.push(manifest);
            if chain.len() > LONGEST_CHAIN {
                return Err(damaged(&self.root, "a backup is an increment of itself"));
            }
        }
        Ok(Some(chain))
    }
}

#[async_trait]
impl BackupTarget for DirectoryTarget {
    fn name(&self) -> &str {
        NAME
    }

    fn service(&self) -> String {
        format!("cinder.backup.drivers.umbel.{NAME}")
    }

    async fn store(&self, data: &Data, mut chunks: ChunkStream) -> Result<u64> {
        if let Some(done) = self.manifest(&data.id).await? {
            return Ok(done.chunks.len() as u64);
        }
        let home = self.home(&data.id)?;
        let part = home.with_file_name(format!("{}.part", data.id));
        let mut writer = blocking(move || Writer::begin(part)).await?;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            writer = blocking(move || writer.put(chunk)).await?;
        }
        let (data, root) = (data.clone(), self.root.clone());
        blocking(move || writer.finish(&data, &home, &root)).await
    }

    async fn read(&self, data: &Data) -> Result<ChunkStream> {
        let chain = self.chain(&data.id).await?.ok_or_else(|| missing(&data.id))?;
        let mut newest: BTreeMap<u64, (Arc<PathBuf>, Option<Place>)> = BTreeMap::new();
        for manifest in chain {
            let home = Arc::new(self.home(&manifest.id)?);
            for stored in manifest.chunks {
                newest.entry(stored.index).or_insert_with(|| (home.clone(), stored.place));
            }
        }
        let found = newest.into_iter().filter_map(|(index, (home, place))| Some((index, home, place?)));
        let chunks = stream::iter(found).then(|(index, home, place)| async move {
            let bytes = blocking(move || read_chunk(&home, &place)).await?;
            Ok(Chunk { index, bytes: Some(bytes) })
        });
        Ok(Box::pin(chunks))
    }

    async fn holds(&self, data: &Data) -> Result<bool> {
        Ok(self.chain(&data.id).await?.is_some())
    }

    async fn remove(&self, data: &Data) -> Result<()> {
        let home = self.home(&data.id)?;
        blocking(move || {
            let part = part_of(&home);
            // Out of the way at once: what is half removed is no backup.
            match fs::rename(&home, &part) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => {
                    // An earlier try's leftovers are in the way.
                    clear(&part)?;
                    fs::rename(&home, &part).map_err(|error| failed("remove", &home, error))?;
                }
            }
            clear_out(&part)
        })
        .await
    }
}

/// Writes one backup into its `.part` directory.
struct Writer {
    dir: PathBuf,
    chunks: Vec<Stored>,
    file: Option<File>,
    /// Chunks written into files so far, and bytes in the file that is open.
    written: u64,
    offset: u64,
}

impl Writer {
    fn begin(dir: PathBuf) -> Result<Writer> {
        clear(&dir)?;
        make(&dir).map_err(|error| failed("make", &dir, error))?;
        Ok(Writer { dir, chunks: Vec::new(), file: None, written: 0, offset: 0 })
    }

    fn put(mut self, chunk: Chunk) -> Result<Writer> {
        let Some(bytes) = chunk.bytes else {
            self.chunks.push(Stored { index: chunk.index, place: None });
            return Ok(self);
        };
        let number = self.written / PER_FILE;
        let path = self.dir.join(file_name(number));
        let mut file = match self.file.take().filter(|_| !self.written.is_multiple_of(PER_FILE)) {
            Some(file) => file,
            None => {
                self.offset = 0;
                File::create(&path).map_err(|error| failed("create", &path, error))?
            }
        };
        file.write_all(&bytes).map_err(|error| failed("write", &path, error))?;
        self.written += 1;
        if self.written.is_multiple_of(PER_FILE) {
            file.sync_all().map_err(|error| failed("flush", &path, error))?;
        }
        let place = Place { file: number, offset: self.offset, length: bytes.len() as u64, sha256: checksum(&bytes) };
        self.offset += place.length;
        self.chunks.push(Stored { index: chunk.index, place: Some(place) });
        self.file = Some(file);
        Ok(self)
    }

    fn finish(self, data: &Data, home: &Path, root: &Path) -> Result<u64> {
        if let Some(file) = &self.file {
            file.sync_all().map_err(|error| failed("flush", &self.dir, error))?;
        }
        let count = self.chunks.len() as u64;
        let manifest = Manifest {
            format: FORMAT,
            id: data.id.clone(),
            volume: data.volume.clone(),
            base: data.base.clone(),
            parent: data.parent.clone(),
            size: data.size,
            chunk_size: CHUNK,
            chunks: self.chunks,
        };
        let bytes = serde_json::to_vec(&manifest).map_err(Error::internal)?;
        let path = self.dir.join(MANIFEST);
        let written = File::create(&path).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
        written.map_err(|error| failed("write", &path, error))?;
        sync_dir(&self.dir)?;
        fs::rename(&self.dir, home).map_err(|error| failed("name", home, error))?;
        // The shard's directory may be new, and the root.
        if let Some(shard) = home.parent() {
            sync_dir(shard)?;
        }
        sync_dir(root)?;
        Ok(count)
    }
}

fn file_name(number: u64) -> String {
    format!("{number:08}.data")
}

fn part_of(home: &Path) -> PathBuf {
    let name = home.file_name().unwrap_or_default().to_string_lossy();
    home.with_file_name(format!("{name}.part"))
}

fn read_chunk(home: &Path, place: &Place) -> Result<Bytes> {
    let path = home.join(file_name(place.file));
    if place.length > CHUNK {
        return Err(damaged(&path, "a chunk that is too long"));
    }
    let mut bytes = vec![0; place.length as usize];
    let read = File::open(&path).and_then(|mut file| {
        file.seek(SeekFrom::Start(place.offset))?;
        file.read_exact(&mut bytes)
    });
    match read {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
            return Err(damaged(&path, error));
        }
        Err(error) => return Err(failed("read", &path, error)),
    }
    match checksum(&bytes) == place.sha256 {
        true => Ok(bytes.into()),
        false => Err(damaged(&path, format!("the checksum at {} differs", place.offset))),
    }
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn clear(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", dir, error)),
        _ => Ok(()),
    }
}

/// As [`clear`], and the shard's directory goes with the last that is in it. One that stays does no harm.
fn clear_out(dir: &Path) -> Result<()> {
    clear(dir)?;
    let _ = dir.parent().map(fs::remove_dir);
    Ok(())
}

/// Makes a directory and those above it. A shard may go, with the last that was in it, just when it is found to be there.
fn make(dir: &Path) -> std::io::Result<()> {
    let mut made = fs::create_dir_all(dir);
    for _ in 0..100 {
        if !made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            break;
        }
        made = fs::create_dir_all(dir);
    }
    made
}

/// Names in a directory; `None` if there is none.
fn entries(dir: &Path) -> Result<Option<Vec<String>>> {
    let read = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| failed("read", dir, error))?,
    };
    let names = read.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().map(Some).map_err(|error| failed("read", dir, error))
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("flush", dir, error))
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    let cause = format!("cannot {what} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::new(Kind::NoSpace, "There is no room left where backups are kept.").because(cause)
        }
        _ => Error::internal(cause),
    }
}

fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    let cause = format!("{}: {why}", path.display());
    Error::new(Kind::Internal, "The backup's data is damaged.").because(cause)
}

fn missing(id: &str) -> Error {
    Error::not_found("The backup's data, or that of a backup it is an increment of, is gone.").because(id)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error).because("work on backup files"))?
}
