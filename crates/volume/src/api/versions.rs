use std::sync::Arc;

use umbel_api::Link;
use umbel_api::volume::versions::{LIST, MediaType, V3, Version, Versions};
use umbel_api::volume::{MAX, MIN};
use umbel_core::Result;
use umbel_http::{Reply, Req, Routes};

use crate::Volumes;

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes.on(&LIST, list).on(&V3, v3)
}

fn current(root: &str) -> Versions {
    let mut described = Link::new("describedby", "https://docs.openstack.org/");
    described.media_type = Some("text/html".into());
    Versions {
        versions: vec![Version {
            id: "v3.0",
            status: "CURRENT",
            version: MAX.to_string(),
            min_version: MIN.to_string(),
            updated: "2023-08-31T00:00:00Z",
            links: vec![described, Link::new("self", format!("{root}/v3/"))],
            media_types: [MediaType {
                base: "application/json",
                media_type: "application/vnd.openstack.volume+json;version=3",
            }],
        }],
    }
}

/// Upstream answers 300 here, and every client knows it.
async fn list(_: Arc<Volumes>, req: Req) -> Result<Reply> {
    Ok(Reply::json(300, &current(&req.root)))
}

async fn v3(_: Arc<Volumes>, req: Req) -> Result<Reply> {
    Ok(Reply::json(200, &current(&req.root)))
}
