//! What changes a store. Every change becomes visible by one rename or one link, and what a crash leaves before that
//! is out of sight, unreachable, and swept ([`super::free`]).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use umbel_core::{Error, Result};

use super::free::remove_if_there;
use super::names::{HEAD, LAYERS, Layer, snapshot_link};
use super::qcow2::{self, Overlay};
use super::store::{Change, Step, View, failed, make_dir, sync_dir};
use crate::DiskFormat;

/// A link that is to become a disk's head.
const NEW_HEAD: &str = ".head";

/// Ends the name of a file that is to take a layer's place.
pub(super) const REBASE: &str = "rebase";

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
        if origin.is_some() {
            self.note_clone(below, &new.layer)?;
        }
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
        self.point_head(pool, disk, &new.layer)?;
        new.keep();
        sync_dir(&self.disk_dir(pool, disk)?)
    }

    /// As [`Change::set_head`], for a layer that is kept already. Not synced.
    pub fn point_head(&self, pool: &str, disk: &str, layer: &Layer) -> Result<()> {
        let dir = self.disk_dir(pool, disk)?;
        let (prepared, head) = (dir.join(NEW_HEAD), dir.join(HEAD));
        let replace = || {
            remove_if_there(&prepared)?;
            symlink(layer.reference(), &prepared)?;
            fs::rename(&prepared, &head)
        };
        replace().map_err(|error| failed("replace", &head, error))
    }

    /// Names the layer as a snapshot. It must not be the head any more: what a snapshot names is never written again.
    pub fn set_snapshot(&self, pool: &str, disk: &str, snapshot: &str, layer: &Layer) -> Result<()> {
        let dir = self.disk_dir(pool, disk)?;
        let link = dir.join(snapshot_link(snapshot)?);
        symlink(layer.reference(), &link).map_err(|error| failed("make", &link, error))?;
        sync_dir(&dir)
    }

    /// Lets the layer's name lead to an empty overlay above `below`, which shows the same bytes, without an origin.
    pub fn rebase(&self, layer: &Layer, below: NewLayer, size: u64) -> Result<()> {
        let path = self.layer_path(layer);
        let prepared = path.with_extension(REBASE);
        remove_if_there(&prepared).map_err(|error| failed("remove", &prepared, error))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&prepared);
        let file = file.map_err(|error| failed("make", &prepared, error))?;
        write_overlay(&file, &prepared, &below.layer, size, None)?;
        file.sync_all().map_err(|error| failed("sync", &prepared, error))?;
        fs::rename(&prepared, &path).map_err(|error| failed("replace", &path, error))?;
        below.keep();
        path.parent().map_or(Ok(()), sync_dir)
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
