//! Work that outlives a request and a process: typed steps whose progress is a row in the database of the thing they
//! work on, written in the same transaction as the thing itself.
//!
//! A [`Flow`] names its steps and says what each does and undoes. The [`Runner`] leases rows, runs steps, saves after
//! each, and on failure undoes what was done, backwards. A process that dies leaves its leases to expire; another
//! goes on from the last saved step. So: **a step may run twice, its undo may run twice, and without its `run`.**
//!
//! Only an end that is written by [`finish`], with what the flow does last, is once and for all.
//!
//! Steps are an enum and state is a struct: a flow that reads what no step wrote does not compile. (Refused: saga
//! libraries that carry strings to JSON values between closures.)

mod fence;
mod flow;
pub mod harness;
mod row;
mod runner;

pub use fence::{Fence, Process};
pub use flow::{Flow, Next, Run, Step};
pub use harness::{Crash, Moment};
pub use row::{NewFlow, TABLE, TABLE_INDEX, enqueue, finish, pending, under_way};
pub use runner::{Nudge, Runner, RunnerConfig};
