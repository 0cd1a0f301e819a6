//! Pieces of work that a conductor asks for: snapshots of a server's disks, and their way to the image service.
//!
//! Each runs to its end whether somebody waits for it or not, since a guest whose file systems are held must be let go,
//! and an upload that is nearly done should not begin anew. Whoever asks again finds it under way or done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use umbel_bus::{DiskRef, SnapshotAt, TaskReply};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{Pool, Power};
use uuid::Uuid;

use crate::agent::Agent;

/// A guest that does not thaw is asked so often, at these distances.
const THAWS: u32 = 10;
const THAW_AGAIN: Duration = Duration::from_secs(3);

/// How an upload ended. Errors are not `Clone`, so it is kept in parts.
type Ended = Option<Result<(), (Kind, String)>>;

/// Uploads under way, by image.
pub(crate) type Exports = HashMap<String, watch::Receiver<Ended>>;

/// Guests that are held until somebody says otherwise, each with what ends it in time.
pub(crate) type Holds = HashMap<Uuid, Hold>;

pub(crate) struct Hold {
    limit: AbortHandle,
}

/// A snapshot that is asked for.
pub(crate) struct Wanted {
    pub server_id: Uuid,
    pub disks: Vec<DiskRef>,
    pub snapshot: String,
    pub quiesce: bool,
}

/// An upload that is asked for.
pub(crate) struct Export {
    pub disk: DiskRef,
    pub snapshot: String,
    pub image_id: String,
}

/// Runs on, also when nobody waits any more.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(|error| Error::internal(error).because("a task of an agent"))?
}

pub(crate) async fn snapshot(agent: Arc<Agent>, wanted: Wanted) -> Result<TaskReply> {
    to_the_end(async move {
        if wanted.disks.is_empty() {
            return Err(Error::bad_request("A snapshot of no disks was asked for."));
        }
        // No start and no attachment meanwhile: a disk may change its file now.
        let _turn = agent.turns.of(wanted.server_id).await;
        if !agent.has_snapshots(&wanted).await? {
            let frozen = agent.quiesce(wanted.server_id, wanted.quiesce).await?;
            let made = agent.make_snapshots(&wanted).await;
            if frozen {
                agent.thaw(wanted.server_id).await;
            }
            made?;
        }
        agent.locations(&wanted).await
    })
    .await
}

/// Holds a guest for others. Asked again, the time begins anew.
pub(crate) async fn freeze(agent: Arc<Agent>, id: Uuid, limit: Duration, required: bool) -> Result<TaskReply> {
    to_the_end(async move {
        let _turn = agent.turns.of(id).await;
        if !matches!(agent.hypervisor.state(id).await?, Some(Power::Running | Power::Paused)) {
            return Ok(TaskReply::Held(true));
        }
        if !agent.quiesce(id, required).await? {
            return Ok(TaskReply::Held(false));
        }
        let late = agent.clone();
        let limit = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            tracing::warn!(server = %id, "a guest that was held is let go: nobody did so in time");
            late.holds.lock().remove(&id);
            late.thaw(id).await;
        });
        if let Some(before) = agent.holds.lock().insert(id, Hold { limit: limit.abort_handle() }) {
            before.limit.abort();
        }
        Ok(TaskReply::Held(true))
    })
    .await
}

pub(crate) async fn thaw(agent: Arc<Agent>, id: Uuid) -> Result<TaskReply> {
    to_the_end(async move {
        let hold = agent.holds.lock().remove(&id);
        let held = hold.is_some();
        if let Some(hold) = hold {
            hold.limit.abort();
        }
        if matches!(agent.hypervisor.state(id).await?, Some(Power::Running | Power::Paused)) {
            // Of one that nobody holds there is nothing to undo; but an earlier agent may have begun it.
            match agent.hypervisor.thaw(id).await {
                Err(error) if held => {
                    tracing::debug!(server = %id, cause = error.cause(), "tried again: {error}");
                    agent.thaw(id).await;
                }
                Err(error) => tracing::debug!(server = %id, cause = error.cause(), "nothing to thaw: {error}"),
                Ok(()) => {}
            }
            return Ok(TaskReply::Held(held));
        }
        Ok(TaskReply::Held(true))
    })
    .await
}

pub(crate) async fn remove_snapshot(agent: Arc<Agent>, disks: Vec<DiskRef>, snapshot: String) -> Result<TaskReply> {
    to_the_end(async move {
        for disk in disks {
            match agent.pool(&disk.pool)?.remove_snapshot(&disk.name, &snapshot).await {
                // The disk went, and its snapshots with it.
                Err(error) if error.is(Kind::NotFound) => {}
                outcome => outcome?,
            }
        }
        Ok(TaskReply::Done)
    })
    .await
}

/// Begins an upload, or joins the one for the same image that is under way.
pub(crate) async fn export(agent: Arc<Agent>, export: Export) -> Result<TaskReply> {
    let mut ended = agent.clone().begin_export(export);
    let ended = ended.wait_for(Option::is_some).await.map_err(|error| Error::internal(error).because("an upload"))?;
    match &*ended {
        Some(Err((kind, message))) => Err(Error::new(*kind, message.clone())),
        _ => Ok(TaskReply::Done),
    }
}

impl Agent {
    /// Whether an earlier try made them all.
    async fn has_snapshots(&self, wanted: &Wanted) -> Result<bool> {
        for disk in &wanted.disks {
            let info = self.pool(&disk.pool)?.stat(&disk.name).await?;
            let info = info.ok_or_else(|| Error::not_found(format!("There is no disk '{}'.", disk.name)))?;
            if !info.snapshots.contains(&wanted.snapshot) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has the guest hold its file systems; whether it does. A guest that does not run holds them anyway.
    async fn quiesce(&self, id: Uuid, required: bool) -> Result<bool> {
        if !matches!(self.hypervisor.state(id).await?, Some(Power::Running | Power::Paused)) {
            return Ok(false);
        }
        match self.hypervisor.freeze(id).await {
            Ok(file_systems) => {
                tracing::debug!(server = %id, file_systems, "a guest holds its file systems");
                Ok(true)
            }
            // Whatever it began must not last.
            Err(error) if required => {
                self.thaw(id).await;
                let text = format!("The guest cannot be quiesced: {}", error.message());
                Err(Error::new(Kind::Conflict, text).because(error.cause().unwrap_or("no cause was told")))
            }
            Err(error) => {
                tracing::debug!(server = %id, cause = error.cause(), "a snapshot without quiescing: {error}");
                if !error.is(Kind::Unavailable) {
                    self.thaw(id).await;
                }
                Ok(false)
            }
        }
    }

    /// Tries until it works, behind the caller's back if it takes long: a guest must not stand still for ever.
    async fn thaw(&self, server_id: Uuid) {
        let Err(error) = self.hypervisor.thaw(server_id).await else { return };
        tracing::warn!(server = %server_id, cause = error.cause(), "a guest does not thaw yet: {error}");
        let hypervisor = self.hypervisor.clone();
        tokio::spawn(async move {
            for _ in 0..THAWS {
                tokio::time::sleep(THAW_AGAIN).await;
                match hypervisor.thaw(server_id).await {
                    Err(error) if !error.is(Kind::NotFound) => {
                        tracing::debug!(server = %server_id, cause = error.cause(), "a guest does not thaw: {error}");
                    }
                    _ => return,
                }
            }
            tracing::error!(server = %server_id, "a guest's file systems stay frozen: its agent does not thaw them");
        });
    }

    /// One point in time in each pool; over several pools it is one if the guest holds its file systems.
    async fn make_snapshots(&self, wanted: &Wanted) -> Result<()> {
        let mut pools: Vec<(&Arc<dyn Pool>, Vec<&str>)> = Vec::new();
        for disk in &wanted.disks {
            let pool = self.pool(&disk.pool)?;
            match pools.iter_mut().find(|(other, _)| other.name() == pool.name()) {
                Some((_, disks)) => disks.push(&disk.name),
                None => pools.push((pool, vec![&disk.name])),
            }
        }
        for (pool, disks) in pools {
            match disks[..] {
                [disk] => pool.snapshot(disk, &wanted.snapshot).await?,
                _ => {
                    let all: Vec<(&str, &str)> = disks.iter().map(|disk| (*disk, &*wanted.snapshot)).collect();
                    pool.snapshot_together(&all).await?;
                }
            }
        }
        Ok(())
    }

    async fn locations(&self, wanted: &Wanted) -> Result<TaskReply> {
        let mut made = Vec::with_capacity(wanted.disks.len());
        for disk in &wanted.disks {
            let pool = self.pool(&disk.pool)?;
            let location = pool.location(&disk.name, &wanted.snapshot).to_string();
            let size_bytes = pool.snapshot_size(&disk.name, &wanted.snapshot).await?;
            made.push(SnapshotAt { location, size_bytes });
        }
        Ok(TaskReply::Snapshot(made))
    }

    fn begin_export(self: Arc<Self>, export: Export) -> watch::Receiver<Ended> {
        let mut exports = self.exports.lock();
        if let Some(under_way) = exports.get(&export.image_id) {
            return under_way.clone();
        }
        let (sender, receiver) = watch::channel(None);
        exports.insert(export.image_id.clone(), receiver.clone());
        drop(exports);
        tokio::spawn(async move {
            // Out of the list however it ends, so that a panic does not keep later tries away.
            let _leave = Leave { agent: &self, image_id: &export.image_id };
            let outcome = self.export(&export).await;
            if let Err(error) = &outcome {
                tracing::warn!(image = export.image_id, cause = error.cause(), "an upload failed: {error}");
            }
            let _ = sender.send(Some(outcome.map_err(|error| (error.kind(), error.message().to_owned()))));
        });
        receiver
    }

    async fn export(&self, export: &Export) -> Result<()> {
        let _turn = self.imports.acquire().await.map_err(Error::internal)?;
        let pool = self.pool(&export.disk.pool)?;
        let size = pool.snapshot_size(&export.disk.name, &export.snapshot).await?;
        let bytes = pool.read(&export.disk.name, Some(&export.snapshot), 0, size).await?;
        self.images.upload(&export.image_id, size, bytes).await
    }
}

struct Leave<'a> {
    agent: &'a Agent,
    image_id: &'a str,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.agent.exports.lock().remove(self.image_id);
    }
}
