//! One open image. The calls block; they belong on the threads of [`crate::cluster::CephCluster::run`].

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use super::*;
use crate::errno::{ENOENT, ERANGE, Failed};

/// How [`IoCtx::open`] finds the image.
#[derive(Clone, Copy)]
pub enum Which<'a> {
    Name(&'a str),
    /// The only way to an image in the trash.
    Id(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Leaves no watch, so that nobody is told "in use" on its account.
    Read,
    Write,
}

pub struct Snapshot {
    pub id: u64,
    pub name: String,
    /// Made by a user, and not yet removed. The others are those of groups and mirroring, and those that were removed
    /// while they had clones.
    pub visible: bool,
}

/// What an image is a clone of.
pub struct Parent {
    pub pool: String,
    pub image_id: String,
    pub image: String,
    pub snapshot_id: u64,
    pub snapshot: String,
    /// The snapshot was removed and waits for its last clone: `snapshot` is not its name any more.
    pub snapshot_in_trash: bool,
}

/// A clone of a snapshot.
pub struct CloneImage {
    pub pool: String,
    pub image: String,
    pub in_trash: bool,
}

/// An open image; closed when dropped, on that thread.
pub struct Image {
    pub(super) connection: Arc<Connection>,
    pub(super) handle: rbd_image_t,
    access: Access,
}

// SAFETY: librbd locks inside; one image may be used by several threads at once.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl IoCtx {
    pub fn open(&self, which: Which<'_>, snapshot: Option<&str>, access: Access) -> Result<Image, Failed> {
        let api = self.api();
        let (call, open, text) = match (which, access) {
            (Which::Name(name), Access::Read) => ("rbd_open_read_only", api.rbd_open_read_only, name),
            (Which::Name(name), Access::Write) => ("rbd_open", api.rbd_open, name),
            (Which::Id(id), Access::Read) => ("rbd_open_by_id_read_only", api.rbd_open_by_id_read_only, id),
            (Which::Id(id), Access::Write) => ("rbd_open_by_id", api.rbd_open_by_id, id),
        };
        let text = c_text(text)?;
        let snapshot = snapshot.map(c_text).transpose()?;
        let snapshot = snapshot.as_ref().map_or(ptr::null(), |name| name.as_ptr());
        let mut handle = ptr::null_mut();
        // SAFETY: handle and strings are alive during the call; no snapshot is a null pointer.
        let answer = unsafe { open(self.handle, text.as_ptr(), &raw mut handle, snapshot) };
        self.connection.check(call, answer)?;
        Ok(Image { connection: self.connection.clone(), handle, access })
    }
}

impl Image {
    pub fn size(&self) -> Result<u64, Failed> {
        let mut size = 0;
        // SAFETY: the image is open, the place lives until the call returns.
        let answer = unsafe { (self.api().rbd_get_size)(self.handle, &raw mut size) };
        self.check("rbd_get_size", answer)?;
        Ok(size)
    }

    /// Takes the exclusive lock, and keeps it until the image is closed.
    ///
    /// By itself librbd takes it with the first write. If it cannot, because no OSD answers, the writes that were queued
    /// meanwhile are never called back (seen with Ceph 16), and what they hold is never freed. This call only fails.
    pub fn lock(&self) -> Result<(), Failed> {
        // SAFETY: the image is open.
        let answer = unsafe { (self.api().rbd_lock_acquire)(self.handle, RBD_LOCK_MODE_EXCLUSIVE) };
        self.check("rbd_lock_acquire", answer).map(drop)
    }

    pub fn resize(&self, size: u64, may_shrink: bool) -> Result<(), Failed> {
        // SAFETY: the image is open, the callback touches nothing.
        let answer = unsafe { (self.api().rbd_resize2)(self.handle, size, may_shrink, no_progress, ptr::null_mut()) };
        self.check("rbd_resize2", answer).map(drop)
    }

    /// `told` hears of objects done, and of how many there are.
    pub fn flatten(&self, told: &Told<'_>) -> Result<(), Failed> {
        let arg: *const &Told<'_> = &told;
        // SAFETY: image and `told` are alive until the call returns, and it calls back only until then.
        let answer = unsafe { (self.api().rbd_flatten_with_progress)(self.handle, tell, arg.cast_mut().cast()) };
        self.check("rbd_flatten_with_progress", answer).map(drop)
    }

    pub fn parent(&self) -> Result<Option<Parent>, Failed> {
        let mut image = MaybeUninit::<rbd_linked_image_spec_t>::zeroed();
        let mut snapshot = MaybeUninit::<rbd_snap_spec_t>::zeroed();
        // SAFETY: the image is open, the places live until the call returns.
        let answer = unsafe { (self.api().rbd_get_parent)(self.handle, image.as_mut_ptr(), snapshot.as_mut_ptr()) };
        match self.check("rbd_get_parent", answer) {
            Err(failed) if failed.is(ENOENT) => return Ok(None),
            answer => answer?,
        };
        // SAFETY: the call has filled both; their strings are copied, then given back.
        Ok(Some(unsafe {
            let (mut image, mut snapshot) = (image.assume_init(), snapshot.assume_init());
            let parent = Parent {
                pool: from_c(image.pool_name),
                image_id: from_c(image.image_id),
                image: from_c(image.image_name),
                snapshot_id: snapshot.id,
                snapshot: from_c(snapshot.name),
                snapshot_in_trash: snapshot.namespace_type == RBD_SNAP_NAMESPACE_TYPE_TRASH,
            };
            (self.api().rbd_linked_image_spec_cleanup)(&raw mut image);
            (self.api().rbd_snap_spec_cleanup)(&raw mut snapshot);
            parent
        }))
    }

    /// Whether any snapshot of it has a clone, in whatever pool; clones in a trash count.
    pub fn has_clones(&self) -> Result<bool, Failed> {
        self.clones().map(|clones| !clones.is_empty())
    }

    /// Clones of the snapshot that it was opened at, or of all its snapshots.
    pub fn clones(&self) -> Result<Vec<CloneImage>, Failed> {
        let mut room = 16;
        loop {
            let mut clones = Vec::<rbd_linked_image_spec_t>::with_capacity(room);
            let mut count = room;
            // SAFETY: there is room for `count` entries.
            let answer = unsafe { (self.api().rbd_list_children3)(self.handle, clones.as_mut_ptr(), &raw mut count) };
            if answer == -ERANGE {
                room = count + 16;
                continue;
            }
            self.check("rbd_list_children3", answer)?;
            // SAFETY: the call has filled `count` entries; their strings are copied, then given back.
            return Ok(unsafe {
                clones.set_len(count);
                let found = clones
                    .iter()
                    .map(|clone| CloneImage {
                        pool: from_c(clone.pool_name),
                        image: from_c(clone.image_name),
                        in_trash: clone.trash,
                    })
                    .collect();
                (self.api().rbd_linked_image_spec_list_cleanup)(clones.as_mut_ptr(), count);
                found
            });
        }
    }

    /// Ceph's id of the image, which stays when its name does not.
    pub fn id(&self) -> Result<String, Failed> {
        let mut text = [0 as c_char; 256];
        // SAFETY: the image is open, the buffer is as long as is said.
        let answer = unsafe { (self.api().rbd_get_id)(self.handle, text.as_mut_ptr(), text.len()) };
        self.check("rbd_get_id", answer)?;
        // SAFETY: the library has ended what it wrote with a zero.
        Ok(unsafe { from_c(text.as_ptr()) })
    }

    /// The first bytes of an entry of the image's metadata.
    pub fn metadata(&self, key: &str) -> Result<Option<String>, Failed> {
        let key = c_text(key)?;
        let mut text = [0 as c_char; 64];
        let mut len = text.len();
        // SAFETY: image and key are alive, the buffer is as long as is said.
        let answer =
            unsafe { (self.api().rbd_metadata_get)(self.handle, key.as_ptr(), text.as_mut_ptr(), &raw mut len) };
        match self.check("rbd_metadata_get", answer) {
            Err(failed) if failed.is(ENOENT) => return Ok(None),
            answer => answer?,
        };
        // SAFETY: the library has ended what it wrote with a zero.
        Ok(Some(unsafe { from_c(text.as_ptr()) }))
    }

    pub fn set_metadata(&self, key: &str, value: &str) -> Result<(), Failed> {
        let (key, value) = (c_text(key)?, c_text(value)?);
        // SAFETY: image and strings are alive during the call.
        let answer = unsafe { (self.api().rbd_metadata_set)(self.handle, key.as_ptr(), value.as_ptr()) };
        self.check("rbd_metadata_set", answer).map(drop)
    }

    /// No failure if there is no such entry.
    pub fn remove_metadata(&self, key: &str) -> Result<(), Failed> {
        let key = c_text(key)?;
        // SAFETY: image and string are alive during the call.
        let answer = unsafe { (self.api().rbd_metadata_remove)(self.handle, key.as_ptr()) };
        match self.check("rbd_metadata_remove", answer) {
            Err(failed) if failed.is(ENOENT) => Ok(()),
            done => done.map(drop),
        }
    }

    pub(super) fn api(&self) -> &'static Api {
        self.connection.api()
    }

    pub(super) fn check(&self, call: &'static str, answer: c_int) -> Result<usize, Failed> {
        match self.access {
            Access::Read => self.connection.check(call, answer),
            Access::Write => self.connection.check_write(call, answer),
        }
    }
}

impl IoCtx {
    /// Snapshots that other software has made may be protected, for clones of the first form. Before the image is written to
    /// here: whoever has its lock does the work, and librbd looks for clones in all pools with calls that wait
    /// ([`Connection::with_threads`]). `EBUSY` if there are such clones.
    pub fn unprotect(&self, which: Which<'_>, snapshots: &[&str]) -> Result<(), Failed> {
        let image = self.connection.with_threads()?.pool(&self.name)?.open(which, None, Access::Write)?;
        for name in snapshots {
            let name = c_text(name)?;
            // SAFETY: image and string are alive during the call.
            let answer = unsafe { (self.api().rbd_snap_unprotect)(image.handle, name.as_ptr()) };
            image.check("rbd_snap_unprotect", answer)?;
        }
        Ok(())
    }
}

/// Snapshots.
impl Image {
    /// Oldest first.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, Failed> {
        let mut room: c_int = 16;
        loop {
            let mut found = Vec::<rbd_snap_info_t>::with_capacity(room as usize);
            // SAFETY: there is room for `room` entries, the last of which is an end mark.
            let answer = unsafe { (self.api().rbd_snap_list)(self.handle, found.as_mut_ptr(), &raw mut room) };
            if answer == -ERANGE {
                room += 16;
                continue;
            }
            let count = self.check("rbd_snap_list", answer)?;
            // SAFETY: the call has filled `count` entries and the end mark; strings are copied, then given back.
            let mut listed: Vec<(u64, String)> = unsafe {
                found.set_len(count);
                let listed = found.iter().map(|snapshot| (snapshot.id, from_c(snapshot.name))).collect();
                if count > 0 {
                    (self.api().rbd_snap_list_end)(found.as_mut_ptr());
                }
                listed
            };
            listed.sort_unstable();
            return listed
                .into_iter()
                .map(|(id, name)| Ok(Snapshot { visible: self.is_visible(id)?, id, name }))
                .collect();
        }
    }

    fn is_visible(&self, snapshot: u64) -> Result<bool, Failed> {
        let mut namespace: c_int = 0;
        // SAFETY: the image is open, the place lives until the call returns.
        let answer = unsafe { (self.api().rbd_snap_get_namespace_type)(self.handle, snapshot, &raw mut namespace) };
        self.check("rbd_snap_get_namespace_type", answer)?;
        Ok(namespace == RBD_SNAP_NAMESPACE_TYPE_USER)
    }

    /// The name that a snapshot had before it was removed while it had clones.
    pub fn name_before_removal(&self, snapshot: u64) -> Result<String, Failed> {
        let mut text = [0 as c_char; 256];
        // SAFETY: the image is open, the buffer is as long as is said.
        let answer =
            unsafe { (self.api().rbd_snap_get_trash_namespace)(self.handle, snapshot, text.as_mut_ptr(), text.len()) };
        self.check("rbd_snap_get_trash_namespace", answer)?;
        // SAFETY: the library has ended what it wrote with a zero.
        Ok(unsafe { from_c(text.as_ptr()) })
    }

    pub fn create_snapshot(&self, name: &str) -> Result<(), Failed> {
        let name = c_text(name)?;
        // SAFETY: image and string are alive during the call.
        let answer = unsafe { (self.api().rbd_snap_create)(self.handle, name.as_ptr()) };
        self.check("rbd_snap_create", answer).map(drop)
    }

    pub fn rename_snapshot(&self, name: &str, to: &str) -> Result<(), Failed> {
        let (name, to) = (c_text(name)?, c_text(to)?);
        // SAFETY: image and strings are alive during the call.
        let answer = unsafe { (self.api().rbd_snap_rename)(self.handle, name.as_ptr(), to.as_ptr()) };
        self.check("rbd_snap_rename", answer).map(drop)
    }

    /// `EBUSY` if it is protected, see [`IoCtx::unprotect`].
    pub fn remove_snapshot(&self, name: &str) -> Result<(), Failed> {
        let name = c_text(name)?;
        // SAFETY: image and string are alive during the call.
        let answer = unsafe { (self.api().rbd_snap_remove)(self.handle, name.as_ptr()) };
        self.check("rbd_snap_remove", answer).map(drop)
    }

    /// `ENOENT` if it is not there.
    pub fn is_protected(&self, snapshot: &str) -> Result<bool, Failed> {
        let snapshot = c_text(snapshot)?;
        let mut protected: c_int = 0;
        // SAFETY: image and string are alive during the call, the place as well.
        let answer = unsafe { (self.api().rbd_snap_is_protected)(self.handle, snapshot.as_ptr(), &raw mut protected) };
        self.check("rbd_snap_is_protected", answer)?;
        Ok(protected != 0)
    }

    /// For a snapshot that has lost its name when it was removed.
    pub fn remove_snapshot_by_id(&self, snapshot: u64) -> Result<(), Failed> {
        // SAFETY: the image is open.
        let answer = unsafe { (self.api().rbd_snap_remove_by_id)(self.handle, snapshot) };
        self.check("rbd_snap_remove_by_id", answer).map(drop)
    }

    pub fn rollback(&self, snapshot: &str) -> Result<(), Failed> {
        let snapshot = c_text(snapshot)?;
        // SAFETY: image and string are alive during the call.
        let answer = unsafe { (self.api().rbd_snap_rollback)(self.handle, snapshot.as_ptr()) };
        self.check("rbd_snap_rollback", answer).map(drop)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once.
        let answer = unsafe { (self.api().rbd_close)(self.handle) };
        if answer < 0 && self.access == Access::Write {
            // Its lock and its watch may be held on.
            self.connection.lose();
        }
    }
}
