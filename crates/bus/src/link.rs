use std::time::Duration;

use async_trait::async_trait;
use umbel_core::Result;
use uuid::Uuid;

use crate::{Desired, HostReport, Observed, Task, TaskReply};

/// The way to the agents of a cell: what conductors and the API hold.
#[async_trait]
pub trait ToAgents: Send + Sync {
    /// Sends what should be. `Ok` says that it is on its way, not that it arrived and not that it is done.
    /// `Unavailable` if the host's agent is not connected: it learns of it when it connects.
    async fn desire(&self, host: &str, desired: Desired) -> Result<()>;

    /// Asks, and waits for the answer. `Unavailable` if the agent is not connected, `Timeout` after `deadline`, else
    /// the agent's own error.
    async fn task(&self, host: &str, task: Task, deadline: Duration) -> Result<TaskReply>;

    fn connected(&self, host: &str) -> bool;
}

/// The way to the agents of all cells: what compute's API holds. Two cells may each have a host of one name.
#[async_trait]
pub trait ToCells: Send + Sync {
    /// As [`ToAgents::task`], of a host in the cell of this name.
    async fn task(&self, cell: &str, host: &str, task: Task, deadline: Duration) -> Result<TaskReply>;
}

/// The way to the conductors of a cell: what agents hold, and what a conductor implements.
#[async_trait]
pub trait ToConductor: Send + Sync {
    /// Tells of the host and all its guests: on connecting and as a heartbeat.
    async fn report(&self, report: HostReport) -> Result<()>;

    /// Tells of a change of one server.
    async fn observed(&self, host: &str, observed: Observed) -> Result<()>;

    /// What should be of all servers of the host, and of all that it `held`. A held one that the cell has deleted, or
    /// has on another host, is answered `Absent`; one that the cell never knew is not in the answer, and the agent
    /// leaves it alone: it may belong to somebody else.
    async fn resync(&self, host: &str, held: Vec<Uuid>) -> Result<Vec<Desired>>;
}

/// The agent's end of a connection: what an agent implements.
#[async_trait]
pub trait OnHost: Send + Sync {
    /// Takes note and returns; the work goes on behind it.
    async fn desire(&self, desired: Desired);

    async fn task(&self, task: Task) -> Result<TaskReply>;

    /// A conductor is there that was not before: time to tell it what is here, and to ask what should be.
    fn connected(&self) {}
}
