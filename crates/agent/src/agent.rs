use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use umbel_bus::{Blob, Desired, Observed, OnHost, Task, TaskReply, ToConductor, Want};
use umbel_core::{Clock, Error, Result};
use umbel_driver::{Capacity, Hypervisor};
use uuid::Uuid;

use crate::book::{Book, Job, Seen};
use crate::config::{AgentConfig, HostPools, ImageStore};
use crate::limits::Applied;
use crate::moves::{self, Moves};
use crate::tasks::{self, Export, Exports, Holds, Wanted};
use crate::turns::Turns;
use crate::volumes::Ledger;

/// For how long a server that is gone is remembered against documents that come late.
const MEMORY: Duration = Duration::from_secs(600);

/// How long a stop waits for work in progress; what is not done by then is done after the next start.
const DRAIN: Duration = Duration::from_secs(10);

/// The agent of one host.
///
/// It is connected in two halves: conductors reach it as [`OnHost`], and [`Agent::run`] is given the way back. What it
/// knows outlives a connection, so `run` may be called again with the next one.
pub struct Agent {
    pub(crate) config: AgentConfig,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) pools: HostPools,
    pub(crate) images: Arc<dyn ImageStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) book: Mutex<Book>,
    pub(crate) slots: Semaphore,
    pub(crate) imports: Semaphore,
    pub(crate) capacities: Mutex<HashMap<String, Capacity>>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) turns: Turns,
    pub(crate) exports: Mutex<Exports>,
    pub(crate) moves: Mutex<Moves>,
    pub(crate) holds: Mutex<Holds>,
    pub(crate) applied: Mutex<Applied>,
    /// For work that outlives the call that asks for it.
    me: Weak<Agent>,
    /// Servers that have work and no worker.
    waiting: Mutex<HashSet<Uuid>>,
    wake: Notify,
    /// Counts conductors that came: each is told at once what is here, and asked what should be.
    greeted: watch::Sender<u64>,
    /// Guests that nobody asked for, so that each is logged once.
    strangers: Mutex<HashSet<Uuid>>,
}

impl Agent {
    /// `pools`: those of system disks as a `Vec`, or with others as [`HostPools`].
    pub fn new(
        config: AgentConfig,
        hypervisor: Arc<dyn Hypervisor>,
        pools: impl Into<HostPools>,
        images: Arc<dyn ImageStore>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let pools = pools.into();
        Arc::new_cyclic(|me| Agent {
            me: me.clone(),
            ledger: Mutex::default(),
            turns: Turns::default(),
            exports: Mutex::default(),
            moves: Mutex::default(),
            holds: Mutex::default(),
            applied: Mutex::default(),
            slots: Semaphore::new(config.parallel),
            imports: Semaphore::new(config.imports),
            config,
            hypervisor,
            pools,
            images,
            clock,
            book: Mutex::default(),
            capacities: Mutex::default(),
            waiting: Mutex::default(),
            wake: Notify::new(),
            greeted: watch::Sender::new(0),
            strangers: Mutex::default(),
        })
    }

    fn myself(&self) -> Result<Arc<Agent>> {
        self.me.upgrade().ok_or_else(|| Error::unavailable("The host's agent is about to end."))
    }

    pub fn host(&self) -> &str {
        &self.config.host
    }

    /// Works until told to stop, then lets what is in progress end. Dropped, everything ends where it stands, as when
    /// the process is killed.
    pub async fn run(self: Arc<Self>, link: Arc<dyn ToConductor>, mut stop: watch::Receiver<bool>) {
        let mut workers = JoinSet::new();
        let mut events = self.hypervisor.subscribe();
        let mut talk = JoinSet::new();
        talk.spawn(self.clone().heartbeats(link.clone()));
        talk.spawn(self.clone().resyncs(link.clone()));
        // What an earlier run was dropped in the midst of.
        let unfinished = self.book.lock().idle_with_work();
        self.waiting.lock().extend(unfinished);
        while !*stop.borrow() {
            self.start_workers(&link, &mut workers);
            tokio::select! {
                () = self.wake.notified() => {}
                event = events.recv() => match event {
                    Ok(event) => self.look_at([event.id]),
                    Err(RecvError::Lagged(_)) => {
                        let all = self.book.lock().held();
                        self.look_at(all);
                    }
                    // The hypervisor ended; its agent has nothing more to hear from it.
                    Err(RecvError::Closed) => events = self.hypervisor.subscribe(),
                },
                Some(_) = workers.join_next() => {}
                changed = stop.changed() => {
                    if changed.is_err() {
                        // Nobody is left who could tell: as good as told.
                        break;
                    }
                }
            }
        }
        talk.abort_all();
        self.book.lock().cancel_all();
        let drained = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::info!(host = self.config.host, "work in progress is left for the next start");
        }
    }

    fn start_workers(self: &Arc<Self>, link: &Arc<dyn ToConductor>, workers: &mut JoinSet<()>) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for server_id in waiting {
            if self.book.lock().begin(server_id) {
                let worker = Worker { agent: self.clone(), link: link.clone(), server_id, done: false };
                workers.spawn(worker.work());
            }
        }
    }

    fn want_worker(&self, server_id: Uuid) {
        self.waiting.lock().insert(server_id);
        self.wake.notify_one();
    }

    pub(crate) fn accept(&self, desired: Desired) {
        let server_id = desired.server_id;
        if let Want::Present(domain) = &desired.want {
            self.ledger.lock().learn(server_id, desired.generation, &domain.volumes);
        }
        if self.book.lock().accept(desired) {
            self.want_worker(server_id);
        }
    }

    fn look_at(&self, servers: impl IntoIterator<Item = Uuid>) {
        for server_id in servers {
            if self.book.lock().changed(server_id) {
                self.want_worker(server_id);
            }
        }
    }

    async fn heartbeats(self: Arc<Self>, link: Arc<dyn ToConductor>) {
        let (mut beat, mut greeted) = (every(self.config.heartbeat), self.greeted.subscribe());
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                _ = greeted.changed() => {}
            }
            if let Err(error) = self.heartbeat(&*link).await {
                tracing::debug!(host = self.config.host, cause = error.cause(), "a heartbeat was not heard: {error}");
            }
        }
    }

    async fn heartbeat(&self, link: &dyn ToConductor) -> Result<()> {
        let powers = self.powers().await?;
        let changed = self.book.lock().compare(&powers);
        self.look_at(changed);
        link.report(self.host_report().await?).await?;
        self.refresh_limits().await;
        Ok(())
    }

    async fn resyncs(self: Arc<Self>, link: Arc<dyn ToConductor>) {
        let (mut period, mut greeted) = (every(self.config.resync), self.greeted.subscribe());
        loop {
            tokio::select! {
                _ = period.tick() => {}
                _ = greeted.changed() => {}
            }
            // Until it was heard once, an agent does not know what it is here for: no waiting for the next period.
            while let Err(error) = self.resync(&*link).await {
                tracing::debug!(host = self.config.host, cause = error.cause(), "no answer to a resync: {error}");
                tokio::time::sleep(self.config.heartbeat.min(Duration::from_millis(500))).await;
            }
        }
    }

    async fn resync(&self, link: &dyn ToConductor) -> Result<()> {
        self.book.lock().forget(self.clock.now().minus(MEMORY));
        let guests = self.powers().await?;
        let mut held = self.book.lock().held();
        held.extend(guests.keys().filter(|id| !held.contains(id)).copied().collect::<Vec<_>>());
        for desired in link.resync(&self.config.host, held).await? {
            self.accept(desired);
        }
        let book = self.book.lock();
        let mut strangers = self.strangers.lock();
        for id in guests.keys().filter(|id| !book.knows(**id)) {
            if strangers.insert(*id) {
                tracing::warn!(host = self.config.host, server = %id, "a guest runs here that the cell does not know; it is left alone");
            }
        }
        Ok(())
    }
}

#[async_trait]
impl OnHost for Agent {
    async fn desire(&self, desired: Desired) {
        self.accept(desired);
    }

    fn connected(&self) {
        self.greeted.send_modify(|count| *count += 1);
    }

    async fn task(&self, task: Task) -> Result<TaskReply> {
        match task {
            Task::Console { server_id, limit } => {
                let bytes = self.hypervisor.console(server_id, limit).await?;
                Ok(TaskReply::Console(Blob(bytes.to_vec())))
            }
            Task::Snapshot { server_id, disks, snapshot, quiesce } => {
                tasks::snapshot(self.myself()?, Wanted { server_id, disks, snapshot, quiesce }).await
            }
            Task::Freeze { server_id, limit_ms, required } => {
                tasks::freeze(self.myself()?, server_id, Duration::from_millis(limit_ms), required).await
            }
            Task::Thaw { server_id } => tasks::thaw(self.myself()?, server_id).await,
            Task::RemoveSnapshot { disks, snapshot, .. } => {
                tasks::remove_snapshot(self.myself()?, disks, snapshot).await
            }
            Task::Move(wanted) => moves::go_on(self.myself()?, wanted).await.map(TaskReply::Moved),
            Task::StopMove(wanted) => moves::stop(self.myself()?, wanted).await.map(TaskReply::Moved),
            Task::Export { disk, snapshot, image_id, .. } => {
                tasks::export(self.myself()?, Export { disk, snapshot, image_id }).await
            }
        }
    }
}

/// Does the work of one server until there is none.
struct Worker {
    agent: Arc<Agent>,
    link: Arc<dyn ToConductor>,
    server_id: Uuid,
    done: bool,
}

impl Worker {
    async fn work(mut self) {
        loop {
            let now = self.agent.clock.now();
            let Some(job) = self.agent.book.lock().next(self.server_id, now) else {
                self.done = true;
                return;
            };
            let news = match job {
                Job::Converge(desired, cancel) => {
                    let observed = self.agent.converge(&desired, &cancel).await;
                    self.agent.book.lock().finished(observed)
                }
                Job::Look { always } => match self.agent.hypervisor.state(self.server_id).await {
                    Ok(power) => {
                        let power = power.map(crate::report::power);
                        let volumes = self.agent.volumes_of(self.server_id).await;
                        self.agent.book.lock().seen(self.server_id, Seen { power, volumes }, always)
                    }
                    Err(error) => {
                        tracing::warn!(server = %self.server_id, cause = error.cause(), "cannot look: {error}");
                        None
                    }
                },
            };
            if let Some(observed) = news {
                self.tell(observed).await;
            }
        }
    }
}

impl Worker {
    /// What is not heard now comes with the next heartbeat.
    async fn tell(&self, observed: Observed) {
        let generation = observed.generation;
        match self.link.observed(&self.agent.config.host, observed).await {
            Ok(()) => self.agent.book.lock().heard(self.server_id, generation),
            Err(error) => {
                tracing::debug!(server = %self.server_id, cause = error.cause(), "a report was not heard: {error}");
            }
        }
    }
}

/// A worker that panicked, or was ended where it stood, must not keep others from its server. They come with the next
/// document, not at once: what made one panic would do it again.
impl Drop for Worker {
    fn drop(&mut self) {
        if !self.done {
            self.agent.book.lock().abandoned(self.server_id);
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
