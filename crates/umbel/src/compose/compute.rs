//! Compute's roles: its API, its conductor and its agents, together or in processes of their own. What is in one process
//! is joined by calls; what is not, by the bus.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use umbel_agent::{Agent, AgentConfig as HostConfig, HostPools, ImageStore};
use umbel_bus::{
    ByteStream, Conductors, Control, Gate, Hub, Hubs, ImageBytes, ToAgents, ToCells, ToConductor, Uplink, Uplinks,
};
use umbel_compute::model::ServerId;
use umbel_compute::store::cells::{self, CellRow};
use umbel_compute::store::servers;
use umbel_compute::{Api, CellHandle, CellId, Cells, Compute, ComputeParts, Nudge};
use umbel_conductor::{Conductor, ConductorConfig, Services};
use umbel_core::{Error, Id, Result};
use umbel_db::{Db, read, tx};
use umbel_placement::Ratio;
use uuid::Uuid;

use super::{Behind, Parts, Storage, hypervisors, migrated};
use crate::cli::Role;
use crate::config::Config;
use crate::roles::Roles;
use crate::services::ImageService;

/// How long an agent's import waits for a conductor that is away.
const PATIENCE: Duration = Duration::from_secs(120);

/// What API and conductor work on.
struct Plane {
    db: Db<Api>,
    cells: Arc<Cells>,
}

/// A conductor of this process, and where the agents of its cells meet it.
struct Seat {
    conductor: Arc<Conductor>,
    hubs: Vec<(Arc<CellHandle>, Arc<Hub>)>,
}

/// The API, if it is here, and a sentence about what guests run on, if they run here.
pub(super) struct Made {
    pub api: Option<Arc<Compute>>,
    pub guests: Option<String>,
}

pub(super) async fn compute(
    parts: &Parts<'_>,
    roles: &Roles,
    storage: &Storage,
    behind: &mut Vec<Behind>,
) -> Result<Made> {
    let (with_api, with_conductor) = (roles.has(Role::Compute), roles.has(Role::Conductor));
    let plane = match with_api || with_conductor {
        true => Some(Plane::open(parts).await?),
        false => None,
    };
    let seat = match plane.as_ref().filter(|_| with_conductor) {
        Some(plane) => Some(Seat::take(parts, plane, behind).await?),
        None => None,
    };
    let guests = match roles.has(Role::Agent) {
        true => Some(start_agents(parts, storage, seat.as_ref(), behind).await?),
        false => None,
    };
    let api = match plane.filter(|_| with_api) {
        Some(plane) => Some(Arc::new(plane.api(parts, seat.as_ref())?)),
        None => None,
    };
    Ok(Made { api, guests })
}

/// Whether this process's agents and API use the conductor that is in it.
fn is_near<'a>(config: &Config, seat: Option<&'a Seat>) -> Option<&'a Seat> {
    // Where several are named, all of them are to know the hosts, this process's own among them by its address.
    seat.filter(|_| config.bus.conductors.is_empty())
}

impl Plane {
    async fn open(parts: &Parts<'_>) -> Result<Plane> {
        let db: Db<Api> = migrated(parts.config, &parts.config.database.api, "api").await?;
        umbel_compute::bootstrap(&db, parts.clock.now()).await?;
        let cells = Arc::new(open_cells(parts, &db).await?);
        match cells.with_hosts().is_empty() {
            true => Err(Error::bad_request("database.cells names no cell.")),
            false => Ok(Plane { db, cells }),
        }
    }

    fn api(self, parts: &Parts<'_>, seat: Option<&Seat>) -> Result<Compute> {
        let (agents, nudge): (Arc<dyn ToCells>, Arc<dyn Nudge>) = match is_near(parts.config, seat) {
            Some(seat) => {
                let hubs = seat.hubs.iter().map(|(cell, hub)| (cell.name.clone(), hub.clone())).collect();
                (Arc::new(Hubs(hubs)), Arc::new(Near { conductor: seat.conductor.clone() }))
            }
            None => {
                let conductors = Arc::new(Conductors::new(&parts.config.bus.conductors, &parts.security()?)?);
                (conductors.clone(), Arc::new(Far(conductors)))
            }
        };
        let config = umbel_compute::Config::default();
        let (images, volumes) = (parts.images.clone(), parts.volumes.clone());
        let (clock, rng) = (parts.clock.clone(), parts.rng.clone());
        let Plane { db, cells } = self;
        Ok(Compute::new(ComputeParts { db, cells, images, volumes, agents, nudge, clock, rng, config }))
    }
}

impl Seat {
    async fn take(parts: &Parts<'_>, plane: &Plane, behind: &mut Vec<Behind>) -> Result<Seat> {
        let config = parts.config;
        let hubs: Vec<(Arc<CellHandle>, Arc<Hub>)> =
            plane.cells.with_hosts().into_iter().map(|cell| (cell, umbel_bus::local())).collect();
        let agents = hubs.iter().map(|(cell, hub)| (cell.id, hub.clone() as Arc<dyn ToAgents>)).collect();
        let conductor = Conductor::new(
            conducting(config),
            plane.db.clone(),
            plane.cells.clone(),
            agents,
            Services { images: parts.images.clone(), volumes: parts.volumes.clone() },
            parts.clock.clone(),
            parts.rng.clone(),
        )?;
        if config.database.api.is_none() {
            // One file, and the directory's lock is ours: whoever held these flows is dead.
            conductor.take_over().await?;
        }
        for (cell, hub) in &hubs {
            let end: Arc<dyn ToConductor> = conductor.cell(cell.id)?;
            hub.conduct(&end);
        }
        if let Some(address) = config.bus.listen {
            let named = hubs.iter().map(|(cell, hub)| (cell.name.clone(), hub.clone())).collect();
            let control = Arc::new(Near { conductor: conductor.clone() });
            let images = Arc::new(Relay { cells: plane.cells.clone(), images: parts.images.clone() });
            let gate = Gate::bind(address, parts.security()?, named, control, images).await?;
            tracing::info!(address = %gate.address, "agents and APIs of other processes find the conductor here");
            behind.push(Behind::new(move |stop| gate.run(stop)));
        }
        let run = conductor.clone();
        behind.push(Behind::new(move |stop| run.run(stop)));
        Ok(Seat { conductor, hubs })
    }

    fn hub(&self, cell: &str) -> Result<&Arc<Hub>> {
        let found = self.hubs.iter().find(|(known, _)| known.name == cell).map(|(_, hub)| hub);
        found.ok_or_else(|| Error::bad_request(format!("agent.cell is '{cell}', which database.cells does not have.")))
    }
}

fn conducting(config: &Config) -> ConductorConfig {
    // Checked to lie where neither sign nor size is lost.
    let ratio = |value: f64| Ratio((value * 1_000.0) as u64);
    let mut settings = ConductorConfig::default();
    settings.ratios.cpu = ratio(config.compute.cpu_ratio);
    settings.ratios.memory = ratio(config.compute.memory_ratio);
    settings
}

async fn open_cells(parts: &Parts<'_>, db: &Db<Api>) -> Result<Cells> {
    let config = parts.config;
    let zero = migrated(config, &config.database.cell0, "cell0").await?;
    let url = config.database_url(&config.database.cell0, "cell0");
    register(parts, db, "cell0", Some(Cells::ZERO), url).await?;
    let mut others = Vec::new();
    for (name, configured) in &config.database.cells {
        let cell = migrated(config, configured, name).await?;
        let id = register(parts, db, name, None, config.database_url(configured, name)).await?;
        others.push(CellHandle { id, name: name.clone(), db: cell });
    }
    Ok(Cells::new(zero, others))
}

/// Puts a cell on the map, or its new address; its id, which it keeps for ever.
async fn register(parts: &Parts<'_>, db: &Db<Api>, name: &str, id: Option<CellId>, url: String) -> Result<CellId> {
    let fresh = id.unwrap_or_else(|| CellId::random(&*parts.rng));
    let now = parts.clock.now();
    tx!(db, "register a cell", |tx| {
        let known = cells::list(tx).await?.into_iter().find(|cell| cell.name == name);
        let disabled = known.as_ref().is_some_and(|cell| cell.disabled);
        let id = known.map_or(fresh, |cell| cell.id);
        let row = CellRow { id, name: name.to_owned(), url: url.clone(), disabled };
        cells::put(tx, &row, now).await?;
        Ok(id)
    })
}

/// A sentence about what the guests run on.
async fn start_agents(
    parts: &Parts<'_>,
    storage: &Storage,
    seat: Option<&Seat>,
    behind: &mut Vec<Behind>,
) -> Result<String> {
    let guests = parts.state.join("guests");
    let hosts = hypervisors(&parts.config.agent, storage, &guests).await?;
    let count = hosts.len();
    let facts = hosts.first().map(|(_, hypervisor)| hypervisor.facts());
    for (host, hypervisor) in hosts {
        let mut settings = HostConfig::new(host.clone());
        settings.availability_zone.clone_from(&parts.config.compute.availability_zone);
        settings.scratch = parts.state.join("tmp");
        let pools = HostPools::new(storage.of_host(&parts.config.compute.pools), storage.all());
        let (cell, clock) = (parts.config.host_cell(), parts.clock.clone());
        if let Some(seat) = is_near(parts.config, seat) {
            let agent = Agent::new(settings, hypervisor, pools, parts.images.clone(), clock);
            let link: Arc<dyn ToConductor> = Arc::new(seat.hub(cell)?.connect(&host, agent.clone()));
            behind.push(Behind::new(move |stop| agent.run(link, stop)));
            continue;
        }
        let conductors = parts.config.bus.conductors.clone();
        let (cell, security) = (cell.to_owned(), parts.security()?);
        let uplinks = Uplinks::new(&Uplink { conductors, security, cell, host, patience: PATIENCE })?;
        let images = Arc::new(Relayed(uplinks.clone()));
        let agent = Agent::new(settings, hypervisor, pools, images, clock);
        behind.push(Behind::new(move |stop| apart(agent, uplinks, stop)));
    }
    Ok(match facts {
        Some(facts) if count == 1 => format!(
            "guests run in {} {}.{} with {}: {}",
            facts.hypervisor_type,
            facts.hypervisor_version / 1_000_000,
            facts.hypervisor_version / 1_000 % 1_000,
            facts.accelerator,
            facts.accelerator_reason
        ),
        _ => format!("{count} simulated hosts"),
    })
}

/// An agent without a conductor in its process. Its streams outlast its work, whose end is to be told.
async fn apart(agent: Arc<Agent>, uplinks: Arc<Uplinks>, stop: watch::Receiver<bool>) {
    let (over, ended) = watch::channel(false);
    let work = async {
        agent.clone().run(uplinks.clone(), stop).await;
        over.send_replace(true);
    };
    tokio::join!(work, uplinks.clone().run(agent.clone(), ended));
}

/// To the conductor of this process.
struct Near {
    conductor: Arc<Conductor>,
}

impl Near {
    /// Whether the cell is conducted here.
    fn changed(&self, cell: CellId, server: ServerId) -> bool {
        let Ok(cell) = self.conductor.cell(cell) else {
            return false;
        };
        tokio::spawn(async move {
            if let Err(error) = cell.changed(server).await {
                tracing::warn!(%server, cause = error.cause(), "a change waits for the next sweep: {error}");
            }
        });
        true
    }
}

impl Nudge for Near {
    fn flow(&self) {
        self.conductor.nudge().now();
    }

    fn server(&self, cell: CellId, server: ServerId) {
        // A cell of another process is swept there.
        let _ = self.changed(cell, server);
    }
}

impl Control for Near {
    fn flow(&self) {
        Nudge::flow(self);
    }

    fn server(&self, cell: Uuid, server: Uuid) -> bool {
        self.changed(Id::from_uuid(cell), Id::from_uuid(server))
    }
}

/// To conductors of other processes.
struct Far(Arc<Conductors>);

impl Far {
    fn spawn(nudge: impl Future<Output = Result<()>> + Send + 'static) {
        tokio::spawn(async move {
            if let Err(error) = nudge.await {
                tracing::debug!(cause = error.cause(), "a nudge was not heard: {error}");
            }
        });
    }
}

impl Nudge for Far {
    fn flow(&self) {
        let conductors = self.0.clone();
        Far::spawn(async move { conductors.flow().await });
    }

    fn server(&self, cell: CellId, server: ServerId) {
        let conductors = self.0.clone();
        Far::spawn(async move { conductors.server(cell.uuid(), server.uuid()).await });
    }
}

/// Images for agents of other processes, which get those that their servers are made from.
struct Relay {
    cells: Arc<Cells>,
    images: Arc<ImageService>,
}

#[async_trait]
impl umbel_bus::Images for Relay {
    async fn read(&self, cell: &str, host: &str, image_id: &str) -> Result<ImageBytes> {
        let cell = self.cells.with_hosts().into_iter().find(|known| known.name == cell);
        let cell = cell.ok_or_else(|| Error::not_found("There is no such cell."))?;
        let servers = read!(cell.db, "servers of a host", |tx| servers::on_host(tx, host).await)?;
        let needs = servers.iter().any(|server| server.spec.image.as_ref().is_some_and(|image| image.id == image_id));
        match needs {
            true => self.images.open(image_id).await,
            false => Err(Error::forbidden("No server of this host is made from this image.")),
        }
    }

    async fn write(&self, image_id: &str, size: u64, data: ByteStream) -> Result<()> {
        self.images.upload(image_id, size, data).await
    }
}

/// The other end of [`Relay`].
struct Relayed(Arc<Uplinks>);

#[async_trait]
impl ImageStore for Relayed {
    async fn open(&self, image_id: &str) -> Result<ImageBytes> {
        self.0.read_image(image_id).await
    }

    async fn upload(&self, image_id: &str, size: u64, bytes: ByteStream) -> Result<()> {
        self.0.write_image(image_id, size, bytes).await
    }
}
