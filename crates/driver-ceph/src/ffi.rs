//! The part of librbd and librados that we call, declared by hand and resolved at run time.
//!
//! Opened rather than linked: one program runs on hosts with and without Ceph, and no build needs Ceph's headers. By hand
//! rather than generated: a generator writes thousands of lines of which sixty functions are used, and needs libclang. One
//! handle serves both libraries, since a symbol is searched in what the library depends on too.
//!
//! The declarations are those of librbd 1.16 (Ceph 16, Pacific); later releases keep them. A library that lacks one of
//! them is refused as a whole, when it is opened and not when the function is first called.
//!
//! The modules below wrap the calls into types that free what they own; `unsafe` stays in here.
#![allow(non_camel_case_types)]

mod aio;
mod connection;
mod contents;
mod hold;
mod image;
mod pool;
mod roll;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;

use libloading::Library;
use umbel_core::{Error, Result};

pub use self::aio::DataImage;
pub use self::connection::{Client, Connection, IoCtx, THREADS};
pub use self::hold::{Event, Hold};
pub use self::image::{Access, CloneImage, Image, Parent, Which};
pub use self::pool::TrashEntry;
use crate::errno::{EINVAL, Failed};

pub type rados_t = *mut c_void;
pub type rados_ioctx_t = *mut c_void;
pub type rados_write_op_t = *mut c_void;
pub type rbd_image_t = *mut c_void;
pub type rbd_image_options_t = *mut c_void;
pub type rbd_completion_t = *mut c_void;
pub type rbd_callback_t = unsafe extern "C" fn(rbd_completion_t, *mut c_void);
pub type librbd_progress_fn_t = unsafe extern "C" fn(u64, u64, *mut c_void) -> c_int;

pub const LIBRADOS_CREATE_IDEMPOTENT: c_int = 0;
pub const LIBRADOS_LOCK_FLAG_MAY_RENEW: u8 = 1;
pub const LIBRADOS_OPERATION_NOFLAG: c_int = 0;

pub const RBD_IMAGE_OPTION_FORMAT: c_int = 0;
pub const RBD_IMAGE_OPTION_FEATURES: c_int = 1;
pub const RBD_IMAGE_OPTION_CLONE_FORMAT: c_int = 12;

pub type rbd_update_callback_t = unsafe extern "C" fn(*mut c_void);
pub type diff_callback_t = unsafe extern "C" fn(u64, usize, c_int, *mut c_void) -> c_int;

pub const RBD_LOCK_MODE_EXCLUSIVE: c_int = 0;

pub const RBD_SNAP_NAMESPACE_TYPE_USER: c_int = 0;
pub const RBD_SNAP_NAMESPACE_TYPE_TRASH: c_int = 2;

pub const RBD_TRASH_IMAGE_SOURCE_USER: c_int = 0;

#[repr(C)]
pub struct timeval {
    pub tv_sec: i64,
    pub tv_usec: i64,
}

#[repr(C)]
pub struct rbd_image_spec_t {
    pub id: *mut c_char,
    pub name: *mut c_char,
}

#[repr(C)]
pub struct rbd_linked_image_spec_t {
    pub pool_id: i64,
    pub pool_name: *mut c_char,
    pub pool_namespace: *mut c_char,
    pub image_id: *mut c_char,
    pub image_name: *mut c_char,
    pub trash: bool,
}

#[repr(C)]
pub struct rbd_snap_spec_t {
    pub id: u64,
    pub namespace_type: c_int,
    pub name: *mut c_char,
}

#[repr(C)]
pub struct rbd_snap_info_t {
    pub id: u64,
    pub size: u64,
    pub name: *const c_char,
}

#[repr(C)]
pub struct rbd_trash_image_info_t {
    pub id: *mut c_char,
    pub name: *mut c_char,
    pub source: c_int,
    pub deletion_time: i64,
    pub deferment_end_time: i64,
}

/// Declares functions, and the table that holds their addresses once the library is open.
macro_rules! functions {
    ($(fn $name:ident($($arg:ty),* $(,)?) $(-> $ret:ty)?;)*) => {
        pub struct Api {
            $(pub $name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
            /// The addresses above are good for as long as this is.
            _library: Library,
        }

        impl Api {
            fn resolve(library: Library) -> Result<Api, libloading::Error> {
                // SAFETY: each type is that of the function of this name in librados.h or librbd.h.
                unsafe {
                    Ok(Api {
                        $($name: *library.get(concat!(stringify!($name), "\0"))?,)*
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    fn rados_create(*mut rados_t, *const c_char) -> c_int;
    fn rados_conf_read_file(rados_t, *const c_char) -> c_int;
    fn rados_conf_set(rados_t, *const c_char, *const c_char) -> c_int;
    fn rados_conf_get(rados_t, *const c_char, *mut c_char, usize) -> c_int;
    fn rados_connect(rados_t) -> c_int;
    fn rados_shutdown(rados_t);
    fn rados_cluster_fsid(rados_t, *mut c_char, usize) -> c_int;
    fn rados_getaddrs(rados_t, *mut *mut c_char) -> c_int;
    fn rados_wait_for_latest_osdmap(rados_t) -> c_int;
    fn rados_get_min_compatible_client(rados_t, *mut i8, *mut i8) -> c_int;
    fn rados_mon_command(
        rados_t, *mut *const c_char, usize, *const c_char, usize,
        *mut *mut c_char, *mut usize, *mut *mut c_char, *mut usize,
    ) -> c_int;
    fn rados_buffer_free(*mut c_char);
    fn rados_ioctx_create(rados_t, *const c_char, *mut rados_ioctx_t) -> c_int;
    fn rados_ioctx_get_id(rados_ioctx_t) -> i64;
    fn rados_ioctx_destroy(rados_ioctx_t);
    fn rados_set_pool_full_try(rados_ioctx_t);
    fn rados_create_write_op() -> rados_write_op_t;
    fn rados_release_write_op(rados_write_op_t);
    fn rados_write_op_create(rados_write_op_t, c_int, *const c_char);
    fn rados_write_op_operate(rados_write_op_t, rados_ioctx_t, *const c_char, *mut i64, c_int) -> c_int;
    fn rados_remove(rados_ioctx_t, *const c_char) -> c_int;
    fn rados_stat(rados_ioctx_t, *const c_char, *mut u64, *mut i64) -> c_int;
    fn rados_lock_exclusive(
        rados_ioctx_t, *const c_char, *const c_char, *const c_char, *const c_char, *mut timeval, u8,
    ) -> c_int;
    fn rados_lock_shared(
        rados_ioctx_t, *const c_char, *const c_char, *const c_char, *const c_char, *const c_char, *mut timeval, u8,
    ) -> c_int;
    fn rados_unlock(rados_ioctx_t, *const c_char, *const c_char, *const c_char) -> c_int;
    fn rados_list_lockers(
        rados_ioctx_t, *const c_char, *const c_char, *mut c_int, *mut c_char, *mut usize,
        *mut c_char, *mut usize, *mut c_char, *mut usize, *mut c_char, *mut usize,
    ) -> isize;
    fn rados_break_lock(rados_ioctx_t, *const c_char, *const c_char, *const c_char, *const c_char) -> c_int;
    fn rados_application_list(rados_ioctx_t, *mut c_char, *mut usize) -> c_int;

    fn rbd_version(*mut c_int, *mut c_int, *mut c_int);
    fn rbd_image_options_create(*mut rbd_image_options_t);
    fn rbd_image_options_destroy(rbd_image_options_t);
    fn rbd_image_options_set_uint64(rbd_image_options_t, c_int, u64) -> c_int;

    fn rbd_create4(rados_ioctx_t, *const c_char, u64, rbd_image_options_t) -> c_int;
    fn rbd_clone3(
        rados_ioctx_t, *const c_char, *const c_char, rados_ioctx_t, *const c_char, rbd_image_options_t,
    ) -> c_int;
    fn rbd_remove(rados_ioctx_t, *const c_char) -> c_int;
    fn rbd_rename(rados_ioctx_t, *const c_char, *const c_char) -> c_int;
    fn rbd_list2(rados_ioctx_t, *mut rbd_image_spec_t, *mut usize) -> c_int;
    fn rbd_image_spec_list_cleanup(*mut rbd_image_spec_t, usize);
    fn rbd_trash_move(rados_ioctx_t, *const c_char, u64) -> c_int;
    fn rbd_trash_list(rados_ioctx_t, *mut rbd_trash_image_info_t, *mut usize) -> c_int;
    fn rbd_trash_list_cleanup(*mut rbd_trash_image_info_t, usize);
    fn rbd_trash_remove(rados_ioctx_t, *const c_char, bool) -> c_int;

    fn rbd_open(rados_ioctx_t, *const c_char, *mut rbd_image_t, *const c_char) -> c_int;
    fn rbd_open_by_id(rados_ioctx_t, *const c_char, *mut rbd_image_t, *const c_char) -> c_int;
    fn rbd_open_read_only(rados_ioctx_t, *const c_char, *mut rbd_image_t, *const c_char) -> c_int;
    fn rbd_open_by_id_read_only(rados_ioctx_t, *const c_char, *mut rbd_image_t, *const c_char) -> c_int;
    fn rbd_close(rbd_image_t) -> c_int;
    fn rbd_get_size(rbd_image_t, *mut u64) -> c_int;
    fn rbd_get_id(rbd_image_t, *mut c_char, usize) -> c_int;
    fn rbd_get_features(rbd_image_t, *mut u64) -> c_int;
    fn rbd_resize2(rbd_image_t, u64, bool, librbd_progress_fn_t, *mut c_void) -> c_int;
    fn rbd_lock_acquire(rbd_image_t, c_int) -> c_int;
    fn rbd_is_exclusive_lock_owner(rbd_image_t, *mut c_int) -> c_int;
    fn rbd_write(rbd_image_t, u64, usize, *const c_char) -> isize;
    fn rbd_diff_iterate2(
        rbd_image_t, *const c_char, u64, u64, u8, u8, diff_callback_t, *mut c_void,
    ) -> c_int;
    fn rbd_quiesce_watch(
        rbd_image_t, rbd_update_callback_t, rbd_update_callback_t, *mut c_void, *mut u64,
    ) -> c_int;
    fn rbd_quiesce_complete(rbd_image_t, u64, c_int);
    fn rbd_quiesce_unwatch(rbd_image_t, u64) -> c_int;
    fn rbd_flatten_with_progress(rbd_image_t, librbd_progress_fn_t, *mut c_void) -> c_int;
    fn rbd_get_parent(rbd_image_t, *mut rbd_linked_image_spec_t, *mut rbd_snap_spec_t) -> c_int;
    fn rbd_linked_image_spec_cleanup(*mut rbd_linked_image_spec_t);
    fn rbd_linked_image_spec_list_cleanup(*mut rbd_linked_image_spec_t, usize);
    fn rbd_snap_spec_cleanup(*mut rbd_snap_spec_t);
    fn rbd_list_children3(rbd_image_t, *mut rbd_linked_image_spec_t, *mut usize) -> c_int;
    fn rbd_metadata_get(rbd_image_t, *const c_char, *mut c_char, *mut usize) -> c_int;
    fn rbd_metadata_set(rbd_image_t, *const c_char, *const c_char) -> c_int;
    fn rbd_metadata_remove(rbd_image_t, *const c_char) -> c_int;

    fn rbd_snap_list(rbd_image_t, *mut rbd_snap_info_t, *mut c_int) -> c_int;
    fn rbd_snap_list_end(*mut rbd_snap_info_t);
    fn rbd_snap_get_namespace_type(rbd_image_t, u64, *mut c_int) -> c_int;
    fn rbd_snap_get_trash_namespace(rbd_image_t, u64, *mut c_char, usize) -> c_int;
    fn rbd_snap_create(rbd_image_t, *const c_char) -> c_int;
    fn rbd_snap_create2(rbd_image_t, *const c_char, u32, librbd_progress_fn_t, *mut c_void) -> c_int;
    fn rbd_snap_rename(rbd_image_t, *const c_char, *const c_char) -> c_int;
    fn rbd_snap_remove(rbd_image_t, *const c_char) -> c_int;
    fn rbd_snap_remove_by_id(rbd_image_t, u64) -> c_int;
    fn rbd_snap_is_protected(rbd_image_t, *const c_char, *mut c_int) -> c_int;
    fn rbd_snap_unprotect(rbd_image_t, *const c_char) -> c_int;
    fn rbd_snap_rollback(rbd_image_t, *const c_char) -> c_int;

    fn rbd_aio_create_completion(*mut c_void, rbd_callback_t, *mut rbd_completion_t) -> c_int;
    fn rbd_aio_get_return_value(rbd_completion_t) -> isize;
    fn rbd_aio_release(rbd_completion_t);
    fn rbd_aio_write(rbd_image_t, u64, usize, *const c_char, rbd_completion_t) -> c_int;
    fn rbd_aio_read(rbd_image_t, u64, usize, *mut c_char, rbd_completion_t) -> c_int;
    fn rbd_aio_write_zeroes(rbd_image_t, u64, usize, rbd_completion_t, c_int, c_int) -> c_int;
    fn rbd_aio_flush(rbd_image_t, rbd_completion_t) -> c_int;
}

impl Api {
    /// Major, minor, extra.
    pub fn version(&self) -> [c_int; 3] {
        let mut version = [0; 3];
        let [major, minor, extra] = &mut version;
        // SAFETY: three places for three numbers.
        unsafe { (self.rbd_version)(major, minor, extra) };
        version
    }
}

static API: OnceLock<Api> = OnceLock::new();

/// Opens the library the first time (10-30 ms), and never closes it: threads of its own may run in it until the end.
///
/// A failure is not remembered, so that a package installed meanwhile is found.
pub fn api() -> Result<&'static Api> {
    if let Some(api) = API.get() {
        return Ok(api);
    }
    // SAFETY: librbd's initialisers set up its own state only.
    let library = unsafe { Library::new("librbd.so.1") }.map_err(|error| {
        Error::unavailable("Ceph's client library is not installed on this host.")
            .because(error)
            .because("librbd.so.1 cannot be opened; run: apt-get install librbd1")
    })?;
    let api = Api::resolve(library).map_err(|error| {
        Error::unavailable("Ceph's client library on this host is too old.")
            .because(error)
            .because("librbd.so.1 lacks a function; Ceph 16 or later is needed")
    })?;
    give_back_large_blocks();
    Ok(API.get_or_init(|| api))
}

/// Makes the allocator map blocks of 1 MiB and more, and unmap them when they are freed.
///
/// By itself glibc stops to do so after the first such block, and keeps what uploads of any size had in flight for good:
/// measured, 100 MB instead of 20 after an upload of 256 MiB. That is a matter of the process rather than of Ceph,
/// but objects of 4 MiB are what it is about.
fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        const M_MMAP_THRESHOLD: c_int = -3;
        unsafe extern "C" {
            fn mallopt(option: c_int, value: c_int) -> c_int;
        }
        // SAFETY: glibc's own function, which may be called at any time and takes any value.
        unsafe { mallopt(M_MMAP_THRESHOLD, 1 << 20) };
    }
}

/// Where librbd wants to be told of progress and nobody listens. It calls a null pointer, so there must be one.
///
/// # Safety
/// Touches none of its arguments.
pub unsafe extern "C" fn no_progress(_done: u64, _total: u64, _arg: *mut c_void) -> c_int {
    0
}

/// Tells how far a long call has come, as parts done and all parts. Runs on librbd's threads.
pub type Told<'a> = dyn Fn(u64, u64) + Sync + 'a;

/// # Safety
/// `arg` is a `*const &Told`, and what it points to outlives the call that this is handed to.
pub unsafe extern "C" fn tell(done: u64, total: u64, arg: *mut c_void) -> c_int {
    // SAFETY: as said above.
    let told = unsafe { *arg.cast::<&Told<'_>>() };
    told(done, total);
    0
}

/// # Safety
/// `text` is null, or ends with a zero.
unsafe fn from_c(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as said above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn c_text(text: &str) -> Result<CString, Failed> {
    CString::new(text).map_err(|_| Failed { errno: EINVAL, call: "a name with a zero byte" })
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    /// As a C compiler lays them out on 64-bit Linux.
    #[test]
    fn structures_are_laid_out_as_in_c() {
        assert_eq!(size_of::<rbd_image_spec_t>(), 16);
        assert_eq!(size_of::<rbd_linked_image_spec_t>(), 48);
        assert_eq!(offset_of!(rbd_linked_image_spec_t, trash), 40);
        assert_eq!(size_of::<rbd_snap_spec_t>(), 24);
        assert_eq!(offset_of!(rbd_snap_spec_t, name), 16);
        assert_eq!(size_of::<rbd_snap_info_t>(), 24);
        assert_eq!(size_of::<rbd_trash_image_info_t>(), 40);
        assert_eq!(offset_of!(rbd_trash_image_info_t, deletion_time), 24);
    }
}
