//! The rules: who may do what with an image, and what then happens to rows and pools.

mod actions;
mod cache;
mod data;
mod deletion;
mod downloads;
mod flatten;
mod holders;
mod images;
mod import_fetch;
mod import_flow;
mod import_store;
mod imports;
mod intake;
mod locations;
mod members;
pub(crate) mod metadefs;
mod quotas;
mod range;
mod stores;
mod tags;
mod tasks;
mod twin_job;
mod twins;
mod uploads;
mod web_hash;
mod web_places;
mod work;

pub use data::UploadRequest;
pub(crate) use deletion::Deleting;
pub use deletion::Swept;
pub use downloads::Download;
pub(crate) use intake::drain;
pub use range::Range;
pub(crate) use twins::Twins;
pub(crate) use uploads::Uploads;
pub(crate) use work::Tokens;

use umbel_api::image::ImageStatus;
use umbel_auth::Visible;
use umbel_core::{Ctx, Error, Result, Scope};
use umbel_db::Tx;

use crate::model::{ImageId, Record};
use crate::store::{Image, images as rows};

/// Who asks, as far as images are concerned.
pub(crate) struct Caller {
    pub visible: Visible,
    pub project: Option<String>,
    pub admin: bool,
    /// A service that asks for itself.
    pub service: bool,
}

impl Caller {
    /// A service's token beside a user's widens nothing: compute looks an image up with both, and must find only what
    /// its user would. A service that asks for itself sees all.
    pub fn of(ctx: &Ctx) -> Result<Caller> {
        let Some(principal) = &ctx.principal else {
            return Err(Error::unauthorized("The request you have made requires authentication."));
        };
        let (admin, service) = (principal.is_admin(), principal.has_role("service"));
        let visible = match &principal.scope {
            _ if admin || service => Visible::All,
            Scope::Project { id, .. } => Visible::Project(id.clone()),
            _ => return Err(Error::forbidden("A token scoped to a project is needed.")),
        };
        Ok(Caller { visible, project: principal.project_id().map(str::to_owned), admin, service })
    }

    pub fn owns(&self, record: &Record) -> bool {
        self.project.is_some() && self.project == record.meta.owner
    }

    /// 403: whoever comes here sees the image already.
    pub fn may_change(&self, record: &Record) -> Result<()> {
        match self.admin || self.owns(record) {
            true => Ok(()),
            false => Err(Error::forbidden(format!("You are not permitted to modify image {}.", record.id))),
        }
    }

    /// The image, held against other changes until the transaction ends. 404 if the caller does not see it.
    pub async fn lock(&self, tx: &mut Tx<Image>, id: ImageId) -> Result<Record> {
        rows::lock(tx, &self.visible, id).await?.ok_or_else(|| not_found(id))
    }

    /// As [`Caller::lock`], if the caller may change it.
    pub async fn lock_own(&self, tx: &mut Tx<Image>, id: ImageId) -> Result<Record> {
        let record = self.lock(tx, id).await?;
        self.may_change(&record)?;
        Ok(record)
    }

    /// As [`Caller::lock_own`], and for services too as long as the image has no data: they bring those of servers and
    /// volumes, where no store can clone them, after the user's request has ended; and take away what they could not fill.
    pub async fn lock_unfilled(&self, tx: &mut Tx<Image>, id: ImageId) -> Result<Record> {
        let record = self.lock(tx, id).await?;
        match record.status {
            ImageStatus::Queued | ImageStatus::Saving if self.service => {}
            _ => self.may_change(&record)?,
        }
        Ok(record)
    }

    pub async fn get(&self, tx: &mut Tx<Image>, id: ImageId) -> Result<Record> {
        rows::get(tx, &self.visible, id).await?.ok_or_else(|| not_found(id))
    }
}

pub(crate) fn not_found(id: ImageId) -> Error {
    Error::not_found(format!("No image found with ID {id}"))
}
