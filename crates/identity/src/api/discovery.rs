use std::sync::Arc;

use umbel_api::identity::discovery::{Version, VersionValues, Versions};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::one;
use crate::Identity;

/// 300, with the versions one deeper than in any other service. Clients that would take the JSON home document
/// (`application/json-home`) get this too: none that is in use needs it.
pub(super) async fn list(_identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let version = Version::v3(&req.root);
    let location = req.url("/v3/");
    let body = Versions { versions: VersionValues { values: vec![version] } };
    Ok(Reply::json(300, &body).header("location", location).header("vary", "X-Auth-Token"))
}

pub(super) async fn show(_identity: Arc<Identity>, req: Req) -> Result<Reply> {
    Ok(one(200, "version", Version::v3(&req.root)).header("vary", "X-Auth-Token"))
}
