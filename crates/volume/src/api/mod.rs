//! From requests to calls and back.

mod actions;
mod attachments;
mod backups;
mod connections;
mod encryption;
mod group_snapshots;
mod group_types;
mod groups;
mod info;
mod input;
mod lists;
mod manageable;
mod messages;
mod metadata;
mod moves;
mod pools;
mod qos_specs;
mod quotas;
mod services;
mod snapshots;
mod transfers;
mod types;
mod versions;
pub(crate) mod view;
mod volume_actions;
mod volumes;

use std::sync::Arc;

use umbel_api::volume::{MAX, MIN};
use umbel_http::{FaultStyle, Routes, Service, Versions};

use crate::Volumes;

/// The service as it is mounted: all routes, below `/volume`.
pub fn service(state: Arc<Volumes>) -> Service {
    let routes = Routes::new(state);
    let routes = versions::mount(routes);
    let routes = actions::mount(routes);
    let routes = volumes::mount(routes);
    let routes = snapshots::mount(routes);
    let routes = metadata::mount(routes);
    let routes = attachments::mount(routes);
    let routes = transfers::mount(routes);
    let routes = types::mount(routes);
    let routes = encryption::mount(routes);
    let routes = qos_specs::mount(routes);
    let routes = quotas::mount(routes);
    let routes = manageable::mount(routes);
    let routes = messages::mount(routes);
    let routes = services::mount(routes);
    let routes = pools::mount(routes);
    let routes = group_types::mount(routes);
    let routes = info::mount(routes);
    let routes = backups::mount(routes);
    let routes = groups::mount(routes);
    let routes = group_snapshots::mount(routes);
    let versions = Versions { service: "volume", legacy_header: None, min: MIN, max: MAX };
    Service::new("/volume", FaultStyle::Compute)
        .versions(versions)
        .project_below("/v3")
        .on_behalf()
        .routes(routes)
        .without_slashes()
}
