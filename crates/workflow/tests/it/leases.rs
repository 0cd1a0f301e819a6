//! A process that is slow, stands still or cannot reach the database, and another that takes its flow for abandoned.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use umbel_core::{Clock, Error, ManualClock, Result, SystemClock, SystemRng, Timestamp};
use umbel_db::testing::{fresh, open_all};
use umbel_db::{Db, Engine, args, read, tx};
use umbel_workflow::{Fence, Flow, NewFlow, Next, Process, Run, Runner, RunnerConfig, Step, enqueue, finish, pending};

use crate::{Test, eventually};

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    There,
    Back,
}

impl Step for Leg {
    const ALL: &'static [Self] = &[Leg::There, Leg::Back];

    fn name(self) -> &'static str {
        match self {
            Leg::There => "there",
            Leg::Back => "back",
        }
    }
}

/// What the first step comes to, once it is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Goes,
    Fails,
    Waits,
    GoesBack,
    Finishes,
}

const START: Timestamp = Timestamp::from_secs(1_795_000_000);

type Log = Arc<Mutex<Vec<String>>>;

/// Of one process.
struct Trip {
    db: Db<Test>,
    name: &'static str,
    gate: watch::Receiver<bool>,
    outcome: Outcome,
    log: Log,
}

impl Trip {
    fn note(&self, what: &str) {
        self.log.lock().push(format!("{} {what}", self.name));
    }
}

/// Notes that a step was broken off.
struct Within<'a>(&'a Trip);

impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.0.note("leaves");
    }
}

#[async_trait]
impl Flow for Trip {
    type Schema = Test;
    type State = u32;
    type Step = Leg;
    const KIND: &'static str = "trip";

    async fn run(&self, step: Leg, state: &mut u32, run: &Run) -> Result<Next<Leg>> {
        if run.id != HELD {
            tx!(self.db, "pass by", |tx| finish(tx, run).await)?;
            self.note("passes by");
            return Ok(Next::Done);
        }
        self.note(step.name());
        if step == Leg::Back {
            tx!(self.db, "be back", |tx| finish(tx, run).await)?;
            self.note("ends");
            return Ok(Next::Done);
        }
        let within = Within(self);
        let _ = self.gate.clone().wait_for(|open| *open).await;
        drop(within);
        *state += 1;
        match self.outcome {
            Outcome::Goes => Ok(Next::Go(Leg::Back)),
            Outcome::Fails => Err(Error::conflict("the way is closed")),
            Outcome::Waits => Ok(Next::Wait(Duration::ZERO)),
            Outcome::GoesBack => Ok(Next::Rewind(Leg::There)),
            Outcome::Finishes => {
                tx!(self.db, "end early", |tx| finish(tx, run).await)?;
                self.note("ends");
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, _: Leg, _: &mut u32, _: &Run) -> Result<()> {
        self.note("undoes");
        Ok(())
    }

    async fn failed(&self, _: &mut u32, _: &Error, _: &Run) -> Result<()> {
        self.note("gives up");
        Ok(())
    }
}

/// Refuses until it is let, and notes both.
struct Gatekeeper {
    name: &'static str,
    lets: watch::Receiver<bool>,
    log: Log,
}

impl Gatekeeper {
    fn process(self) -> Process {
        Process { name: self.name.to_owned(), fence: Arc::new(self) }
    }
}

#[async_trait]
impl Fence for Gatekeeper {
    async fn shut_out(&self, process: &str) -> Result<()> {
        let lets = *self.lets.borrow();
        let what = if lets { "shuts out" } else { "cannot shut out" };
        self.log.lock().push(format!("{} {what} {process}", self.name));
        if lets { Ok(()) } else { Err(Error::unavailable("The cluster does not answer.")) }
    }
}

/// The flow whose first step is held; others just end.
const HELD: &str = "t";

async fn begin(db: &Db<Test>, id: &str, now: Timestamp) {
    tx!(db, "begin", |tx| {
        let flow = NewFlow {
            id,
            kind: Trip::KIND,
            first_step: Leg::There.name(),
            state: &0_u32,
            request_id: "req",
            now,
            deadline: now.plus(Duration::from_secs(864_000)),
        };
        enqueue(tx, flow).await
    })
    .unwrap();
}

fn said(log: &Log, what: &str) -> bool {
    log.lock().iter().any(|line| line == what)
}

/// The first process is in its step when its lease runs out; the other takes the flow. Whatever the first one's step then
/// comes to, and whether the other has ended by then or not, it counts for nothing.
async fn late(db: &Db<Test>, outcome: Outcome, ended: bool) {
    let log = Log::default();
    let lease = RunnerConfig::default().lease;
    begin(db, HELD, START).await;
    let process = |name, outcome, now| {
        let (open, gate) = watch::channel(false);
        let trip = Trip { db: db.clone(), name, gate, outcome, log: log.clone() };
        let clock = Arc::new(ManualClock::at(now));
        let runner = Runner::new(db.clone(), clock, &SystemRng::new(), RunnerConfig::default()).with(trip);
        let runner = Arc::new(runner);
        (open, tokio::spawn(async move { runner.run_until_idle(LIMIT).await }))
    };
    let context = format!("{:?}, {outcome:?}, ended {ended}", db.engine());
    let (first_open, first) = process("first", outcome, START);
    eventually(&context, async || said(&log, "first there")).await;
    // For the first one time stands still.
    let (second_open, second) = process("second", Outcome::Goes, START.plus(lease + Duration::from_secs(1)));
    eventually(&context, async || said(&log, "second there")).await;
    if ended {
        second_open.send_replace(true);
        eventually(&context, async || said(&log, "second ends")).await;
    }
    first_open.send_replace(true);
    eventually(&context, async || said(&log, "first leaves")).await;
    second_open.send_replace(true);
    second.await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    let mut lines = log.lock().clone();
    lines.sort();
    let want = ["first leaves", "first there", "second back", "second ends", "second leaves", "second there"];
    assert_eq!(lines, want, "{context}");
    assert!(!read!(db, "left", |tx| pending(tx, Trip::KIND, HELD).await).unwrap(), "{context}");
}

#[tokio::test]
async fn what_a_step_comes_to_after_its_lease_counts_for_nothing() {
    let outcomes = [Outcome::Goes, Outcome::Fails, Outcome::Waits, Outcome::GoesBack, Outcome::Finishes];
    for db in open_all::<Test>().await {
        for outcome in outcomes {
            for ended in [false, true] {
                late(&db.db, outcome, ended).await;
            }
        }
    }
}

/// What the first process has begun is made harmless before the second one begins anything.
#[tokio::test]
async fn nothing_is_taken_over_before_its_owner_is_shut_out() {
    for db in open_all::<Test>().await {
        let (db, log) = (&db.db, Log::default());
        begin(db, HELD, START).await;
        let config = RunnerConfig { sweep: Duration::from_millis(50), ..RunnerConfig::default() };
        let (let_it, lets) = watch::channel(false);
        let process = |name: &'static str, now, lets: watch::Receiver<bool>| {
            let (open, gate) = watch::channel(false);
            let trip = Trip { db: db.clone(), name, gate, outcome: Outcome::Goes, log: log.clone() };
            let fence = Gatekeeper { name, lets, log: log.clone() };
            let clock = Arc::new(ManualClock::at(now));
            let runner = Runner::new(db.clone(), clock, &SystemRng::new(), config.clone()).with(trip);
            let runner = Arc::new(runner.fenced(Some(&fence.process())));
            (open, tokio::spawn(async move { runner.run_until_idle(LIMIT).await }))
        };
        let (first_open, first) = process("first", START, lets.clone());
        eventually("the first is at it", async || said(&log, "first there")).await;
        let later = START.plus(config.lease + Duration::from_secs(1));
        begin(db, "u", later).await;
        let (second_open, second) = process("second", later, lets);
        eventually("it is refused", async || said(&log, "second cannot shut out first")).await;
        // That concerns nothing but what the first one has.
        eventually("others pass", async || said(&log, "second passes by")).await;
        assert!(!said(&log, "second there"), "{:?}: {:?}", db.engine(), log.lock());
        let_it.send_replace(true);
        eventually("the second is at it", async || said(&log, "second there")).await;
        second_open.send_replace(true);
        second.await.unwrap().unwrap();
        first_open.send_replace(true);
        first.await.unwrap().unwrap();
        let mut lines = log.lock().clone();
        lines.dedup();
        let at = |what: &str| lines.iter().position(|line| line == what);
        assert!(at("second shuts out first") < at("second there"), "{:?}: {lines:?}", db.engine());
        assert_eq!(lines.iter().filter(|line| *line == "second shuts out first").count(), 1, "{lines:?}");
    }
}

/// A process that is alone takes nobody's flow for abandoned, least of all one that it runs.
#[tokio::test]
async fn a_flow_does_not_run_twice_in_one_process() {
    for db in open_all::<Test>().await {
        let db = &db.db;
        let clock = Arc::new(ManualClock::at(START));
        let log = Log::default();
        begin(db, HELD, START).await;
        let (open, gate) = watch::channel(false);
        let trip = Trip { db: db.clone(), name: "one", gate, outcome: Outcome::Goes, log: log.clone() };
        let runner = Runner::new(db.clone(), clock.clone(), &SystemRng::new(), RunnerConfig::default()).with(trip);
        let runner = Arc::new(runner);
        let running = tokio::spawn(async move { runner.run_until_idle(LIMIT).await });
        eventually("it is within its step", async || said(&log, "one there")).await;
        clock.advance(RunnerConfig::default().lease * 2);
        // Whoever finds this one has found the other.
        begin(db, "u", clock.now()).await;
        eventually("it has looked for work", async || said(&log, "one passes by")).await;
        open.send_replace(true);
        running.await.unwrap().unwrap();
        let want = ["one there", "one passes by", "one leaves", "one back", "one ends"];
        assert_eq!(*log.lock(), want, "{:?}", db.engine());
    }
}

/// Nothing more is asked for by a process that cannot say that it lives: another may be at it already.
#[tokio::test]
async fn a_process_that_loses_the_database_breaks_its_steps_off() {
    let (url, _dir) = fresh(Engine::Sqlite).await;
    let db = Db::<Test>::open(&url, 4).await.unwrap();
    db.migrate().await.unwrap();
    let other = Db::<Test>::open(&url, 4).await.unwrap();
    let log = Log::default();
    begin(&db, HELD, SystemClock.now()).await;
    let (open, gate) = watch::channel(false);
    let trip = Trip { db: db.clone(), name: "one", gate, outcome: Outcome::Goes, log: log.clone() };
    let config = RunnerConfig { lease: Duration::from_secs(3), ..RunnerConfig::default() };
    let fence = Gatekeeper { name: "one", lets: watch::channel(true).1, log: log.clone() };
    let runner = Runner::new(db.clone(), Arc::new(SystemClock), &SystemRng::new(), config).with(trip);
    let runner = Arc::new(runner.fenced(Some(&fence.process())));
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(runner.run(stopped));
    eventually("it is within its step", async || said(&log, "one there")).await;
    // Nobody else writes meanwhile.
    let (free, freed) = oneshot::channel::<()>();
    let freed = Arc::new(tokio::sync::Mutex::new(freed));
    let holding = tokio::spawn(async move {
        tx!(other, "hold the database", |tx| {
            tx.execute("UPDATE workflows SET request_id = 'held' WHERE id = 't'", args![]).await?;
            let _ = (&mut *freed.lock().await).await;
            Ok(())
        })
    });
    eventually("the step is broken off", async || said(&log, "one leaves")).await;
    assert!(!*open.borrow(), "nobody let it go");
    free.send(()).unwrap();
    let _ = holding.await.unwrap();
    open.send_replace(true);
    eventually("it is done again, and whole", async || said(&log, "one ends")).await;
    stop.send_replace(true);
    running.await.unwrap();
    // What it asked for last comes to its end, or to nothing, before it asks again.
    let lines = log.lock().clone();
    let after = |from: usize, what: &str| from + lines[from..].iter().position(|line| line == what).expect(what);
    let left = after(0, "one leaves");
    assert!(after(left, "one shuts out one") < after(left, "one there"), "{lines:?}");
}
