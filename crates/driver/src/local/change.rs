//! What changes a store. Every change becomes visible by one rename or one link, and what a crash leaves before that
//! is out of sight, unreachable, and swept.
//!
//! Nothing is freed by counting. A layer stays while it can be reached: from a disk in sight, from a hidden disk, or
//! from a layer that somebody is writing. The search walks all links and headers of the store (20 µs for each disk);
//! refused was a file of counts, which a crash can make wrong in the direction that loses data.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use umbel_core::{Error, Result};

use super::names::{HEAD, LAYERS, Layer, decode, encode, snapshot_link};
use super::qcow2::{self, Overlay};
use super::store::{Change, Step, View, failed, files, is_missing, make_dir, sync_dir};
use crate::{DiskFormat, Removed};

/// A link that is to become a disk's head.
const NEW_HEAD: &str = ".head";

/// A layer that no link leads to yet. The lock on its file keeps it from being swept; dropped before it is kept, it is
/// gone, and if the process dies with it, the next sweep finds it unlocked.
pub(super) struct NewLayer {
    pub layer: Layer,
    pub file: File,
    path: PathBuf,
    kept: bool,
}

impl NewLayer {
    /// To be called, best without the store's lock, before a link may lead here.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| failed("sync", &self.path, error))?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }

    pub fn set_size(&self, size: u64) -> Result<()> {
        self.file.set_len(size).map_err(|error| failed("grow", &self.path, error))
    }

    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| failed("write", &self.path, error))
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewLayer {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Change<'_> {
    pub fn make_pool(&self, pool: &str) -> Result<()> {
        make_dir(&self.pool_dir(pool).join(LAYERS))?;
        make_dir(&self.hidden_dir(pool))?;
        sync_dir(&self.root)
    }

    pub fn must_be_free(&self, pool: &str, disk: &str) -> Result<()> {
        must_be_free(self, pool, disk)
    }

    /// An empty layer with a number above `above`.
    pub fn new_layer(&self, pool: &str, format: DiskFormat, above: u64) -> Result<NewLayer> {
        loop {
            let layer = Layer { pool: pool.to_owned(), number: self.number_above(above), format };
            // The other format's name must be free too: numbers are unique in a pool.
            let other = match format {
                DiskFormat::Raw => DiskFormat::Qcow2,
                DiskFormat::Qcow2 => DiskFormat::Raw,
            };
            if self.layer_path(&Layer { format: other, ..layer.clone() }).exists() {
                continue;
            }
            let path = self.layer_path(&layer);
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    let new = NewLayer { layer, file, path, kept: false };
                    flock(&new.file, FlockOperation::NonBlockingLockExclusive)
                        .map_err(|error| failed("lock", &new.path, error.into()))?;
                    return Ok(new);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("make", &path, error)),
            }
        }
    }

    /// A layer of `size` bytes, rounded up to sectors, that shows what `below` shows.
    pub fn overlay(&self, pool: &str, below: &Layer, size: u64, origin: Option<&str>, above: u64) -> Result<NewLayer> {
        let new = self.new_layer(pool, DiskFormat::Qcow2, above)?;
        write_overlay(&new.file, &new.path, below, size, origin)?;
        Ok(new)
    }

    /// Makes the layer the head of a new disk.
    pub fn publish(&self, pool: &str, disk: &str, new: NewLayer) -> Result<()> {
        self.must_be_free(pool, disk)?;
        let (dir, final_dir) = (self.pool_dir(pool), self.disk_dir(pool, disk)?);
        let prepared = dir.join(format!(".new-{}", new.layer.number));
        let prepare = || {
            fs::create_dir(&prepared)?;
            symlink(new.layer.reference(), prepared.join(HEAD))?;
            File::open(&prepared)?.sync_all()?;
            fs::rename(&prepared, &final_dir)
        };
        if let Err(error) = prepare() {
            let _ = fs::remove_dir_all(&prepared);
            return Err(failed("make", &final_dir, error));
        }
        // From here on a disk leads to the layer.
        new.keep();
        sync_dir(&dir)
    }

    pub fn set_head(&self, pool: &str, disk: &str, new: NewLayer) -> Result<()> {
        let dir = self.disk_dir(pool, disk)?;
        let (prepared, head) = (dir.join(NEW_HEAD), dir.join(HEAD));
        let replace = || {
            remove_if_there(&prepared)?;
            symlink(new.layer.reference(), &prepared)?;
            fs::rename(&prepared, &head)
        };
        replace().map_err(|error| failed("replace", &head, error))?;
        new.keep();
        sync_dir(&dir)
    }

    /// Names the layer as a snapshot. It must not be the head any more: what a snapshot names is never written again.
    pub fn set_snapshot(&self, pool: &str, disk: &str, snapshot: &str, layer: &Layer) -> Result<()> {
        let dir = self.disk_dir(pool, disk)?;
        let link = dir.join(snapshot_link(snapshot)?);
        symlink(layer.reference(), &link).map_err(|error| failed("make", &link, error))?;
        sync_dir(&dir)
    }

    pub fn remove_snapshot(&self, pool: &str, disk: &str, snapshot: &str) -> Result<()> {
        let dir = self.disk_dir(pool, disk)?;
        let link = dir.join(snapshot_link(snapshot)?);
        remove_if_there(&link).map_err(|error| failed("remove", &link, error))?;
        sync_dir(&dir)?;
        self.sweep_or_warn(pool);
        Ok(())
    }

    /// Lets the layer's name lead to an empty overlay above `below`, which shows the same bytes, without an origin.
    pub fn rebase(&self, layer: &Layer, below: NewLayer, size: u64) -> Result<()> {
        let path = self.layer_path(layer);
        let prepared = path.with_extension("rebase");
        remove_if_there(&prepared).map_err(|error| failed("remove", &prepared, error))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&prepared);
        let file = file.map_err(|error| failed("make", &prepared, error))?;
        write_overlay(&file, &prepared, &below.layer, size, None)?;
        file.sync_all().map_err(|error| failed("sync", &prepared, error))?;
        fs::rename(&prepared, &path).map_err(|error| failed("replace", &path, error))?;
        below.keep();
        path.parent().map_or(Ok(()), sync_dir)
    }

    pub fn remove(&self, pool: &str, disk: &str) -> Result<Removed> {
        let dir = self.disk_dir(pool, disk)?;
        let Some(hidden) = self.hide(pool, disk, &dir)? else {
            return Ok(Removed::Absent);
        };
        sync_dir(&self.pool_dir(pool))?;
        // The disk is out of sight. Whatever fails from here on is found again by purge.
        let free = || {
            let seen = self.in_sight()?;
            let needed = self.trim(&hidden, &seen)?;
            self.sweep(pool, seen)?;
            Ok::<_, Error>(if needed { Removed::Hidden } else { Removed::Gone })
        };
        Ok(free().unwrap_or_else(|error| {
            tracing::warn!(disk, pool, "a removed disk keeps its room until the next purge: {}", error.for_log());
            Removed::Hidden
        }))
    }

    /// Moves the disk's directory out of sight. `None` if there is none.
    fn hide(&self, pool: &str, disk: &str, dir: &Path) -> Result<Option<PathBuf>> {
        let name = encode(disk)?;
        // Several disks of one name may be hidden, one after the other.
        for count in 0u64.. {
            let hidden = self.hidden_dir(pool).join(format!("{name}@{count}"));
            if hidden.exists() {
                continue;
            }
            return match fs::rename(dir, &hidden) {
                Ok(()) => Ok(Some(hidden)),
                Err(error) if is_missing(&error) => Ok(None),
                Err(error) => Err(failed("remove", dir, error)),
            };
        }
        Ok(None)
    }

    /// Frees the hidden disks that nothing in sight needs; their names.
    pub fn purge(&self, pool: &str) -> Result<Vec<String>> {
        let seen = self.in_sight()?;
        let (dir, mut freed) = (self.hidden_dir(pool), Vec::new());
        for name in files(&dir)? {
            if !self.trim(&dir.join(&name), &seen)? {
                freed.extend(name.rsplit_once('@').and_then(|(name, _)| decode(name)));
            }
        }
        self.sweep(pool, seen)?;
        Ok(freed)
    }

    /// Leaves a hidden disk the links to those of its layers that something in sight needs, or removes it if there are
    /// none. Whether it stays.
    fn trim(&self, hidden: &Path, seen: &HashSet<Layer>) -> Result<bool> {
        let links = self.links(hidden)?;
        let mut needed = HashSet::new();
        for (_, layer) in &links {
            // Of one that cannot be read, nothing is in sight, or that would have failed before.
            let own = self.own(layer).unwrap_or_default();
            needed.extend(own.into_iter().map(|step| step.layer).filter(|layer| seen.contains(layer)));
        }
        let trim = || {
            if needed.is_empty() {
                return fs::remove_dir_all(hidden);
            }
            for layer in needed.iter().filter(|needed| links.iter().all(|(_, linked)| linked != *needed)) {
                symlink(layer.reference(), hidden.join(format!("kept-{}", layer.number)))?;
            }
            for (name, _) in links.iter().filter(|(_, linked)| !needed.contains(linked)) {
                fs::remove_file(hidden.join(name))?;
            }
            Ok(())
        };
        trim().map_err(|error| failed("free", hidden, error))?;
        Ok(!needed.is_empty())
    }

    /// All layers that the disks in sight, in all pools, and those being written need.
    fn in_sight(&self) -> Result<HashSet<Layer>> {
        let mut seen = HashSet::new();
        for pool in self.pools()? {
            for dir in self.disk_dirs(&pool)? {
                for (_, layer) in self.links(&dir)? {
                    self.reach(layer, &mut seen)?;
                }
            }
        }
        for pool in self.pools()? {
            for file in files(&self.pool_dir(&pool).join(LAYERS))? {
                if let Some(layer) = Layer::parse(&pool, &file)
                    && !seen.contains(&layer)
                    && self.is_being_made(&layer)?
                {
                    self.reach(layer, &mut seen)?;
                }
            }
        }
        Ok(seen)
    }

    /// Adds a layer and all below it. One whose file is lost needs nothing; one that cannot be read fails, so that
    /// what it may need is not swept.
    fn reach(&self, layer: Layer, seen: &mut HashSet<Layer>) -> Result<()> {
        let mut next = Some(layer);
        while let Some(layer) = next {
            if seen.contains(&layer) {
                return Ok(());
            }
            if !self.layer_path(&layer).exists() {
                tracing::error!(pool = layer.pool, layer = layer.file(), "a layer that a disk needs is lost");
                return Ok(());
            }
            let header = self.header(&layer)?;
            next = self.below(header.as_ref(), &layer)?;
            seen.insert(layer);
        }
        Ok(())
    }

    /// Whether some process is writing the layer and has not linked it yet.
    fn is_being_made(&self, layer: &Layer) -> Result<bool> {
        let path = self.layer_path(layer);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if is_missing(&error) => return Ok(false),
            Err(error) => return Err(failed("open", &path, error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(failed("lock", &path, error.into())),
        }
    }

    /// Frees what nothing leads to, and what a crash left half-made.
    pub fn sweep_all(&self, pool: &str) -> Result<()> {
        for name in files(&self.pool_dir(pool))? {
            if name.starts_with(".new-") {
                let path = self.pool_dir(pool).join(&name);
                fs::remove_dir_all(&path).map_err(|error| failed("remove", &path, error))?;
            }
        }
        let seen = self.in_sight()?;
        self.sweep(pool, seen)
    }

    /// For where the work is done and only room is lost.
    pub fn sweep_or_warn(&self, pool: &str) {
        if let Err(error) = self.sweep_all(pool) {
            tracing::warn!(pool, "layers are not swept: {}", error.for_log());
        }
    }

    fn sweep(&self, pool: &str, mut needed: HashSet<Layer>) -> Result<()> {
        // Hidden disks of other pools can need layers of this one.
        for other in self.pools()? {
            let dir = self.hidden_dir(&other);
            for name in files(&dir)? {
                for (_, layer) in self.links(&dir.join(name))? {
                    self.reach(layer, &mut needed)?;
                }
            }
        }
        let dir = self.pool_dir(pool).join(LAYERS);
        for file in files(&dir)? {
            if Layer::parse(pool, &file).is_some_and(|layer| needed.contains(&layer)) {
                continue;
            }
            let path = dir.join(&file);
            fs::remove_file(&path).map_err(|error| failed("free", &path, error))?;
        }
        Ok(())
    }
}

pub(super) fn must_be_free(view: &View<'_>, pool: &str, disk: &str) -> Result<()> {
    if view.find_head(pool, disk)?.is_some() {
        return Err(Error::conflict(format!("There is a disk '{disk}' already.")));
    }
    Ok(())
}

/// Where the disk begins: its lowest own layer, if that is a clone of something.
pub(super) fn birth(view: &View<'_>, head: &Layer) -> Result<Option<Step>> {
    let born = view.own(head)?.pop();
    Ok(born.filter(|step| step.header.as_ref().is_some_and(|header| header.origin.is_some())))
}

fn write_overlay(file: &File, path: &Path, below: &Layer, size: u64, origin: Option<&str>) -> Result<()> {
    let size = size.next_multiple_of(qcow2::SECTOR);
    if size > qcow2::LARGEST {
        return Err(Error::bad_request(format!("A disk of {size} bytes is larger than the local store can hold.")));
    }
    let (parts, length) = Overlay { size, backing: &below.reference(), format: below.format, origin }.layout();
    let write = || {
        for (offset, bytes) in parts {
            file.write_all_at(&bytes, offset)?;
        }
        file.set_len(length)
    };
    write().map_err(|error| failed("write", path, error))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}
