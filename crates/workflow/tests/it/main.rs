//! Flows on every engine, and a crash at every moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ends;
mod leases;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use umbel_core::{Clock, Error, Kind, Result, SystemClock, SystemRng};
use umbel_db::testing::{TempDb, open, open_all};
use umbel_db::{Engine, Migration, Schema, read, tx};
use umbel_workflow::harness::at_every_moment;
use umbel_workflow::{
    Crash, Flow, NewFlow, Next, Nudge, Run, Runner, RunnerConfig, Step, TABLE, TABLE_INDEX, enqueue, pending,
};

struct Test;

impl Schema for Test {
    const NAME: &'static str = "test";
    const MIGRATIONS: &'static [Migration] =
        &[Migration { version: 1, name: "flows", statements: &[TABLE, TABLE_INDEX] }];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brick {
    Choose,
    Lay,
    Plaster,
}

impl Step for Brick {
    const ALL: &'static [Self] = &[Brick::Choose, Brick::Lay, Brick::Plaster];

    fn name(self) -> &'static str {
        match self {
            Brick::Choose => "choose",
            Brick::Lay => "lay",
            Brick::Plaster => "plaster",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Plan {
    site: u32,
    /// Sites at which plaster does not hold.
    bad: Vec<u32>,
}

/// The world that crashes do not touch: what stands where, and how it ended.
#[derive(Default)]
struct World {
    standing: BTreeSet<(u32, &'static str)>,
    end: Option<String>,
}

struct Wall(Arc<Mutex<World>>);

#[async_trait]
impl Flow for Wall {
    type Schema = Test;
    type State = Plan;
    type Step = Brick;
    const KIND: &'static str = "wall";

    async fn run(&self, step: Brick, state: &mut Plan, _run: &Run) -> Result<Next<Brick>> {
        let mut world = self.0.lock();
        match step {
            Brick::Choose if state.site > 2 => Err(Error::conflict("no site is left")),
            Brick::Choose => Ok(Next::Through(Brick::Lay)),
            Brick::Lay => {
                world.standing.insert((state.site, "bricks"));
                Ok(Next::Go(Brick::Plaster))
            }
            Brick::Plaster if state.bad.contains(&state.site) => Ok(Next::Rewind(Brick::Choose)),
            Brick::Plaster => {
                world.standing.insert((state.site, "plaster"));
                world.end = Some("built".into());
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, step: Brick, state: &mut Plan, _run: &Run) -> Result<()> {
        let mut world = self.0.lock();
        match step {
            // The next site; naming it from what stands keeps a second undo from skipping one.
            Brick::Choose => state.site = state.bad.iter().max().map_or(state.site, |bad| bad + 1),
            Brick::Lay => {
                world.standing.remove(&(state.site, "bricks"));
            }
            Brick::Plaster => {
                world.standing.remove(&(state.site, "plaster"));
            }
        }
        Ok(())
    }

    async fn failed(&self, _state: &mut Plan, error: &Error, _run: &Run) -> Result<()> {
        self.0.lock().end = Some(error.message().to_owned());
        Ok(())
    }
}

fn runner(db: &TempDb<Test>, world: &Arc<Mutex<World>>, crash: Crash) -> Arc<Runner<Test>> {
    let config = RunnerConfig { crash, ..RunnerConfig::default() };
    Arc::new(Runner::new(db.db.clone(), Arc::new(SystemClock), &SystemRng::new(), config).with(Wall(world.clone())))
}

async fn start(db: &TempDb<Test>, bad: &[u32]) {
    let plan = Plan { site: 0, bad: bad.to_vec() };
    let now = SystemClock.now();
    tx!(db.db, "start", |tx| {
        let flow = NewFlow {
            id: "w1",
            kind: Wall::KIND,
            first_step: Brick::Choose.name(),
            state: &plan,
            request_id: "req",
            now,
            deadline: now.plus(Wall::DEADLINE),
        };
        enqueue(tx, flow).await
    })
    .unwrap();
}

async fn check(engine: Engine, bad: &[u32], want_end: &str, want_standing: &[(u32, &'static str)]) {
    let places = at_every_moment(|crash| async move {
        let db = open::<Test>(engine).await;
        let world = Arc::new(Mutex::new(World::default()));
        start(&db, bad).await;
        runner(&db, &world, crash.clone()).run_until_idle(Duration::from_secs(20)).await.unwrap();
        if crash.fired() {
            let next = runner(&db, &world, Crash::never());
            next.take_over().await.unwrap();
            next.run_until_idle(Duration::from_secs(20)).await.unwrap();
        }
        let (standing, end) = {
            let world = world.lock();
            (world.standing.iter().copied().collect::<Vec<_>>(), world.end.clone())
        };
        assert_eq!(standing, want_standing, "after a crash at {}", crash.place());
        assert_eq!(end.as_deref(), Some(want_end), "after a crash at {}", crash.place());
        let left = read!(db.db, "left", |tx| pending(tx, Wall::KIND, "w1").await).unwrap();
        assert!(!left, "a row is left after a crash at {}", crash.place());
    })
    .await;
    assert!(places.len() >= 6, "crashed at {places:?} only");
}

#[tokio::test]
async fn a_flow_survives_a_crash_at_every_moment() {
    check(Engine::Sqlite, &[], "built", &[(0, "bricks"), (0, "plaster")]).await;
}

#[tokio::test]
async fn a_rewound_flow_survives_a_crash_at_every_moment() {
    check(Engine::Sqlite, &[0], "built", &[(1, "bricks"), (1, "plaster")]).await;
}

#[tokio::test]
async fn a_failing_flow_leaves_nothing_whenever_it_crashes() {
    check(Engine::Sqlite, &[0, 2], "no site is left", &[]).await;
}

#[tokio::test]
async fn flows_run_on_every_engine() {
    for db in open_all::<Test>().await {
        let world = Arc::new(Mutex::new(World::default()));
        start(&db, &[0]).await;
        let runner = runner(&db, &world, Crash::never());
        runner.run_until_idle(Duration::from_secs(20)).await.unwrap();
        assert_eq!(world.lock().end.as_deref(), Some("built"), "{:?}", db.db.engine());
    }
}

#[tokio::test]
async fn a_flow_that_another_process_holds_is_left_to_it() {
    let db = open::<Test>(Engine::Sqlite).await;
    let world = Arc::new(Mutex::new(World::default()));
    start(&db, &[]).await;
    // Dies holding the lease.
    runner(&db, &world, Crash::at(0)).run_until_idle(Duration::from_secs(5)).await.unwrap();
    let second = runner(&db, &world, Crash::never());
    let error = second.run_until_idle(Duration::from_millis(300)).await.unwrap_err();
    assert!(error.is(Kind::Timeout));
    assert_eq!(world.lock().end, None);
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited 60 s for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn work_is_found_at_once_by_whichever_runner_listens() {
    let db = open::<Test>(Engine::Sqlite).await;
    let world = Arc::new(Mutex::new(World::default()));
    let nudge = Nudge::default();
    let runner = || {
        let config = RunnerConfig { sweep: Duration::from_secs(3600), ..RunnerConfig::default() };
        let runner = Runner::new(db.db.clone(), Arc::new(SystemClock), &SystemRng::new(), config);
        Arc::new(runner.with(Wall(world.clone())).nudged_by(&nudge))
    };
    // One that never runs, as the one that ends the leases of earlier processes.
    runner().take_over().await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(runner().run(stopped));
    for _ in 0..3 {
        start(&db, &[]).await;
        nudge.now();
        eventually("the flow has ended", async || {
            !read!(db.db, "left", |tx| pending(tx, Wall::KIND, "w1").await).unwrap()
        })
        .await;
    }
    stop.send_replace(true);
    running.await.unwrap();
}
