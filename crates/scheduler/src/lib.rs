//! Which host takes a server: filters, weighers, choice, explanation. Pure: no IO, no clock; randomness comes in.
//!
//! It looks at views that the caller keeps in memory, so that a choice among 10,000 hosts costs about a millisecond and
//! no query. A view may be stale: the transaction that claims the resources decides, and a refused claim is a reason to
//! ask again without that host. Every choice, and every failure, carries its [`Funnel`]: how many hosts each filter
//! left.
//!
//! Refused: asking the database for candidates, as a service of its own does upstream. It makes the scheduler's cost
//! that of a query over all hosts, and explains nothing.

mod choose;
mod filter;
mod funnel;
mod view;
mod weigh;

pub use choose::{Choice, Scheduler};
pub use filter::{FILTERS, Filter};
pub use funnel::{Funnel, Stage};
pub use view::{DiskRequest, HostView, PoolView, Request, Resource};
pub use weigh::Weights;
