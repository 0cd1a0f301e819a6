//! A volume that a server has goes to another pool, with the server.
//!
//! Its bytes are the guest's to change, so compute moves it: the host copies them onto a disk that this flow makes in the
//! other pool, and the guest goes over. Compute says so by upstream's `os-migrate_volume_completion`, and in that
//! request's transaction the volume changes its pool ([`complete`]). Whoever asks afterwards, a host that starts the guest
//! for one, is told the new one.
//!
//! **Compute alone knows where the guest is**, so nothing here ends the move once compute was told of it: not a deadline,
//! not an attempt too many. It is told again until it has answered.
//!
//! (Refused: upstream's way, a second volume that is hidden, attached in the name of the server, and takes the name of the
//! first. It shows in quotas and lists, and a crash leaves two volumes of which one must be found out to be the right one.)

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use umbel_core::{Error, Kind, Result, Timestamp};
use umbel_db::{Tx, args, tx};
use umbel_workflow::{Flow, Next, Run, Runner, Step, finish};

use super::relocate::NewType;
use super::start::held;
use crate::Volumes;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::service::attachments::rest_status;
use crate::service::messages;
use crate::store::attachments::{AttachStatus, AttachmentRow};
use crate::store::{Volume, attachments, volumes};

/// Between two looks whether compute has answered.
const LOOK: Duration = Duration::from_millis(500);

/// Compute is told again after so long.
const AGAIN: Duration = Duration::from_secs(15);

/// How soon the removal of the old disk is tried again.
const CLEAR_AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiveStep {
    /// Makes the disk.
    Prepare,
    /// Compute's part.
    Carry,
    /// Takes the old disk away.
    Clear,
}

impl Step for LiveStep {
    const ALL: &'static [Self] = &[LiveStep::Prepare, LiveStep::Carry, LiveStep::Clear];

    fn name(self) -> &'static str {
        match self {
            LiveStep::Prepare => "prepare",
            LiveStep::Carry => "carry",
            LiveStep::Clear => "clear",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LiveMove {
    pub volume: VolumeId,
    /// Names of backends.
    pub from: String,
    pub to: String,
    /// The same in both pools.
    pub disk: String,
    /// The type that the volume is to have.
    pub retype: Option<NewType>,
    /// When compute was told last.
    #[serde(default)]
    pub told_at: Option<Timestamp>,
}

pub(crate) struct LiveMoveFlow(pub Arc<Volumes>);

pub(crate) fn add(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    runner.with(LiveMoveFlow(state.clone()))
}

#[async_trait]
impl Flow for LiveMoveFlow {
    type Schema = Volume;
    type State = LiveMove;
    type Step = LiveStep;

    const KIND: &'static str = "volume_live_move";
    const DEADLINE: Duration = Duration::from_secs(10 * 365 * 86_400);

    async fn run(&self, step: LiveStep, state: &mut LiveMove, run: &Run) -> Result<Next<LiveStep>> {
        match step {
            LiveStep::Prepare => self.prepare(state).await,
            LiveStep::Carry => self.carry(state).await,
            LiveStep::Clear => self.clear(state, run).await,
        }
    }

    async fn undo(&self, step: LiveStep, state: &mut LiveMove, _: &Run) -> Result<()> {
        if step != LiveStep::Prepare || self.is_moved(state).await? {
            return Ok(());
        }
        self.0.backend(&state.to)?.pool.remove(&state.disk).await.map(drop)
    }

    async fn failed(&self, state: &mut LiveMove, error: &Error, run: &Run) -> Result<()> {
        let volumes = &self.0;
        let now = volumes.clock.now();
        tx!(volumes.db, "fail a live migration", |tx| {
            finish(tx, run).await?;
            let row = volumes::lock_any(tx, state.volume).await?;
            let Some(row) = row.filter(|row| !row.deleted && row.backend.as_deref() != Some(state.to.as_str())) else {
                return Ok(());
            };
            let after = VolumeRow { migration_status: Some("error".to_owned()), ..at_rest(tx, &row).await? };
            volumes::update(tx, &row, &after, now).await?;
            let what = (messages::SCHEDULE, messages::UNKNOWN);
            crate::service::tell(tx, volumes, &row, what, (error, &run.request_id)).await
        })
    }
}

impl LiveMoveFlow {
    /// Whether the volume is in the other pool. One that is deleted is where its row says, too.
    async fn is_moved(&self, state: &LiveMove) -> Result<bool> {
        let row = tx!(self.0.db, "look at a migration", |tx| volumes::get_any(tx, state.volume).await)?;
        Ok(row.is_some_and(|row| row.backend.as_deref() == Some(state.to.as_str())))
    }

    /// Before compute is told: nobody but this step has a disk of this name there.
    async fn prepare(&self, state: &LiveMove) -> Result<Next<LiveStep>> {
        let volumes = &self.0;
        let now = volumes.clock.now();
        let row = tx!(volumes.db, "begin a live migration", |tx| {
            let row = held(tx, state.volume).await?;
            let after = VolumeRow { migration_status: Some("migrating".to_owned()), ..row.clone() };
            volumes::update(tx, &row, &after, now).await
        })?;
        let (from, to) = (volumes.backend(&state.from)?, volumes.backend(&state.to)?);
        let info = from.pool.stat(&state.disk).await?;
        let size = info.ok_or_else(|| Error::not_found(format!("The disk {} is gone.", state.disk)))?.size;
        to.pool.remove(&state.disk).await?;
        to.pool.create(&state.disk, size).await?;
        volumes.limit_new(&retyped(&row, state), to).await?;
        Ok(Next::Go(LiveStep::Carry))
    }

    async fn carry(&self, state: &mut LiveMove) -> Result<Next<LiveStep>> {
        let volumes = &self.0;
        let (row, users) = tx!(volumes.db, "look at a live migration", |tx| {
            let row = held(tx, state.volume).await?;
            Ok((row, attachments::of_volume(tx, state.volume).await?))
        })?;
        if row.backend.as_deref() == Some(state.to.as_str()) {
            return Ok(Next::Go(LiveStep::Clear));
        }
        if row.migration_status.as_deref() == Some("error") {
            return Err(Error::new(Kind::Internal, "The server's host could not move the volume."));
        }
        // Compute ends a move before it lets a volume go.
        let Some(server) = users.iter().find_map(server_of) else {
            return Err(Error::conflict(format!("Volume {} was detached while it was moved.", row.id)));
        };
        let now = volumes.clock.now();
        if state.told_at.is_none_or(|told| now >= told.plus(AGAIN)) {
            match volumes.servers.moving(server, &row.id.to_string()).await {
                Ok(()) => {}
                Err(error) if error.is(Kind::NotFound) => {
                    let text = format!("Server {server} does not have volume {}.", row.id);
                    return Err(Error::conflict(text).because(error.for_log()));
                }
                Err(error) => {
                    tracing::warn!(volume = %row.id, server, cause = error.cause(), "compute is told again: {error}");
                }
            }
            state.told_at = Some(now);
        }
        Ok(Next::Wait(LOOK))
    }

    async fn clear(&self, state: &LiveMove, run: &Run) -> Result<Next<LiveStep>> {
        let volumes = &self.0;
        let removed = volumes.backend(&state.from)?.pool.remove(&state.disk).await;
        let now = volumes.clock.now();
        tx!(volumes.db, "end a live migration", |tx| {
            if removed.is_ok() {
                finish(tx, run).await?;
            }
            let row = volumes::lock_any(tx, state.volume).await?;
            let Some(row) = row.filter(|row| row.migration_status.as_deref() == Some("completing")) else {
                return Ok(());
            };
            let after = VolumeRow { migration_status: Some("success".to_owned()), ..row.clone() };
            volumes::update(tx, &row, &after, now).await.map(drop)
        })?;
        match removed {
            Ok(_) => Ok(Next::Done),
            // The volume is where it should be: what is left is only in the way.
            Err(error) => {
                tracing::warn!(volume = %state.volume, cause = error.cause(), "an old disk is left: {error}");
                Ok(Next::Wait(CLEAR_AGAIN))
            }
        }
    }
}

/// The server that has the volume.
pub(crate) fn server_of(row: &AttachmentRow) -> Option<&str> {
    let has = row.status == AttachStatus::Attached && row.is_connected();
    row.instance_id.as_deref().filter(|_| has)
}

fn retyped(row: &VolumeRow, state: &LiveMove) -> VolumeRow {
    let mut after = row.clone();
    if let Some(new) = &state.retype {
        after.volume_type_id = Some(new.id.clone());
        after.multiattach = new.multiattach;
    }
    after
}

async fn at_rest(tx: &mut Tx<Volume>, row: &VolumeRow) -> Result<VolumeRow> {
    let mut after = VolumeRow { previous_status: None, progress: None, ..row.clone() };
    if matches!(row.status, VolumeStatus::Retyping | VolumeStatus::Maintenance) {
        after.status = rest_status(tx, row.id).await?;
    }
    Ok(after)
}

/// The live migration of this volume, while there is one.
pub(crate) async fn of(tx: &mut Tx<Volume>, id: VolumeId) -> Result<Option<LiveMove>> {
    let sql = "SELECT state FROM workflows WHERE id = ? AND kind = ?";
    let row = tx.fetch_opt(sql, args![id.to_string(), LiveMoveFlow::KIND]).await?;
    let state = row.map(|row| row.text("state")).transpose()?;
    state.map(|text| serde_json::from_str(&text).map_err(Error::internal)).transpose()
}

/// Compute's answer: the guest has gone over, and the volume with it, or it `failed` to. Repeated it changes nothing.
/// False if there is no such migration.
pub(crate) async fn complete(tx: &mut Tx<Volume>, row: &VolumeRow, failed: bool, now: Timestamp) -> Result<bool> {
    let Some(state) = of(tx, row.id).await? else {
        return Ok(false);
    };
    if row.backend.as_deref() == Some(state.to.as_str()) {
        return Ok(true);
    }
    let after = match failed {
        true => VolumeRow { migration_status: Some("error".to_owned()), ..row.clone() },
        false => VolumeRow {
            backend: Some(state.to.clone()),
            migration_status: Some("completing".to_owned()),
            ..at_rest(tx, &retyped(row, &state)).await?
        },
    };
    volumes::update(tx, row, &after, now).await?;
    Ok(true)
}
