//! Documents between conductors and agents, and what carries them.
//!
//! The control plane says what should be ([`Desired`]), an agent says what is ([`Observed`]); both are whole documents
//! with a generation, never steps or differences. No message carries truth: what should be stands in the cell's
//! database, what is stands on the host, and a message only saves the wait until somebody looks. Hence every message
//! may be lost, come twice or come late, and a transport needs neither queues nor acknowledgements; [`Faulty`] makes
//! tests live with that.
//!
//! Refused: remote procedure calls with a meaning of their own (`start_server`, `delete_server`). Each would need its
//! own answer to "did it happen?" after a broken connection, and a broker to keep it while a host is away.

mod document;
mod faulty;
mod grpc;
mod link;
mod local;

pub use document::{
    Blob, ConfigDrive, ConfigFile, Desired, Disk, DiskRef, DiskSource, Domain, Facts, HostReport, ImageSource, Limited,
    Move, Moved, Observed, PoolReport, Power, Restart, SnapshotAt, Step, StepReport, Target, Task, TaskReply, Volume,
    Want,
};
pub use faulty::{Faults, Faulty};
pub use grpc::{
    Authority, Conductors, Control, Credentials, Gate, Images, Issued, Security, Uplink, Uplinks, fingerprint,
};
pub use link::{OnHost, ToAgents, ToCells, ToConductor};
pub use local::{Connection, Hub, Hubs, local};

/// An image's data on their way to a host.
pub struct ImageBytes {
    /// What these bytes are, where that is told; else they are in the image's format. An image may be given its raw twin for
    /// its data after it was looked at.
    pub disk_format: Option<String>,
    pub bytes: ByteStream,
}

/// The bytes of an image on their way.
pub type ByteStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = umbel_core::Result<bytes::Bytes>> + Send>>;
