use std::sync::Arc;

use umbel_api::Link;
use umbel_api::image::{Version, VersionList};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use crate::Images;

/// Newest first. 2.14, 2.16 and 2.18 are the image cache's, which there is none of; the list is upstream's for several
/// stores and no cache.
const MINORS: [u8; 16] = [17, 15, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];

pub async fn choose(_: Arc<Images>, req: Req) -> Result<Reply> {
    Ok(Reply::json(300, &versions(&req)))
}

pub async fn list(_: Arc<Images>, req: Req) -> Result<Reply> {
    Ok(Reply::json(200, &versions(&req)))
}

fn versions(req: &Req) -> VersionList {
    let versions = MINORS.iter().enumerate().map(|(at, minor)| Version {
        id: format!("v2.{minor}"),
        status: if at == 0 { "CURRENT" } else { "SUPPORTED" }.to_owned(),
        links: vec![Link::new("self", req.url("/v2/"))],
    });
    VersionList { versions: versions.collect() }
}
