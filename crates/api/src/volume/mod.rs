//! The volume service, version 3 with microversions 3.0 to 3.71.
//!
//! Paths are without the project's id: the router takes it away where a client's catalog has it.

pub mod actions;
pub mod attachments;
pub mod backups;
pub mod group_snapshots;
pub mod group_types;
pub mod groups;
pub mod info;
pub mod manageable;
pub mod messages;
pub mod moves;
pub mod pools;
pub mod qos_specs;
pub mod quotas;
pub mod services;
pub mod snapshots;
pub mod transfers;
pub mod types;
pub mod versions;
pub mod volumes;

use crate::Microversion;

pub const MIN: Microversion = Microversion::new(3, 0);
pub const MAX: Microversion = Microversion::new(3, 71);
