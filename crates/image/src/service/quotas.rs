//! What a project may have, and what it has.

use umbel_api::image::{Usage, UsageEntry};
use umbel_core::{Ctx, Error, Kind, Result};
use umbel_db::{Tx, read};

use super::Caller;
use super::data::Aim;
use crate::Images;
use crate::store::Image;
use crate::store::images::{self as rows, Counted};

impl Images {
    /// How many bytes an image of this project may take in. 413 if too many are on their way already.
    pub(super) async fn room(&self, tx: &mut Tx<Image>, owner: Option<&str>, aim: Aim) -> Result<u64> {
        let mut most = self.config.max_image_size;
        let config = &self.config;
        let limits = [config.user_storage_quota, config.stage_quota, config.uploading_quota];
        let (Some(owner), true) = (owner, limits.iter().any(Option::is_some)) else {
            return Ok(most);
        };
        let have = rows::counted(tx, owner).await?;
        check(config.uploading_quota, have.uploading, "image_count_uploading")?;
        if let Some(quota) = config.user_storage_quota {
            most = most.min(quota.saturating_sub(have.stored));
        }
        if let (Some(quota), Aim::Stage) = (config.stage_quota, aim) {
            most = most.min(quota.saturating_sub(have.staged));
        }
        Ok(most)
    }

    /// 413 if the project has as many images as it may.
    pub(super) async fn check_count(&self, tx: &mut Tx<Image>, owner: Option<&str>) -> Result<()> {
        match (owner, self.config.count_quota) {
            (Some(owner), Some(quota)) => {
                let have = rows::counted(tx, owner).await?;
                check(Some(quota), have.images, "image_count_total")
            }
            _ => Ok(()),
        }
    }

    /// Of the caller's project.
    pub async fn usage(&self, ctx: &Ctx) -> Result<Usage> {
        let caller = Caller::of(ctx)?;
        let have = match &caller.project {
            Some(project) => read!(self.db, "count usage", |tx| rows::counted(tx, project).await)?,
            None => Counted::default(),
        };
        let config = &self.config;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let entry = |usage: u64, limit: Option<u64>| UsageEntry {
            usage,
            limit: limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        };
        Ok(Usage {
            image_size_total: entry(mib(have.stored), config.user_storage_quota.map(|bytes| bytes >> 20)),
            image_stage_total: entry(mib(have.staged), config.stage_quota.map(|bytes| bytes >> 20)),
            image_count_total: entry(have.images, config.count_quota),
            image_count_uploading: entry(have.uploading, config.uploading_quota),
        })
    }
}

fn check(quota: Option<u64>, have: u64, name: &str) -> Result<()> {
    match quota {
        Some(quota) if have >= quota => {
            let message = format!("Project is over a limit for {name}: limit {quota}, current {have}, requested 1.");
            Err(Error::new(Kind::TooLarge, message))
        }
        _ => Ok(()),
    }
}
