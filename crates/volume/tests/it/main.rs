//! The service through its router, over real databases and pools. What touches tables runs on all three engines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod attachments;
mod audit;
mod authorization;
mod backups;
mod books;
mod cloud;
mod crash;
mod flows;
mod groups;
mod held;
mod livemove;
mod logs;
mod manageable;
mod moves;
mod progress;
mod races;
mod sources;
mod store;
mod together;
mod volumes;
