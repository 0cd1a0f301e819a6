//! The compute service, version 2.1 with microversions 2.1 to 2.104.
//!
//! Bodies borrow what they show, and links are written straight into the answer: a page of 1,000 servers is the busiest
//! read of a cloud, and most of its bytes are links.

pub mod actions;
pub mod empty;
pub mod extensions;
pub mod external_events;
pub mod flavors;
pub mod gone;
pub mod hypervisors;
pub mod images;
pub mod keypairs;
pub mod limits;
mod links;
pub mod metadata;
pub mod networks;
pub mod quotas;
pub mod related;
pub mod server_actions;
pub mod server_fields;
pub mod servers;
pub mod services;
pub mod tags;
pub mod versions;
pub mod volume_attachments;
pub mod volume_proxy;
pub mod zones;

pub use links::{Links, NextLink};

use crate::Microversion;

pub const MIN: Microversion = Microversion::new(2, 1);
pub const MAX: Microversion = Microversion::new(2, 104);
