//! Puts a cloud together: the one file that names concrete drivers, transports and databases.

mod compute;
mod fence;
mod trust;
mod volume;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use umbel_agent::HostPool;
use umbel_auth::{PublicKey, Signer, Verifier};
use umbel_bus::Security;
use umbel_client::Transport;
use umbel_core::{Clock, Error, Result, Rng};
use umbel_db::{Db, Schema};
use umbel_driver::{
    HostSize, Hypervisor, LocalPool, LocalStore, Mode, Pool, SimulatedHypervisor, SimulatedPool, Simulation, Timings,
};
use umbel_driver_ceph::{CephCluster, CephConfig, CephPool};
use umbel_driver_qemu::QemuHypervisor;
use umbel_http::{App, Service};
use umbel_identity::{BootstrapSpec, EndpointSpec, Identity, IdentitySchema};
use umbel_image::Images;

use self::fence::Alone;
use crate::cli::Role;
use crate::config::{AgentConfig, Config, HypervisorKind, PoolConfig, PoolDriver};
use crate::doctor::Finding;
use crate::roles::Roles;
use crate::services::{ImageService, ServiceLogin, configured};
use crate::state::StateDir;
use crate::storage::{AuditParts, StorageAudit};
use crate::volumes::VolumeService;

/// What everything is built from.
pub struct Parts<'a> {
    pub config: &'a Config,
    pub state: &'a StateDir,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// The way to services, here or elsewhere.
    pub ways: Arc<dyn Transport>,
    pub login: Arc<ServiceLogin>,
    pub images: Arc<ImageService>,
    pub volumes: Arc<VolumeService>,
    /// Made by the first who asks, one for all.
    pub bus: OnceLock<Security>,
}

impl Parts<'_> {
    /// How the ends of the bus know each other.
    fn security(&self) -> Result<Security> {
        if let Some(made) = self.bus.get() {
            return Ok(made.clone());
        }
        let bus = &self.config.bus;
        let made = match (bus.insecure, &bus.certificates) {
            (true, _) => Security::Plain,
            (false, Some(folder)) => Security::read(folder)?,
            (false, None) => Security::read(&self.state.join("keys/bus"))?,
        };
        Ok(self.bus.get_or_init(|| made).clone())
    }
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
    /// None where no API is served.
    pub app: Option<App>,
    /// Makes the services; each call gives them anew, for one more port.
    pub services: Box<dyn Fn() -> Vec<Service> + Send + Sync>,
    pub identity: Option<Arc<Identity>>,
    pub behind: Vec<Behind>,
    /// What is measured beside requests, in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub hypervisor: String,
    pub storage: String,
}

pub async fn build(parts: &Parts<'_>, roles: &Roles) -> Result<Built> {
    let mut behind = Vec::new();
    let (verifier, identity) = match roles.has(Role::Identity) {
        true => identity(parts, &mut behind).await.map(|(verifier, identity)| (Some(verifier), Some(identity)))?,
        false if roles.serves() => (Some(trust::verifier(parts, &mut behind).await?), None),
        false => (None, None),
    };
    let storage = match roles.uses_pools() {
        true => Storage::open(parts.config, &*parts.rng).await?,
        false => Storage::none(),
    };
    let image = match roles.has(Role::Image) {
        true => Some(image(parts, &storage, &mut behind).await?),
        false => None,
    };
    let volume = match roles.has(Role::Volume) {
        true => volume::volume(parts, &storage, &mut behind).await?,
        false => None,
    };
    let compute::Made { api, guests } = compute::compute(parts, roles, &storage, &mut behind).await?;
    if let Some(Security::Mutual(credentials)) = parts.bus.get().cloned() {
        behind.push(Behind::new(move |stop| credentials.follow(stop)));
    }
    let audit = {
        let backups = volume::backups(parts);
        let own = AuditParts { pools: storage.all(), backups: backups.as_deref(), clock: parts.clock.clone() };
        StorageAudit::open(parts.config, roles, own).await?
    };
    let metrics = audit.clone();
    behind.extend(audit.clone().map(|audit| Behind::new(move |stop| audit.run(stop))));
    let app = verifier.map(|verifier| App { verifier, rng: parts.rng.clone() });
    let services = {
        let identity = identity.clone();
        move || {
            let mut services = Vec::new();
            services.extend(identity.clone().map(umbel_identity::service));
            services.extend(image.clone().map(umbel_image::service));
            services.extend(volume.clone().map(umbel_volume::service));
            services.extend(api.clone().map(umbel_compute::service));
            services.extend(audit.clone().map(crate::storage::service));
            services
        }
    };
    let hypervisor = guests.unwrap_or_else(|| "no guests run here".to_owned());
    let storage = storage.sentence();
    let metrics = Arc::new(move || metrics.as_ref().map(|audit| audit.metrics()).unwrap_or_default());
    Ok(Built { app, services: Box::new(services), identity, behind, metrics, hypervisor, storage })
}

async fn migrated<S: Schema>(config: &Config, configured: &Option<String>, name: &str) -> Result<Db<S>> {
    let db = database(config, configured, name).await?;
    db.migrate().await?;
    Ok(db)
}

/// Identity itself, with the verifier of this process's routers.
async fn identity(parts: &Parts<'_>, behind: &mut Vec<Behind>) -> Result<(Arc<Verifier>, Arc<Identity>)> {
    let db: Db<IdentitySchema> = migrated(parts.config, &parts.config.database.identity, "identity").await?;
    let signer = Signer::new(parts.state.signing_key(&*parts.rng)?);
    let mut keys = umbel_identity::load_keys(&db).await?;
    if !keys.contains(&signer.public()) {
        keys.insert(0, signer.public());
    }
    let verifier = Arc::new(Verifier::new(keys.clone(), Arc::default(), parts.clock.clone()));
    let settings = umbel_identity::Config {
        token_ttl: Duration::from_secs(parts.config.identity.token_seconds),
        compliance: parts.config.identity.security_compliance.clone(),
        ..umbel_identity::Config::default()
    };
    let (clock, rng) = (parts.clock.clone(), parts.rng.clone());
    let identity = Arc::new(Identity::new(db.clone(), signer, verifier.clone(), clock, rng, settings).await?);
    let kept = Kept { identity: identity.clone(), db, verifier: verifier.clone(), keys };
    behind.push(Behind::new(move |stop| kept.keep(stop)));
    Ok((verifier, identity))
}

/// Looks between two collections of what has expired.
const COLLECT_EVERY: u32 = 300;
/// Looks between two for keys of other processes with this role.
const KEYS_EVERY: u32 = 5;

/// Identity, and what it reads of other processes that are identity too.
struct Kept {
    identity: Arc<Identity>,
    db: Db<IdentitySchema>,
    verifier: Arc<Verifier>,
    keys: Vec<PublicKey>,
}

impl Kept {
    async fn keep(mut self, mut stop: watch::Receiver<bool>) {
        let mut looks: u32 = 0;
        while pause(trust::PERIOD, &mut stop).await {
            looks = looks.wrapping_add(1);
            if let Err(error) = self.look(looks).await {
                tracing::warn!(cause = error.cause(), "revocations were not read: {error}");
            }
        }
    }

    async fn look(&mut self, looks: u32) -> Result<()> {
        if looks.is_multiple_of(KEYS_EVERY) {
            let keys = umbel_identity::load_keys(&self.db).await?;
            if keys != self.keys {
                self.verifier.set_keys(keys.clone());
                self.keys = keys;
            }
        }
        match looks.is_multiple_of(COLLECT_EVERY) {
            true => self.identity.collect_garbage().await.map(drop),
            false => self.identity.poll_revocations().await,
        }
    }
}

/// Whether to go on after it.
async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(time, stop.wait_for(|stop| *stop)).await.is_err()
}

async fn image(parts: &Parts<'_>, storage: &Storage, behind: &mut Vec<Behind>) -> Result<Arc<Images>> {
    let db = migrated(parts.config, &parts.config.database.image, "image").await?;
    let config = &parts.config.image;
    let names = [&config.pool].into_iter().chain(config.stores.iter().filter(|name| **name != config.pool));
    let store = |(number, name): (usize, &String)| {
        Ok(umbel_image::Store { name: name.clone(), pool: storage.pool(name)?, default: number == 0 })
    };
    let stores = names.enumerate().map(store).collect::<Result<Vec<_>>>()?;
    let settings = umbel_image::Config {
        max_image_size: config.max_size_gib.saturating_mul(umbel_core::GIB),
        ..config.options.clone()
    };
    let pools = || [&config.pool].into_iter().chain(&config.stores);
    let alone = Alone::hold(parts.config, ("image", &parts.config.database.image), pools())?;
    let images = Images::new(db, stores, parts.clock.clone(), parts.rng.clone(), settings)?;
    let images = images.with_process(storage.process(pools())?);
    let images = Arc::new(match parts.login.places().identity() {
        Some(identity) => images.with_regions(parts.ways.clone(), identity),
        None => images,
    });
    if parts.config.database.image.is_none() {
        // As with the conductor's flows: an upload that was cut off is queued again now, not when its lease has run out.
        images.take_over().await?;
    }
    let kept = images.clone();
    behind.push(Behind::new(move |mut stop| async move {
        let _alone = alone;
        kept.run_background(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await;
    }));
    Ok(images)
}

/// Services of the catalog: the role, type, name, description, path on the shared port, and what follows it.
const CATALOG: [(Role, &str, &str, &str, &str, &str); 4] = [
    (Role::Identity, "identity", "keystone", "Identity", "/identity", ""),
    (Role::Image, "image", "glance", "Image", "/image", ""),
    (Role::Volume, "block-storage", "cinder", "Volume", "/volume", "/v3"),
    (Role::Compute, "compute", "nova", "Compute", "/compute", "/v2.1"),
];

/// What identity puts into its catalog: what is here, what the configuration says is elsewhere, and where one address
/// stands for the whole cloud all of it. Of others nothing is known; their rows are the operator's.
fn catalog(config: &Config, roles: &Roles, url: &str) -> Vec<EndpointSpec> {
    let place = |role: Role, kind: &str, path: &str, version: &str| {
        let root = match (roles.has(role), configured(config, kind), &config.listen.public_url) {
            (true, _, _) => format!("{url}{path}"),
            (false, Some(root), _) => root.trim_end_matches('/').trim_end_matches(version).to_owned(),
            (false, None, Some(public)) => format!("{}{path}", public.trim_end_matches('/')),
            (false, None, None) => return None,
        };
        Some(format!("{root}{version}"))
    };
    let row = |(role, kind, name, what, path, version): &(Role, &str, &str, &str, &str, &str)| {
        Some(EndpointSpec::new(kind, name, what, &place(*role, kind, path, version)?))
    };
    CATALOG.iter().filter_map(row).collect()
}

/// Roles, the administrator, the services' user, and the catalog with this cloud's URLs.
pub async fn bootstrap_identity(
    identity: &Identity,
    config: &Config,
    roles: &Roles,
    url: &str,
    admin: &str,
    service: &str,
) -> Result<()> {
    let spec = BootstrapSpec {
        admin_password: admin.to_owned(),
        service_password: Some(service.to_owned()),
        region: config.region.clone(),
        endpoints: catalog(config, roles, url),
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
    report("volume", migrated::<umbel_volume::Volume>(config, &databases.volume, "volume").await)?;
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
        look_at::<umbel_volume::Volume>(config, &databases.volume, "volume").await,
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
    /// Those of the local pools: what guests of this process have open is theirs to change.
    stores: Vec<Arc<LocalStore>>,
    /// The world of what is simulated; one per process, so that simulated hosts share their pools.
    world: Arc<Simulation>,
    /// This process's name in Ceph, and that of its work in databases.
    process: String,
}

impl Storage {
    /// For a process that works on no disks.
    fn none() -> Storage {
        let world = Simulation::new(Mode::Timed(Timings::default()));
        Storage { pools: Vec::new(), stores: Vec::new(), world, process: String::new() }
    }

    /// Opens all pools. A Ceph cluster need not answer yet.
    pub async fn open(config: &Config, rng: &dyn Rng) -> Result<Storage> {
        let start = Duration::from_millis(config.agent.simulated_start_ms);
        let of = [(umbel_driver::Operation::Start, start)].into();
        let world = Simulation::new(Mode::Timed(Timings { each: Duration::ZERO, of }));
        let process = rng.uuid().simple().to_string()[..16].to_owned();
        let mut opened = Opened { stores: HashMap::new(), clusters: HashMap::new(), process: &process };
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
        let stores = opened.stores.into_values().collect();
        Ok(Storage { pools, stores, world, process })
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
        if self.pools.is_empty() {
            return "no disks are worked on here".to_owned();
        }
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
struct Opened<'a> {
    stores: HashMap<PathBuf, Arc<LocalStore>>,
    clusters: HashMap<(PathBuf, String), Arc<CephCluster>>,
    process: &'a str,
}

impl Opened<'_> {
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
                    .or_insert_with(|| CephCluster::new(ceph(config, conf, user, self.process)));
                let ceph_pool = ceph_pool.as_deref().unwrap_or(&pool.name);
                Arc::new(CephPool::new(cluster.clone(), &pool.name, ceph_pool))
            }
        })
    }
}

fn ceph(config: &Config, conf: &Path, user: &str, process: &str) -> CephConfig {
    let clients = Some(config.dir.join("ceph"));
    CephConfig { clients, process: Some(process.to_owned()), ..CephConfig::new(conf, user) }
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
            let qemu = QemuHypervisor::open(guests, umbel_driver_qemu::Options::default()).await?;
            storage.stores.iter().for_each(|store| store.set_live(qemu.clone()));
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
