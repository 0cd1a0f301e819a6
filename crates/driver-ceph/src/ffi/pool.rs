//! Images as a pool's entries: made, cloned, listed, thrown away.

use std::ptr;

use super::*;
use crate::errno::{ENOENT, ERANGE, Failed};

/// layering, exclusive-lock, object-map, fast-diff, deep-flatten: Ceph's own default. Without object-map a removal asks
/// for every object that could be there: twelve times slower for a clone of 10 GiB.
pub const FEATURES: u64 = 1 | 4 | 8 | 16 | 32;

/// The object in which Ceph keeps a pool's trash.
const RBD_TRASH: &CStr = c"rbd_trash";

/// A lock on that object.
const PURGE_LOCK: &CStr = c"umbel_purge";

/// An image in the trash.
pub struct TrashEntry {
    pub id: String,
    pub name: String,
    /// Moved there by a user rather than by mirroring, migration or a removal that broke off.
    pub by_user: bool,
}

impl IoCtx {
    pub fn create(&self, name: &str, size: u64) -> Result<(), Failed> {
        let name = c_text(name)?;
        self.ensure_trash()?;
        let options = Options::new(self.api())?;
        // SAFETY: handles and string are alive during the call.
        let answer = unsafe { (self.api().rbd_create4)(self.handle, name.as_ptr(), size, options.handle) };
        self.connection.check_write("rbd_create4", answer).map(drop)
    }

    /// A clone in the second form: the parent's snapshot need not be protected, and may be removed before its clones.
    pub fn clone_from(&self, parent: &IoCtx, image: &str, snapshot: &str, name: &str) -> Result<(), Failed> {
        let (image, snapshot, name) = (c_text(image)?, c_text(snapshot)?, c_text(name)?);
        self.ensure_trash()?;
        let options = Options::new(self.api())?;
        options.set(RBD_IMAGE_OPTION_CLONE_FORMAT, 2)?;
        // SAFETY: handles and strings are alive during the call.
        let answer = unsafe {
            (self.api().rbd_clone3)(
                parent.handle,
                image.as_ptr(),
                snapshot.as_ptr(),
                self.handle,
                name.as_ptr(),
                options.handle,
            )
        };
        self.connection.check_write("rbd_clone3", answer).map(drop)
    }

    /// `ENOTEMPTY` if it has snapshots or clones, `EBUSY` if somebody has it open.
    pub fn remove(&self, name: &str) -> Result<(), Failed> {
        self.connection.check_kept("rbd_remove")?;
        let name = c_text(name)?;
        // SAFETY: handle and string are alive during the call.
        let answer = unsafe { (self.api().rbd_remove)(self.handle, name.as_ptr()) };
        self.connection.check_write("rbd_remove", answer).map(drop)
    }

    /// `EEXIST` if there is one of that name; `ENOENT` if there is none to rename.
    pub fn rename(&self, name: &str, to: &str) -> Result<(), Failed> {
        self.connection.check_kept("rbd_rename")?;
        let (name, to) = (c_text(name)?, c_text(to)?);
        // SAFETY: handle and strings are alive during the call.
        let answer = unsafe { (self.api().rbd_rename)(self.handle, name.as_ptr(), to.as_ptr()) };
        self.connection.check_write("rbd_rename", answer).map(drop)
    }

    /// Removes one object by its name, which is not an image's.
    pub fn remove_object(&self, object: &str) -> Result<(), Failed> {
        let object = c_text(object)?;
        // SAFETY: handle and string are alive during the call.
        let answer = unsafe { (self.api().rados_remove)(self.handle, object.as_ptr()) };
        self.connection.check("rados_remove", answer).map(drop)
    }

    /// Whether there is an object of this name, which is not an image's.
    pub fn has_object(&self, object: &str) -> Result<bool, Failed> {
        let object = c_text(object)?;
        let (mut size, mut time) = (0, 0);
        // SAFETY: handle, string and places are alive during the call.
        let answer = unsafe { (self.api().rados_stat)(self.handle, object.as_ptr(), &raw mut size, &raw mut time) };
        match self.connection.check("rados_stat", answer) {
            Err(failed) if failed.is(ENOENT) => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    pub fn list(&self) -> Result<Vec<String>, Failed> {
        let mut room = 256;
        loop {
            let mut images = Vec::<rbd_image_spec_t>::with_capacity(room);
            let mut count = room;
            // SAFETY: there is room for `count` entries.
            let answer = unsafe { (self.api().rbd_list2)(self.handle, images.as_mut_ptr(), &raw mut count) };
            if answer == -ERANGE {
                room = count + 16;
                continue;
            }
            self.connection.check("rbd_list2", answer)?;
            // SAFETY: the call has filled `count` entries; their strings are copied, then given back.
            return Ok(unsafe {
                images.set_len(count);
                let names = images.iter().map(|image| from_c(image.name)).collect();
                (self.api().rbd_image_spec_list_cleanup)(images.as_mut_ptr(), count);
                names
            });
        }
    }

    pub fn trash_move(&self, name: &str) -> Result<(), Failed> {
        self.connection.check_kept("rbd_trash_move")?;
        let name = c_text(name)?;
        // SAFETY: handle and string are alive during the call.
        let answer = unsafe { (self.api().rbd_trash_move)(self.handle, name.as_ptr(), 0) };
        self.connection.check_write("rbd_trash_move", answer).map(drop)
    }

    pub fn trash_list(&self) -> Result<Vec<TrashEntry>, Failed> {
        let mut room = 64;
        loop {
            let mut entries = Vec::<rbd_trash_image_info_t>::with_capacity(room);
            let mut count = room;
            // SAFETY: there is room for `count` entries.
            let answer = unsafe { (self.api().rbd_trash_list)(self.handle, entries.as_mut_ptr(), &raw mut count) };
            if answer == -ERANGE {
                room = count + 16;
                continue;
            }
            self.connection.check("rbd_trash_list", answer)?;
            // SAFETY: the call has filled `count` entries; their strings are copied, then given back.
            return Ok(unsafe {
                entries.set_len(count);
                let found = entries
                    .iter()
                    .map(|entry| TrashEntry {
                        id: from_c(entry.id),
                        name: from_c(entry.name),
                        by_user: entry.source == RBD_TRASH_IMAGE_SOURCE_USER,
                    })
                    .collect();
                (self.api().rbd_trash_list_cleanup)(entries.as_mut_ptr(), count);
                found
            });
        }
    }

    pub fn trash_remove(&self, id: &str) -> Result<(), Failed> {
        let id = c_text(id)?;
        // SAFETY: handle and string are alive during the call.
        let answer = unsafe { (self.api().rbd_trash_remove)(self.handle, id.as_ptr(), false) };
        self.connection.check_write("rbd_trash_remove", answer).map(drop)
    }

    /// Takes the right to free what is in the trash, or keeps it, for so many seconds. `EBUSY` if another client has it.
    pub fn lock_trash(&self, seconds: u16) -> Result<(), Failed> {
        let mut duration = timeval { tv_sec: seconds.into(), tv_usec: 0 };
        // SAFETY: handle, strings and duration are alive during the call.
        let answer = unsafe {
            (self.api().rados_lock_exclusive)(
                self.handle,
                RBD_TRASH.as_ptr(),
                PURGE_LOCK.as_ptr(),
                c"".as_ptr(),
                c"".as_ptr(),
                &raw mut duration,
                LIBRADOS_LOCK_FLAG_MAY_RENEW,
            )
        };
        self.connection.check("rados_lock_exclusive", answer).map(drop)
    }

    pub fn unlock_trash(&self) -> Result<(), Failed> {
        // SAFETY: handle and strings are alive during the call.
        let answer =
            unsafe { (self.api().rados_unlock)(self.handle, RBD_TRASH.as_ptr(), PURGE_LOCK.as_ptr(), c"".as_ptr()) };
        self.connection.check("rados_unlock", answer).map(drop)
    }

    /// Every removal passes through the trash, and a pool gets its trash with its first removal, which a pool that is full by
    /// then refuses: it could not be emptied. So the trash is there before the first image.
    fn ensure_trash(&self) -> Result<(), Failed> {
        if self.connection.with_trash.lock().contains(&self.id) {
            return Ok(());
        }
        let api = self.api();
        // SAFETY: the operation is made, performed and released here; no time and no category is given.
        let answer = unsafe {
            let operation = (api.rados_create_write_op)();
            (api.rados_write_op_create)(operation, LIBRADOS_CREATE_IDEMPOTENT, ptr::null());
            let answer = (api.rados_write_op_operate)(
                operation,
                self.handle,
                RBD_TRASH.as_ptr(),
                ptr::null_mut(),
                LIBRADOS_OPERATION_NOFLAG,
            );
            (api.rados_release_write_op)(operation);
            answer
        };
        self.connection.check("creating rbd_trash", answer)?;
        self.connection.with_trash.lock().insert(self.id);
        Ok(())
    }

    pub(super) fn api(&self) -> &'static Api {
        self.connection.api()
    }
}

/// How an image is made.
struct Options {
    api: &'static Api,
    handle: rbd_image_options_t,
}

impl Options {
    fn new(api: &'static Api) -> Result<Options, Failed> {
        let mut handle = ptr::null_mut();
        // SAFETY: the place lives until the call returns.
        unsafe { (api.rbd_image_options_create)(&raw mut handle) };
        let options = Options { api, handle };
        options.set(RBD_IMAGE_OPTION_FORMAT, 2)?;
        options.set(RBD_IMAGE_OPTION_FEATURES, FEATURES)?;
        Ok(options)
    }

    fn set(&self, option: c_int, value: u64) -> Result<(), Failed> {
        // SAFETY: the handle is alive.
        let answer = unsafe { (self.api.rbd_image_options_set_uint64)(self.handle, option, value) };
        Failed::check("rbd_image_options_set_uint64", answer).map(drop)
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by rbd_image_options_create, destroyed once.
        unsafe { (self.api.rbd_image_options_destroy)(self.handle) }
    }
}
