//! How an import brings data into a store: by renaming what is staged there, by cloning within a cluster, or by copying.

use std::sync::Arc;

use umbel_api::image::{DiskFormat, ImageStatus};
use umbel_core::{Error, Kind, Result};
use umbel_db::{read, tx};
use umbel_driver::Pool;
use umbel_workflow::Run;

use super::data::{Upload, storage_fault};
use super::import_flow::{Import, Source, lock_ours};
use super::intake::{Intake, Limits};
use super::uploads::{self, Flow};
use super::{flatten, stores};
use crate::Images;
use crate::model::{Claim, Data, FAILED_STORES, IMPORTING_STORES, Place, Record, SNAPSHOT, Stage};
use crate::store::{claims, images as rows, parts, stages};

/// What is brought, and where from.
struct Cargo {
    pool: Arc<dyn Pool>,
    disk: String,
    data: Data,
    format: Option<DiskFormat>,
    /// It can be had by another name: nobody needs it under its own any more.
    movable: bool,
}

/// How the data came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brought {
    Whole,
    /// They share with where they came from.
    Cloned,
}

impl Images {
    /// Brings the data into one store. Safe to run twice, also at once.
    pub(super) async fn bring(&self, state: &Import, run: &Run, store: &str) -> Result<()> {
        let target = self.store(Some(store))?.pool.clone();
        let claim = self.new_claim(state.image, store, state.image.to_string());
        let now = self.clock.now();
        let taken = tx!(self.db, "claim import", |tx| {
            let record = lock_ours(tx, state.image, run).await?;
            if record.places.iter().any(|place| place.store == store) {
                return Ok(None);
            }
            if stores::discarding(tx, state.image).await? {
                return Err(Error::unavailable("Older data of this image are still being removed from a store."));
            }
            claims::take(tx, &record, &claim, record.status, now).await?;
            Ok(Some((record, stages::get(tx, state.image).await?)))
        })?;
        // A crash came between the last run and its being noted.
        let Some((record, stage)) = taken else {
            return Ok(());
        };
        let cargo = self.cargo(state, &record, stage, store)?;
        let brought = self.move_in(&claim, &target, &cargo, run).await?;
        self.complete_store(state, run, &claim, &*target, cargo, brought).await
    }

    fn cargo(&self, state: &Import, record: &Record, stage: Option<Stage>, store: &str) -> Result<Cargo> {
        if state.source != Source::CopyImage {
            let stage = stage.ok_or_else(|| Error::conflict("The staged data are gone."))?;
            return Ok(Cargo {
                pool: self.store(Some(&stage.store))?.pool.clone(),
                disk: stage.disk.clone(),
                data: stage.data(),
                format: record.meta.disk_format,
                movable: state.left.len() == 1 && stage.store == store,
            });
        }
        let place = self.preferred(&record.places, &[]);
        let place = place.ok_or_else(|| Error::conflict("The image has no data to copy."))?;
        Ok(Cargo {
            pool: self.store(Some(&place.store))?.pool.clone(),
            disk: place.disk.clone(),
            data: record.data.clone(),
            format: place.format,
            movable: false,
        })
    }

    async fn move_in(&self, claim: &Claim, target: &Arc<dyn Pool>, cargo: &Cargo, run: &Run) -> Result<Brought> {
        let disk = claim.disk.as_str();
        if cargo.movable && rename(&**target, &cargo.disk, disk).await? {
            target.snapshot(disk, SNAPSHOT).await.map_err(storage_fault)?;
            return Ok(Brought::Whole);
        }
        let location = cargo.pool.location(&cargo.disk, SNAPSHOT);
        if target.can_clone(&location).await.is_ok() {
            // Left by a run that did not come to its end: the name is ours now.
            target.remove(disk).await?;
            target.clone_disk(&location, disk, 0).await.map_err(storage_fault)?;
            target.snapshot(disk, SNAPSHOT).await.map_err(storage_fault)?;
            return Ok(Brought::Cloned);
        }
        self.copy(claim, target, cargo, run).await?;
        Ok(Brought::Whole)
    }

    /// Reads and writes all of it, and compares what came with what is known of it.
    async fn copy(&self, claim: &Claim, target: &Arc<dyn Pool>, cargo: &Cargo, run: &Run) -> Result<()> {
        let Some(size) = cargo.data.size else {
            return Err(Error::conflict("The image's size is not known."));
        };
        let body = cargo.pool.read(&cargo.disk, Some(SNAPSHOT), 0, size).await?;
        let flow = Flow::new();
        let idle = self.config.upload_idle();
        let limits = Limits { announced: Some(size), most: size, idle, judged_later: false };
        let intake = Intake::new(body, flow.clone(), limits, None);
        let upload = Upload {
            claim: claim.clone(),
            format: cargo.format,
            pool: target.clone(),
            announced: Some(size),
            flow: flow.clone(),
            outcome: intake.outcome(),
            started: self.clock.now(),
            task: Some(run.id.clone()),
        };
        self.uploads.add(claim.image, &flow);
        let result = self.transfer(&upload, intake.into_stream()).await;
        self.uploads.remove(claim.image, &flow);
        let content = result?;
        if cargo.data.hash.as_ref().is_some_and(|hash| *hash != content.digests.hash) {
            target.remove(&claim.disk).await?;
            return Err(Error::conflict(
                "The data that were read are not those that were uploaded: their hashes differ.",
            ));
        }
        self.tell(&upload, &content, self.clock.now());
        Ok(())
    }

    async fn complete_store(
        &self,
        state: &Import,
        run: &Run,
        claim: &Claim,
        target: &dyn Pool,
        cargo: Cargo,
        brought: Brought,
    ) -> Result<()> {
        let (store, disk) = (claim.store.clone(), claim.disk.clone());
        let url = target.location(&disk, SNAPSHOT).to_string();
        let place = Place { store, disk, url, format: cargo.format };
        let copies = state.source == Source::CopyImage;
        let last = state.left.len() == 1;
        let now = self.clock.now();
        let flatten_id = self.rng.uuid().to_string();
        let done = tx!(self.db, "complete a store", |tx| {
            let record = lock_ours(tx, state.image, run).await?;
            let status = match copies || (state.all_must_succeed && !last) {
                true => record.status,
                false => ImageStatus::Active,
            };
            let data = (!copies).then_some(&cargo.data);
            if !claims::complete_import(tx, claim, data, &place, status, now).await? {
                return Ok(false);
            }
            parts::set_own(tx, state.image, IMPORTING_STORES, Some(&state.left[1..].join(","))).await?;
            parts::set_own(tx, state.image, FAILED_STORES, Some(&state.failed.join(","))).await?;
            if brought == Brought::Cloned {
                flatten::enqueue(tx, &flatten_id, state.image, &place, None, &run.request_id, now).await?;
            }
            Ok(true)
        })?;
        if done {
            self.twins.nudge();
            return Ok(());
        }
        // Another has taken over. If nobody has the disk, it is garbage.
        let record = read!(self.db, "look after a lost import", |tx| rows::get_any(tx, state.image).await)?;
        if record.is_none_or(|record| record.claim.is_none() && record.places.iter().all(|have| have != &place)) {
            target.remove(&claim.disk).await?;
        }
        Err(uploads::lost())
    }
}

/// False where the pool cannot.
async fn rename(pool: &dyn Pool, from: &str, to: &str) -> Result<bool> {
    let (old, new) = (pool.stat(from).await?.is_some(), pool.stat(to).await?.is_some());
    if !old {
        // Renamed by a run that did not come to its end.
        return match new {
            true => Ok(true),
            false => Err(Error::conflict("The staged data are gone.")),
        };
    }
    if new {
        // Half copied, before it was known that nobody else needs the staged data.
        pool.remove(to).await?;
    }
    match pool.rename(from, to).await {
        Ok(()) => Ok(true),
        Err(error) if error.is(Kind::NotImplemented) => Ok(false),
        Err(error) => Err(storage_fault(error)),
    }
}
