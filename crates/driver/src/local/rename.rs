//! Other names for disks and snapshots, and who is a clone of whom.
//!
//! A clone's header has the name that its parent had when it was made, and a guest may have that header open, so that it
//! cannot be written again. When a disk or snapshot with clones is renamed, its names, the new one last, are noted beside
//! the notes of the clones (`.clones/<number>/.names`), before the rename. Which of them holds is told by where they lead,
//! so a note whose rename a crash has prevented says nothing wrong. Refused: forwarding by names, since a name that
//! was given up can be another disk's.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use umbel_core::{Error, Result};

use super::SCHEME;
use super::change::must_be_free;
use super::names::{Layer, decode, encode, snapshot_link, snapshot_of_link};
use super::store::{Change, Store, View, failed, files, is_missing, sync_dir};
use crate::{Child, Hidden, Location};

/// Begins with a dot, which no note of a clone does.
const NAMES: &str = ".names";

/// Names that are kept; older ones can only have been given up.
const KEPT: usize = 4;

pub(super) fn rename(store: &Store, pool: &str, disk: &str, to: &str) -> Result<()> {
    let change = store.change()?;
    if change.find_head(pool, disk)?.is_none() {
        // If the new one is there, this was done before.
        let done = change.find_head(pool, to)?.is_some();
        return if done { Ok(()) } else { change.head(pool, disk).map(drop) };
    }
    if disk == to {
        return Ok(());
    }
    must_be_free(&change, pool, to)?;
    let (from, dir) = (change.disk_dir(pool, disk)?, change.disk_dir(pool, to)?);
    for (link, layer) in change.links(&from)? {
        change.note_name(pool, (disk, &link), (to, &link), &layer)?;
    }
    fs::rename(&from, &dir).map_err(|error| failed("rename", &from, error))?;
    sync_dir(&change.pool_dir(pool))
}

pub(super) fn rename_snapshot(store: &Store, pool: &str, disk: &str, snapshot: &str, to: &str) -> Result<()> {
    let change = store.change()?;
    let dir = change.disk_dir(pool, disk)?;
    let (link, new) = (snapshot_link(snapshot)?, snapshot_link(to)?);
    let done = change.follow(&dir.join(&new))?.is_some();
    if change.follow(&dir.join(&link))?.is_none() {
        return change.layer(pool, disk, Some(if done { to } else { snapshot })).map(drop);
    }
    if snapshot == to {
        return Ok(());
    }
    if done {
        return Err(Error::conflict(format!("The disk '{disk}' has a snapshot '{to}' already.")));
    }
    let layer = change.layer(pool, disk, Some(snapshot))?;
    change.note_name(pool, (disk, &link), (disk, &new), &layer)?;
    fs::rename(dir.join(&link), dir.join(&new)).map_err(|error| failed("rename", &dir.join(&link), error))?;
    sync_dir(&dir)
}

pub(super) fn children(store: &Store, pool: &str, disk: &str, snapshot: &str) -> Result<Vec<Child>> {
    let change = store.change()?;
    let born: HashSet<Layer> = change.clones(&change.layer(pool, disk, Some(snapshot))?)?.into_iter().collect();
    let mut children = Vec::new();
    if born.is_empty() {
        return Ok(children);
    }
    for pool in change.pools()? {
        let hidden = change.hidden_dir(&pool);
        let seen = change.disk_dirs(&pool)?.into_iter().map(|dir| (dir, false));
        let unseen = files(&hidden)?.into_iter().map(|name| (hidden.join(name), true));
        for (dir, hidden) in seen.chain(unseen).collect::<Vec<_>>() {
            if change.is_born_as_one_of(&dir, &born)?
                && let Some(disk) = disk_of(&dir)
            {
                children.push(Child { pool: decode(&pool).unwrap_or_else(|| pool.clone()), disk, hidden });
            }
        }
    }
    Ok(children)
}

pub(super) fn hidden(store: &Store, pool: &str) -> Result<Vec<Hidden>> {
    let change = store.change()?;
    let (dir, mut hidden) = (change.hidden_dir(pool), Vec::new());
    for id in files(&dir)? {
        let Some(disk) = disk_of(&dir.join(&id)) else { continue };
        let mut free = true;
        for (_, layer) in change.links(&dir.join(&id))? {
            free = free && change.clones(&layer)?.is_empty();
        }
        hidden.push(Hidden { disk, id, free });
    }
    Ok(hidden)
}

/// The name of the disk whose directory this is, in sight or hidden.
fn disk_of(dir: &Path) -> Option<String> {
    let name = dir.file_name()?.to_str()?;
    decode(name.rsplit_once('@').map_or(name, |(name, _)| name))
}

impl Change<'_> {
    /// Notes that the layer, which a link of a disk leads to, will have another name. Only if it has clones.
    fn note_name(&self, pool: &str, old: (&str, &str), new: (&str, &str), layer: &Layer) -> Result<()> {
        let clones = self.clones(layer)?;
        let Some(clone) = clones.first() else { return Ok(()) };
        let told = self.header(clone)?.and_then(|header| header.origin);
        let mut names = self.names(layer)?;
        let last = names.last().cloned().or_else(|| told.and_then(|told| told.parse().ok()));
        let named = |(disk, link): (&str, &str)| {
            // A snapshot that was removed and lives on for its clones keeps the name it had.
            let snapshot = snapshot_of_link(link).or_else(|| Some(last.as_ref()?.snapshot.clone()))?;
            let (scheme, pool) = (SCHEME.to_owned(), decode(pool)?);
            Some(Location { scheme, cluster: self.id.clone(), pool, disk: disk.to_owned(), snapshot })
        };
        for name in [named(old), named(new)].into_iter().flatten() {
            names.retain(|known| *known != name);
            names.push(name);
        }
        let lines: String = names.iter().rev().take(KEPT).rev().map(|name| format!("{name}\n")).collect();
        let dir = self.clones_dir(layer);
        let (path, draft) = (dir.join(NAMES), dir.join(".names.new"));
        let write = || {
            fs::write(&draft, lines)?;
            fs::File::open(&draft)?.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(|error| failed("write", &path, error))?;
        sync_dir(&dir)?;
        dir.parent().map_or(Ok(()), sync_dir)
    }

    fn is_born_as_one_of(&self, dir: &Path, born: &HashSet<Layer>) -> Result<bool> {
        for (_, layer) in self.links(dir)? {
            // A damaged disk is nobody's clone, and must not hide the others.
            if self.own(&layer).is_ok_and(|own| own.last().is_some_and(|step| born.contains(&step.layer))) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl View<'_> {
    /// What the snapshot is called now whose layer it is. `told` is what the clone's header says.
    pub fn name_now(&self, layer: &Layer, told: Location) -> Result<Location> {
        let names = self.names(layer)?;
        let Some(last) = names.last() else {
            return Ok(told);
        };
        for name in std::iter::once(&told).chain(names.iter().rev()) {
            let link = self.disk_dir(&encode(&name.pool)?, &name.disk)?.join(snapshot_link(&name.snapshot)?);
            if self.follow(&link)?.as_ref() == Some(layer) {
                return Ok(name.clone());
            }
        }
        // Out of sight: the last name it had.
        Ok(last.clone())
    }

    /// Oldest first; none if it was never renamed.
    fn names(&self, layer: &Layer) -> Result<Vec<Location>> {
        let path = self.clones_dir(layer).join(NAMES);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(failed("read", &path, error)),
        }
    }
}
