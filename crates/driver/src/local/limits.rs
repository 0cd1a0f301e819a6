//! Limits on a disk's I/O. The store only keeps them, as JSON in the disk's directory, where they follow its name and go
//! with it. They are for the hypervisor that opens the disk: it asks [`crate::Pool::limits`] when it takes the
//! [`crate::Attachment`].

use std::fs::{self, File};

use umbel_core::Result;

use super::store::{Store, damaged, failed, is_missing, sync_dir};
use crate::Limits;

/// Begins with a dot: it is no link to a layer.
const FILE: &str = ".limits";

pub(super) fn set(store: &Store, pool: &str, disk: &str, limits: &Limits) -> Result<()> {
    let change = store.change()?;
    change.head(pool, disk)?;
    let dir = change.disk_dir(pool, disk)?;
    let (path, draft) = (dir.join(FILE), dir.join(".limits.new"));
    let text = serde_json::to_vec_pretty(limits).map_err(umbel_core::Error::internal)?;
    let write = || {
        fs::write(&draft, text)?;
        File::open(&draft)?.sync_all()?;
        fs::rename(&draft, &path)
    };
    write().map_err(|error| failed("write", &path, error))?;
    sync_dir(&dir)
}

pub(super) fn get(store: &Store, pool: &str, disk: &str) -> Result<Limits> {
    let view = store.view()?;
    view.head(pool, disk)?;
    let path = view.disk_dir(pool, disk)?.join(FILE);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| damaged(&path, error)),
        Err(error) if is_missing(&error) => Ok(Limits::default()),
        Err(error) => Err(failed("read", &path, error)),
    }
}
