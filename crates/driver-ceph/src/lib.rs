//! Disks in Ceph: the [`Pool`](umbel_driver::Pool) trait over librbd, which is opened at run time.
//!
//! A [`CephCluster`] is a connection, a [`CephPool`] one of its pools. Control operations block, and run on at most sixteen
//! threads at a time, those that take as long as a disk is large on as many others; data move by librbd's asynchronous calls and hold no thread.
//!
//! Decisions:
//! * **Clone v2**, always. A snapshot then needs no protection, and an image can be removed while it has clones: the
//!   disk is marked and moved to Ceph's trash, where [`purge`](umbel_driver::Pool::purge) finds it when the last clone
//!   is gone. Refused: to flatten clones in order to delete their parent, which turns a deletion into a copy of
//!   everything.
//! * **Full pools refuse.** By default a write to a full pool waits, without end, for somebody to make room. Ours ask to be
//!   refused (`FULL_TRY`), and look at the pool's figures before they start.
//! * **Every request has a deadline** (`rados_osd_op_timeout`, `rados_mon_op_timeout`), since librados has none by
//!   itself. This concerns our own calls; a guest's disk is opened by its hypervisor, and waits as it should.
//!
//! What a cluster needs (pools, users, the monitor's interval) is in `docs/ceph.md`.

mod cluster;
mod differ;
mod doctor;
mod errno;
mod fence;
mod ffi;
mod figures;
mod limits;
mod make;
mod names;
mod patch;
mod point;
mod pool;
mod predecessor;
mod remove;
mod together;
mod transfer;
mod usage;

pub use cluster::{CephCluster, CephConfig};
pub use doctor::Finding;
pub use pool::CephPool;
