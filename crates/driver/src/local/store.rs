//! The directories and locks of a store, and what can be read from them. What changes them is in [`super::change`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustix::fs::{FlockOperation, flock};
use umbel_core::{Error, Kind, Result};

use super::chain::{Chain, OpenLayer};
use super::locks;
use super::names::{CLONES, HEAD, HIDDEN, LAYERS, Layer, decode, encode, snapshot_link, snapshot_of_link};
use super::qcow2::{self, Header};
use crate::{DiskFormat, LiveDisks, Location};

/// Tells an image chain that bites its own tail from one that is long.
const DEEPEST: usize = 10_000;

/// A store's directory. Any number of processes may have it open.
pub(super) struct Store {
    pub root: PathBuf,
    pub id: String,
    /// Where the search for a free layer number begins.
    next_number: AtomicU64,
    /// Whom to ask for changes of what guests have open.
    pub live: RwLock<Option<Arc<dyn LiveDisks>>>,
}

/// The store while nobody changes it.
pub(super) struct View<'a> {
    pub store: &'a Store,
    lock: File,
}

/// The store while nobody else looks at it or changes it.
pub(super) struct Change<'a>(View<'a>);

/// One step of the way from a layer down to its base.
pub(super) struct Step {
    pub layer: Layer,
    pub header: Option<Header>,
}

impl Store {
    /// Opens the directory, and makes it what it must be where it is new: `fresh_id` is taken only then.
    pub fn open(root: &Path, fresh_id: &str) -> Result<Store> {
        make_dir(root)?;
        let root = root.canonicalize().map_err(|error| failed("find", root, error))?;
        let mut store = Store { root, id: String::new(), next_number: AtomicU64::new(1), live: RwLock::new(None) };
        let change = store.change()?;
        let id = change.id(fresh_id)?;
        let number = change.highest_number()? + 1;
        drop(change);
        store.id = id;
        store.next_number = AtomicU64::new(number);
        Ok(store)
    }

    pub fn view(&self) -> Result<View<'_>> {
        Ok(View { store: self, lock: self.lock(FlockOperation::LockShared)? })
    }

    pub fn change(&self) -> Result<Change<'_>> {
        Ok(Change(View { store: self, lock: self.lock(FlockOperation::LockExclusive)? }))
    }

    /// Across threads as well as processes: each caller has an open file of its own.
    fn lock(&self, operation: FlockOperation) -> Result<File> {
        let path = self.root.join(".lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| failed("open", &path, error))?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed("lock", &path, error.into())),
            }
        }
    }

    pub fn pool_dir(&self, pool: &str) -> PathBuf {
        self.root.join(pool)
    }

    /// Where the links of a disk are.
    pub fn disk_dir(&self, pool: &str, disk: &str) -> Result<PathBuf> {
        Ok(self.root.join(pool).join(encode(disk)?))
    }

    pub fn layer_path(&self, layer: &Layer) -> PathBuf {
        self.root.join(&layer.pool).join(LAYERS).join(layer.file())
    }

    /// A number that is above `above`, and most likely free.
    pub fn number_above(&self, above: u64) -> u64 {
        self.next_number.fetch_max(above + 1, Ordering::SeqCst);
        self.next_number.fetch_add(1, Ordering::SeqCst)
    }

    /// The layer that a link leads to. `None` if there is no such link.
    pub fn follow(&self, link: &Path) -> Result<Option<Layer>> {
        let target = match fs::read_link(link) {
            Ok(target) => target,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(failed("read", link, error)),
        };
        let layer = target.to_str().and_then(Layer::parse_reference);
        layer.map(Some).ok_or_else(|| damaged(link, "a link that leads to no layer"))
    }

    /// All links in the directory of a disk, with their names in it.
    pub fn links(&self, dir: &Path) -> Result<Vec<(String, Layer)>> {
        let mut links = Vec::new();
        for name in files(dir)? {
            if !name.starts_with('.')
                && let Some(layer) = self.follow(&dir.join(&name))?
            {
                links.push((name, layer));
            }
        }
        Ok(links)
    }

    pub fn pools(&self) -> Result<Vec<String>> {
        // Of the entries of a root, pools are the directories that have layers.
        let mut names = files(&self.root)?;
        names.retain(|name| !name.starts_with('.') && self.pool_dir(name).join(LAYERS).is_dir());
        Ok(names)
    }

    /// The directories of the disks in sight.
    pub fn disk_dirs(&self, pool: &str) -> Result<Vec<PathBuf>> {
        let dir = self.pool_dir(pool);
        Ok(files(&dir)?.iter().filter(|name| decode(name).is_some()).map(|name| dir.join(name)).collect())
    }

    /// Where the clones of a layer are noted.
    pub fn clones_dir(&self, layer: &Layer) -> PathBuf {
        self.pool_dir(&layer.pool).join(CLONES).join(layer.number.to_string())
    }

    pub fn hidden_dir(&self, pool: &str) -> PathBuf {
        self.pool_dir(pool).join(HIDDEN)
    }

    fn highest_number(&self) -> Result<u64> {
        let mut highest = 0;
        for pool in self.pools()? {
            for file in files(&self.pool_dir(&pool).join(LAYERS))? {
                highest = highest.max(Layer::parse(&pool, &file).map_or(0, |layer| layer.number));
            }
        }
        Ok(highest)
    }
}

impl Change<'_> {
    fn id(&self, fresh: &str) -> Result<String> {
        let path = self.store.root.join("id");
        match fs::read_to_string(&path) {
            Ok(id) => return Ok(id.trim().to_owned()),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(failed("read", &path, error)),
        }
        let new = self.store.root.join(".id.new");
        let write = || {
            fs::write(&new, format!("{fresh}\n"))?;
            File::open(&new)?.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| failed("write", &path, error))?;
        sync_dir(&self.store.root)?;
        Ok(fresh.to_owned())
    }
}

impl<'a> Deref for Change<'a> {
    type Target = View<'a>;

    fn deref(&self) -> &View<'a> {
        &self.0
    }
}

impl Deref for View<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.store
    }
}

impl View<'_> {
    pub fn disks(&self, pool: &str) -> Result<Vec<String>> {
        Ok(files(&self.pool_dir(pool))?.iter().filter_map(|name| decode(name)).collect())
    }

    pub fn find_head(&self, pool: &str, disk: &str) -> Result<Option<Layer>> {
        self.follow(&self.disk_dir(pool, disk)?.join(HEAD))
    }

    pub fn head(&self, pool: &str, disk: &str) -> Result<Layer> {
        self.find_head(pool, disk)?.ok_or_else(|| Error::not_found(format!("There is no disk '{disk}'.")))
    }

    /// The layer of the disk's snapshot, or of the disk where none is asked for.
    pub fn layer(&self, pool: &str, disk: &str, snapshot: Option<&str>) -> Result<Layer> {
        let head = self.head(pool, disk)?;
        let Some(snapshot) = snapshot else {
            return Ok(head);
        };
        let link = self.disk_dir(pool, disk)?.join(snapshot_link(snapshot)?);
        let missing = || Error::not_found(format!("The disk '{disk}' has no snapshot '{snapshot}'."));
        self.follow(&link)?.ok_or_else(missing)
    }

    /// Oldest first: a snapshot's layer was the disk's head, and each head has a higher number than the one before.
    pub fn snapshots(&self, pool: &str, disk: &str) -> Result<Vec<String>> {
        let mut links = self.links(&self.disk_dir(pool, disk)?)?;
        links.sort_by_key(|(_, layer)| layer.number);
        Ok(links.iter().filter_map(|(link, _)| snapshot_of_link(link)).collect())
    }

    /// `None` for a raw layer.
    pub fn header(&self, layer: &Layer) -> Result<Option<Header>> {
        self.open(layer).map(|open| open.header)
    }

    pub fn size(&self, layer: &Layer) -> Result<u64> {
        self.open(layer).map(|open| open.size)
    }

    fn open(&self, layer: &Layer) -> Result<OpenLayer> {
        let path = self.layer_path(layer);
        let file = File::open(&path).map_err(|error| failed("open", &path, error))?;
        let (header, size) = match layer.format {
            DiskFormat::Raw => (None, file.metadata().map_err(|error| failed("read", &path, error))?.len()),
            DiskFormat::Qcow2 => {
                let header = read_header(&file, &path)?;
                let size = header.size;
                (Some(header), size)
            }
        };
        Ok(OpenLayer { file, header, size, table: None })
    }

    /// The layer below; `None` at the base.
    pub fn below(&self, header: Option<&Header>, of: &Layer) -> Result<Option<Layer>> {
        let Some(backing) = header.and_then(|header| header.backing.as_deref()) else {
            return Ok(None);
        };
        let below = Layer::parse_reference(backing);
        below.map(Some).ok_or_else(|| damaged(&self.layer_path(of), "a backing file that is no layer"))
    }

    /// All layers of a disk or snapshot, open for reading.
    pub fn chain(&self, top: &Layer) -> Result<Chain> {
        let (mut layers, mut next) = (Vec::new(), Some(top.clone()));
        while let Some(layer) = next {
            let open = self.open(&layer)?;
            next = self.below(open.header.as_ref(), &layer)?;
            layers.push(open);
            if layers.len() > DEEPEST {
                return Err(damaged(&self.layer_path(top), "layers without end"));
            }
        }
        Ok(Chain::new(layers))
    }

    /// The layers that are the disk's own: from `top` down to the one it was born with. Of a clone, that one knows
    /// where it came from, and what is below is the parent's.
    pub fn own(&self, top: &Layer) -> Result<Vec<Step>> {
        let (mut steps, mut next) = (Vec::new(), Some(top.clone()));
        while let Some(layer) = next {
            let header = self.header(&layer)?;
            let born = header.as_ref().is_some_and(|header| header.origin.is_some());
            next = if born { None } else { self.below(header.as_ref(), &layer)? };
            steps.push(Step { layer, header });
            if steps.len() > DEEPEST {
                return Err(damaged(&self.layer_path(top), "layers without end"));
            }
        }
        Ok(steps)
    }

    /// What a disk with this head is a clone of.
    pub fn origin(&self, head: &Layer) -> Result<Option<Location>> {
        let Some(Step { layer, header: Some(header) }) = self.own(head)?.pop() else {
            return Ok(None);
        };
        let Some(told) = header.origin.as_deref().map(str::parse).transpose()? else {
            return Ok(None);
        };
        match self.below(Some(&header), &layer)? {
            Some(parent) => self.name_now(&parent, told).map(Some),
            None => Ok(Some(told)),
        }
    }

    /// The own layer of a disk that some QEMU writes into. That is its head, or the one below for as long as a guest is
    /// going over, see [`super::together`].
    pub fn written(&self, head: &Layer) -> Result<Option<Layer>> {
        let ours = self.lock.metadata().map_err(|error| failed("read", &self.root, error))?.ino();
        let table = Path::new("/proc/locks");
        let locks = fs::read_to_string(table).map_err(|error| failed("read", table, error))?;
        for step in self.own(head)? {
            let path = self.layer_path(&step.layer);
            let inode = fs::metadata(&path).map_err(|error| failed("read", &path, error))?.ino();
            if locks::is_written(&locks, inode, ours) {
                return Ok(Some(step.layer));
            }
        }
        Ok(None)
    }

    pub fn must_not_be_written(&self, head: &Layer, disk: &str) -> Result<()> {
        match self.written(head)? {
            Some(_) => Err(in_use(disk)),
            None => Ok(()),
        }
    }
}

pub(super) fn in_use(disk: &str) -> Error {
    Error::conflict(format!("The disk '{disk}' is in use by a server; stop the server first."))
}

fn read_header(file: &File, path: &Path) -> Result<Header> {
    let mut page = [0; qcow2::PARSED];
    let mut filled = 0;
    while filled < page.len() {
        match file.read_at(&mut page[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", path, error)),
        }
    }
    qcow2::parse(&page[..filled]).map_err(|reason| damaged(path, reason))
}

/// Names in a directory; none if it is not there.
pub(super) fn files(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", dir, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", dir, error))?;
        // What is no UTF-8 is not the store's.
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

/// For the owner alone: disks hold secrets.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed("make", dir, error))
}

/// Without this, what was made in a directory may be forgotten when the power fails.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("sync", dir, error))
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What a failed system call means to a user: a full store is told as such, anything else is the operator's.
pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    let cause = format!("cannot {what} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Kind::NoSpace, "The local store has no room left.").because(cause)
        }
        io::ErrorKind::FileTooLarge => {
            Error::bad_request("The disk is larger than a file of the local store can be.").because(cause)
        }
        _ => Error::internal(cause),
    }
}

pub(super) fn damaged(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::internal(format!("{} is damaged: {reason}", path.display()))
}
