//! What runs on a host: makes what is desired of it real, and reports what it sees.
//!
//! The agent holds the newest desired document of each server and converges towards it: look, compare, act, report.
//! One server's work is done in order, different servers' side by side. It keeps nothing on disk: what is desired comes
//! from the conductor (on connecting, by period, and at each change), what is there comes from the hypervisor and the
//! pools. So an agent that is killed at any point starts again, asks, looks, and goes on.
//!
//! Power is made as desired once for each generation. After that it is the guest's: one that shuts itself down is
//! reported and stays off, as compute upstream has it, and so is one that is off after its host was restarted.
//!
//! Refused: a local database of what was done. It would be a third opinion beside the conductor's and the host's own,
//! and the one that is wrong after a crash.

mod agent;
mod book;
mod config;
mod converge;
mod disks;
mod import;
mod limits;
mod moves;
mod report;
mod steps;
mod tasks;
mod turns;
mod volumes;

pub use agent::Agent;
pub use config::{AgentConfig, HostPool, HostPools, ImageStore};
