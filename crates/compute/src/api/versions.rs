use std::sync::Arc;

use umbel_api::Link;
use umbel_api::compute::versions::{LIST, MediaType, OneVersion, V20, V21, Version, Versions};
use umbel_api::compute::{MAX, MIN};
use umbel_core::Result;
use umbel_http::{Reply, Req, Routes};

use crate::Compute;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&LIST, list).on(&V20, v20).on(&V21, v21)
}

/// The version of before microversions. Tempest wants it in the list, and first.
fn old(root: &str) -> Version {
    Version {
        id: "v2.0",
        status: "DEPRECATED",
        version: String::new(),
        min_version: String::new(),
        updated: "2011-01-21T11:33:21Z",
        links: vec![Link::new("self", format!("{root}/v2/"))],
        media_types: None,
    }
}

fn current(root: &str) -> Version {
    Version {
        id: "v2.1",
        status: "CURRENT",
        version: MAX.to_string(),
        min_version: MIN.to_string(),
        updated: "2013-07-23T11:33:21Z",
        links: vec![Link::new("self", format!("{root}/v2.1/"))],
        media_types: None,
    }
}

fn alone(mut version: Version, media_type: &'static str) -> Reply {
    version.media_types = Some([MediaType { base: "application/json", media_type }]);
    let mut described = Link::new("describedby", "http://docs.openstack.org/");
    described.media_type = Some("text/html".into());
    version.links.push(described);
    Reply::json(200, &OneVersion { version })
}

async fn list(_: Arc<Compute>, req: Req) -> Result<Reply> {
    Ok(Reply::json(200, &Versions { versions: vec![old(&req.root), current(&req.root)] }))
}

async fn v20(_: Arc<Compute>, req: Req) -> Result<Reply> {
    Ok(alone(old(&req.root), "application/vnd.openstack.compute+json;version=2"))
}

async fn v21(_: Arc<Compute>, req: Req) -> Result<Reply> {
    Ok(alone(current(&req.root), "application/vnd.openstack.compute+json;version=2.1"))
}
