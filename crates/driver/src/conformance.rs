//! The promises of [`Pool`](crate::Pool) and [`Hypervisor`](crate::Hypervisor) as suites that every driver passes.
//!
//! This module is test support: it is called from the integration tests of this crate and of every crate that holds a
//! driver, and it panics with a sentence that names the broken promise. It is part of the library rather than behind a
//! feature, because a feature that only tests turn on would make two builds of everything that depends on this crate.
//!
//! Suites use names of their own (a random prefix), so they can run against a store that is in use, with two limits:
//! nobody else may purge the pool meanwhile, and what a failed suite leaves is for the caller to throw away.

// A suite can only say what it found by panicking; nothing of the product calls it.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

mod changes;
mod disks;
mod hypervisor;
mod names;
mod pool;
mod sharing;

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use umbel_core::{Kind, Result};

pub use hypervisor::{Guest, SPARE, hypervisor};
pub use names::pool_under_writers;
pub use pool::pool;
pub use sharing::{pool_under_guest, two_pools};

/// How long a suite waits for what may take a while (a guest that starts, a cleanup behind a dropped future). Generous:
/// emulated guests on a busy machine of two cores must make it.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long one check may take before it counts as hung.
const CHECK_LIMIT: Duration = Duration::from_secs(300);

/// Runs one check with its name on the test's output, so that a failure is found without a debugger.
async fn check(name: &str, work: impl Future<Output = ()>) {
    eprintln!("conformance: {name}");
    // Boxed: unoptimized, the frames of a whole suite in one future are more than a test thread's stack.
    if tokio::time::timeout(CHECK_LIMIT, Box::pin(work)).await.is_err() {
        panic!("conformance check '{name}' did not end within {CHECK_LIMIT:?}");
    }
}

/// Asks `what` again until it says yes.
async fn eventually(promise: &str, what: impl AsyncFn() -> bool) {
    let asked = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, asked).await.is_err() {
        panic!("{promise}: not within {PATIENCE:?}");
    }
}

#[track_caller]
fn done<T>(promise: &str, outcome: Result<T>) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => panic!("{promise}: failed with {:?}: {}", error.kind(), error.for_log()),
    }
}

#[track_caller]
fn refused<T: Debug>(promise: &str, outcome: Result<T>, kind: Kind) {
    match outcome {
        Ok(value) => panic!("{promise}: succeeded with {value:?} instead of failing with {kind:?}"),
        Err(error) if error.is(kind) => {}
        Err(error) => panic!("{promise}: failed with {:?} ({}) instead of {kind:?}", error.kind(), error.for_log()),
    }
}
