#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod actions;
mod bodies;
mod cloud;
mod create;
mod flavors;
mod hosts;
mod images;
mod keypairs;
mod lists;
mod networks;
mod policy;
mod quotas;
mod servers;
mod servers_store;
mod small_stores;
mod support;
mod volumes;
