//! The service through its router, over real databases and pools. What touches tables runs on all three engines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod cloud;
mod volumes;
mod attachments;
mod moves;
mod manageable;
mod sources;
mod store;
