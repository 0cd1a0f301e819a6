//! An agent on simulated hosts and pools, and on local files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crash;
mod faults;
mod images;
mod limits;
mod moves;
mod power;
mod snapshots;
mod spawn;
mod volumes;
mod world;
