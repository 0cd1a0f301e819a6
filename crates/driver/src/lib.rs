//! What a host can do, as traits, and the drivers that need nothing but a file system: local files and simulations.
//! Real hypervisors and Ceph live in crates of their own; every driver passes the suites in [`conformance`].

pub mod config_drive;
pub mod conformance;
pub mod convert;
pub mod extents;
mod hypervisor;
mod local;
mod location;
mod pool;
mod simulated;

pub use hypervisor::{
    Attachment, DiskFormat, DomainDisk, DomainEvent, DomainSpec, DomainState, HostFacts, Hypervisor, LiveDisks,
    Mirroring, Power,
};
pub use local::{LocalPool, LocalStore};
pub use location::Location;
pub use pool::{
    ByteStream, Capacity, Change, ChangeStream, Child, DiskInfo, Extent, Hidden, Limits, Pool, Progress, Removed,
    Usage, WriteOptions, check_together, no_progress,
};
pub use simulated::{HostSize, Mode, Operation, SimulatedHypervisor, SimulatedPool, Simulation, Timings, Waiting};
