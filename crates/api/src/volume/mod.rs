//! The volume service, version 3 with microversions 3.0 to 3.71.
//!
//! Paths are without the project's id: the router takes it away where a client's catalog has it.

pub mod actions;
pub mod versions;

use crate::Microversion;

pub const MIN: Microversion = Microversion::new(3, 0);
pub const MAX: Microversion = Microversion::new(3, 71);
