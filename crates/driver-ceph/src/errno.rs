//! What librados and librbd answer when they refuse: Linux error numbers, negated.

use std::ffi::c_int;
use std::fmt;
use std::io;

use umbel_core::{Error, Kind};

pub const EPERM: i32 = 1;
pub const ENOENT: i32 = 2;
pub const EIO: i32 = 5;
pub const EAGAIN: i32 = 11;
pub const EACCES: i32 = 13;
pub const EBUSY: i32 = 16;
pub const EEXIST: i32 = 17;
pub const EINVAL: i32 = 22;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;
pub const ERANGE: i32 = 34;
pub const ENOTEMPTY: i32 = 39;
pub const ENOTCONN: i32 = 107;
/// Also how Ceph spells that this client is blocklisted.
pub const ESHUTDOWN: i32 = 108;
pub const ETIMEDOUT: i32 = 110;
pub const ECONNREFUSED: i32 = 111;
pub const EHOSTUNREACH: i32 = 113;
pub const EDQUOT: i32 = 122;

/// A call that was refused. Becomes an [`Error`] once it is known what it was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    pub errno: i32,
    pub call: &'static str,
}

impl Failed {
    /// The answer of `call` if it is not negative.
    pub fn check(call: &'static str, answer: c_int) -> Result<usize, Failed> {
        usize::try_from(answer).map_err(|_| Failed { errno: answer.saturating_neg(), call })
    }

    pub fn is(self, errno: i32) -> bool {
        self.errno == errno
    }

    fn kind(self) -> Kind {
        match self.errno {
            ENOENT => Kind::NotFound,
            EEXIST => Kind::Conflict,
            ENOSPC | EDQUOT => Kind::NoSpace,
            ETIMEDOUT => Kind::Timeout,
            // Neither key nor caps are the caller's: to them, the pool is out of order.
            EPERM | EACCES | ENOTCONN | ESHUTDOWN | ECONNREFUSED | EHOSTUNREACH => Kind::Unavailable,
            // Another client holds the image's lock, or watches it, or clones stand in the way.
            EAGAIN | EBUSY | EROFS | ENOTEMPTY => Kind::Busy,
            _ => Kind::Internal,
        }
    }

    /// `subject` opens the sentence that the caller reads: `Disk 'a' of pool 'vms'`.
    pub fn about(self, subject: &str) -> Error {
        let kind = self.kind();
        let cause = format!("{subject}: {self}");
        let message = match kind {
            Kind::NotFound => format!("{subject} does not exist."),
            Kind::Conflict => format!("{subject} exists already."),
            Kind::NoSpace => format!("{subject}: the pool is full."),
            Kind::Timeout => format!("{subject}: the storage cluster did not answer in time."),
            Kind::Unavailable => format!("{subject}: the storage cluster is not available."),
            Kind::Busy => format!("{subject} is in use."),
            _ => return Error::internal(cause),
        };
        Error::new(kind, message).because(cause)
    }
}

/// For the log.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, io::Error::from_raw_os_error(self.errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_kinds() {
        let check = |errno: c_int, kind: Kind| {
            let error = Failed::check("rbd_x", -errno).unwrap_err().about("Disk 'a'");
            assert_eq!(error.kind(), kind, "{errno}");
            assert!(!error.message().contains("rbd_x"), "the call is for the log");
            assert!(error.cause().unwrap_or_default().contains("rbd_x"));
        };
        check(ENOENT, Kind::NotFound);
        check(EEXIST, Kind::Conflict);
        check(ENOSPC, Kind::NoSpace);
        check(EDQUOT, Kind::NoSpace);
        check(ETIMEDOUT, Kind::Timeout);
        check(ENOTCONN, Kind::Unavailable);
        check(ESHUTDOWN, Kind::Unavailable);
        check(EACCES, Kind::Unavailable);
        check(EBUSY, Kind::Busy);
        check(EINVAL, Kind::Internal);
        check(EIO, Kind::Internal);
        assert_eq!(Failed::check("rbd_x", 3), Ok(3));
    }
}
