//! Volumes of guests on their way from one disk to another, by which they change their pool.
//!
//! A guest that runs is moved by its hypervisor; the bytes of one that is off are copied here. Which of the two it is can
//! change at any time, and a start does not wait for a copy: the guest starts where the volume was, and is moved anew.
//!
//! **Where the hypervisor has the disk, running or by its definition, is the truth.** It changes in one moment, and
//! outlives this process; so whoever asks after a crash finds the volume at one place or the other, and the work is
//! begun again or is done. Nothing is kept here but who waits.
//!
//! (Refused: making the move part of what is desired and converged to. A terabyte takes hours, in which the server could
//! not be stopped.)

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use umbel_bus::{DiskRef, Move, Moved};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{Attachment, Change, ChangeStream, DomainDisk, Extent, Mirroring, Pool, Power, Progress};
use uuid::Uuid;

use crate::agent::Agent;
use crate::converge::{may_pass, overtaken};
use crate::volumes::serial;

/// For how long an asker is kept waiting for the end.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Between two looks at a hypervisor's copying: at first, and once it has taken a while.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_secs(1);

/// How often in a row what may pass is tried again.
const ATTEMPTS: u32 = 10;

/// How it stands; errors are not `Clone`, so their message is kept.
#[derive(Clone, Debug)]
enum State {
    Copying { done: u64, total: u64 },
    There,
    Failed(String),
}

/// By server and serial.
pub(crate) type Moves = HashMap<(Uuid, String), UnderWay>;

#[derive(Clone)]
pub(crate) struct UnderWay {
    to: DiskRef,
    state: watch::Receiver<State>,
    stop: CancellationToken,
    /// The guest is about to start.
    way: Arc<Notify>,
}

/// What the work of one move is about.
struct Carrier {
    agent: Arc<Agent>,
    wanted: Move,
    serial: String,
    state: watch::Sender<State>,
    stop: CancellationToken,
    way: Arc<Notify>,
}

/// Begins the move or joins it, and waits a while for its end.
pub(crate) async fn go_on(agent: Arc<Agent>, wanted: Move) -> Result<Moved> {
    let key = (wanted.server_id, serial(wanted.seen_as));
    let other = agent.moves.lock().get(&key).filter(|under_way| under_way.to != wanted.to).cloned();
    if let Some(other) = other {
        end(&agent, &key, other).await;
    }
    let mut under_way = begin(&agent, &key, wanted);
    // Not ended in time: its state says how far it is.
    let _ = timeout(PATIENCE, under_way.state.wait_for(|state| !matches!(state, State::Copying { .. }))).await;
    let state = under_way.state.borrow().clone();
    let moved = match state {
        // The worker is gone without a word: it panicked, or was stopped by somebody else.
        State::Copying { .. } if under_way.state.has_changed().is_err() => Moved::NotThere { reason: None },
        State::Copying { done, total } => return Ok(Moved::Copying { done, total }),
        State::There => Moved::There,
        State::Failed(reason) => Moved::NotThere { reason: Some(reason) },
    };
    // Asked again, it is looked at again.
    agent.moves.lock().remove(&key);
    Ok(moved)
}

/// Ends the move wherever it is.
pub(crate) async fn stop(agent: Arc<Agent>, wanted: Move) -> Result<Moved> {
    let key = (wanted.server_id, serial(wanted.seen_as));
    let under_way = agent.moves.lock().get(&key).cloned();
    if let Some(under_way) = under_way {
        end(&agent, &key, under_way).await;
    }
    match agent.hypervisor.cancel_mirror(wanted.server_id, &key.1).await {
        Err(error) if error.is(Kind::NotFound) => {}
        cancelled => cancelled?,
    }
    match agent.is_there(wanted.server_id, &key.1, &wanted.to).await? {
        true => Ok(Moved::There),
        false => Ok(Moved::NotThere { reason: None }),
    }
}

/// Returns when the worker has ended.
async fn end(agent: &Agent, key: &(Uuid, String), mut under_way: UnderWay) {
    under_way.stop.cancel();
    while under_way.state.changed().await.is_ok() {}
    agent.moves.lock().remove(key);
}

fn begin(agent: &Arc<Agent>, key: &(Uuid, String), wanted: Move) -> UnderWay {
    let mut moves = agent.moves.lock();
    if let Some(under_way) = moves.get(key) {
        return under_way.clone();
    }
    let (sender, state) = watch::channel(State::Copying { done: 0, total: 0 });
    let (stop, way) = (CancellationToken::new(), Arc::new(Notify::new()));
    let under_way = UnderWay { to: wanted.to.clone(), state, stop: stop.clone(), way: way.clone() };
    moves.insert(key.clone(), under_way.clone());
    let carrier = Carrier { agent: agent.clone(), wanted, serial: key.1.clone(), state: sender, stop, way };
    tokio::spawn(carrier.carry());
    under_way
}

impl Agent {
    /// A guest is about to start: copies of its disks end, and begin anew by its hypervisor.
    pub(crate) fn make_way(&self, server_id: Uuid) {
        for (_, under_way) in self.moves.lock().iter().filter(|((server, _), _)| *server == server_id) {
            under_way.way.notify_one();
        }
    }

    /// For a server that is to go.
    pub(crate) fn end_moves(&self, server_id: Uuid) {
        for (_, under_way) in self.moves.lock().extract_if(|(server, _), _| *server == server_id) {
            under_way.stop.cancel();
        }
    }

    /// Whether the guest has the disk there. One that was never started has it nowhere yet.
    pub(crate) async fn is_there(&self, server_id: Uuid, serial: &str, place: &DiskRef) -> Result<bool> {
        let place = self.pool(&place.pool)?.attachment(&place.name);
        match self.hypervisor.is_at(server_id, serial, &place).await {
            Err(error) if error.is(Kind::NotFound) => Ok(false),
            is => is,
        }
    }
}

impl Carrier {
    async fn carry(self) {
        let (server, serial) = (self.wanted.server_id, &self.serial);
        let state = match self.try_carry().await {
            Ok(()) => State::There,
            Err(error) => {
                if !self.stop.is_cancelled() {
                    tracing::warn!(%server, disk = serial, cause = error.cause(), "a volume did not move: {error}");
                }
                State::Failed(error.message().to_owned())
            }
        };
        self.state.send_replace(state);
    }

    async fn try_carry(&self) -> Result<()> {
        let (mut failures, mut pause) = (0, FIRST_LOOK);
        loop {
            if self.stop.is_cancelled() {
                return Err(overtaken());
            }
            match self.next().await {
                Ok(true) => return Ok(()),
                Ok(false) => failures = 0,
                Err(error) if may_pass(&error) && failures < ATTEMPTS && !self.stop.is_cancelled() => {
                    failures += 1;
                    tracing::debug!(server = %self.wanted.server_id, cause = error.cause(), "again: {error}");
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LOOK),
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn target(&self) -> Result<Attachment> {
        let to = &self.wanted.to;
        Ok(self.agent.pool(&to.pool)?.attachment(&to.name))
    }

    async fn power(&self) -> Result<Option<Power>> {
        self.agent.hypervisor.state(self.wanted.server_id).await
    }

    /// Does what is next; true if that was all.
    async fn next(&self) -> Result<bool> {
        if !runs(self.power().await?) {
            return self.copy().await;
        }
        let to = self.target()?;
        match self.agent.hypervisor.mirror_disk(self.wanted.server_id, &self.serial, &to).await {
            Ok(Mirroring::There) => Ok(true),
            Ok(Mirroring::Copying { done, total }) => {
                self.state.send_replace(State::Copying { done, total });
                Ok(false)
            }
            // It went off meanwhile, and the copying with it.
            Err(_) if !runs(self.power().await?) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// For a guest that is off. False if it starts.
    async fn copy(&self) -> Result<bool> {
        let (agent, Move { server_id, from, to, .. }) = (&self.agent, &self.wanted);
        let _turn = tokio::select! {
            turn = agent.turns.of(*server_id) => turn,
            () = self.stop.cancelled() => return Err(overtaken()),
        };
        let power = self.power().await?;
        if runs(power) {
            return Ok(false);
        }
        if agent.is_there(*server_id, &self.serial, to).await? {
            return Ok(true);
        }
        let (source, target) = (agent.pool(&from.pool)?.clone(), agent.pool(&to.pool)?.clone());
        tokio::select! {
            copied = copy(source, from.name.clone(), target, &to.name, &self.state) => copied?,
            () = self.way.notified() => return Ok(false),
            () = self.stop.cancelled() => return Err(overtaken()),
        }
        if power.is_some() {
            // What it is started with is defined anew with each start, but for the place.
            let disk = DomainDisk {
                attachment: self.target()?,
                serial: self.serial.clone(),
                boot_index: None,
                read_only: false,
                cdrom: false,
            };
            agent.hypervisor.attach_disk(*server_id, &disk).await?;
        }
        Ok(true)
    }
}

fn runs(power: Option<Power>) -> bool {
    matches!(power, Some(Power::Running | Power::Paused))
}

/// All bytes of one disk into another, whatever is in it.
async fn copy(
    source: Arc<dyn Pool>,
    from: String,
    target: Arc<dyn Pool>,
    to: &str,
    state: &watch::Sender<State>,
) -> Result<()> {
    let info = source.stat(&from).await?;
    let size = info.ok_or_else(|| Error::not_found(format!("There is no disk '{from}'.")))?.size;
    let stored = source.diff(&from, None, None).await?;
    let total = stored.iter().filter(|extent| !extent.zero).map(|extent| extent.length).sum();
    let state = state.clone();
    let progress: Progress = Arc::new(move |done| drop(state.send_replace(State::Copying { done, total })));
    target.patch(to, changes(source, from, whole(stored, size)), progress).await.map(drop)
}

fn changes(source: Arc<dyn Pool>, disk: String, extents: Vec<Extent>) -> ChangeStream {
    let read = move |extent: Extent| {
        let (source, disk) = (source.clone(), disk.clone());
        async move {
            let Extent { offset, length, zero } = extent;
            if zero {
                let zeros = Ok::<_, Error>(Change::Zero { offset, length });
                return Ok::<_, Error>(stream::iter([zeros]).left_stream());
            }
            let mut at = offset;
            let data = source.read(&disk, None, offset, length).await?.map_ok(move |bytes| {
                let offset = at;
                at += bytes.len() as u64;
                Change::Data { offset, bytes }
            });
            Ok(data.right_stream())
        }
    };
    Box::pin(stream::iter(extents).then(read).try_flatten())
}

/// The extents with what is between them, which are zeros.
fn whole(extents: Vec<Extent>, size: u64) -> Vec<Extent> {
    let mut all = Vec::with_capacity(2 * extents.len() + 1);
    let mut at = 0;
    for extent in extents {
        if extent.offset > at {
            all.push(Extent { offset: at, length: extent.offset - at, zero: true });
        }
        at = extent.offset + extent.length;
        all.push(extent);
    }
    if at < size {
        all.push(Extent { offset: at, length: size - at, zero: true });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_stored_is_zeros() {
        let extent = |offset, length, zero| Extent { offset, length, zero };
        let check = |stored: &[Extent], want: &[Extent]| assert_eq!(whole(stored.to_vec(), 10), want);
        check(&[], &[extent(0, 10, true)]);
        check(&[extent(0, 10, false)], &[extent(0, 10, false)]);
        check(
            &[extent(2, 3, false), extent(5, 1, true)],
            &[extent(0, 2, true), extent(2, 3, false), extent(5, 1, true), extent(6, 4, true)],
        );
    }
}
