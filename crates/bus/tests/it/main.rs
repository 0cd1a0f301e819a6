//! Every transport passes the same suite; then what only the one between processes can do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broken;
mod images;
mod suite;
mod trust;
mod world;
