//! Real QEMU processes, and the real guest image in them.

// Helpers outside of test functions may give up, too: what they meet fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conformance;
mod disks;
mod guests;
mod lifetimes;
mod live;
mod mirror;
mod rbd;
mod support;
mod throttle;
