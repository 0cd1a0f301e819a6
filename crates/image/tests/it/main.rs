//! The service through its router, over real databases and pools. What touches tables runs on all three engines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod caching;
mod cloud;
mod crash;
mod discovery;
mod downloads;
mod hostile;
mod images;
mod import_crash;
mod imports;
mod kills;
mod listing;
mod locations;
mod members;
mod metadef_items;
mod metadef_store;
mod metadefs;
mod patches;
mod regions;
mod store;
mod stores;
mod tasks;
mod tenancy;
mod twins;
mod uploads;
mod web;
mod web_places;
