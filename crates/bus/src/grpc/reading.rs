use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;
use tonic::Streaming;
use umbel_core::{Error, Kind, Result};

use super::uplink::{LATE, SOON, Uplinks};
use super::wire;
use crate::ImageBytes;

/// Without a byte of an image.
const STALL: Duration = Duration::from_secs(60);

/// An image on its way to an agent. What can be read does not change but for the one case that a raw twin replaces it, so
/// what breaks off is begun anew, if it is of the same format, and passed over up to where it broke.
pub(super) struct Reading {
    uplinks: Arc<Uplinks>,
    image_id: String,
    /// What the bytes are that are given; known with the first of them.
    format: Option<String>,
    data: Option<Streaming<Bytes>>,
    given: usize,
    /// Of the bytes that come, those that were given before.
    skip: usize,
    over: bool,
}

impl Reading {
    pub async fn begin(uplinks: Arc<Uplinks>, image_id: &str) -> Result<ImageBytes> {
        let image_id = image_id.to_owned();
        let reading = Reading { uplinks, image_id, format: None, data: None, given: 0, skip: 0, over: false };
        Ok(match reading.next().await {
            None => ImageBytes { disk_format: None, bytes: Box::pin(stream::empty()) },
            Some((first, rest)) => {
                let (first, disk_format) = (first?, rest.format.clone());
                let bytes = stream::once(async move { Ok(first) }).chain(stream::unfold(rest, Reading::next));
                ImageBytes { disk_format, bytes: Box::pin(bytes) }
            }
        })
    }

    /// The next piece, from whichever conductor, within the patience that there is for each.
    async fn next(mut self) -> Option<(Result<Bytes>, Reading)> {
        if self.over {
            return None;
        }
        let deadline = Instant::now() + self.uplinks.patience;
        let mut wait = SOON;
        loop {
            let failed = match self.piece().await {
                Ok(piece) => {
                    let piece = piece?;
                    self.given += piece.len();
                    return Some((Ok(piece), self));
                }
                Err(error) => error,
            };
            self.data = None;
            let away = matches!(failed.kind(), Kind::Unavailable | Kind::Timeout);
            if !away || Instant::now() + wait > deadline {
                self.over = true;
                return Some((Err(failed), self));
            }
            tracing::debug!(image_id = self.image_id, cause = failed.cause(), "an image is begun anew: {failed}");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LATE);
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        let data = match &mut self.data {
            Some(data) => data,
            None => {
                let (format, data) = self.uplinks.open_image(&self.image_id).await?;
                if self.given == 0 {
                    self.format = format;
                } else if self.format != format {
                    return Err(Error::conflict(format!("The data of image {} were replaced.", self.image_id)));
                }
                self.skip = self.given;
                self.data.insert(data)
            }
        };
        loop {
            let message = tokio::time::timeout(STALL, data.message()).await;
            let message = message.map_err(|_| Error::new(Kind::Timeout, "An image stopped half-way."))?;
            let Some(mut piece) = message.map_err(|status| wire::error(&status))? else {
                return match self.skip {
                    0 => Ok(None),
                    _ => Err(Error::internal(format!("image {} has become shorter", self.image_id))),
                };
            };
            let known = self.skip.min(piece.len());
            self.skip -= known;
            piece.advance(known);
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}
