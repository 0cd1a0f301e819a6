//! On a real cluster, which `make ceph-up` starts and `UMBEL_TEST_CEPH_CONF` names.
//!
//! Most tests make pools of their own, as `client.admin`: the suites purge, and purging is for one at a time.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod conformance;
mod convert;
mod failures;
mod fencing;
mod objects;
mod stalls;
mod support;
