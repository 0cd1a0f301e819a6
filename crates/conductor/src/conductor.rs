use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::JoinSet;
use umbel_bus::{Desired, Task, TaskReply, ToAgents};
use umbel_compute::model::ServerId;
use umbel_compute::{Api, Cell, CellId, Cells, VolumeCatalog};
use umbel_core::{Clock, Error, Result, Rng, Timestamp};
use umbel_db::Db;
use umbel_workflow::{Nudge, Runner};

use crate::cell::Services;
use crate::create::ServerCreate;
use crate::reserve::ServerReserve;
use crate::view::Placement;
use crate::{CellConductor, ConductorConfig};

/// For how long a choice is kept for the claim that follows it. A claim without it chooses again.
const CHOICE: Duration = Duration::from_secs(60);

/// The conductor of a cloud, with the conductors of the cells that this process serves.
pub struct Conductor {
    pub(crate) parts: Arc<Parts>,
    runner: Arc<Runner<Api>>,
    /// Of the cells that this process serves, `cell0` among them.
    cell_runners: Vec<Arc<Runner<Cell>>>,
}

/// What flows and reconcilers share.
pub(crate) struct Parts {
    pub api: Db<Api>,
    pub cells: Arc<Cells>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub config: Arc<ConductorConfig>,
    started: Timestamp,
    pub volumes: Arc<dyn VolumeCatalog>,
    services: Services,
    conductors: RwLock<HashMap<CellId, Arc<CellConductor>>>,
    /// Of servers that found no host: only their volumes are left to care for.
    zero: Arc<CellConductor>,
    /// From the choice of a cell to the claim in it: the host, and when the choice began.
    pub chosen: Mutex<HashMap<ServerId, (Placement, Timestamp)>>,
}

impl Conductor {
    /// `agents`: for each cell with hosts, the way to them.
    pub fn new(
        config: ConductorConfig,
        api: Db<Api>,
        cells: Arc<Cells>,
        agents: Vec<(CellId, Arc<dyn ToAgents>)>,
        services: Services,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Arc<Self>> {
        let config = Arc::new(config);
        let (zero, nobody) = (cells.zero().clone(), Arc::new(NoAgents));
        let zero = CellConductor::new(zero, nobody, services.clone(), clock.clone(), rng.clone(), config.clone());
        let parts = Arc::new(Parts {
            api: api.clone(),
            cells,
            clock: clock.clone(),
            rng: rng.clone(),
            config: config.clone(),
            started: clock.now(),
            volumes: services.volumes.clone(),
            services,
            conductors: RwLock::default(),
            zero: Arc::new(zero),
            chosen: Mutex::default(),
        });
        for (id, agents) in agents {
            parts.add(id, agents)?;
        }
        let runner = Runner::new(api, clock, &*rng, config.runner.clone())
            .with(ServerCreate(parts.clone()))
            .with(ServerReserve(parts.clone()));
        let mut served = parts.cells_with_hosts();
        served.push(parts.zero.clone());
        let cell_runners = served.iter().map(|cell| cell.runner(&config)).collect();
        Ok(Arc::new(Conductor { parts, runner: Arc::new(runner), cell_runners }))
    }

    /// The conductor of a cell; also what agents of that cell report to.
    pub fn cell(&self, id: CellId) -> Result<Arc<CellConductor>> {
        self.parts.cell(id)
    }

    /// For whoever enqueues a flow: to be called after the commit.
    pub fn nudge(&self) -> Nudge {
        self.runner.nudge()
    }

    /// Goes on at once with what an earlier process left. Only where no other process runs flows on this database.
    pub async fn take_over(&self) -> Result<()> {
        for runner in &self.cell_runners {
            runner.take_over().await?;
        }
        self.runner.take_over().await
    }

    /// Works until told to stop, then lets running steps end.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        for cell in self.parts.cells_with_hosts() {
            tasks.spawn(cell.run(stop.clone()));
        }
        for runner in &self.cell_runners {
            tasks.spawn(runner.clone().run(stop.clone()));
        }
        tasks.spawn(self.clone().reconcile(stop.clone()));
        self.runner.clone().run(stop).await;
        while tasks.join_next().await.is_some() {}
    }

    /// Runs flows until none is left or the crash switch of the configuration fires. For tests.
    pub async fn run_until_idle(&self, limit: Duration) -> Result<()> {
        self.runner.run_until_idle(limit).await?;
        for runner in &self.cell_runners {
            runner.run_until_idle(limit).await?;
        }
        Ok(())
    }

    async fn reconcile(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.reconcile_once().await {
                tracing::warn!(cause = error.cause(), "the map of servers is left as it is: {error}");
            }
            if !pause(self.parts.config.reconcile, &mut stop).await {
                return;
            }
        }
    }
}

impl umbel_compute::Nudge for Conductor {
    fn flow(&self) {
        self.nudge().now();
    }

    fn server(&self, cell: CellId, server: ServerId) {
        // A cell of another process is swept there.
        let Ok(cell) = self.parts.cell(cell) else { return };
        tokio::spawn(async move {
            if let Err(error) = cell.changed(server).await {
                tracing::warn!(%server, cause = error.cause(), "a change is left to the sweep: {error}");
            }
        });
    }
}

impl Parts {
    fn add(&self, id: CellId, agents: Arc<dyn ToAgents>) -> Result<()> {
        let cell = self.cells.get(id).ok_or_else(|| Error::internal(format!("cell {id} is not open")))?;
        let (services, clock, rng) = (self.services.clone(), self.clock.clone(), self.rng.clone());
        let conductor = CellConductor::new(cell, agents, services, clock, rng, self.config.clone());
        self.conductors.write().insert(id, Arc::new(conductor));
        Ok(())
    }

    /// `Unavailable` if this process does not serve the cell: its flows wait for one that does.
    pub fn cell(&self, id: CellId) -> Result<Arc<CellConductor>> {
        if id == Cells::ZERO {
            return Ok(self.zero.clone());
        }
        let conductor = self.conductors.read().get(&id).cloned();
        conductor.ok_or_else(|| Error::unavailable("The cell is not served here.").because(format!("cell {id}")))
    }

    pub fn cells_with_hosts(&self) -> Vec<Arc<CellConductor>> {
        self.conductors.read().values().cloned().collect()
    }

    /// Whether this process is so new that hosts may not have spoken yet.
    pub fn is_settling(&self) -> bool {
        self.clock.now() < self.started.plus(self.config.settle)
    }

    pub fn forget_old_choices(&self) {
        let limit = self.clock.now().minus(CHOICE);
        self.chosen.lock().retain(|_, (_, at)| *at > limit);
    }
}

impl CellConductor {
    async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.sweep().await {
                tracing::warn!(cell = self.cell.name, cause = error.cause(), "a sweep failed: {error}");
            }
            if let Err(error) = self.store_beats().await {
                tracing::warn!(cell = self.cell.name, cause = error.cause(), "heartbeats were not stored: {error}");
            }
            if !pause(self.config.sweep, &mut stop).await {
                return;
            }
        }
    }
}

/// Of `cell0`, which has no hosts.
struct NoAgents;

#[async_trait]
impl ToAgents for NoAgents {
    async fn desire(&self, host: &str, _: Desired) -> Result<()> {
        Err(no_host(host))
    }

    async fn task(&self, host: &str, _: Task, _: Duration) -> Result<TaskReply> {
        Err(no_host(host))
    }

    fn connected(&self, _: &str) -> bool {
        false
    }
}

fn no_host(host: &str) -> Error {
    Error::unavailable(format!("Host '{host}' is not connected.")).because("cell0 has no hosts")
}

/// False if it is time to stop.
async fn pause(period: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    // An owner who is gone cannot tell, and stops all the same.
    let stopped = async { stop.wait_for(|stop| *stop).await.map_or((), drop) };
    tokio::time::timeout(period, stopped).await.is_err()
}
