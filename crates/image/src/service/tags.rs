use umbel_core::{Ctx, Error, Result};
use umbel_db::tx;

use super::Caller;
use crate::model::ImageId;
use crate::store::images as rows;
use crate::{Images, fields};

impl Images {
    /// A tag that is there already is no failure.
    pub async fn add_tag(&self, ctx: &Ctx, id: ImageId, tag: &str) -> Result<()> {
        fields::check_tag(tag)?;
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "add tag", |tx| {
            let record = caller.lock_own(tx, id).await?;
            let mut meta = record.meta.clone();
            if !meta.tags.insert(tag.to_owned()) {
                return Ok(());
            }
            fields::check_quotas(&meta, &self.config)?;
            rows::update(tx, &record, &meta, now).await
        })
    }

    pub async fn remove_tag(&self, ctx: &Ctx, id: ImageId, tag: &str) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "remove tag", |tx| {
            let record = caller.lock_own(tx, id).await?;
            let mut meta = record.meta.clone();
            if !meta.tags.remove(tag) {
                return Err(Error::not_found(format!("Image {id} has no tag '{tag}'.")));
            }
            rows::update(tx, &record, &meta, now).await
        })
    }
}
