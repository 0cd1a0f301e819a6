//! The one place where the compiler cannot see that a descriptor is valid.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime watch the descriptor until it is readable.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is an open descriptor that belongs to it alone; it moves into the `AsyncFd`, which takes it
    // off the reactor before it closes it, and nothing else can close or replace it meanwhile.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
