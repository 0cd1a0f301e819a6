//! HTTP on one side, the rules on the other: a handler reads the request, calls the service, writes the answer.

mod actions;
mod block_devices;
mod external_events;
mod flavor_access;
mod flavor_specs;
mod flavors;
mod hypervisors;
mod images;
mod input;
mod keypairs;
mod limits;
mod metadata;
mod misc;
mod networks;
mod quotas;
mod related;
mod server_actions;
mod server_create;
mod server_images;
mod server_query;
mod server_view;
mod servers;
mod services;
mod tags;
mod versions;
mod volume_attachments;
mod volume_proxy;
mod zones;

use std::sync::Arc;

use umbel_api::compute::{MAX, MIN};
use umbel_http::{FaultStyle, Routes, Service, Versions};

use crate::Compute;

/// The compute service, to be mounted at `/compute`.
pub fn service(state: Arc<Compute>) -> Service {
    let versions =
        Versions { service: "compute", legacy_header: Some("x-openstack-nova-api-version"), min: MIN, max: MAX };
    let mut routes = Routes::new(state);
    for mount in [
        versions::mount,
        servers::mount,
        metadata::mount,
        tags::mount,
        actions::mount,
        related::mount,
        flavors::mount,
        flavor_specs::mount,
        flavor_access::mount,
        keypairs::mount,
        limits::mount,
        quotas::mount,
        zones::mount,
        services::mount,
        hypervisors::mount,
        networks::mount,
        volume_attachments::mount,
        volume_proxy::mount,
        external_events::mount,
        images::mount,
        misc::mount,
    ] {
        routes = mount(routes);
    }
    Service::new("/compute", FaultStyle::Compute).versions(versions).project_below("/v2.1").routes(routes)
}
