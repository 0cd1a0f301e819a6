use std::sync::Arc;

use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::images::image_id;
use crate::Images;

pub async fn create(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.add_tag(&req.ctx, image_id(&req)?, req.param("tag")?).await?;
    Ok(Reply::empty(204))
}

pub async fn delete(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.remove_tag(&req.ctx, image_id(&req)?, req.param("tag")?).await?;
    Ok(Reply::empty(204))
}
