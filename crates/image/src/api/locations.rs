use std::sync::Arc;
use std::time::Duration;

use umbel_api::image::{ImageLocation, LocationMetadata, NewLocation};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req};

use super::images::image_id;
use crate::Images;

/// `wait`, an extension: seconds for which the answer may wait for a raw twin that is being made.
pub async fn list(state: Arc<Images>, req: Req) -> Result<Reply> {
    let wait = match req.query_pairs().into_iter().find(|(name, _)| name == "wait") {
        Some((_, text)) => text.parse().map_err(|_| Error::bad_request("wait is a number of seconds."))?,
        None => 0,
    };
    let places = state.locations(&req.ctx, image_id(&req)?, Duration::from_secs(wait)).await?;
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
