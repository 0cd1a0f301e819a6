//! Hosts and pools that exist in memory only: for demonstrations, for the crash harness, and for scale. The code above
//! runs as it would on real ones.
//!
//! A [`Simulation`] is the world, and drivers are views of it: a driver object that is made again over the same world
//! finds what the one before left, as a restarted process finds its guests and disks. What an operation costs and
//! whether it fails is the world's to say, so that one test steers all drivers from one place.
//!
//! Refused: a recording mock per test. It would promise what no store keeps; these pass the suites of the real drivers.

mod disks;
mod hypervisor;
mod pool;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use umbel_core::{Error, Kind, Result};

pub use hypervisor::{HostSize, SimulatedHypervisor};
pub use pool::SimulatedPool;

/// What a driver is asked to do. Queries count as one, since nobody steps through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Query,
    Create,
    Write,
    Read,
    Snapshot,
    RemoveSnapshot,
    Rollback,
    Clone,
    Resize,
    Flatten,
    Remove,
    Purge,
    /// Of disks and of snapshots.
    Rename,
    Patch,
    Limit,
    Start,
    Shutdown,
    Destroy,
    Reset,
    Pause,
    Resume,
    Undefine,
    Attach,
    Detach,
    Extend,
    /// Each step of a disk's way to another place.
    Mirror,
    Freeze,
    Thaw,
}

/// How long operations take.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// For each operation that is not in `of`.
    pub each: Duration,
    pub of: BTreeMap<Operation, Duration>,
}

#[derive(Clone, Debug)]
pub enum Mode {
    Timed(Timings),
    /// Every operation but queries waits, before it has any effect, until it is released ([`Simulation::step`]).
    Stepped,
}

impl Default for Mode {
    /// Everything is done at once.
    fn default() -> Self {
        Mode::Timed(Timings::default())
    }
}

/// An operation that waits to be released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub ticket: u64,
    pub operation: Operation,
    /// The disk's name or the domain's id.
    pub subject: String,
}

/// A world of simulated hosts and pools.
pub struct Simulation {
    mode: Mutex<Mode>,
    gate: Mutex<Gate>,
    arrived: Notify,
    faults: Mutex<HashMap<Operation, Vec<Fault>>>,
    pools: Mutex<disks::Pools>,
    hosts: Mutex<HashMap<String, Arc<hypervisor::Host>>>,
}

#[derive(Default)]
struct Gate {
    next_ticket: u64,
    /// Oldest first.
    waiting: Vec<(Waiting, oneshot::Sender<()>)>,
}

#[derive(Clone, Copy)]
struct Fault {
    kind: Kind,
    /// Whether the operation takes effect before it fails.
    after: bool,
}

impl Simulation {
    pub fn new(mode: Mode) -> Arc<Self> {
        Arc::new(Simulation {
            mode: Mutex::new(mode),
            gate: Mutex::default(),
            arrived: Notify::new(),
            faults: Mutex::default(),
            pools: Mutex::default(),
            hosts: Mutex::default(),
        })
    }

    /// Changes the mode for operations that start from now on, and releases those that wait.
    pub fn set_mode(&self, mode: Mode) {
        *self.mode.lock() = mode;
        let waiting = std::mem::take(&mut self.gate.lock().waiting);
        for (_, release) in waiting {
            let _ = release.send(());
        }
    }

    /// The next `times` operations of this kind fail with `kind` and have no effect.
    pub fn fail_next(&self, operation: Operation, times: usize, kind: Kind) {
        self.inject(operation, times, Fault { kind, after: false });
    }

    /// The next `times` operations of this kind take effect, but their answer is lost: they fail with
    /// [`Kind::Timeout`], as when the link to a cluster breaks at the wrong moment.
    pub fn lose_answers(&self, operation: Operation, times: usize) {
        self.inject(operation, times, Fault { kind: Kind::Timeout, after: true });
    }

    /// Nothing fails any more but by itself.
    pub fn heal(&self) {
        self.faults.lock().clear();
    }

    fn inject(&self, operation: Operation, times: usize, fault: Fault) {
        self.faults.lock().entry(operation).or_default().extend(std::iter::repeat_n(fault, times));
    }

    /// The operations that wait, oldest first.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.gate.lock().waiting.iter().map(|(waiting, _)| waiting.clone()).collect()
    }

    /// The oldest operation that waits, once there is one.
    pub async fn next_waiting(&self) -> Waiting {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if let Some((waiting, _)) = self.gate.lock().waiting.first() {
                return waiting.clone();
            }
            arrived.await;
        }
    }

    /// Lets one operation go on. False if it does not wait: its caller gave up, or it was released before.
    pub fn release(&self, ticket: u64) -> bool {
        let mut gate = self.gate.lock();
        let Some(at) = gate.waiting.iter().position(|(waiting, _)| waiting.ticket == ticket) else {
            return false;
        };
        let (_, release) = gate.waiting.remove(at);
        release.send(()).is_ok()
    }

    /// Waits for an operation to arrive, lets the oldest go on, and tells which it was.
    pub async fn step(&self) -> Waiting {
        loop {
            let waiting = self.next_waiting().await;
            if self.release(waiting.ticket) {
                return waiting;
            }
        }
    }

    /// Every operation passes here: first what it costs, then its effect, unless a fault takes the one or the answer.
    async fn perform<T>(&self, op: Operation, subject: &str, effect: impl FnOnce() -> Result<T>) -> Result<T> {
        self.pace(op, subject).await;
        let fault = self.faults.lock().get_mut(&op).filter(|faults| !faults.is_empty()).map(|faults| faults.remove(0));
        let Some(fault) = fault else {
            return effect();
        };
        let error = Error::new(fault.kind, format!("The simulation was told to fail the operation on '{subject}'."));
        if fault.after {
            effect()?;
        }
        Err(error.because(format!("injected into {op:?}")))
    }

    async fn pace(&self, operation: Operation, subject: &str) {
        let delay = match &*self.mode.lock() {
            Mode::Timed(timings) => Some(*timings.of.get(&operation).unwrap_or(&timings.each)),
            Mode::Stepped if operation == Operation::Query => Some(Duration::ZERO),
            Mode::Stepped => None,
        };
        match delay {
            Some(Duration::ZERO) => {}
            Some(delay) => tokio::time::sleep(delay).await,
            None => self.wait_for_release(operation, subject).await,
        }
    }

    async fn wait_for_release(&self, operation: Operation, subject: &str) {
        let (release, released) = oneshot::channel();
        let ticket = {
            let mut gate = self.gate.lock();
            gate.next_ticket += 1;
            let ticket = gate.next_ticket;
            gate.waiting.push((Waiting { ticket, operation, subject: subject.to_owned() }, release));
            ticket
        };
        self.arrived.notify_waiters();
        // A caller that gives up must not be waited for.
        let _leave = Leave { simulation: self, ticket };
        let _ = released.await;
    }
}

struct Leave<'a> {
    simulation: &'a Simulation,
    ticket: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.simulation.gate.lock().waiting.retain(|(waiting, _)| waiting.ticket != self.ticket);
    }
}
