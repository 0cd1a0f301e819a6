use std::sync::Arc;

use umbel_api::image::{CLEAR_TARGET, Cache, CachedImage};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::images::image_id;
use crate::Images;
use crate::store::cache::Cached;

pub async fn show(state: Arc<Images>, _: Req) -> Result<Reply> {
    let cached_images = state.cached().await?.iter().map(view).collect();
    Ok(Reply::json(200, &Cache { cached_images, queued_images: Vec::new() }))
}

pub async fn create(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.cache(&req.ctx, image_id(&req)?).await?;
    Ok(Reply::empty(202))
}

pub async fn delete(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.uncache(&req.ctx, image_id(&req)?).await?;
    Ok(Reply::empty(204))
}

pub async fn clear(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.clear_cache(req.header(CLEAR_TARGET).unwrap_or("")).await?;
    Ok(Reply::empty(204))
}

fn view(cached: &Cached) -> CachedImage {
    let since = cached.since.as_secs();
    CachedImage { image_id: cached.image, hits: 0, last_accessed: since, last_modified: since, size: cached.size }
}
