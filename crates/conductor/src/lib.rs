//! Compute's workflows and reconcilers: what brings servers from "asked for" to "as asked for".
//!
//! Two halves, which may live in one process or in many:
//! * [`Conductor`] works on the global database. It runs the flow that makes a server: chooses cell and host, claims,
//!   has it spawned, tries another host if that fails; and it mends the map of servers.
//! * [`CellConductor`] works on one cell's database and speaks with its agents. It sends what should be, takes in what
//!   is, and looks by period after everything that is not as it should be. It runs the flows that bring volumes to servers
//!   and take them away. It knows nothing of the global database.
//!
//! Everything is done twice over: at once when somebody says that there is something to do, and again by period in case
//! nobody did. A message, a nudge or a view in memory may be lost or stale without more harm than a delay; what decides
//! is always a transaction.

mod attach;
mod cell;
mod conductor;
mod config;
mod create;
mod create_volumes;
mod detach;
mod documents;
mod hosts;
mod image;
mod imaging;
mod metadata;
mod observe;
mod placing;
mod purge;
mod reconcile;
mod release;
mod request;
mod reserve;
mod swap;
mod view;
mod volumes;
mod volumes_image;
mod watch;

pub use cell::{CellConductor, Services};
pub use conductor::Conductor;
pub use config::{ConductorConfig, ConfigDrives, Ratios};
