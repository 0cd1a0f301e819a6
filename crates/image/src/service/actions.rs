use umbel_api::image::ImageStatus;
use umbel_core::{Ctx, Error, Result};
use umbel_db::tx;

use super::Caller;
use crate::Images;
use crate::model::ImageId;
use crate::store::images as rows;

impl Images {
    /// Data stay but only an administrator may read them, until reactivation.
    pub async fn deactivate(&self, ctx: &Ctx, id: ImageId) -> Result<()> {
        self.switch(ctx, id, ImageStatus::Active, ImageStatus::Deactivated, "deactivate").await
    }

    pub async fn reactivate(&self, ctx: &Ctx, id: ImageId) -> Result<()> {
        self.switch(ctx, id, ImageStatus::Deactivated, ImageStatus::Active, "reactivate").await
    }

    /// Nothing to do is no failure; any other status is 403, as upstream has it.
    async fn switch(&self, ctx: &Ctx, id: ImageId, from: ImageStatus, to: ImageStatus, what: &str) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "switch image", |tx| {
            let record = caller.lock_own(tx, id).await?;
            if record.status == to {
                return Ok(());
            }
            if record.status != from {
                return Err(Error::forbidden(format!("Not allowed to {what} image in status '{}'", record.status)));
            }
            rows::set_status(tx, &record, to, now).await
        })
    }
}
