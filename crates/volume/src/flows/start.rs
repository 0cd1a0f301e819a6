//! What flows have in common.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use umbel_core::{Error, Kind, Result, Timestamp};
use umbel_db::{Tx, args, tx};
use umbel_driver::Progress;
use umbel_workflow::{Flow, NewFlow, Step};

use crate::Volumes;
use crate::model::{VolumeId, VolumeRow};
use crate::store::{Volume, volumes};

/// Writes a flow's row in the transaction of what it works on. Whoever calls nudges after the commit. One of this kind
/// that works on it already is left as it is; requests, which want one of their own, [`begin`].
pub(crate) async fn start<F: Flow<Schema = Volume>>(
    tx: &mut Tx<Volume>,
    id: impl Display,
    step: F::Step,
    state: &F::State,
    request_id: &str,
    now: Timestamp,
) -> Result<()> {
    let flow = NewFlow {
        id: &id.to_string(),
        kind: F::KIND,
        first_step: step.name(),
        state,
        request_id,
        now,
        deadline: now.plus(F::DEADLINE),
    };
    umbel_workflow::enqueue(tx, flow).await
}

/// As [`start`], for what can be asked for again.
///
/// # Errors
/// `Conflict` while an earlier one of this kind has something left to do, though its thing is free already.
pub(crate) async fn begin<F: Flow<Schema = Volume>>(
    tx: &mut Tx<Volume>,
    id: VolumeId,
    step: F::Step,
    state: &F::State,
    request_id: &str,
    now: Timestamp,
) -> Result<()> {
    if umbel_workflow::pending(tx, F::KIND, &id.to_string()).await? {
        return Err(Error::conflict(format!("An earlier operation on volume {id} is not quite over; try again.")));
    }
    start::<F>(tx, id, step, state, request_id, now).await
}

/// Whether a snapshot or a clone of the volume, asked for before, has its point in time still to come. What changes the
/// volume's bytes or its size waits for it: they were promised as they are.
pub(crate) async fn is_awaited(tx: &mut Tx<Volume>, id: VolumeId) -> Result<bool> {
    let clones = "SELECT w.id FROM workflows w JOIN volumes v ON v.id = w.id WHERE w.kind = 'volume_create' \
        AND w.step IN ('place', 'freeze') AND w.direction = 'forward' AND v.source_volid = ? LIMIT 1";
    let groups = "SELECT w.id FROM workflows w JOIN volumes v ON v.group_id = w.id WHERE w.kind = 'group_create' \
        AND w.step = 'snapshot' AND w.direction = 'forward' AND v.source_volid = ? LIMIT 1";
    for sql in [clones, groups] {
        if tx.fetch_opt(sql, args![id]).await?.is_some() {
            return Ok(true);
        }
    }
    let made = "SELECT id, group_snapshot_id FROM snapshots WHERE volume_id = ? AND status = 'creating'";
    for row in tx.fetch_all(made, args![id]).await? {
        if is_being_made(tx, &row.text("id")?, row.opt_text("group_snapshot_id")?.as_deref()).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a flow is about to make this snapshot, alone or with others.
pub(crate) async fn is_being_made(tx: &mut Tx<Volume>, snapshot: &str, group_snapshot: Option<&str>) -> Result<bool> {
    let sql = "SELECT id FROM workflows WHERE (id = ? AND kind IN ('snapshot_create', 'snapshot_manage')) \
        OR (id = ? AND kind = 'group_snapshot_create') OR (kind = 'snapshot_together' AND state LIKE ?) LIMIT 1";
    let args = args![snapshot, group_snapshot.unwrap_or_default(), format!("%{snapshot}%")];
    Ok(tx.fetch_opt(sql, args).await?.is_some())
}

/// Whether another flow than one of this kind works on the thing.
pub(crate) async fn is_busy(tx: &mut Tx<Volume>, id: impl Display, kind: &str) -> Result<bool> {
    let sql = "SELECT id FROM workflows WHERE id = ? AND kind <> ? LIMIT 1";
    Ok(tx.fetch_opt(sql, args![id.to_string(), kind]).await?.is_some())
}

/// The volume, held until the transaction ends; `Gone` if it was deleted meanwhile.
pub(crate) async fn held(tx: &mut Tx<Volume>, id: VolumeId) -> Result<VolumeRow> {
    match volumes::lock_any(tx, id).await? {
        Some(row) if !row.deleted => Ok(row),
        _ => Err(Error::new(Kind::Gone, format!("Volume {id} was deleted."))),
    }
}

/// Notes in a volume's row how far something is, once a second, until it is dropped.
pub(crate) struct Meter {
    done: Arc<AtomicU64>,
    writing: tokio::task::JoinHandle<()>,
}

impl Meter {
    pub fn start(state: &Arc<Volumes>, id: VolumeId, total: u64) -> Meter {
        let done = Arc::new(AtomicU64::new(0));
        let (state, counted) = (state.clone(), done.clone());
        let writing = tokio::spawn(async move {
            let mut written = 0;
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let percent = counted.load(Ordering::Relaxed).saturating_mul(100) / total.max(1);
                let percent = percent.min(99);
                if percent == written {
                    continue;
                }
                let noted = tx!(state.db, "note progress", |tx| volumes::set_progress(tx, id, Some(percent)).await);
                match noted {
                    Ok(()) => written = percent,
                    Err(error) => tracing::debug!(volume = %id, cause = error.cause(), "progress: {error}"),
                }
            }
        });
        Meter { done, writing }
    }

    pub fn progress(&self) -> Progress {
        let done = self.done.clone();
        Arc::new(move |bytes| done.store(bytes, Ordering::Relaxed))
    }

    /// Once this has come back nothing more is noted.
    pub async fn stop(mut self) {
        self.writing.abort();
        let _ = (&mut self.writing).await;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.writing.abort();
    }
}
