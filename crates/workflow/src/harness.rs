//! The test harness that crashes a flow at every moment of every step.
//!
//! A crash is simulated by leaving: the runner stops in the middle, saves nothing and releases nothing, as a killed
//! process would. The test then builds a new runner over the same database and drivers, lets it take over, and checks
//! that the world is clean. Because "after a step, before it is saved" is one of the moments, every step and every undo
//! is also run twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    BeforeStep,
    /// The step has run; nobody wrote that down.
    AfterStep,
    AfterSave,
    BeforeUndo,
    AfterUndo,
    BeforeFailed,
    AfterFailed,
}

/// Decides at each moment whether the process dies there. Shared by all clones.
#[derive(Clone, Default)]
pub struct Crash(Arc<Inner>);

#[derive(Default)]
struct Inner {
    at: Option<usize>,
    seen: AtomicUsize,
    fired: AtomicBool,
    place: Mutex<String>,
}

impl Crash {
    pub fn never() -> Self {
        Self::default()
    }

    /// Dies at the `nth` moment it comes by, counted from 0.
    pub fn at(nth: usize) -> Self {
        Crash(Arc::new(Inner { at: Some(nth), ..Inner::default() }))
    }

    pub fn fired(&self) -> bool {
        self.0.fired.load(Ordering::SeqCst)
    }

    /// How many moments it came by.
    pub fn moments(&self) -> usize {
        self.0.seen.load(Ordering::SeqCst)
    }

    /// Where it died, for a test's message: `server_create: spawn: AfterStep`.
    pub fn place(&self) -> String {
        self.0.place.lock().clone()
    }

    pub(crate) fn here(&self, kind: &str, step: &str, moment: Moment) -> bool {
        let number = self.0.seen.fetch_add(1, Ordering::SeqCst);
        if self.fired() {
            // The process is dead; what still runs in it does nothing more.
            return true;
        }
        if self.0.at != Some(number) {
            return false;
        }
        *self.0.place.lock() = format!("{kind}: {step}: {moment:?}");
        self.0.fired.store(true, Ordering::SeqCst);
        true
    }
}

/// Runs `scenario` with a crash at moment 0, 1, 2, … until one run comes by no crash; the places where it crashed.
///
/// The scenario builds its world, runs flows with the switch it is given, and if that fired, recovers with
/// [`Crash::never`] and checks.
pub async fn at_every_moment<F, Fut>(mut scenario: F) -> Vec<String>
where
    F: FnMut(Crash) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut places = Vec::new();
    loop {
        let crash = Crash::at(places.len());
        scenario(crash.clone()).await;
        if !crash.fired() {
            return places;
        }
        places.push(crash.place());
    }
}
