//! How flows end: once and for all where they say so, and late without undoing what is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use umbel_core::{Clock, Error, ManualClock, Result, SystemRng, Timestamp};
use umbel_db::testing::{open, open_all};
use umbel_db::{Db, Engine, read, tx};
use umbel_workflow::harness::at_every_moment;
use umbel_workflow::{Crash, Flow, NewFlow, Next, Run, Runner, RunnerConfig, Step, enqueue, finish, pending};

use crate::Test;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Work,
    Close,
}

impl Step for Act {
    const ALL: &'static [Self] = &[Act::Work, Act::Close];

    fn name(self) -> &'static str {
        match self {
            Act::Work => "work",
            Act::Close => "close",
        }
    }
}

#[derive(Default)]
struct Counts {
    worked: AtomicU32,
    closed: AtomicU32,
    undone: AtomicU32,
    failed: AtomicU32,
}

struct Shop {
    db: Db<Test>,
    counts: Arc<Counts>,
}

#[async_trait]
impl Flow for Shop {
    type Schema = Test;
    /// Whether it never has enough to do.
    type State = bool;
    type Step = Act;
    const KIND: &'static str = "shop";
    const DEADLINE: Duration = Duration::from_secs(60);

    async fn run(&self, step: Act, idle: &mut bool, run: &Run) -> Result<Next<Act>> {
        match step {
            Act::Work if *idle => Ok(Next::Wait(Duration::from_secs(1))),
            Act::Work => {
                self.counts.worked.fetch_add(1, Ordering::SeqCst);
                Ok(Next::Go(Act::Close))
            }
            Act::Close => {
                tx!(self.db, "close", |tx| finish(tx, run).await)?;
                self.counts.closed.fetch_add(1, Ordering::SeqCst);
                Ok(Next::Done)
            }
        }
    }

    async fn undo(&self, _: Act, _: &mut bool, _: &Run) -> Result<()> {
        self.counts.undone.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn failed(&self, _: &mut bool, _: &Error, run: &Run) -> Result<()> {
        tx!(self.db, "give up", |tx| finish(tx, run).await)?;
        self.counts.failed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct Street {
    db: Db<Test>,
    counts: Arc<Counts>,
    clock: Arc<ManualClock>,
}

impl Street {
    fn new(db: &Db<Test>) -> Street {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_795_000_000)));
        Street { db: db.clone(), counts: Arc::default(), clock }
    }

    async fn open(&self, idle: bool) {
        let now = self.clock.now();
        tx!(self.db, "open", |tx| {
            let flow = NewFlow {
                id: "s",
                kind: Shop::KIND,
                first_step: Act::Work.name(),
                state: &idle,
                request_id: "req",
                now,
                deadline: now.plus(Shop::DEADLINE),
            };
            enqueue(tx, flow).await
        })
        .unwrap();
    }

    async fn run(&self, crash: Crash) {
        let config = RunnerConfig { lease: Duration::from_secs(86_400), crash, ..RunnerConfig::default() };
        let shop = Shop { db: self.db.clone(), counts: self.counts.clone() };
        let runner = Arc::new(Runner::new(self.db.clone(), self.clock.clone(), &SystemRng::new(), config).with(shop));
        runner.take_over().await.unwrap();
        runner.run_until_idle(Duration::from_secs(60)).await.unwrap();
    }

    fn counted(&self) -> [u32; 4] {
        let counts = &self.counts;
        [&counts.worked, &counts.closed, &counts.undone, &counts.failed].map(|one| one.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn an_end_with_the_last_change_comes_once() {
    let places = at_every_moment(async |crash: Crash| {
        let db = open::<Test>(Engine::Sqlite).await;
        let street = Street::new(&db.db);
        street.open(false).await;
        street.run(crash.clone()).await;
        street.run(Crash::never()).await;
        assert_eq!(street.counted()[1..], [1, 0, 0], "{}", crash.place());
        assert!(!read!(db.db, "left", |tx| pending(tx, Shop::KIND, "s").await).unwrap());
    })
    .await;
    assert!(places.contains(&"shop: close: AfterStep".to_owned()), "{places:?}");
}

#[tokio::test]
async fn what_is_set_free_can_be_taken_at_once() {
    for db in open_all::<Test>().await {
        let street = Street::new(&db.db);
        for round in 1..=2 {
            street.open(false).await;
            // Dies with the work done and the row gone.
            street.run(Crash::at(4)).await;
            assert_eq!(street.counted(), [round, round, 0, 0], "{:?}", db.db.engine());
        }
    }
}

#[tokio::test]
async fn what_comes_late_is_done_and_what_waits_too_long_is_not() {
    for (idle, want) in [(false, [1, 1, 0, 0]), (true, [0, 0, 1, 1])] {
        let db = open::<Test>(Engine::Sqlite).await;
        let street = Street::new(&db.db);
        street.open(idle).await;
        street.clock.advance(Duration::from_secs(7 * 86_400));
        street.run(Crash::never()).await;
        assert_eq!(street.counted(), want);
    }
}
