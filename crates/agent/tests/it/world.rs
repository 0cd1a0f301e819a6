//! A host with an agent, and a cell that wants things of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use umbel_agent::{Agent, AgentConfig, HostPool, HostPools, ImageStore};
use umbel_bus::{
    Blob, ConfigDrive, ConfigFile, Connection, Desired, Disk, DiskRef, DiskSource, Domain, HostReport, Hub, ImageBytes,
    ImageSource, Observed, Power, Restart, Target, ToAgents, ToConductor, Want, local,
};
use umbel_core::{Error, Generation, Result, SystemClock};
use umbel_driver::{
    ByteStream, HostSize, Hypervisor, Mode, Pool, SimulatedHypervisor, SimulatedPool, Simulation, WriteOptions,
};
use uuid::Uuid;

pub const HOST: &str = "host1";
pub const MIB: u64 = 1 << 20;

/// A pool that the host reaches, and in which it makes no disks.
pub const VOLUMES: &str = "volumes";

/// What a conductor would know: what should be, and what was heard. Real conductors keep this in a database; to an agent
/// there is no difference.
#[derive(Default)]
pub struct Cell {
    pub desired: Mutex<BTreeMap<Uuid, Desired>>,
    heard: Heard,
    pub reports: Mutex<Vec<HostReport>>,
}

struct Heard(watch::Sender<HashMap<Uuid, Vec<Observed>>>);

impl Default for Heard {
    fn default() -> Self {
        Heard(watch::Sender::new(HashMap::new()))
    }
}

#[async_trait]
impl ToConductor for Cell {
    async fn report(&self, report: HostReport) -> Result<()> {
        for guest in &report.guests {
            self.hear(guest.clone());
        }
        self.reports.lock().push(report);
        Ok(())
    }

    async fn observed(&self, _host: &str, observed: Observed) -> Result<()> {
        self.hear(observed);
        Ok(())
    }

    async fn resync(&self, _host: &str, _held: Vec<Uuid>) -> Result<Vec<Desired>> {
        Ok(self.desired.lock().values().cloned().collect())
    }
}

impl Cell {
    fn hear(&self, observed: Observed) {
        let mut desired = self.desired.lock();
        if let Some(desired) = desired.get_mut(&observed.server_id)
            && observed.generation == desired.generation
            && observed.fault.is_none()
        {
            desired.reached = observed.generation;
        }
        drop(desired);
        self.heard.0.send_modify(|heard| heard.entry(observed.server_id).or_default().push(observed));
    }

    pub fn heard(&self, id: Uuid) -> Vec<Observed> {
        self.heard.0.borrow().get(&id).cloned().unwrap_or_default()
    }

    /// The first report that satisfies `condition`, once there is one.
    pub async fn until(&self, id: Uuid, what: &str, condition: impl Fn(&Observed) -> bool) -> Observed {
        let mut heard = self.heard.0.subscribe();
        let all = heard.wait_for(|heard| heard.get(&id).is_some_and(|all| all.iter().any(&condition)));
        let found = match tokio::time::timeout(Duration::from_secs(20), all).await {
            Ok(Ok(all)) => all[&id].iter().find(|observed| condition(observed)).cloned(),
            _ => None,
        };
        found.unwrap_or_else(|| panic!("never heard: {what}; heard {:#?}", self.heard(id)))
    }

    /// The newest generation is reached (or given up); how it ended.
    pub async fn done(&self, id: Uuid) -> Observed {
        let generation = self.desired.lock()[&id].generation;
        self.until(id, &format!("generation {generation}"), |observed| observed.generation == generation).await
    }
}

pub struct World {
    pub sim: Arc<Simulation>,
    pub pool: SimulatedPool,
    pub hypervisor: SimulatedHypervisor,
    pub images: Arc<Images>,
    pub hub: Arc<Hub>,
    pub cell: Arc<Cell>,
    _conductor: Arc<dyn ToConductor>,
}

/// An agent that runs, until it is killed or stopped.
pub struct Running {
    pub agent: Arc<Agent>,
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl World {
    pub fn new() -> Self {
        let sim = Simulation::new(Mode::default());
        let (hub, cell) = (local(), Arc::new(Cell::default()));
        let conductor: Arc<dyn ToConductor> = cell.clone();
        hub.conduct(&conductor);
        World {
            pool: SimulatedPool::new(&sim, "vms"),
            hypervisor: SimulatedHypervisor::new(&sim, HOST, HostSize::default()),
            images: Arc::default(),
            sim,
            hub,
            cell,
            _conductor: conductor,
        }
    }

    /// An agent with drivers of its own over this world, as a process that was just started.
    pub fn agent(&self) -> Running {
        self.agent_with(Vec::new(), |link| Arc::new(link))
    }

    pub fn agent_with(
        &self,
        more_pools: Vec<HostPool>,
        wrap: impl FnOnce(Connection) -> Arc<dyn ToConductor>,
    ) -> Running {
        let mut config = AgentConfig::new(HOST);
        config.heartbeat = Duration::from_millis(20);
        config.resync = Duration::from_millis(50);
        let hypervisor = Arc::new(SimulatedHypervisor::new(&self.sim, HOST, HostSize::default()));
        let pool = Arc::new(SimulatedPool::new(&self.sim, "vms"));
        let mut pools = vec![HostPool { pool, tier: "ssd".into(), driver: "simulated".into(), shared: true }];
        pools.extend(more_pools);
        let volumes: Arc<dyn Pool> = Arc::new(SimulatedPool::new(&self.sim, VOLUMES));
        let pools = HostPools::new(pools, vec![volumes]);
        let agent = Agent::new(config, hypervisor, pools, self.images.clone(), Arc::new(SystemClock));
        let link = wrap(self.hub.connect(HOST, agent.clone()));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(agent.clone().run(link, stopped));
        Running { agent, task, stop }
    }

    /// Says what should be from now on, one generation on.
    pub async fn want(&self, id: Uuid, want: Want) -> Generation {
        let desired = self.set(id, want);
        let _ = self.hub.desire(HOST, desired.clone()).await;
        desired.generation
    }

    /// The same, without telling the agent.
    pub fn set(&self, id: Uuid, want: Want) -> Desired {
        let mut all = self.cell.desired.lock();
        let before = all.get(&id).map_or((0, 0), |desired| (desired.generation.0, desired.reached.0));
        let desired = Desired {
            server_id: id,
            generation: Generation(before.0 + 1),
            reached: Generation(before.1),
            request_id: "req-test".into(),
            want,
        };
        all.insert(id, desired.clone());
        desired
    }

    /// An image that can be cloned, in the simulated pool.
    pub async fn image(&self) -> ImageSource {
        let data = futures_util::stream::iter([Ok(Bytes::from(vec![7; MIB as usize]))]);
        self.pool.write("image", Box::pin(data), WriteOptions::default()).await.unwrap();
        self.pool.snapshot("image", "snap").await.unwrap();
        ImageSource {
            image_id: "image".into(),
            locations: vec![self.pool.location("image", "snap").to_string()],
            disk_format: "raw".into(),
            container_format: "bare".into(),
            size: Some(MIB),
            virtual_size: Some(MIB),
        }
    }

    pub async fn power(&self, id: Uuid) -> Option<umbel_driver::Power> {
        self.hypervisor.state(id).await.unwrap()
    }

    /// Nothing of the server is left on the host.
    pub async fn assert_gone(&self, id: Uuid, context: &str) {
        assert_eq!(self.power(id).await, None, "{context}: the guest is there");
        let disks = self.pool.list().await.unwrap();
        let left: Vec<_> = disks.iter().filter(|disk| disk.starts_with(&id.to_string())).collect();
        assert!(left.is_empty(), "{context}: {left:?}");
    }

    pub async fn assert_runs(&self, id: Uuid, context: &str) {
        assert_eq!(self.power(id).await, Some(umbel_driver::Power::Running), "{context}");
        let root = self.pool.stat(&disk_name(id)).await.unwrap().unwrap_or_else(|| panic!("{context}: no disk"));
        assert_eq!(root.size, 4 * MIB, "{context}");
        assert!(self.pool.stat(&format!("{id}_disk.config")).await.unwrap().is_some(), "{context}: no config drive");
    }
}

impl Running {
    /// As `kill -9`: everything ends where it stands.
    pub async fn kill(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.is_err_and(|error| error.is_cancelled()), "the agent panicked");
    }

    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        tokio::time::timeout(Duration::from_secs(20), &mut self.task).await.expect("the agent stops").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Images by id. A missing one stands for an image service that does not answer.
#[derive(Default)]
pub struct Images {
    pub bytes: Mutex<HashMap<String, Bytes>>,
    /// What the bytes are, where that is told.
    pub formats: Mutex<HashMap<String, String>>,
    /// Streams that begin and never end.
    pub stuck: Mutex<Vec<String>>,
    /// Ids, in the order in which uploads began.
    pub uploads: Mutex<Vec<String>>,
}

#[async_trait]
impl ImageStore for Images {
    async fn open(&self, image_id: &str) -> Result<ImageBytes> {
        let bytes = self.bytes.lock().get(image_id).cloned();
        let bytes = bytes.ok_or_else(|| Error::not_found(format!("No image found with ID {image_id}")))?;
        let chunks: Vec<_> = bytes.chunks(64 << 10).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let stream = futures_util::stream::iter(chunks);
        if self.stuck.lock().iter().any(|stuck| stuck == image_id) {
            let bytes = Box::pin(futures_util::StreamExt::chain(stream, futures_util::stream::pending()));
            return Ok(ImageBytes { disk_format: None, bytes });
        }
        let disk_format = self.formats.lock().get(image_id).cloned();
        Ok(ImageBytes { disk_format, bytes: Box::pin(stream) })
    }

    async fn upload(&self, image_id: &str, size: u64, bytes: ByteStream) -> Result<()> {
        self.uploads.lock().push(image_id.to_owned());
        let chunks: Vec<Bytes> = futures_util::TryStreamExt::try_collect(bytes).await?;
        let data = Bytes::from(chunks.concat());
        assert_eq!(data.len() as u64, size);
        self.bytes.lock().insert(image_id.to_owned(), data);
        Ok(())
    }
}

pub fn disk_name(id: Uuid) -> String {
    format!("{id}_disk")
}

pub fn at(pool: &str, name: String) -> DiskRef {
    DiskRef { pool: pool.into(), name }
}

/// A server with one disk of 4 MiB and a config drive.
pub fn domain(id: Uuid, pool: &str, source: DiskSource) -> Domain {
    let disk = Disk {
        at: at(pool, disk_name(id)),
        size_bytes: 4 * MIB,
        source,
        boot_index: Some(0),
        serial: id.to_string()[..20].to_owned(),
    };
    let file = ConfigFile { path: "openstack/latest/meta_data.json".into(), content: Blob(b"{}".to_vec()) };
    Domain {
        power: Target::On,
        first_start: true,
        restart: None,
        name: format!("instance-{id}"),
        vcpus: 1,
        memory_mib: 64,
        disks: vec![disk],
        volumes: Vec::new(),
        config_drive: Some(ConfigDrive { at: at(pool, format!("{id}_disk.config")), files: vec![file] }),
        limits: Vec::new(),
    }
}

pub fn present(domain: Domain) -> Want {
    Want::Present(Box::new(domain))
}

pub fn on(id: Uuid, image: &ImageSource) -> Want {
    present(domain(id, "vms", DiskSource::Image(image.clone())))
}

pub fn powered(id: Uuid, image: &ImageSource, power: Target, restart: Option<Restart>) -> Want {
    let domain = domain(id, "vms", DiskSource::Image(image.clone()));
    present(Domain { power, restart, first_start: false, ..domain })
}

pub fn absent(id: Uuid, pool: &str) -> Want {
    Want::Absent { disks: vec![at(pool, disk_name(id)), at(pool, format!("{id}_disk.config"))] }
}

pub fn names(observed: &Observed) -> Vec<&'static str> {
    observed.steps.iter().map(|step| step.step.name()).collect()
}

pub fn runs(observed: &Observed) -> bool {
    observed.power == Some(Power::Running)
}
