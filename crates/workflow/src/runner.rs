use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use umbel_core::{Clock, Error, Kind, Result, Rng};
use umbel_db::{Db, Schema, read, tx};

use crate::fence::{Fence, Fencing, NoFence, Process};
use crate::flow::{Flow, Next, Run, Step};
use crate::harness::{Crash, Moment};
use crate::row::{self, Direction, Leased};

#[derive(Clone)]
pub struct RunnerConfig {
    /// How long a row is held without renewal. Another process waits this long after a crash.
    pub lease: Duration,
    /// The longest time between two looks for due rows that nobody nudged about.
    pub sweep: Duration,
    /// Flows that run at once. They wait more than they work.
    pub concurrency: usize,
    /// For tests; see [`crate::harness`].
    pub crash: Crash,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        RunnerConfig {
            lease: Duration::from_secs(15),
            sweep: Duration::from_secs(2),
            concurrency: 256,
            crash: Crash::never(),
        }
    }
}

/// Says "there is something to do" to a runner of this process. Only a hint: the sweep finds it too.
#[derive(Clone, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// Runs the flows of one database. Any number of processes may run one each.
pub struct Runner<S> {
    db: Db<S>,
    clock: Arc<dyn Clock>,
    owner: String,
    config: RunnerConfig,
    flows: HashMap<&'static str, Arc<dyn Erased<S>>>,
    nudge: Nudge,
    under_way: Arc<UnderWay>,
    fence: Arc<dyn Fence>,
    fencing: Fencing,
    /// Steps of this process were broken off, and what they began has not been shut out yet.
    broken_off: AtomicBool,
}

/// Id and kind of every flow that runs in this process: whatever became of its lease, it does not run twice here.
type UnderWay = Mutex<HashSet<(String, String)>>;

struct Turn {
    of: (String, String),
    under_way: Arc<UnderWay>,
}

impl Turn {
    fn take(flow: &Leased, under_way: &Arc<UnderWay>) -> Self {
        let of = (flow.id.clone(), flow.kind.clone());
        under_way.lock().insert(of.clone());
        Turn { of, under_way: under_way.clone() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.of);
    }
}

impl<S: Schema> Runner<S> {
    pub fn new(db: Db<S>, clock: Arc<dyn Clock>, rng: &dyn Rng, config: RunnerConfig) -> Self {
        let owner = rng.uuid().to_string();
        Runner {
            db,
            clock,
            owner,
            config,
            flows: HashMap::new(),
            nudge: Nudge::default(),
            under_way: Arc::default(),
            fence: Arc::new(NoFence),
            fencing: Fencing::default(),
            broken_off: AtomicBool::new(false),
        }
    }

    #[must_use]
    pub fn fenced(mut self, process: Option<&Process>) -> Self {
        if let Some(process) = process {
            self.owner.clone_from(&process.name);
            self.fence = process.fence.clone();
        }
        self
    }

    #[must_use]
    pub fn with<F: Flow<Schema = S>>(mut self, flow: F) -> Self {
        self.flows.insert(F::KIND, Arc::new(flow));
        self
    }

    pub fn nudge(&self) -> Nudge {
        self.nudge.clone()
    }

    /// Listens to a nudge that somebody has already: whoever enqueues need not know which runner runs, or when it was made.
    #[must_use]
    pub fn nudged_by(mut self, nudge: &Nudge) -> Self {
        self.nudge = nudge.clone();
        self
    }

    /// Ends the leases of earlier processes at once. Only where this is known to be the only process on the database.
    pub async fn take_over(&self) -> Result<()> {
        tx!(self.db, "take over flows", |tx| row::release(tx, None).await)
    }

    /// Makes a flow that waits run now.
    pub async fn wake(&self, id: &str) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "wake a flow", |tx| row::wake(tx, id, now).await)?;
        self.nudge.now();
        Ok(())
    }

    /// Runs until told to stop; then lets no new flow start, waits for the running steps and frees the leases.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(self.config.concurrency));
        let mut running = JoinSet::new();
        let lapsed = Arc::new(Notify::new());
        let renewing = tokio::spawn(self.clone().renew_leases(lapsed.clone()));
        while !*stop.borrow() {
            while running.try_join_next().is_some() {}
            let pause = self.start_due(&slots, &mut running).await.unwrap_or_else(|error| {
                tracing::warn!(cause = error.cause(), "looking for due flows: {error}");
                self.config.sweep
            });
            tokio::select! {
                () = self.nudge.0.notified() => {}
                () = tokio::time::sleep(pause) => {}
                Some(_) = running.join_next(), if slots.available_permits() == 0 => {}
                () = lapsed.notified() => self.leave(&mut running).await,
                // A sender that is gone can say no more; it is taken for a word to stop.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
        loop {
            tokio::select! {
                ended = running.join_next() => if ended.is_none() { break },
                () = lapsed.notified() => self.leave(&mut running).await,
            }
        }
        renewing.abort();
        if self.broken_off.load(Ordering::Relaxed) {
            // Whoever takes them up shuts this process out first.
            return;
        }
        let released = tx!(self.db, "release flows", |tx| row::release(tx, Some(&self.owner)).await);
        if let Err(error) = released {
            tracing::warn!(cause = error.cause(), "flows are left to their leases: {error}");
        }
    }

    /// Runs everything there is, waiting flows too, until no row is left or the crash switch fires. For tests.
    pub async fn run_until_idle(self: &Arc<Self>, limit: Duration) -> Result<()> {
        let deadline = tokio::time::Instant::now() + limit;
        let slots = Arc::new(Semaphore::new(self.config.concurrency));
        let mut running = JoinSet::new();
        loop {
            let pause = self.start_due(&slots, &mut running).await?;
            while running.try_join_next().is_some() {}
            if self.config.crash.fired() {
                running.abort_all();
                return Ok(());
            }
            let now = self.clock.now();
            let next = read!(self.db, "next due flow", |tx| row::next_due(tx, &self.owner, now).await)?;
            if next.is_none() && running.is_empty() && !self.inherit(&mut running).await? {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(Error::new(Kind::Timeout, "Flows still run."));
            }
            tokio::select! {
                Some(_) = running.join_next() => {}
                () = self.nudge.0.notified() => {}
                () = tokio::time::sleep(pause.min(Duration::from_millis(20))) => {}
            }
        }
    }

    /// Starts what is due; how long until something may be due again.
    async fn start_due(self: &Arc<Self>, slots: &Arc<Semaphore>, running: &mut JoinSet<()>) -> Result<Duration> {
        if self.broken_off.load(Ordering::Relaxed) {
            self.fence.shut_out(&self.owner).await?;
            self.broken_off.store(false, Ordering::Relaxed);
        }
        self.inherit(running).await?;
        loop {
            let free = slots.available_permits();
            if free == 0 {
                return Ok(self.config.sweep);
            }
            let now = self.clock.now();
            let due = read!(self.db, "next due flow", |tx| row::next_due(tx, &self.owner, now).await)?;
            match due {
                Some(due) if due <= now => {}
                Some(due) => return Ok(due.since(now).min(self.config.sweep)),
                None => return Ok(self.config.sweep),
            }
            let until = now.plus(self.config.lease);
            let mine = self.under_way.lock().clone();
            let leased =
                tx!(self.db, "lease flows", |tx| row::lease(tx, &self.owner, &mine, (now, until), free).await)?;
            if leased.is_empty() {
                return Ok(Duration::from_millis(50).min(self.config.sweep));
            }
            for flow in leased {
                let Ok(slot) = slots.clone().acquire_owned().await else {
                    return Ok(self.config.sweep);
                };
                let (runner, turn) = (self.clone(), Turn::take(&flow, &self.under_way));
                running.spawn(async move {
                    runner.one(flow, turn).await;
                    drop(slot);
                });
            }
        }
    }

    /// Breaks all steps off, as the death of the process would. What they asked for last may still be under way: it is shut out
    /// before a step runs here again, as it is by others.
    async fn leave(&self, running: &mut JoinSet<()>) {
        self.broken_off.store(true, Ordering::Relaxed);
        running.shutdown().await;
    }

    /// Sets free what is left of owners that are not heard of, when they are shut out; each in a task of its own, since what
    /// they worked on may not answer. Whether there are any.
    async fn inherit(self: &Arc<Self>, running: &mut JoinSet<()>) -> Result<bool> {
        let now = self.clock.now();
        let gone = read!(self.db, "owners that are gone", |tx| row::lapsed(tx, &self.owner, now).await)?;
        for shutting_out in gone.iter().filter_map(|gone| self.fencing.begin(gone)) {
            let runner = self.clone();
            running.spawn(async move {
                let gone = &shutting_out.owner;
                let freed = async {
                    runner.fence.shut_out(gone).await?;
                    tx!(runner.db, "take over flows", |tx| row::disown(tx, gone, now).await)
                };
                match freed.await {
                    Ok(()) => runner.nudge.now(),
                    Err(error) => {
                        tracing::warn!(
                            process = gone,
                            cause = error.cause(),
                            "its flows are not taken over yet: {error}"
                        );
                        tokio::time::sleep(runner.config.sweep).await;
                    }
                }
            });
        }
        Ok(!gone.is_empty())
    }

    async fn one(&self, flow: Leased, turn: Turn) {
        let (kind, id) = (flow.kind.clone(), flow.id.clone());
        let Some(handler) = self.flows.get(kind.as_str()) else {
            tracing::error!(kind, id, "no program for this kind of flow; it waits for a newer process");
            return;
        };
        let driven = handler.drive(self, flow).await;
        // Whoever is told finds it at rest.
        drop(turn);
        match driven {
            Ok(()) => self.nudge.now(),
            Err(error) if self.config.crash.fired() => drop(error),
            // The row keeps its last saved step; the lease runs out and the step is tried again.
            Err(error) => tracing::warn!(kind, id, cause = error.cause(), "a flow stopped: {error}"),
        }
    }

    /// Until it is aborted. Says so when the leases have run out, because the database was away for too long or the
    /// process stood still: others may hold the flows from then on.
    async fn renew_leases(self: Arc<Self>, lapsed: Arc<Notify>) {
        let lease = self.config.lease;
        let mut held_until = Instant::now() + lease;
        loop {
            tokio::time::sleep(lease / 3).await;
            let asked = Instant::now();
            let now = self.clock.now();
            let until = now.plus(lease);
            let renewing =
                async { tx!(self.db, "renew flow leases", |tx| row::renew(tx, &self.owner, now, until).await) };
            let in_time = held_until.saturating_duration_since(asked);
            match tokio::time::timeout(in_time, renewing).await {
                Ok(Ok(())) => {
                    held_until = asked + lease;
                    continue;
                }
                Ok(Err(error)) => {
                    tracing::warn!(cause = error.cause(), "leases were not renewed: {error}");
                    if Instant::now() < held_until {
                        continue;
                    }
                }
                Err(_) => {}
            }
            tracing::warn!("leases of flows ran out; their steps are left to whoever takes them up");
            lapsed.notify_one();
            held_until = Instant::now() + lease;
        }
    }

    async fn save(&self, flow: &mut Leased) -> Result<()> {
        let generation = flow.generation;
        tx!(self.db, "save a flow", |tx| {
            flow.generation = generation;
            row::save(tx, flow).await
        })
    }

    async fn end(&self, flow: &Leased) -> Result<()> {
        tx!(self.db, "end a flow", |tx| row::end(tx, flow).await)
    }

    fn crash(&self, flow: &Leased, step: &str, moment: Moment) -> Result<()> {
        match self.config.crash.here(&flow.kind, step, moment) {
            true => Err(Error::internal("the crash switch fired")),
            false => Ok(()),
        }
    }
}

/// A flow whose types are forgotten, so that one runner holds many.
#[async_trait]
trait Erased<S>: Send + Sync {
    async fn drive(&self, runner: &Runner<S>, flow: Leased) -> Result<()>;
}

#[async_trait]
impl<S: Schema, F: Flow<Schema = S>> Erased<S> for F {
    async fn drive(&self, runner: &Runner<S>, mut row: Leased) -> Result<()> {
        let mut state: F::State = serde_json::from_str(&row.state)
            .map_err(|error| Error::internal(error).because(format!("reading the state of {} {}", row.kind, row.id)))?;
        loop {
            let parked = match row.direction {
                Direction::Forward => forward(self, runner, &mut row, &mut state).await?,
                Direction::Undo | Direction::Rewind => back(self, runner, &mut row, &mut state).await?,
                Direction::Failed => Some(last(self, runner, &mut row, &mut state).await?),
            };
            if parked.is_some() {
                return Ok(());
            }
        }
    }
}

/// The flow left the runner: ended or parked.
struct Left;

async fn forward<S: Schema, F: Flow<Schema = S>>(
    flow: &F,
    runner: &Runner<S>,
    row: &mut Leased,
    state: &mut F::State,
) -> Result<Option<Left>> {
    let step = step_of::<F>(&row.step)?;
    let run = run_of(row);
    runner.crash(row, step.name(), Moment::BeforeStep)?;
    let outcome = flow.run(step, state, &run).await;
    runner.crash(row, step.name(), Moment::AfterStep)?;
    // Judged only where a flow would wait or go round again. A process that was down past the deadline may have done this
    // step and died before it was saved: what is done is not to be undone because nobody was there to note it.
    let late = runner.clock.now() > row.deadline;
    let outcome = match outcome {
        Ok(Next::Wait(_) | Next::Rewind(_)) if late => {
            Err(Error::new(Kind::Internal, "The operation did not finish in time."))
        }
        outcome => outcome,
    };
    match outcome {
        Ok(Next::Through(next)) => {
            row.step = next.name().to_owned();
            return Ok(None);
        }
        Ok(Next::Go(next)) => {
            row.attempt = 0;
            row.step = next.name().to_owned();
        }
        Ok(Next::Rewind(target)) => {
            row.attempt = 0;
            row.direction = Direction::Rewind;
            row.target = Some(target.name().to_owned());
        }
        Ok(Next::Wait(pause)) => return park(runner, row, state, pause).await.map(Some),
        Ok(Next::Done) => {
            runner.end(row).await?;
            return Ok(Some(Left));
        }
        Err(error) if !late && worth_another_try(&error) && row.attempt + 1 < F::ATTEMPTS => {
            row.attempt += 1;
            tracing::debug!(
                kind = row.kind,
                id = row.id,
                step = step.name(),
                cause = error.cause(),
                "step runs again: {error}"
            );
            return park(runner, row, state, backoff(row.attempt)).await.map(Some);
        }
        Err(error) => {
            tracing::info!(
                kind = row.kind,
                id = row.id,
                step = step.name(),
                cause = error.cause(),
                "step failed: {error}"
            );
            row.attempt = 0;
            row.direction = Direction::Undo;
            row.error = Some(error);
        }
    }
    persist(runner, row, state).await?;
    runner.crash(row, step.name(), Moment::AfterSave)?;
    Ok(None)
}

async fn back<S: Schema, F: Flow<Schema = S>>(
    flow: &F,
    runner: &Runner<S>,
    row: &mut Leased,
    state: &mut F::State,
) -> Result<Option<Left>> {
    let step = step_of::<F>(&row.step)?;
    let run = run_of(row);
    runner.crash(row, step.name(), Moment::BeforeUndo)?;
    let undone = flow.undo(step, state, &run).await;
    runner.crash(row, step.name(), Moment::AfterUndo)?;
    if let Err(error) = undone {
        // An undo is never given up: what it would leave behind is an orphan.
        row.attempt += 1;
        tracing::warn!(
            kind = row.kind,
            id = row.id,
            step = step.name(),
            cause = error.cause(),
            "undo runs again: {error}"
        );
        return park(runner, row, state, backoff(row.attempt)).await.map(Some);
    }
    row.attempt = 0;
    let target = row.target.as_deref().map(step_of::<F>).transpose()?;
    let earlier = step.position().checked_sub(1).and_then(|at| F::Step::ALL.get(at));
    match (row.direction, earlier) {
        (Direction::Rewind, _) if target == Some(step) => {
            row.direction = Direction::Forward;
            row.target = None;
        }
        (_, Some(earlier)) => row.step = earlier.name().to_owned(),
        (_, None) => row.direction = Direction::Failed,
    }
    persist(runner, row, state).await?;
    Ok(None)
}

async fn last<S: Schema, F: Flow<Schema = S>>(
    flow: &F,
    runner: &Runner<S>,
    row: &mut Leased,
    state: &mut F::State,
) -> Result<Left> {
    let run = run_of(row);
    runner.crash(row, &row.step, Moment::BeforeFailed)?;
    let unknown = Error::internal("the flow failed without a reason");
    let told = flow.failed(state, row.error.as_ref().unwrap_or(&unknown), &run).await;
    runner.crash(row, &row.step, Moment::AfterFailed)?;
    if let Err(error) = told {
        row.attempt += 1;
        tracing::warn!(
            kind = row.kind,
            id = row.id,
            cause = error.cause(),
            "the end of a failed flow runs again: {error}"
        );
        return park(runner, row, state, backoff(row.attempt)).await;
    }
    runner.end(row).await?;
    Ok(Left)
}

async fn persist<S: Schema, T: serde::Serialize>(runner: &Runner<S>, row: &mut Leased, state: &T) -> Result<()> {
    row.state = serde_json::to_string(state).map_err(Error::internal)?;
    runner.save(row).await
}

async fn park<S: Schema, T: serde::Serialize>(
    runner: &Runner<S>,
    row: &mut Leased,
    state: &T,
    pause: Duration,
) -> Result<Left> {
    row.state = serde_json::to_string(state).map_err(Error::internal)?;
    let run_at = runner.clock.now().plus(pause);
    tx!(runner.db, "park a flow", |tx| row::park(tx, row, run_at).await)?;
    Ok(Left)
}

fn step_of<F: Flow>(name: &str) -> Result<F::Step> {
    F::Step::parse(name).ok_or_else(|| Error::internal(format!("{} has no step {name}", F::KIND)))
}

fn run_of(row: &Leased) -> Run {
    Run {
        id: row.id.clone(),
        request_id: row.request_id.clone(),
        attempt: row.attempt,
        created_at: row.created_at,
        kind: row.kind.clone(),
        generation: row.generation,
    }
}

fn worth_another_try(error: &Error) -> bool {
    matches!(error.kind(), Kind::Busy | Kind::Unavailable | Kind::Timeout)
}

fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(100 << attempt.min(8))
}
