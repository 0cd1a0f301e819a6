//! The compute service in one process, on SQLite, with as many cells as a test wants: no socket, real tokens, the
//! product's own bus. What conductors do to a server is done here by hand, through the same functions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use umbel_auth::{Signer, SigningKey, Verifier};
use umbel_bus::{Blob, Connection, Desired, Hub, Hubs, Observed, OnHost, Power, Task, TaskReply};
use umbel_client::ImageView;
use umbel_compute::model::{HostRef, Server, ServerId, observe, place};
use umbel_compute::store::{build_requests, server_map, servers};
use umbel_compute::testing::{MemoryImages, MemoryVolumes};
use umbel_compute::{Api, Cell, CellHandle, CellId, Cells, Compute, ComputeParts, Config, Nudge, bootstrap, service};
use umbel_core::{Clock, ManualClock, Principal, Result, Scope, SeededRng, Timestamp};
use umbel_db::testing::{TempDb, open};
use umbel_db::{Db, Engine, read, tx};
use umbel_http::{App, Body, Router, oneshot};
use umbel_placement::{HostId, HostUpdate, PoolId, PoolUpdate, Ratio};
use uuid::Uuid;

pub const IMAGE: &str = "70a599e0-31e7-49b7-b260-868f441e862b";
pub const NEWEST: &str = "2.104";

pub struct Cloud {
    pub router: Router,
    pub state: Arc<Compute>,
    pub api: Db<Api>,
    pub cells: Arc<Cells>,
    pub clock: Arc<ManualClock>,
    hubs: Vec<(String, Arc<Hub>)>,
    pub nudges: Arc<Nudges>,
    pub images: Arc<MemoryImages>,
    pub volumes: Arc<MemoryVolumes>,
    signer: Signer,
    agents: Mutex<Vec<Connection>>,
    _dirs: (TempDb<Api>, Vec<TempDb<Cell>>),
}

#[derive(Default)]
pub struct Nudges {
    pub flows: AtomicUsize,
    pub servers: Mutex<Vec<(CellId, ServerId)>>,
}

impl Nudge for Nudges {
    fn flow(&self) {
        self.flows.fetch_add(1, Ordering::SeqCst);
    }

    fn server(&self, cell: CellId, server: ServerId) {
        self.servers.lock().push((cell, server));
    }
}

pub fn image(id: &str) -> ImageView {
    ImageView {
        id: id.into(),
        name: Some("tiny".into()),
        status: "active".into(),
        visibility: Some("public".into()),
        owner: None,
        disk_format: Some("raw".into()),
        container_format: Some("bare".into()),
        size: Some(64 << 20),
        virtual_size: Some(64 << 20),
        min_disk: 0,
        min_ram: 0,
        properties: BTreeMap::from([
            ("os_distro".to_owned(), Value::from("linux")),
            ("schema".to_owned(), Value::from("/v2/schemas/image")),
        ]),
    }
}

/// An agent that knows consoles and nothing else.
struct Agent;

#[async_trait]
impl OnHost for Agent {
    async fn desire(&self, _: Desired) {}

    async fn task(&self, task: Task) -> Result<TaskReply> {
        let Task::Console { .. } = task else { panic!("nobody asks this") };
        Ok(TaskReply::Console(Blob(b"one\ntwo\nlogin: ".to_vec())))
    }
}

impl Cloud {
    pub async fn new() -> Self {
        Self::with_cells(1, Config::default()).await
    }

    pub async fn with_cells(count: u128, config: Config) -> Self {
        let api = open::<Api>(Engine::Sqlite).await;
        let zero = open::<Cell>(Engine::Sqlite).await;
        let mut dirs = Vec::new();
        let mut handles = Vec::new();
        for number in 1..=count {
            let temp = open::<Cell>(Engine::Sqlite).await;
            let id = CellId::from_uuid(Uuid::from_u128(number));
            handles.push(CellHandle { id, name: format!("cell{number}"), db: temp.db.clone() });
            dirs.push(temp);
        }
        let cells = Arc::new(Cells::new(zero.db.clone(), handles));
        dirs.push(zero);
        let clock = Arc::new(ManualClock::at(Timestamp::parse("2026-11-21T10:00:00Z").unwrap()));
        let rng = Arc::new(SeededRng::new(7));
        bootstrap(&api.db, clock.now()).await.unwrap();
        let nudges = Arc::new(Nudges::default());
        let hubs: Vec<(String, Arc<Hub>)> =
            cells.with_hosts().iter().map(|cell| (cell.name.clone(), umbel_bus::local())).collect();
        let images = Arc::new(MemoryImages::default());
        images.add(image(IMAGE));
        let volumes = Arc::new(MemoryVolumes::default());
        let state = Arc::new(Compute::new(ComputeParts {
            db: api.db.clone(),
            cells: cells.clone(),
            images: images.clone(),
            volumes: volumes.clone(),
            agents: Arc::new(Hubs(hubs.clone())),
            nudge: nudges.clone(),
            clock: clock.clone(),
            rng: rng.clone(),
            config,
        }));
        let signer = Signer::new(SigningKey::from_seed(&SigningKey::generate(&*rng)).unwrap());
        let verifier = Arc::new(Verifier::new(vec![signer.public()], Arc::default(), clock.clone()));
        let router = App { verifier, rng }.router(vec![service(state.clone())]);
        let cloud = Cloud {
            router,
            state,
            api: api.db.clone(),
            cells,
            clock,
            hubs,
            nudges,
            images,
            volumes,
            signer,
            agents: Mutex::default(),
            _dirs: (api, dirs),
        };
        for cell in cloud.cells.with_hosts() {
            cloud.add_host(&cell, &format!("{}-h1", cell.name)).await;
        }
        cloud
    }

    pub async fn add_host(&self, cell: &CellHandle, name: &str) {
        let facts = serde_json::to_string(&umbel_bus::Facts {
            hypervisor_type: "QEMU".into(),
            hypervisor_version: 7_002_000,
            vcpus: 4,
            memory_mib: 8_192,
            cpu_arch: "x86_64".into(),
            ..Default::default()
        })
        .unwrap();
        let id = HostId::from_uuid(named(name, 1));
        tx!(cell.db, "add host", |tx| {
            let update = HostUpdate {
                name,
                zone: "nova",
                facts: &facts,
                vcpus: 4,
                memory_mib: 8_192,
                memory_reserved_mib: 512,
                cpu_ratio: Ratio::CPU,
                memory_ratio: Ratio::MEMORY,
                now: self.clock.now(),
            };
            let host = umbel_placement::upsert_host(tx, id, &update).await?;
            let pool = PoolUpdate {
                name: "local",
                host: host.id,
                shared: false,
                driver: "local",
                tier: "ssd",
                total: 100 << 30,
                free: 90 << 30,
                ratio: Ratio::THIN_DISK,
                now: self.clock.now(),
            };
            let pool_id = PoolId::from_uuid(named(name, 2));
            umbel_placement::upsert_pool(tx, pool_id, &pool).await
        })
        .unwrap();
        let (_, hub) = self.hubs.iter().find(|(known, _)| *known == cell.name).unwrap();
        self.agents.lock().push(hub.connect(name, Arc::new(Agent)));
    }

    /// A token of the project's user `<project>-user`, with this role and those it implies.
    pub fn token(&self, project: &str, role: &str) -> String {
        let roles = ["admin", "member", "reader"];
        let from = roles.iter().position(|known| *known == role).unwrap();
        let now = self.clock.now();
        self.signer
            .sign(&Principal {
                user_id: format!("{project}-user"),
                user_name: format!("{project}-user"),
                user_domain_id: "default".into(),
                user_domain_name: "Default".into(),
                scope: Scope::Project {
                    id: project.into(),
                    name: project.into(),
                    domain_id: "default".into(),
                    domain_name: "Default".into(),
                },
                roles: roles[from..].iter().map(|role| (*role).to_owned()).collect(),
                audit_ids: vec!["a".into()],
                methods: vec!["password".into()],
                issued_at: now,
                expires_at: now.plus(Duration::from_secs(86_400 * 365)),
                application_credential: None,
            })
            .unwrap()
    }

    pub fn member(&self) -> Client<'_> {
        self.client("p", "member")
    }

    pub fn admin(&self) -> Client<'_> {
        self.client("admin-project", "admin")
    }

    pub fn client(&self, project: &str, role: &str) -> Client<'_> {
        Client { cloud: self, token: Some(self.token(project, role)), version: NEWEST.into() }
    }

    /// Does for a build request what a conductor does: puts it on the first host of the cell, without its claim.
    pub async fn place(&self, id: ServerId, cell: usize) -> Server {
        let cell = &self.cells.with_hosts()[cell];
        let request = read!(self.api, "request", |tx| build_requests::get(tx, id).await).unwrap();
        let mut server = request.unwrap().server;
        let now = self.clock.now();
        let hosts = read!(cell.db, "hosts", |tx| umbel_placement::hosts(tx).await).unwrap();
        let host = HostRef { id: hosts[0].id, name: hosts[0].name.clone() };
        server.state = place(&server, host, hosts[0].zone.clone(), now);
        tx!(cell.db, "place", |tx| servers::insert(tx, &server).await).unwrap();
        tx!(self.api, "place", |tx| server_map::place(tx, id, cell.id).await).unwrap();
        server
    }

    /// Does what an agent's report does: the wanted generation is reached with this power, `None` for no guest.
    pub async fn reach(&self, id: ServerId, power: Option<Power>) -> Server {
        let mapped = read!(self.api, "map", |tx| server_map::get(tx, id, &umbel_auth::Visible::All).await).unwrap();
        let cell = self.cells.get(mapped.unwrap().cell.unwrap()).unwrap();
        tx!(cell.db, "observe", |tx| {
            let mut server = servers::get(tx, id, &umbel_auth::Visible::All).await?.unwrap();
            let host = server.state.host.clone().unwrap().name;
            let seen = Observed {
                server_id: id.uuid(),
                generation: server.state.generation,
                present: power.is_some(),
                volumes: Vec::new(),
                power,
                fault: None,
                steps: vec![],
            };
            let change = observe(&server, &host, &seen, self.clock.now()).unwrap();
            server.state = change.state;
            servers::update_metadata(tx, &mut server).await?;
            if let Some(closed) = change.closed {
                let now = self.clock.now();
                umbel_compute::store::actions::finish(tx, id, &closed.request_id, false, now).await?;
            }
            Ok(server)
        })
        .unwrap()
    }

    /// A running server of project `p`.
    pub async fn running(&self, name: &str) -> ServerId {
        let id = self.member().create(name).await;
        self.place(id, 0).await;
        self.reach(id, Some(Power::Running)).await;
        id
    }
}

pub struct Client<'c> {
    pub cloud: &'c Cloud,
    pub token: Option<String>,
    pub version: String,
}

pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub headers: HashMap<String, String>,
}

impl Client<'_> {
    pub fn at(&self, version: &str) -> Self {
        Client { cloud: self.cloud, token: self.token.clone(), version: version.into() }
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("/compute/v2.1{path}"))
            .header("host", "cloud:8774")
            .header("openstack-api-version", format!("compute {}", self.version));
        if let Some(token) = &self.token {
            request = request.header("x-auth-token", token);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let response = oneshot(&self.cloud.router, request.body(body).unwrap()).await;
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status, body, headers }
    }

    /// The body of an answer with this status.
    pub async fn expect(&self, status: u16, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.call(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        answer.body
    }

    pub async fn get(&self, path: &str) -> Value {
        self.expect(200, "GET", path, None).await
    }

    pub async fn create(&self, name: &str) -> ServerId {
        let body = self.expect(202, "POST", "/servers", Some(new_server(name))).await;
        body["server"]["id"].as_str().unwrap().parse().unwrap()
    }

    pub async fn act(&self, status: u16, id: ServerId, action: Value) -> Value {
        self.expect(status, "POST", &format!("/servers/{id}/action"), Some(action)).await
    }
}

/// As the command line asks for one.
pub fn new_server(name: &str) -> Value {
    serde_json::json!({"server": {
        "name": name,
        "imageRef": IMAGE,
        "flavorRef": "1",
        "min_count": 1,
        "max_count": 1,
        "networks": "auto",
        "block_device_mapping_v2": [{
            "uuid": IMAGE, "boot_index": 0, "source_type": "image", "destination_type": "local",
            "delete_on_termination": true
        }],
    }})
}

/// Names in an object, sorted.
pub fn keys(value: &Value) -> Vec<String> {
    let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    keys
}

/// The message of a fault.
pub fn message(body: &Value) -> &str {
    body.as_object().unwrap().values().next().unwrap()["message"].as_str().unwrap()
}

/// An id made of a name.
fn named(name: &str, kind: u8) -> Uuid {
    let mut bytes = [kind; 16];
    for (at, byte) in name.bytes().enumerate() {
        bytes[at % 16] ^= byte.wrapping_mul(31).wrapping_add(at as u8);
    }
    Uuid::from_bytes(bytes)
}
