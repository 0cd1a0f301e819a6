use std::sync::Arc;

use umbel_api::image::{ImageLocation, LocationMetadata, NewLocation};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::images::image_id;
use crate::Images;

pub async fn list(state: Arc<Images>, req: Req) -> Result<Reply> {
    let places = state.locations(&req.ctx, image_id(&req)?).await?;
    let body: Vec<ImageLocation> = places
        .into_iter()
        .map(|place| ImageLocation {
            url: place.url,
            metadata: LocationMetadata { store: Some(place.store), format: place.format },
        })
        .collect();
    Ok(Reply::json(200, &body))
}

/// 202 as upstream answers, which goes on in the background; here the image is active already.
pub async fn create(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let id = image_id(&req)?;
    let body: NewLocation = req.json().await?;
    state.add_location(&req.ctx, id, &body).await?;
    Ok(Reply::empty(202))
}
