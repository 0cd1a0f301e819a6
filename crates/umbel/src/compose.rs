//! Puts a cloud together: the one file that names concrete drivers, transports and databases.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use umbel_agent::{Agent, AgentConfig as HostConfig, HostPool, HostPools};
use umbel_auth::{Signer, Verifier};
use umbel_bus::{Hub, ToAgents, ToConductor};
use umbel_compute::model::ServerId;
use umbel_compute::store::cells::{self, CellRow};
use umbel_compute::{CellHandle, CellId, Cells, Compute, ComputeParts};
use umbel_conductor::{Conductor, ConductorConfig};
use umbel_core::{Clock, Error, Result, Rng};
use umbel_db::{Db, Schema, tx};
use umbel_driver::{
    HostSize, Hypervisor, LocalPool, LocalStore, Mode, Pool, SimulatedHypervisor, SimulatedPool, Simulation, Timings,
};
use umbel_driver_ceph::{CephCluster, CephConfig, CephPool};
use umbel_driver_qemu::QemuHypervisor;
use umbel_http::{App, Service};
use umbel_identity::{BootstrapSpec, EndpointSpec, Identity, IdentitySchema};
use umbel_image::Images;
use umbel_placement::Ratio;

use crate::cli::Role;
use crate::config::{AgentConfig, Config, HypervisorKind, PoolConfig, PoolDriver};
use crate::doctor::Finding;
use crate::services::ImageService;
use crate::state::StateDir;

/// What everything is built from.
pub struct Parts<'a> {
    pub config: &'a Config,
    pub state: &'a StateDir,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub images: Arc<ImageService>,
}

type Work = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Work that goes on behind the services until it is told to stop.
pub struct Behind(pub Box<dyn FnOnce(watch::Receiver<bool>) -> Work + Send>);

impl Behind {
    fn new<F, Fut>(work: F) -> Behind
    where
        F: FnOnce(watch::Receiver<bool>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Behind(Box::new(move |stop| Box::pin(work(stop))))
    }
}

/// A cloud that is built and does not run yet.
pub struct Built {
    pub app: App,
    /// Makes the services; each call gives them anew, for one more port.
    pub services: Box<dyn Fn() -> Vec<Service> + Send + Sync>,
    pub identity: Option<Arc<Identity>>,
    pub behind: Vec<Behind>,
    pub hypervisor: String,
    pub storage: String,
}

pub async fn build(parts: &Parts<'_>, roles: &[Role]) -> Result<Built> {
    let mut behind = Vec::new();
    let (verifier, identity) = identity(parts, roles.contains(&Role::Identity), &mut behind).await?;
    let storage = Storage::open(parts.config, &*parts.rng).await?;
    let image = match roles.contains(&Role::Image) {
        true => Some(image(parts, &storage, &mut behind).await?),
        false => None,
    };
    let mut hypervisor = "no guests run here".to_owned();
    let compute = match roles.contains(&Role::Compute) {
        true => {
            let (compute, facts) = compute(parts, &storage, &mut behind).await?;
            hypervisor = facts;
            Some(compute)
        }
        false => None,
    };
    let app = App { verifier, rng: parts.rng.clone() };
    let services = {
        let identity = identity.clone();
        move || {
            let mut services = Vec::new();
            services.extend(identity.clone().map(umbel_identity::service));
            services.extend(image.clone().map(umbel_image::service));
            services.extend(compute.clone().map(umbel_compute::service));
            services
        }
    };
    let storage = storage.sentence();
    Ok(Built { app, services: Box::new(services), identity, behind, hypervisor, storage })
}

async fn migrated<S: Schema>(config: &Config, configured: &Option<String>, name: &str) -> Result<Db<S>> {
    let db = database(config, configured, name).await?;
    db.migrate().await?;
    Ok(db)
}

/// The verifier of all roles here; and identity itself, where it is one of them.
async fn identity(
    parts: &Parts<'_>,
    here: bool,
    behind: &mut Vec<Behind>,
) -> Result<(Arc<Verifier>, Option<Arc<Identity>>)> {
    let db: Db<IdentitySchema> = migrated(parts.config, &parts.config.database.identity, "identity").await?;
    let signer = Signer::new(parts.state.signing_key(&*parts.rng)?);
    let mut keys = umbel_identity::load_keys(&db).await?;
    if !keys.contains(&signer.public()) {
        keys.insert(0, signer.public());
    }
    let verifier = Arc::new(Verifier::new(keys, Arc::default(), parts.clock.clone()));
    if !here {
        let (known, clock) = (verifier.clone(), parts.clock.clone());
        umbel_identity::load_revocations(&db, known.revocations(), umbel_core::Timestamp(0)).await?;
        behind.push(Behind::new(move |stop| follow_revocations(db, known, clock, stop)));
        return Ok((verifier, None));
    }
    let settings = umbel_identity::Config {
        token_ttl: Duration::from_secs(parts.config.identity.token_seconds),
        ..umbel_identity::Config::default()
    };
    let (clock, rng) = (parts.clock.clone(), parts.rng.clone());
    let identity = Arc::new(Identity::new(db, signer, verifier.clone(), clock, rng, settings).await?);
    let kept = identity.clone();
    behind.push(Behind::new(move |stop| keep_identity(kept, stop)));
    Ok((verifier, Some(identity)))
}

/// Between two looks for what other processes revoked.
const REVOCATIONS: Duration = Duration::from_secs(1);
/// Looks between two collections of what has expired.
const COLLECT_EVERY: u32 = 300;

async fn keep_identity(identity: Arc<Identity>, mut stop: watch::Receiver<bool>) {
    let mut looks: u32 = 0;
    while pause(REVOCATIONS, &mut stop).await {
        looks = looks.wrapping_add(1);
        let done = match looks.is_multiple_of(COLLECT_EVERY) {
            true => identity.collect_garbage().await.map(drop),
            false => identity.poll_revocations().await,
        };
        if let Err(error) = done {
            tracing::warn!(cause = error.cause(), "revocations were not read: {error}");
        }
    }
}

async fn follow_revocations(
    db: Db<IdentitySchema>,
    verifier: Arc<Verifier>,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    while pause(REVOCATIONS, &mut stop).await {
        // A minute back: another process's clock, or a transaction that committed late.
        let since = clock.now().minus(Duration::from_secs(60));
        let looked = umbel_identity::load_revocations(&db, verifier.revocations(), since).await;
        if let Err(error) = looked {
            tracing::warn!(cause = error.cause(), "revocations were not read: {error}");
        }
        verifier.revocations().forget_expired(clock.now());
    }
}

/// Whether to go on after it.
async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(time, stop.wait_for(|stop| *stop)).await.is_err()
}

async fn image(parts: &Parts<'_>, storage: &Storage, behind: &mut Vec<Behind>) -> Result<Arc<Images>> {
    let db = migrated(parts.config, &parts.config.database.image, "image").await?;
    let name = &parts.config.image.pool;
    let store = umbel_image::Store { name: name.clone(), pool: storage.pool(name)?, default: true };
    let settings = umbel_image::Config {
        max_image_size: parts.config.image.max_size_gib.saturating_mul(umbel_core::GIB),
        ..umbel_image::Config::default()
    };
    let images = Arc::new(Images::new(db, vec![store], parts.clock.clone(), parts.rng.clone(), settings)?);
    if parts.config.database.image.is_none() {
        // As with the conductor's flows: an upload that was cut off is queued again now, not when its lease has run out.
        images.take_over().await?;
    }
    let kept = images.clone();
    behind.push(Behind::new(move |mut stop| {
        kept.run_background(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
    }));
    Ok(images)
}

/// The API of compute, its conductor, and the agents of the hosts that this process stands for.
async fn compute(parts: &Parts<'_>, storage: &Storage, behind: &mut Vec<Behind>) -> Result<(Arc<Compute>, String)> {
    let config = parts.config;
    let db: Db<umbel_compute::Api> = migrated(config, &config.database.api, "api").await?;
    umbel_compute::bootstrap(&db, parts.clock.now()).await?;
    let cells = Arc::new(open_cells(parts, &db).await?);
    let hubs: Vec<(CellId, Arc<Hub>)> = cells.with_hosts().iter().map(|cell| (cell.id, umbel_bus::local())).collect();
    let Some((first, hub)) = hubs.first().cloned() else {
        return Err(Error::bad_request("database.cells names no cell."));
    };
    let agents = hubs.iter().map(|(id, hub)| (*id, hub.clone() as Arc<dyn ToAgents>)).collect();
    let (clock, rng) = (parts.clock.clone(), parts.rng.clone());
    let conductor = Conductor::new(conducting(config), db.clone(), cells.clone(), agents, clock.clone(), rng.clone())?;
    if config.database.api.is_none() {
        // One file, and the directory's lock is ours: whoever held these flows is dead.
        conductor.take_over().await?;
    }
    for (id, hub) in &hubs {
        let end: Arc<dyn ToConductor> = conductor.cell(*id)?;
        hub.conduct(&end);
    }
    let facts = start_agents(parts, storage, &hub, behind).await?;
    let nudge = Arc::new(Nudged { conductor: conductor.clone() });
    let settings = umbel_compute::Config::default();
    let images = parts.images.clone();
    let agents: Arc<dyn ToAgents> = hub;
    let compute = Compute::new(ComputeParts { db, cells, images, agents, nudge, clock, rng, config: settings });
    tracing::debug!(%first, "the hosts of this process are in this cell");
    behind.push(Behind::new(move |stop| conductor.run(stop)));
    Ok((Arc::new(compute), facts))
}

fn conducting(config: &Config) -> ConductorConfig {
    // Checked to lie where neither sign nor size is lost.
    let ratio = |value: f64| Ratio((value * 1_000.0) as u64);
    let mut settings = ConductorConfig::default();
    settings.ratios.cpu = ratio(config.compute.cpu_ratio);
    settings.ratios.memory = ratio(config.compute.memory_ratio);
    settings
}

async fn open_cells(parts: &Parts<'_>, db: &Db<umbel_compute::Api>) -> Result<Cells> {
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
async fn register(
    parts: &Parts<'_>,
    db: &Db<umbel_compute::Api>,
    name: &str,
    id: Option<CellId>,
    url: String,
) -> Result<CellId> {
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
    hub: &Arc<Hub>,
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
        let agent = Agent::new(settings, hypervisor, pools, parts.images.clone(), parts.clock.clone());
        let link: Arc<dyn ToConductor> = Arc::new(hub.connect(&host, agent.clone()));
        behind.push(Behind::new(move |stop| agent.run(link, stop)));
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

/// From the API to the conductor of the same process.
struct Nudged {
    conductor: Arc<Conductor>,
}

impl umbel_compute::Nudge for Nudged {
    fn flow(&self) {
        self.conductor.nudge().now();
    }

    fn server(&self, cell: CellId, server: ServerId) {
        let Ok(cell) = self.conductor.cell(cell) else {
            return;
        };
        tokio::spawn(async move {
            if let Err(error) = cell.changed(server).await {
                tracing::warn!(%server, cause = error.cause(), "a change waits for the next sweep: {error}");
            }
        });
    }
}

/// Roles, the administrator, the services' user, and the catalog with this cloud's URLs.
pub async fn bootstrap_identity(
    identity: &Identity,
    region: &str,
    url: &str,
    admin: &str,
    service: &str,
) -> Result<()> {
    let endpoint =
        |kind: &str, name: &str, what: &str, path: &str| EndpointSpec::new(kind, name, what, &format!("{url}{path}"));
    let spec = BootstrapSpec {
        admin_password: admin.to_owned(),
        service_password: Some(service.to_owned()),
        region: region.to_owned(),
        endpoints: vec![
            endpoint("identity", "keystone", "Identity", "/identity"),
            endpoint("image", "glance", "Image", "/image"),
            endpoint("compute", "nova", "Compute", "/compute/v2.1"),
        ],
        demo: None,
    };
    identity.bootstrap(&spec).await.map(drop)
}

/// All databases at their newest version.
pub async fn migrate(config: &Config) -> Result<()> {
    std::fs::create_dir_all(config.dir.join("db")).map_err(Error::internal)?;
    let databases = &config.database;
    report("identity", migrated::<IdentitySchema>(config, &databases.identity, "identity").await)?;
    report("image", migrated::<umbel_image::Image>(config, &databases.image, "image").await)?;
    report("api", migrated::<umbel_compute::Api>(config, &databases.api, "api").await)?;
    report("cell0", migrated::<umbel_compute::Cell>(config, &databases.cell0, "cell0").await)?;
    for (name, url) in &databases.cells {
        report(name, migrated::<umbel_compute::Cell>(config, url, name).await)?;
    }
    Ok(())
}

fn report<S: Schema>(name: &str, migrated: Result<Db<S>>) -> Result<()> {
    let db = migrated?;
    println!("{name}: at the newest version ({})", db.engine().name());
    Ok(())
}

/// What `umbel doctor` says of the databases.
pub async fn look_at_databases(config: &Config) -> Vec<Finding> {
    let databases = &config.database;
    let mut findings = vec![
        look_at::<IdentitySchema>(config, &databases.identity, "identity").await,
        look_at::<umbel_image::Image>(config, &databases.image, "image").await,
        look_at::<umbel_compute::Api>(config, &databases.api, "api").await,
        look_at::<umbel_compute::Cell>(config, &databases.cell0, "cell0").await,
    ];
    for (name, url) in &databases.cells {
        findings.push(look_at::<umbel_compute::Cell>(config, url, name).await);
    }
    findings
}

async fn look_at<S: Schema>(config: &Config, configured: &Option<String>, name: &str) -> Finding {
    if configured.is_none() {
        return Finding::good(format!("Database {name} is a file below {}.", config.dir.join("db").display()));
    }
    let pending = async { database::<S>(config, configured, name).await?.pending().await };
    match pending.await {
        Ok(0) => Finding::good(format!("Database {name} answers, at the newest version.")),
        Ok(steps) => Finding::bad(format!("Database {name} lacks {steps} migrations."), "umbel db migrate"),
        Err(error) => {
            Finding::bad(format!("Database {name}: {}", error.for_log()), "check its URL in [database], and its server")
        }
    }
}

/// The configured pools, opened, in the order of the configuration.
pub struct Storage {
    pools: Vec<HostPool>,
    /// The world of what is simulated; one per process, so that simulated hosts share their pools.
    world: Arc<Simulation>,
}

impl Storage {
    /// Opens all pools. A Ceph cluster need not answer yet.
    pub async fn open(config: &Config, rng: &dyn Rng) -> Result<Storage> {
        let start = Duration::from_millis(config.agent.simulated_start_ms);
        let of = [(umbel_driver::Operation::Start, start)].into();
        let world = Simulation::new(Mode::Timed(Timings { each: Duration::ZERO, of }));
        let mut opened = Opened { stores: HashMap::new(), clusters: HashMap::new() };
        let mut pools = Vec::new();
        for pool in config.effective_pools() {
            let driver = opened.pool(config, &pool, &world, rng).await?;
            let (kind, shared) = match &pool.driver {
                PoolDriver::Local { .. } => ("local", false),
                PoolDriver::Rbd { .. } => ("rbd", true),
                PoolDriver::Simulated => ("simulated", true),
            };
            pools.push(HostPool { pool: driver, tier: pool.tier, driver: kind.to_owned(), shared });
        }
        Ok(Storage { pools, world })
    }

    pub fn pool(&self, name: &str) -> Result<Arc<dyn Pool>> {
        let found = self.pools.iter().find(|pool| pool.pool.name() == name);
        found.map(|pool| pool.pool.clone()).ok_or_else(|| Error::bad_request(format!("There is no pool '{name}'.")))
    }

    /// Every pool, whatever it is for.
    pub fn all(&self) -> Vec<Arc<dyn Pool>> {
        self.pools.iter().map(|pool| pool.pool.clone()).collect()
    }

    fn sentence(&self) -> String {
        let pools = self.pools.iter().map(|pool| format!("{} ({}, {})", pool.pool.name(), pool.driver, pool.tier));
        format!("disks live in the pools {}", pools.collect::<Vec<_>>().join(", "))
    }

    /// Those in which a host puts system disks, in the order of preference.
    pub fn of_host(&self, names: &[String]) -> Vec<HostPool> {
        let named = |name: &String| self.pools.iter().find(|pool| pool.pool.name() == name);
        names.iter().filter_map(named).cloned().collect()
    }
}

/// Stores and clusters that pools share.
struct Opened {
    stores: HashMap<PathBuf, Arc<LocalStore>>,
    clusters: HashMap<(PathBuf, String), Arc<CephCluster>>,
}

impl Opened {
    async fn pool(
        &mut self,
        config: &Config,
        pool: &PoolConfig,
        world: &Arc<Simulation>,
        rng: &dyn Rng,
    ) -> Result<Arc<dyn Pool>> {
        Ok(match &pool.driver {
            PoolDriver::Simulated => Arc::new(SimulatedPool::new(world, &pool.name)),
            PoolDriver::Local { path } => {
                let root = path.clone().unwrap_or_else(|| config.dir.join("pools"));
                if !self.stores.contains_key(&root) {
                    self.stores.insert(root.clone(), LocalStore::open(&root, rng).await?);
                }
                Arc::new(LocalPool::open(&self.stores[&root], &pool.name, &pool.name).await?)
            }
            PoolDriver::Rbd { conf, user, ceph_pool } => {
                let cluster = self
                    .clusters
                    .entry((conf.clone(), user.clone()))
                    .or_insert_with(|| CephCluster::new(ceph(config, conf, user)));
                let ceph_pool = ceph_pool.as_deref().unwrap_or(&pool.name);
                Arc::new(CephPool::new(cluster.clone(), &pool.name, ceph_pool))
            }
        })
    }
}

fn ceph(config: &Config, conf: &Path, user: &str) -> CephConfig {
    CephConfig { clients: Some(config.dir.join("ceph")), ..CephConfig::new(conf, user) }
}

/// The hosts that this process stands for, by name.
pub async fn hypervisors(
    agent: &AgentConfig,
    storage: &Storage,
    guests: &Path,
) -> Result<Vec<(String, Arc<dyn Hypervisor>)>> {
    let host = match &agent.host {
        Some(host) => host.clone(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    match agent.hypervisor {
        HypervisorKind::Qemu => {
            let qemu: Arc<dyn Hypervisor> = QemuHypervisor::open(guests, umbel_driver_qemu::Options::default()).await?;
            Ok(vec![(host, qemu)])
        }
        HypervisorKind::Simulated => Ok((0..agent.simulated_hosts.max(1))
            .map(|number| {
                let name = format!("{host}-{number}");
                let hypervisor = SimulatedHypervisor::new(&storage.world, &name, HostSize::default());
                (name, Arc::new(hypervisor) as Arc<dyn Hypervisor>)
            })
            .collect()),
    }
}

async fn database<S: Schema>(config: &Config, configured: &Option<String>, name: &str) -> Result<Db<S>> {
    Db::open(&config.database_url(configured, name), config.database.connections).await
}

/// What `umbel doctor` says of the pools.
pub async fn look_at_storage(config: &Config) -> Vec<Finding> {
    let mut by_cluster: HashMap<(PathBuf, String), Vec<String>> = HashMap::new();
    let mut findings = Vec::new();
    for pool in config.effective_pools() {
        match pool.driver {
            PoolDriver::Local { path } => {
                let root = path.unwrap_or_else(|| config.dir.join("pools"));
                findings.push(Finding::good(format!("Pool {} is in files below {}.", pool.name, root.display())));
            }
            PoolDriver::Simulated => findings.push(Finding::good(format!("Pool {} is simulated.", pool.name))),
            PoolDriver::Rbd { conf, user, ceph_pool } => {
                by_cluster.entry((conf, user)).or_default().push(ceph_pool.unwrap_or(pool.name));
            }
        }
    }
    for ((conf, user), pools) in by_cluster {
        let pools: Vec<&str> = pools.iter().map(String::as_str).collect();
        let found = CephCluster::new(CephConfig::new(conf, user)).doctor(&pools).await;
        findings.extend(found.into_iter().map(|one| Finding { good: one.good, found: one.found, mend: one.mend }));
    }
    findings
}
