//! Guests in QEMU processes that this crate starts and speaks to by QMP; no daemon between.
//!
//! # Decisions
//! * **QEMU itself rather than libvirt**: a start costs a third to a quarter, there is no second truth about what runs, and
//!   nothing to install but QEMU. What libvirt does for a guest and we need is done here: adopting guests, the reasons
//!   of their ends, bounded console logs, a sandboxed process.
//! * **The process table is the truth about what runs.** Each guest's command line holds the path of its directory, so a
//!   new driver finds its guests by reading `/proc` once. No pid file: one can be stale, name a process that is somebody
//!   else's by now, or be missing because we died between spawning and writing it.
//! * **The definition is written before the process exists**, so a process without a definition cannot be.
//! * **QEMU does not exit when the guest powers off** (`-action shutdown=pause`); the driver ends it after it has heard
//!   why. A guest that powers off while no driver listens is therefore found as what it is, and a process that is gone
//!   without our doing has crashed.
//! * **One task per guest owns its QMP stream** and does one thing at a time; callers send it requests. The task of a guest
//!   that is off waits for requests and costs a kilobyte.
//! * **The QMP socket listens before QEMU exists** and is handed down as its standard input: connecting needs no retries,
//!   and the descriptor cannot leak into other children, as one that merely lacks close-on-exec would.
//! * **What QEMU lists is the truth about a running guest's disks**: names of devices hold serials ([`drive`]), and the
//!   definition follows. It is written after a disk came or went, and mended from QEMU's list when a guest is adopted.
//! * **Files of disks are named as they are, links resolved**, when QEMU opens them: [`umbel_driver::LiveDisks`] is asked
//!   by the names that the pool's files have.
//! * **A process group, not a session, of its own** keeps a terminal's signals from guests. `setsid` would need code between
//!   fork and exec, which is unsafe, and a fork of our whole address space where `posix_spawn` does without.

mod command;
mod console;
mod drive;
mod driver;
mod ffi;
mod guest_agent;
mod home;
mod host;
mod hypervisor;
mod live;
mod machine;
mod mirror;
mod plugging;
mod process;
mod qmp;
mod switch;
mod throttle;

pub use host::Accelerator;
pub use hypervisor::{Options, QemuHypervisor};
