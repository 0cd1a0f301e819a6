//! The transport of a process that is control plane and host at once: a call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use umbel_core::{Error, Kind, Result};
use uuid::Uuid;

use crate::{Desired, HostReport, Observed, OnHost, Task, TaskReply, ToAgents, ToCells, ToConductor};

/// A bus within this process. One for each cell: hosts are known by their names, which are unique in a cell.
pub fn local() -> Arc<Hub> {
    Arc::new(Hub { agents: RwLock::default(), conductor: Mutex::new(None), serial: AtomicU64::new(0) })
}

/// Where the agents and the conductor of a cell meet. Ends that are not there yet, or no longer, are `Unavailable`, as
/// they are on a network.
pub struct Hub {
    agents: RwLock<HashMap<String, Registered>>,
    /// Weak: the conductor holds the hub.
    conductor: Mutex<Option<Weak<dyn ToConductor>>>,
    serial: AtomicU64,
}

struct Registered {
    serial: u64,
    agent: Arc<dyn OnHost>,
}

/// An agent's connection. Dropped, the host is disconnected.
pub struct Connection {
    hub: Arc<Hub>,
    host: String,
    serial: u64,
}

impl Hub {
    /// From now on reports go to this conductor, until it is dropped or another one takes its place.
    pub fn conduct(&self, conductor: &Arc<dyn ToConductor>) {
        *self.conductor.lock() = Some(Arc::downgrade(conductor));
    }

    /// Connects the agent of a host. A connection that the host already has is dead from here on.
    pub fn connect(self: &Arc<Self>, host: &str, agent: Arc<dyn OnHost>) -> Connection {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.agents.write().insert(host.to_owned(), Registered { serial, agent });
        Connection { hub: self.clone(), host: host.to_owned(), serial }
    }

    /// Names of the hosts that are connected.
    pub fn hosts(&self) -> Vec<String> {
        self.agents.read().keys().cloned().collect()
    }

    fn agent(&self, host: &str) -> Result<Arc<dyn OnHost>> {
        let agent = self.agents.read().get(host).map(|registered| registered.agent.clone());
        agent.ok_or_else(|| Error::unavailable(format!("Host '{host}' is not connected.")))
    }

    fn conductor(&self) -> Result<Arc<dyn ToConductor>> {
        let conductor = self.conductor.lock().as_ref().and_then(Weak::upgrade);
        conductor.ok_or_else(|| Error::unavailable("No conductor is connected."))
    }
}

#[async_trait]
impl ToAgents for Hub {
    async fn desire(&self, host: &str, desired: Desired) -> Result<()> {
        self.agent(host)?.desire(desired).await;
        Ok(())
    }

    async fn task(&self, host: &str, task: Task, deadline: Duration) -> Result<TaskReply> {
        let agent = self.agent(host)?;
        match tokio::time::timeout(deadline, agent.task(task)).await {
            Ok(reply) => reply,
            Err(_) => Err(Error::new(Kind::Timeout, format!("Host '{host}' did not answer in time."))),
        }
    }

    fn connected(&self, host: &str) -> bool {
        self.agents.read().contains_key(host)
    }
}

impl Connection {
    /// Fails once a newer connection of the same host has taken this one's place.
    fn conductor(&self) -> Result<Arc<dyn ToConductor>> {
        let current = self.hub.agents.read().get(&self.host).map(|registered| registered.serial);
        match current == Some(self.serial) {
            true => self.hub.conductor(),
            false => Err(Error::unavailable(format!("Another agent speaks for host '{}' now.", self.host))),
        }
    }
}

#[async_trait]
impl ToConductor for Connection {
    async fn report(&self, report: HostReport) -> Result<()> {
        self.conductor()?.report(report).await
    }

    async fn observed(&self, host: &str, observed: Observed) -> Result<()> {
        self.conductor()?.observed(host, observed).await
    }

    async fn resync(&self, host: &str, held: Vec<Uuid>) -> Result<Vec<Desired>> {
        self.conductor()?.resync(host, held).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut agents = self.hub.agents.write();
        if agents.get(&self.host).is_some_and(|registered| registered.serial == self.serial) {
            agents.remove(&self.host);
        }
    }
}

/// The hubs of one process, by the names of their cells.
pub struct Hubs(pub Vec<(String, Arc<Hub>)>);

#[async_trait]
impl ToCells for Hubs {
    async fn task(&self, cell: &str, host: &str, task: Task, deadline: Duration) -> Result<TaskReply> {
        match self.0.iter().find(|(name, _)| name == cell) {
            Some((_, hub)) => hub.task(host, task, deadline).await,
            None => Err(Error::unavailable(format!("Host '{host}' is not connected.")).because("another's cell")),
        }
    }
}
