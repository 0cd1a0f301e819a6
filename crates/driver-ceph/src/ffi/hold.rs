//! Keeping an image as it is while whoever writes to it waits, see [`crate::together`].
//!
//! librbd asks all who watch an image to be quiet before it makes a snapshot, and waits for their answer. A client that
//! makes a snapshot, and watches the image itself, so decides how long the making takes, and for that long it keeps the
//! exclusive lock: a guest that asks for it is told to wait.

use std::sync::mpsc::Sender;

use super::*;
use crate::errno::Failed;

/// What becomes of the snapshots of several images, by their numbers.
pub enum Event {
    /// The snapshot has begun and waits for [`Hold::let_go`].
    Stilled(usize),
    Done(usize, Result<(), Failed>),
}

/// While it lives, each snapshot that is begun of the image sends [`Event::Stilled`], and waits.
pub struct Hold<'a> {
    image: &'a Image,
    handle: u64,
    /// What the callback has.
    _context: Box<Context>,
}

struct Context {
    number: usize,
    events: Sender<Event>,
}

impl Image {
    pub fn hold(&self, number: usize, events: Sender<Event>) -> Result<Hold<'_>, Failed> {
        let context = Box::new(Context { number, events });
        let arg: *const Context = &raw const *context;
        let mut handle = 0;
        // SAFETY: the image is open; the context lives until the watch has ended, see `Drop`.
        let answer = unsafe {
            (self.api().rbd_quiesce_watch)(self.handle, stilled, passed, arg.cast_mut().cast(), &raw mut handle)
        };
        self.check("rbd_quiesce_watch", answer)?;
        Ok(Hold { image: self, handle, _context: context })
    }

    /// Has the exclusive lock handed over, until somebody else asks for it. By a write of no bytes: the call for the lock
    /// itself ([`Image::lock`]) keeps it, and guests that want to write meanwhile get `EROFS`.
    pub fn take_lock(&self) -> Result<(), Failed> {
        // SAFETY: the image is open, and of no bytes none is read.
        let answer = unsafe { (self.api().rbd_write)(self.handle, 0, 0, c"".as_ptr()) };
        self.check("rbd_write", answer as c_int).map(drop)
    }

    pub fn owns_lock(&self) -> Result<bool, Failed> {
        let mut owns: c_int = 0;
        // SAFETY: the image is open, the place lives until the call returns.
        let answer = unsafe { (self.api().rbd_is_exclusive_lock_owner)(self.handle, &raw mut owns) };
        self.check("rbd_is_exclusive_lock_owner", answer)?;
        Ok(owns != 0)
    }

    /// A snapshot that waits for holds, whatever the cluster's configuration says of quiescing.
    pub fn create_held_snapshot(&self, name: &str) -> Result<(), Failed> {
        let name = c_text(name)?;
        // SAFETY: image and string are alive during the call, the callback touches nothing.
        let answer =
            unsafe { (self.api().rbd_snap_create2)(self.handle, name.as_ptr(), 0, no_progress, std::ptr::null_mut()) };
        self.check("rbd_snap_create2", answer).map(drop)
    }
}

impl Hold<'_> {
    /// Lets the snapshot that waits be made, or fail with this error number.
    pub fn let_go(&self, refused: Option<i32>) {
        let answer = refused.map_or(0, |errno| -errno);
        // SAFETY: the image is open, and the watch is there until `Drop`.
        unsafe { (self.image.api().rbd_quiesce_complete)(self.image.handle, self.handle, answer) };
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // SAFETY: watched once, unwatched once; after this the callback does not run any more.
        unsafe { (self.image.api().rbd_quiesce_unwatch)(self.image.handle, self.handle) };
    }
}

/// # Safety
/// `arg` is the `Context` of a hold that lives.
unsafe extern "C" fn stilled(arg: *mut c_void) {
    // SAFETY: as said above.
    let context = unsafe { &*arg.cast::<Context>() };
    // Nobody may listen any more.
    let _ = context.events.send(Event::Stilled(context.number));
}

/// # Safety
/// Touches nothing.
unsafe extern "C" fn passed(_arg: *mut c_void) {}
