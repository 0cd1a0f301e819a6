//! The drivers of this crate, held to the suites that every driver passes.

// clippy.toml allows these in tests, and clippy does not count the helpers of an integration test as such.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod convert;
mod live;
mod local;
mod simulated;
