//! What hosts and pools have, and who holds how much of it: functions over a cell's database.
//!
//! A claim is counted in the row of the host and of each pool by one conditional `UPDATE`, in the caller's transaction,
//! beside the row per holder. Two schedulers that chose the same room cannot both get it, whatever they had read before;
//! and a server never exists without its claim, since both are written together. The refused alternative is a service
//! of its own with its own database (as upstream has it): that is where orphaned allocations come from.
//!
//! The tables stand in the cell's schema. A schema says that it holds them by implementing [`InCell`].

mod claims;
mod hosts;
mod pools;
mod ratio;
mod schema;

pub use claims::{Claim, Consumer, ConsumerId, DiskClaim, Drift, Held, audit, claim, held, release};
pub use hosts::{Host, HostId, HostUpdate, disable, enable, force_down, host, host_by_name, hosts, seen, upsert_host};
pub use pools::{Pool, PoolId, PoolUpdate, Reach, keep_pools, pools, upsert_pool};
pub use ratio::Ratio;
pub use schema::{InCell, TABLES};
