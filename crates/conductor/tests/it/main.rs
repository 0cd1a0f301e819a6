//! The conductor with real agents on simulated hosts, and databases of one's own.

// clippy.toml allows these in tests, and clippy does not count the helpers of an integration test as such.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bus;
mod crash;
mod create;
mod hosts;
mod images;
mod life;
mod load;
mod swap;
mod volume_world;
mod volumes;
mod volumes_image;
mod world;
