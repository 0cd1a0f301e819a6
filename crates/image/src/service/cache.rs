//! The image cache's lists.
//!
//! Upstream keeps copies of images on the disks of the hosts that serve them, because its downloads come from far. Here
//! images are cloned where they are, and a cache would be one more copy of what is near already. So an image that is
//! asked to be cached counts as cached at once; what is kept is only that somebody asked, so that clients which manage a
//! cache find the answers they expect. Nothing ever waits in the queue.

use umbel_api::image::ImageStatus;
use umbel_core::{Ctx, Error, Result};
use umbel_db::{read, tx};

use super::Caller;
use crate::Images;
use crate::model::ImageId;
use crate::store::cache::{self as rows, Cached};

impl Images {
    pub async fn cached(&self) -> Result<Vec<Cached>> {
        read!(self.db, "list cache", |tx| rows::list(tx).await)
    }

    /// 400 for an image without data.
    pub async fn cache(&self, ctx: &Ctx, id: ImageId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let since = self.clock.now();
        tx!(self.db, "cache image", |tx| {
            let record = caller.lock(tx, id).await?;
            if record.status != ImageStatus::Active {
                return Err(Error::bad_request("Only images with status active can be targeted for queueing"));
            }
            rows::insert(tx, &Cached { image: id, size: record.data.size.unwrap_or(0), since }).await
        })
    }

    /// 404 only if there is no such image either.
    pub async fn uncache(&self, ctx: &Ctx, id: ImageId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        tx!(self.db, "uncache image", |tx| {
            match rows::delete(tx, id).await? {
                true => Ok(()),
                false => caller.get(tx, id).await.map(drop),
            }
        })
    }

    /// `target` is `cache`, `queue`, or nothing for both.
    pub async fn clear_cache(&self, target: &str) -> Result<()> {
        match target.to_ascii_lowercase().as_str() {
            "queue" => Ok(()),
            "" | "cache" => tx!(self.db, "clear cache", |tx| rows::clear(tx).await),
            _ => Err(Error::bad_request(
                "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string.",
            )),
        }
    }
}
