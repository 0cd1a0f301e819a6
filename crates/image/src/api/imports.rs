use std::sync::Arc;

use serde_json::Value;
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::images::image_id;
use crate::Images;

/// 202: the tasks of the image say how it goes on.
pub async fn create(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let id = image_id(&req)?;
    let body: Value = req.json().await?;
    state.import(&req.ctx, id, body, req.header("x-image-meta-store")).await?;
    Ok(Reply::empty(202))
}
