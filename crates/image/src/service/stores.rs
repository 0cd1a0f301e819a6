//! One image in several stores: which are meant, and how it leaves one.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use umbel_api::image::ImageStatus;
use umbel_core::{Ctx, Error, Result};
use umbel_db::{Tx, read, tx};
use umbel_workflow::{Flow, NewFlow, Next, Run, Step};

use super::Caller;
use crate::Images;
use crate::model::ImageId;
use crate::store::{Image, images as rows, locations};

impl Images {
    /// Takes the data away from one store; clones that live on them do not hinder.
    ///
    /// # Errors
    /// 409 if the store is not ours or the image is not active; 404 if it is not in the store; 403 for the last store,
    /// where deleting the image is meant, and for a protected image.
    pub async fn delete_from_store(&self, ctx: &Ctx, store: &str, id: ImageId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let known = self.stores.iter().any(|known| known.name == store);
        if !known {
            let message = format!("The selected store {store} is not available on this node.");
            return Err(Error::conflict(message));
        }
        let now = self.clock.now();
        tx!(self.db, "delete from store", |tx| {
            let record = caller.lock_own(tx, id).await?;
            if record.meta.protected {
                return Err(Error::forbidden(format!("Image {id} is protected and cannot be deleted.")));
            }
            if record.status != ImageStatus::Active {
                let message = "It's not allowed to remove image data from store if image status is not 'active'";
                return Err(Error::conflict(message));
            }
            let place = record
                .places
                .iter()
                .find(|place| place.store == store)
                .ok_or_else(|| Error::not_found(format!("Image {id} is not stored in store {store}.")))?;
            if record.places.len() == 1 {
                let message = "Cannot delete image data from the only store containing it. \
                    Consider deleting the image instead.";
                return Err(Error::forbidden(message));
            }
            if discarding(tx, id).await? {
                return Err(Error::conflict("Data of this image are still being removed from a store; try again."));
            }
            locations::delete(tx, id, store).await?;
            rows::set_status(tx, &record, record.status, now).await?;
            let state = Discard { store: store.to_owned(), disk: place.disk.clone() };
            let flow = NewFlow {
                id: &id.to_string(),
                kind: DiscardFlow::KIND,
                first_step: DiscardStep::Remove.name(),
                state: &state,
                request_id: &ctx.request_id,
                now,
                deadline: now.plus(DiscardFlow::DEADLINE),
            };
            umbel_workflow::enqueue(tx, flow).await
        })?;
        self.nudge();
        Ok(())
    }
}

/// Whether a disk of this image's name is still being taken out of some store: until then no other may be made there.
pub(super) async fn discarding(tx: &mut Tx<Image>, id: ImageId) -> Result<bool> {
    umbel_workflow::pending(tx, DiscardFlow::KIND, &id.to_string()).await
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Discard {
    store: String,
    disk: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiscardStep {
    Remove,
}

impl Step for DiscardStep {
    const ALL: &'static [Self] = &[DiscardStep::Remove];

    fn name(self) -> &'static str {
        "remove"
    }
}

/// Takes a disk away that no image has any more.
pub(super) struct DiscardFlow(pub Arc<Images>);

#[async_trait]
impl Flow for DiscardFlow {
    type Schema = Image;
    type State = Discard;
    type Step = DiscardStep;

    const KIND: &'static str = "image_discard";

    /// Never given up within reason: a disk that is left would be an orphan.
    const DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

    async fn run(&self, _: DiscardStep, state: &mut Discard, run: &Run) -> Result<Next<DiscardStep>> {
        let images = &self.0;
        let id: ImageId = run.id.parse()?;
        // Nothing writes there as long as this flow is; a place that is there all the same is somebody's data.
        let record = read!(images.db, "look before discarding", |tx| rows::get_any(tx, id).await)?;
        let used = record.is_some_and(|record| record.places.iter().any(|place| place.store == state.store));
        if !used && let Err(error) = images.store(Some(&state.store))?.pool.remove(&state.disk).await {
            tracing::warn!(image = %id, store = state.store, cause = error.cause(), "removed later: {error}");
            return Ok(Next::Wait(Duration::from_secs(15)));
        }
        Ok(Next::Done)
    }

    async fn undo(&self, _: DiscardStep, _: &mut Discard, _: &Run) -> Result<()> {
        Ok(())
    }

    async fn failed(&self, state: &mut Discard, error: &Error, run: &Run) -> Result<()> {
        tracing::error!(image = run.id, store = state.store, cause = error.cause(), "a disk is left behind: {error}");
        Ok(())
    }
}
