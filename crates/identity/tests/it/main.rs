//! The service through its router, on real databases. What touches tables runs on all three engines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod application_credentials;
mod assignments;
mod bootstrap;
mod catalog;
mod cloud;
mod compliance;
mod credentials;
mod discovery;
mod extensions;
mod negative;
mod policy;
mod projects;
mod revocation;
mod roles;
mod tokens;
mod trusts;
mod users;
