use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use umbel_api::identity::keys::{Key, KeySet};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use crate::Identity;

pub(super) async fn list(identity: Arc<Identity>, _req: Req) -> Result<Reply> {
    let keys = crate::load_keys(&identity.db).await?;
    let keys = keys.iter().map(|key| Key {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        kid: key.id().to_owned(),
        x: URL_SAFE_NO_PAD.encode(key.as_bytes()),
    });
    Ok(Reply::json(200, &KeySet { keys: keys.collect() }))
}
