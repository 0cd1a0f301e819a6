//! A process that dies at any moment of any flow loses nothing that was promised and leaves nothing that nobody knows.
//!
//! Each flow of [`flows::CASES`] dies before and after each of its steps, within each step as it is about to change a
//! pool for the nth time, and meets pools whose answers are lost and pools that fail. Another process ends what it began;
//! then every promise must hold, and rows, pools and quotas must say the same ([`books`]).

use std::collections::BTreeSet;

use umbel_core::Kind;
use umbel_db::Engine;
use umbel_driver::Operation;
use umbel_workflow::Crash;
use umbel_workflow::harness::at_every_moment;

use crate::books;
use crate::cloud::Cloud;
use crate::flows::{self, Case};

async fn fresh() -> Cloud {
    Cloud::with(Engine::Sqlite, flows::config()).await
}

/// What another process does after the death of the first, and what every process does now and then.
async fn recover(cloud: &Cloud) {
    cloud.world.heal();
    let (other, _) = cloud.another().await;
    for _ in 0..4 {
        cloud.work_with(&other, Crash::never()).await;
        other.sweep().await;
    }
    cloud.work_with(&other, Crash::never()).await;
}

/// Dies before and after each step.
async fn between_steps(case: &Case) {
    let places = at_every_moment(async |crash: Crash| {
        let cloud = fresh().await;
        let promise = (case.begin)(&cloud).await;
        cloud.work_with(&cloud.volumes, crash.clone()).await;
        recover(&cloud).await;
        let place = format!("{}: {}", case.name, crash.place());
        promise.kept(&cloud, &place).await;
        books::check(&cloud, &place).await;
    })
    .await;
    assert!(places.iter().any(|place| place.starts_with(case.kind)), "{}: {places:?}", case.name);
}

/// Dies within steps; what it asked of pools.
async fn within_steps(case: &Case) -> BTreeSet<Operation> {
    let mut asked = BTreeSet::new();
    for nth in 0.. {
        let cloud = fresh().await;
        let promise = (case.begin)(&cloud).await;
        let Some(at) = cloud.work_until_change(&cloud.volumes, nth).await else { break };
        recover(&cloud).await;
        let place = format!("{}: change {nth}, {:?} of {}", case.name, at.operation, at.subject);
        asked.insert(at.operation);
        promise.kept(&cloud, &place).await;
        books::check(&cloud, &place).await;
    }
    asked
}

/// A pool does what it is asked for, and nobody hears of it.
async fn unheard(case: &Case, operation: Operation) {
    let cloud = fresh().await;
    let promise = (case.begin)(&cloud).await;
    cloud.world.lose_answers(operation, 1);
    cloud.work().await;
    recover(&cloud).await;
    let place = format!("{}: lost answer to {operation:?}", case.name);
    promise.kept(&cloud, &place).await;
    books::check(&cloud, &place).await;
}

/// A pool fails for good, and the process dies while it takes back what it did. Nothing is promised then, but that the
/// books are right.
async fn refused(case: &Case, operation: Operation) {
    let fails = async |crash: &Crash| {
        let cloud = fresh().await;
        (case.begin)(&cloud).await;
        cloud.world.fail_next(operation, 3, Kind::NoSpace);
        cloud.work_with(&cloud.volumes, crash.clone()).await;
        recover(&cloud).await;
        books::check(&cloud, &format!("{}: failed {operation:?}, {}", case.name, crash.place())).await;
    };
    let whole = Crash::never();
    fails(&whole).await;
    // From the end back to where it failed: up to there it is as it was without failures.
    for nth in (0..whole.moments()).rev() {
        let crash = Crash::at(nth);
        fails(&crash).await;
        if !crash.place().contains("Undo") && !crash.place().contains("Failed") {
            break;
        }
    }
}

/// All flows whose names begin like this.
async fn survives(beginning: &str) {
    let cases: Vec<_> = flows::CASES.iter().filter(|case| case.name.starts_with(beginning)).collect();
    assert!(!cases.is_empty(), "no flow is called {beginning}");
    for case in cases {
        between_steps(case).await;
        for operation in within_steps(case).await {
            unheard(case, operation).await;
            refused(case, operation).await;
        }
    }
}

#[tokio::test]
async fn creations_from_images() {
    survives("create from an image").await;
}

#[tokio::test]
async fn creations_from_volumes() {
    survives("create from a volume").await;
}

#[tokio::test]
async fn other_creations() {
    for beginning in ["create from nothing", "create from a snapshot", "create a clone", "create from a backup"] {
        survives(beginning).await;
    }
}

#[tokio::test]
async fn extensions() {
    survives("extend").await;
}

#[tokio::test]
async fn reverts() {
    survives("revert").await;
}

#[tokio::test]
async fn snapshots() {
    survives("snapshot").await;
}

#[tokio::test]
async fn deletions() {
    survives("delete").await;
}

#[tokio::test]
async fn moves() {
    survives("move").await;
}

#[tokio::test]
async fn uploads() {
    survives("upload").await;
}

#[tokio::test]
async fn managing() {
    survives("manage").await;
}

#[tokio::test]
async fn reimages() {
    survives("reimage").await;
}

#[tokio::test]
async fn backups() {
    survives("backup").await;
}

#[tokio::test]
async fn groups() {
    survives("group").await;
}
