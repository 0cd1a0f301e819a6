use std::sync::Arc;

use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::images::image_id;
use crate::Images;

pub async fn deactivate(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.deactivate(&req.ctx, image_id(&req)?).await?;
    Ok(Reply::empty(204))
}

pub async fn reactivate(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.reactivate(&req.ctx, image_id(&req)?).await?;
    Ok(Reply::empty(204))
}
