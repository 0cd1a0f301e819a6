//! Making an image, also where an earlier attempt broke off.
//!
//! librbd makes an image in many requests. A client that is killed between them leaves a name that is taken and cannot be
//! opened; or a clone that has no parent and reads as zeros; or one of which its parent does not know, so that the parent may
//! be removed under it. Whoever makes the same name again meets "exists already", and must not take that for a disk. What
//! broke off is taken away, and made anew. (Of eighty clones that were killed at random moments nine had no image, fourteen
//! no parent, and three were unknown to it.)
//!
//! Only what is worth nothing is taken away: an image that nobody can open, or one without a byte of its own, without
//! snapshots and not in use.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::errno::{EBUSY, EEXIST, ENOENT, Failed};
use crate::ffi::{Access, Image, IoCtx, Which};

/// For as long a name that cannot be opened may be one that another process is making just now.
const PATIENCE: Duration = Duration::from_secs(5);

/// A killed client's watch keeps an image in use for 30 s, where its successor could not shut it out before it came.
const WATCH: Duration = Duration::from_secs(40);

/// Names that this process is making. What looks broken off may be one of them.
static UNDER_WAY: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// `EEXIST` if there is one of that name, or it is being made.
pub fn create(pool: &IoCtx, disk: &str, size: u64) -> Result<(), Failed> {
    let _claim = Claim::of(pool, disk)?;
    match pool.create(disk, size) {
        Err(failed) if failed.is(EEXIST) && is_cleared(pool, disk, |_| Ok(true))? => pool.create(disk, size),
        made => made,
    }
}

/// [`create`] for a clone.
pub fn clone(from: &IoCtx, parent: (&str, &str), pool: &IoCtx, disk: &str) -> Result<(), Failed> {
    let _claim = Claim::of(pool, disk)?;
    let make = || pool.clone_from(from, parent.0, parent.1, disk);
    match make() {
        Err(failed) if failed.is(EEXIST) && is_cleared(pool, disk, |image| is_of_use(pool, disk, image))? => make(),
        made => made,
    }
}

/// Whether a clone is more than a beginning. One that was flattened and holds nothing counts as a beginning: it is as
/// cheap to make as it was.
fn is_of_use(pool: &IoCtx, disk: &str, image: &Image) -> Result<bool, Failed> {
    if let Some(parent) = image.parent()? {
        let at = pool.beside(&parent.pool)?.open(Which::Id(&parent.image_id), None, Access::Read)?;
        if at.clones()?.iter().any(|clone| clone.pool == pool.name() && clone.image == disk) {
            return Ok(true);
        }
    }
    Ok(!image.snapshots()?.is_empty() || image.holds_data()?)
}

/// Takes the image away if it is nothing but a beginning; whether it is gone.
fn is_cleared(pool: &IoCtx, disk: &str, is_of_use: impl Fn(&Image) -> Result<bool, Failed>) -> Result<bool, Failed> {
    let since = Instant::now();
    loop {
        match pool.open(Which::Name(disk), None, Access::Read) {
            Ok(image) if is_of_use(&image)? => return Ok(false),
            Ok(_) => break,
            Err(failed) if failed.is(ENOENT) && since.elapsed() < PATIENCE => thread::sleep(PATIENCE / 25),
            Err(failed) if failed.is(ENOENT) => break,
            Err(failed) => return Err(failed),
        }
    }
    tracing::info!(disk, pool = pool.name(), "an image that was not made to its end is made anew");
    loop {
        match pool.remove(disk) {
            Err(failed) if failed.is(EBUSY) && since.elapsed() < WATCH => thread::sleep(PATIENCE / 25),
            // Also what librbd answers when it has removed a name that led to nothing.
            Err(failed) if failed.is(ENOENT) => return Ok(true),
            removed => return removed.map(|()| true),
        }
    }
}

/// A name while it is being made.
struct Claim(String);

impl Claim {
    fn of(pool: &IoCtx, disk: &str) -> Result<Claim, Failed> {
        let key = pool.key(disk);
        match UNDER_WAY.lock().get_or_insert_default().insert(key.clone()) {
            true => Ok(Claim(key)),
            false => Err(Failed { errno: EEXIST, call: "making an image that is being made" }),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(names) = &mut *UNDER_WAY.lock() {
            names.remove(&self.0);
        }
    }
}
