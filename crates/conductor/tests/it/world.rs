//! A cloud without an API: databases, a conductor, agents on simulated hosts; and what the API would do to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use umbel_agent::{Agent, AgentConfig, HostPool, HostPools, ImageStore};
use umbel_bus::{Hub, ImageBytes, ToAgents, ToConductor, local};
use umbel_compute::model::*;
use umbel_compute::store::{actions, build_requests, disks, server_map, servers};
use umbel_compute::testing::{MemoryImages, MemoryVolumes, POOL};
use umbel_compute::{Api, Cell, CellHandle, CellId, Cells, flows};
use umbel_conductor::{Conductor, ConductorConfig, Services};
use umbel_core::{Clock, Error, Result, SystemClock, SystemRng, Timestamp};
use umbel_db::testing::{TempDb, open};
use umbel_db::{Db, Engine, args, read, tx};
use umbel_driver::{
    ByteStream, HostSize, Hypervisor, Mode, Pool, SimulatedHypervisor, SimulatedPool, Simulation, WriteOptions,
};
use umbel_workflow::{Crash, NewFlow, RunnerConfig, enqueue};
use uuid::Uuid;

pub const DEADLINE: Duration = Duration::from_secs(30);
pub const CELL: CellId = CellId::from_uuid(Uuid::from_u128(1));
pub const MIB: u64 = 1 << 20;

/// A second pool for volumes.
pub const SECOND: &str = "volumes-2";

pub struct World {
    pub sim: Arc<Simulation>,
    pub pool: SimulatedPool,
    /// Images that were made here.
    pub images: Arc<MemoryImages>,
    /// Volumes whose disks are in a pool of the same simulation.
    pub volumes: Arc<MemoryVolumes>,
    pub volume_pool: SimulatedPool,
    pub api: TempDb<Api>,
    _zero: TempDb<Cell>,
    pub cell: TempDb<Cell>,
    pub cells: Arc<Cells>,
    pub hub: Arc<Hub>,
    pub config: ConductorConfig,
    pub size: HostSize,
    /// Pools of the agents to come, for system disks.
    pub system_pools: Vec<String>,
}

/// A conductor that works, until it is dropped.
pub struct Conducting {
    pub conductor: Arc<Conductor>,
    _link: Arc<dyn ToConductor>,
    task: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

pub struct Mapped {
    pub cell: Option<CellId>,
    pub queued_for_delete: bool,
}

pub struct Running {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// Hosts send images and get none.
struct Sent(Arc<MemoryImages>);

#[async_trait]
impl ImageStore for Sent {
    async fn open(&self, image_id: &str) -> Result<ImageBytes> {
        Err(Error::not_found(format!("No image found with ID {image_id}")))
    }

    async fn upload(&self, image_id: &str, size: u64, mut bytes: ByteStream) -> Result<()> {
        let mut came = 0;
        while let Some(chunk) = bytes.next().await {
            came += chunk?.len() as u64;
        }
        assert_eq!(came, size);
        self.0.upload(image_id, size)
    }
}

impl World {
    pub async fn new() -> Self {
        Self::on(Engine::Sqlite).await
    }

    pub async fn on(engine: Engine) -> Self {
        Self::with_room(engine, 1 << 50).await
    }

    /// With a pool for disks of so many bytes.
    pub async fn with_room(engine: Engine, total: u64) -> Self {
        let sim = Simulation::new(Mode::default());
        let pool = SimulatedPool::with_capacity(&sim, "vms", total);
        let volume_pool = SimulatedPool::new(&sim, POOL);
        let disks = Arc::new(SimulatedPool::new(&sim, POOL));
        let volumes = Arc::new(MemoryVolumes::with_disks(Arc::new(move |name, bytes| {
            let disks = disks.clone();
            Box::pin(async move { disks.create(&name, bytes).await.unwrap() })
        })));
        let data = futures_util::stream::iter([Ok(Bytes::from(vec![7; MIB as usize]))]);
        pool.write("image", Box::pin(data), WriteOptions::default()).await.unwrap();
        pool.snapshot("image", "snap").await.unwrap();
        let (api, zero, cell) = (open::<Api>(engine).await, open::<Cell>(engine).await, open::<Cell>(engine).await);
        let handle = CellHandle { id: CELL, name: "cell1".into(), db: cell.db.clone() };
        let cells = Arc::new(Cells::new(zero.db.clone(), vec![handle]));
        let runner = RunnerConfig { sweep: Duration::from_millis(200), ..RunnerConfig::default() };
        let config = ConductorConfig {
            sweep: Duration::from_millis(50),
            quiet: Duration::from_millis(50),
            reconcile: Duration::from_millis(100),
            reserved_memory_mib: 0,
            settle: Duration::ZERO,
            runner,
            ..ConductorConfig::default()
        };
        World {
            sim,
            pool,
            images: Arc::default(),
            volumes,
            volume_pool,
            api,
            _zero: zero,
            cell,
            cells,
            hub: local(),
            config,
            size: HostSize::default(),
            system_pools: vec!["vms".into()],
        }
    }

    /// A conductor that takes reports, and whose flows run when the test says so.
    pub fn conductor_with(&self, config: ConductorConfig, agents: Arc<dyn ToAgents>) -> Conducting {
        self.conductor_from(config, vec![(CELL, agents)])
    }

    /// The same, of these cells.
    pub fn conductor_of(&self, agents: Vec<(CellId, Arc<dyn ToAgents>)>) -> Conducting {
        self.conductor_from(self.config.clone(), agents)
    }

    fn conductor_from(&self, config: ConductorConfig, agents: Vec<(CellId, Arc<dyn ToAgents>)>) -> Conducting {
        let (api, cells, clock) = (self.api.db.clone(), self.cells.clone(), Arc::new(SystemClock));
        let services = Services { images: self.images.clone(), volumes: self.volumes.clone() };
        let rng = Arc::new(SystemRng::new());
        let conductor = Conductor::new(config, api, cells, agents, services, clock, rng).unwrap();
        let link: Arc<dyn ToConductor> = conductor.cell(CELL).unwrap();
        self.hub.conduct(&link);
        Conducting { conductor, _link: link, task: None, stop: watch::Sender::new(false) }
    }

    /// One that dies at the crash switch's moment.
    pub fn doomed(&self, crash: Crash) -> Conducting {
        let runner = RunnerConfig { crash, ..self.config.runner.clone() };
        self.conductor_with(ConductorConfig { runner, ..self.config.clone() }, self.hub.clone())
    }

    /// A conductor that works by itself, and takes over what an earlier one left.
    pub async fn conductor(&self) -> Conducting {
        let mut conducting = self.conductor_with(self.config.clone(), self.hub.clone());
        conducting.conductor.take_over().await.unwrap();
        conducting.run();
        conducting
    }

    pub fn hypervisor(&self, host: &str) -> SimulatedHypervisor {
        SimulatedHypervisor::new(&self.sim, host, self.size)
    }

    pub fn agent(&self, host: &str) -> Running {
        self.agent_on(&self.hub, host)
    }

    pub fn agent_on(&self, hub: &Arc<Hub>, host: &str) -> Running {
        self.agent_over(hub, host, |link| link)
    }

    pub fn agent_over(
        &self,
        hub: &Arc<Hub>,
        host: &str,
        wrap: impl FnOnce(Arc<dyn ToConductor>) -> Arc<dyn ToConductor>,
    ) -> Running {
        let mut config = AgentConfig::new(host);
        config.heartbeat = Duration::from_millis(50);
        config.resync = Duration::from_millis(200);
        let pool = |name: &String| HostPool {
            pool: Arc::new(SimulatedPool::new(&self.sim, name)),
            tier: "ssd".into(),
            driver: "simulated".into(),
            shared: true,
        };
        let system = self.system_pools.iter().map(pool).collect();
        let others = [POOL, SECOND].map(|name| Arc::new(SimulatedPool::new(&self.sim, name)) as Arc<dyn Pool>);
        let pools = HostPools::new(system, others.into());
        let hypervisor = Arc::new(self.hypervisor(host));
        let agent = Agent::new(config, hypervisor, pools, Arc::new(Sent(self.images.clone())), Arc::new(SystemClock));
        let link = wrap(Arc::new(hub.connect(host, agent.clone())));
        let (stop, stopped) = watch::channel(false);
        Running { task: tokio::spawn(agent.run(link, stopped)), stop }
    }

    /// Waits until the database has as many hosts.
    pub async fn hosts(&self, count: usize) {
        until("hosts", async || {
            let hosts = read!(self.cell.db, "hosts", |tx| umbel_placement::hosts(tx).await).unwrap();
            (hosts.len() == count).then_some(())
        })
        .await;
    }

    /// A server of 1 vCPU, 512 MiB and a disk of 4 MiB from the image, as the API would make it.
    pub fn server(&self) -> Server {
        let id = ServerId::from_uuid(Uuid::new_v4());
        let image = ImageSnapshot {
            id: "image".into(),
            name: None,
            disk_format: "raw".into(),
            container_format: "bare".into(),
            size: Some(MIB),
            virtual_size: Some(MIB),
            min_disk_gib: 0,
            min_ram_mib: 0,
            properties: BTreeMap::new(),
            locations: vec![self.pool.location("image", "snap").to_string()],
        };
        let disk = DiskPlan {
            name: format!("{id}_disk"),
            size_bytes: 4 * MIB,
            source: DiskSource::Image,
            boot_index: Some(0),
            tier: None,
        };
        let spec = ServerSpec {
            project_id: "p".into(),
            user_id: "u".into(),
            project_name: "project".into(),
            created_at: SystemClock.now(),
            reservation_id: "r-00000000".into(),
            launch_index: 0,
            request_id: format!("req-{}", Uuid::new_v4()),
            flavor: FlavorSnapshot {
                id: "1".into(),
                name: "m1.tiny".into(),
                vcpus: 1,
                memory_mib: 512,
                root_gib: 0,
                ephemeral_gib: 0,
                swap_mib: 0,
                extra_specs: BTreeMap::new(),
            },
            image: Some(image),
            key: Some(KeySnapshot { name: "k".into(), kind: "ssh".into(), public_key: "ssh-ed25519 AAAA".into() }),
            user_data: Some("I2Nsb3VkLWNvbmZpZwo=".into()),
            config_drive: false,
            availability_zone: None,
            requested_host: None,
            scheduler_hints: serde_json::Map::new(),
            networks: Networks::None,
            security_groups: Vec::new(),
            disk_config: DiskConfig::Manual,
            disks: vec![disk],
        };
        Server::new(id, spec, "vm".into(), "vm".into())
    }

    /// `POST /servers`: its one transaction.
    pub async fn create(&self, server: &Server) -> ServerId {
        let now = SystemClock.now();
        tx!(self.api.db, "create", |tx| {
            server_map::insert(tx, server).await?;
            build_requests::insert(tx, server).await?;
            let flow = NewFlow {
                id: &server.id.to_string(),
                kind: flows::SERVER_CREATE,
                first_step: flows::SERVER_CREATE_FIRST,
                state: &flows::ServerCreate { server_id: server.id },
                request_id: &server.spec.request_id,
                now,
                deadline: now.plus(flows::SERVER_CREATE_DEADLINE),
            };
            enqueue(tx, flow).await
        })
        .unwrap();
        server.id
    }

    pub async fn mapped(&self, id: ServerId) -> Option<Mapped> {
        let sql = "SELECT cell_id, queued_for_delete FROM server_map WHERE server_id = ?";
        let row = read!(self.api.db, "map", |tx| tx.fetch_opt(sql, args![id]).await).unwrap()?;
        let queued_for_delete = row.bool("queued_for_delete").unwrap();
        Some(Mapped { cell: row.opt_id("cell_id").unwrap(), queued_for_delete })
    }

    pub fn db(&self, cell: CellId) -> Db<Cell> {
        self.cells.get(cell).unwrap().db.clone()
    }

    /// The server's row, wherever the map says it is.
    pub async fn row(&self, id: ServerId) -> Option<Server> {
        let cell = self.mapped(id).await?.cell?;
        read!(self.db(cell), "row", |tx| servers::get_many(tx, &[id]).await).unwrap().pop()
    }

    /// An action on a server in its cell. Returns whether it is allowed now.
    pub async fn act(&self, conductor: &Conductor, id: ServerId, action: Action) -> Result<()> {
        let request_id = format!("req-{}", Uuid::new_v4());
        let now = SystemClock.now();
        tx!(self.cell.db, "act", |tx| {
            let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
            server.state = transition(&server, action, &request_id, now)?;
            let row = actions::ActionRow {
                server_id: id,
                request_id: request_id.clone(),
                action: action.name().into(),
                user_id: "u".into(),
                project_id: "p".into(),
                started_at: now,
                finished_at: None,
                updated_at: now,
                message: None,
            };
            actions::start(tx, &row).await?;
            servers::update(tx, &mut server).await
        })?;
        conductor.cell(CELL)?.changed(id).await
    }

    /// `DELETE /servers/{id}`.
    pub async fn delete(&self, conductor: &Conductor, id: ServerId) {
        if tx!(self.api.db, "delete", |tx| server_map::delete_unplaced(tx, id).await).unwrap() {
            return;
        }
        if self.row(id).await.is_some_and(|server| server.state.host.is_none() && !server.state.volumes.is_empty()) {
            return self.vacate(conductor, id).await;
        }
        self.act(conductor, id, Action::Delete).await.unwrap();
        tx!(self.api.db, "delete", |tx| server_map::queue_for_delete(tx, id).await).unwrap();
    }

    /// Waits for the server to be so, and that nothing works on it any more.
    pub async fn status(&self, id: ServerId, status: Status) -> Server {
        let mut last = None;
        let found = eventually(async || {
            last = self.row(id).await;
            let settled = |server: &Server| project(server).status == status && server.state.task.is_none();
            (last.as_ref().is_some_and(settled) && self.flows().await == 0).then_some(())
        });
        if found.await.is_none() {
            panic!("not {status:?}: {:#?}, {} flows", last.map(|server| server.state), self.flows().await);
        }
        last.unwrap()
    }

    /// Flows that have not ended.
    pub async fn flows(&self) -> u64 {
        let sql = "SELECT COUNT(*) AS n FROM workflows";
        let mut count = read!(self.api.db, "flows", |tx| tx.fetch_one(sql, args![]).await?.uint("n")).unwrap();
        for cell in self.cells.all() {
            count += read!(cell.db, "flows", |tx| tx.fetch_one(sql, args![]).await?.uint("n")).unwrap();
        }
        count
    }

    /// Waits until nothing is under way: no flow, no build request, no server that is not as it should be.
    pub async fn quiet(&self, context: &str) {
        until(context, async || {
            let requests = read!(self.api.db, "requests", |tx| build_requests::ids(tx).await).unwrap();
            let behind = read!(self.cell.db, "behind", |tx| servers::behind(tx, Timestamp(i64::MAX), 10).await);
            (self.flows().await == 0 && requests.is_empty() && behind.unwrap().is_empty()).then_some(())
        })
        .await;
    }

    /// Every claim has a server, every disk a row, every guest a server on its host; and the other way round.
    pub async fn assert_no_orphans(&self, hosts: &[&str], context: &str) {
        let (drift, claims, rows, here) = read!(self.cell.db, "audit", |tx| {
            let claims = tx.fetch_all("SELECT consumer_id FROM claims ORDER BY consumer_id", args![]).await?;
            let claims: Vec<String> = claims.iter().map(|row| row.text("consumer_id").unwrap()).collect();
            let rows = tx.fetch_all("SELECT name FROM disks ORDER BY name", args![]).await?;
            let rows: Vec<String> = rows.iter().map(|row| row.text("name").unwrap()).collect();
            let mut here = Vec::new();
            for host in hosts {
                here.extend(servers::on_host(tx, host).await?);
            }
            Ok((umbel_placement::audit(tx).await?, claims, rows, here))
        })
        .unwrap();
        assert_eq!(drift, [], "{context}");
        let mut ids: Vec<String> = here.iter().map(|server| server.id.to_string()).collect();
        ids.sort();
        assert_eq!(claims, ids, "{context}: claims and servers");
        let mut in_pool = self.pool.list().await.unwrap();
        in_pool.retain(|name| name != "image");
        in_pool.sort();
        assert_eq!(in_pool, rows, "{context}: disks in the pool and in the database");
        let mut guests = Vec::new();
        for host in hosts {
            for guest in self.hypervisor(host).list().await.unwrap() {
                guests.push((guest.id, (*host).to_owned()));
            }
        }
        guests.sort();
        let on = |server: &Server| (server.id.uuid(), server.state.host.as_ref().unwrap().name.clone());
        let mut should: Vec<(Uuid, String)> = here.iter().map(on).collect();
        should.sort();
        assert_eq!(guests, should, "{context}: guests and servers");
    }

    pub async fn disks(&self, id: ServerId) -> Vec<disks::DiskRow> {
        read!(self.cell.db, "disks", |tx| disks::of_server(tx, id).await).unwrap()
    }

    pub async fn actions(&self, id: ServerId) -> Vec<(actions::ActionRow, Vec<actions::EventRow>)> {
        let cell = self.mapped(id).await.unwrap().cell.unwrap();
        read!(self.db(cell), "actions", |tx| {
            let mut all = Vec::new();
            for action in actions::list(tx, id, &actions::ActionPage::default()).await?.unwrap_or_default() {
                let events = actions::events(tx, id, &action.request_id).await?;
                all.push((action, events));
            }
            Ok(all)
        })
        .unwrap()
    }
}

impl Conducting {
    pub fn run(&mut self) {
        self.task = Some(tokio::spawn(self.conductor.clone().run(self.stop.subscribe())));
    }

    pub fn nudge(&self) {
        self.conductor.nudge().now();
    }

    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if let Some(task) = self.task.take() {
            tokio::time::timeout(DEADLINE, task).await.expect("the conductor stops").unwrap();
        }
    }
}

impl Drop for Conducting {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Running {
    pub async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        tokio::time::timeout(DEADLINE, &mut self.task).await.expect("the agent stops").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for a condition; it is a failure if it does not come.
pub async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    eventually(condition).await.unwrap_or_else(|| panic!("never came: {what}"))
}

/// Looks at a condition often, until it holds or the time is up.
async fn eventually<T>(mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let look = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, look).await.ok()
}
