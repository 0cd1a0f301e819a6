use std::sync::Arc;

use umbel_api::Link;
use umbel_api::image::{Version, VersionList};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use crate::Images;

/// Newest first. 2.14 is the image cache's calls, which are answered. 2.16 (which host has what cached) and 2.18 (cleaning
/// and pruning) are about a cache's insides, which there are none of.
const MINORS: [u8; 17] = [17, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];

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
