//! Giving room back. A layer is a disk's own, or it is below a clone. A disk's own layers are found by walking down from
//! its links. That a layer has clones is told by files named for them, `.clones/<number>/<pool>@<number>`. Such a file is
//! made with the clone and only ever believed after a look into the clone's header, and all are made anew from the
//! headers when a store is opened. Every layer with clones has a link in its disk's directory, in sight or hidden.
//! Refused: counts, which a crash can make wrong in the direction that loses data, and walking the whole store for each
//! removal, which took a tenth of a second with a thousand disks.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use umbel_core::Result;

use super::change::REBASE;
use super::names::{LAYERS, Layer, decode, encode, snapshot_link};
use super::store::{Change, failed, files, is_missing, make_dir, sync_dir};
use crate::{DiskFormat, Removed};

impl Change<'_> {
    pub fn remove(&self, pool: &str, disk: &str) -> Result<Removed> {
        let dir = self.disk_dir(pool, disk)?;
        let Some(hidden) = self.hide(pool, disk, &dir)? else {
            return Ok(Removed::Absent);
        };
        sync_dir(&self.pool_dir(pool))?;
        // The disk is out of sight. Whatever fails from here on is found again by purge.
        let settled = self.settle(&hidden).unwrap_or_else(|error| {
            tracing::warn!(disk, pool, "a removed disk keeps its room until the next purge: {}", error.for_log());
            Removed::Hidden
        });
        Ok(settled)
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

    /// Frees the hidden disks without clones; their names.
    pub fn purge(&self, pool: &str) -> Result<Vec<String>> {
        let (dir, mut freed) = (self.hidden_dir(pool), Vec::new());
        loop {
            let before = freed.len();
            for name in files(&dir)? {
                if self.settle(&dir.join(&name))? == Removed::Gone {
                    freed.extend(name.rsplit_once('@').and_then(|(name, _)| decode(name)));
                }
            }
            // What was freed may have been the last clone of another.
            if freed.len() == before {
                break;
            }
        }
        for dir in self.disk_dirs(pool)? {
            for (name, layer) in self.links(&dir)? {
                if name == kept_link(&layer) && !self.has_clones(&layer)? {
                    self.drop_link(&dir, &dir.join(name), &layer)?;
                }
            }
        }
        Ok(freed)
    }

    /// Leaves a hidden disk the layers that have clones, and those below them; removes it if there are none.
    fn settle(&self, hidden: &Path) -> Result<Removed> {
        let (mut needed, mut dropped) = (Vec::new(), Vec::new());
        for (name, layer) in self.links(hidden)? {
            let side = if self.has_clones(&layer)? { &mut needed } else { &mut dropped };
            side.push((name, layer));
        }
        // Before anything is freed, what is needed must be known in full.
        let needed_layers = self.own_layers(needed.iter().map(|(_, layer)| layer))?;
        let mut free = HashSet::new();
        for (_, layer) in &dropped {
            // Of a damaged disk only the top is known; the rest is swept when the store is opened.
            free.extend(self.own_layers([layer]).unwrap_or_else(|_| HashSet::from([layer.clone()])));
        }
        free.retain(|layer| !needed_layers.contains(layer));
        if needed.is_empty() {
            remove_dir_if_there(hidden)?;
        }
        for (name, _) in &dropped {
            let link = hidden.join(name);
            remove_if_there(&link).map_err(|error| failed("remove", &link, error))?;
        }
        self.free(free)?;
        Ok(if needed.is_empty() { Removed::Gone } else { Removed::Hidden })
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

    /// Notes all clones of the store again: notes are not synced, so those of clones that outlived a power failure may
    /// be lost. A header that cannot be read is passed over, for it leads to no parent either.
    pub fn note_clones(&self) -> Result<()> {
        for pool in self.pools()? {
            for file in files(&self.pool_dir(&pool).join(LAYERS))? {
                let clone = Layer::parse(&pool, &file).filter(|layer| layer.format == DiskFormat::Qcow2);
                if let Some(clone) = clone
                    && let Ok(Some(header)) = self.header(&clone)
                    && header.origin.is_some()
                    && let Ok(Some(parent)) = self.below(Some(&header), &clone)
                {
                    self.note_clone(&parent, &clone)?;
                }
            }
        }
        Ok(())
    }

    /// Frees what nothing leads to and what a crash left half-made, in one pool.
    pub fn sweep(&self, pool: &str) -> Result<()> {
        for name in files(&self.pool_dir(pool))? {
            if name.starts_with(".new-") {
                remove_dir_if_there(&self.pool_dir(pool).join(&name))?;
            }
        }
        let mut needed = self.in_sight()?;
        for other in self.pools()? {
            // Hidden disks of other pools can need layers of this one.
            let dir = self.hidden_dir(&other);
            for name in files(&dir)? {
                for (_, layer) in self.links(&dir.join(name))? {
                    self.reach(layer, &mut needed)?;
                }
            }
        }
        let dir = self.pool_dir(pool).join(LAYERS);
        for file in files(&dir)? {
            match Layer::parse(pool, &file) {
                Some(layer) if needed.contains(&layer) => {}
                Some(layer) => self.free([layer])?,
                // Anything else is not the store's to take away.
                None if !file.ends_with(REBASE) => {}
                None => remove_if_there(&dir.join(&file)).map_err(|error| failed("free", &dir.join(&file), error))?,
            }
        }
        Ok(())
    }

    pub fn remove_snapshot(&self, pool: &str, disk: &str, snapshot: &str) -> Result<()> {
        let dir = self.disk_dir(pool, disk)?;
        let link = dir.join(snapshot_link(snapshot)?);
        match self.follow(&link)? {
            Some(layer) => self.drop_link(&dir, &link, &layer),
            None => Ok(()),
        }
    }

    /// Takes a snapshot's link out of sight, and frees what only it led to. Of a layer with clones, another link stays.
    fn drop_link(&self, dir: &Path, link: &Path, layer: &Layer) -> Result<()> {
        if self.has_clones(layer)? {
            let kept = dir.join(kept_link(layer));
            fs::rename(link, &kept).map_err(|error| failed("keep", &kept, error))?;
            return sync_dir(dir);
        }
        fs::remove_file(link).map_err(|error| failed("remove", link, error))?;
        sync_dir(dir)?;
        self.free_unless_linked(dir, layer);
        Ok(())
    }

    /// Frees the own layers of a disk that were led to by a link to `layer` and are not by those in `dir`. What
    /// cannot be freed now is swept when the store is opened.
    pub fn free_unless_linked(&self, dir: &Path, layer: &Layer) {
        let free = || {
            let mut own = self.own_layers([layer])?;
            for (_, linked) in self.links(dir)? {
                self.own_layers([&linked])?.iter().for_each(|needed| {
                    own.remove(needed);
                });
            }
            self.free(own)
        };
        if let Err(error) = free() {
            tracing::warn!("layers are not freed yet: {}", error.for_log());
        }
    }

    fn own_layers<'l>(&self, tops: impl IntoIterator<Item = &'l Layer>) -> Result<HashSet<Layer>> {
        let mut own = HashSet::new();
        for top in tops {
            own.extend(self.own(top)?.into_iter().map(|step| step.layer));
        }
        Ok(own)
    }

    fn free(&self, layers: impl IntoIterator<Item = Layer>) -> Result<()> {
        for layer in layers {
            let path = self.layer_path(&layer);
            remove_if_there(&path).map_err(|error| failed("free", &path, error))?;
            remove_dir_if_there(&self.clones_dir(&layer))?;
        }
        Ok(())
    }

    pub fn note_clone(&self, parent: &Layer, clone: &Layer) -> Result<()> {
        let dir = self.clones_dir(parent);
        make_dir(&dir)?;
        let path = dir.join(format!("{}@{}", clone.pool, clone.number));
        File::create(&path).map_err(|error| failed("make", &path, error))?;
        Ok(())
    }

    /// Whether some layer is a clone of this one. What cannot be read may be one. Forgets the notes of others.
    fn has_clones(&self, parent: &Layer) -> Result<bool> {
        let dir = self.clones_dir(parent);
        for name in files(&dir)?.into_iter().filter(|name| !name.starts_with('.')) {
            if self.noted_clone(&name, parent).is_some() {
                return Ok(true);
            }
            let path = dir.join(&name);
            remove_if_there(&path).map_err(|error| failed("remove", &path, error))?;
        }
        Ok(false)
    }

    /// The layers that are clones of this one.
    pub fn clones(&self, parent: &Layer) -> Result<Vec<Layer>> {
        let names = files(&self.clones_dir(parent))?;
        Ok(names.iter().filter_map(|name| self.noted_clone(name, parent)).collect())
    }

    fn noted_clone(&self, note: &str, parent: &Layer) -> Option<Layer> {
        let (pool, number) = note.split_once('@')?;
        let clone = Layer { pool: pool.to_owned(), number: number.parse().ok()?, format: DiskFormat::Qcow2 };
        (self.layer_path(&clone).exists() && self.may_be_clone(&clone, parent)).then_some(clone)
    }

    fn may_be_clone(&self, clone: &Layer, parent: &Layer) -> bool {
        let Ok(header) = self.header(clone) else {
            return true;
        };
        let below = self.below(header.as_ref(), clone);
        let born = header.is_some_and(|header| header.origin.is_some());
        below.map_or(true, |below| born && below.as_ref() == Some(parent))
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}

fn remove_dir_if_there(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if !is_missing(&error) => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

/// The link to a layer that has clones and is no snapshot any more.
fn kept_link(layer: &Layer) -> String {
    format!("kept-{}", layer.number)
}
