//! A volume service in this process, and a client for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use umbel_auth::{Signer, SigningKey, Verifier};
use umbel_client::{ImageData, ImageLocation, ImageView, LocationMetadata, NewImage};
use umbel_core::{Clock, Error, GIB, ManualClock, Principal, Result, Rng, Scope, SeededRng, SystemRng, Timestamp};
use umbel_db::testing::fresh;
use umbel_db::{Db, Engine};
use umbel_driver::{ByteStream, Mode, Pool, SimulatedPool, Simulation, Waiting, WriteOptions};
use umbel_http::{App, Body, Router, oneshot};
use umbel_volume::{Backend, Config, Connection, ImageAccess, ServerAccess, Volume, Volumes, VolumesParts, service};
use umbel_workflow::{Crash, RunnerConfig};

/// Two backends, `fast` (the default) and `slow`, and an image service whose images are disks of a third pool.
pub struct Cloud {
    pub volumes: Arc<Volumes>,
    pub world: Arc<Simulation>,
    pub pool: Arc<dyn Pool>,
    pub second: Arc<dyn Pool>,
    pub images: Arc<Images>,
    pub servers: Arc<Servers>,
    pub clock: Arc<ManualClock>,
    pub router: Router,
    pub db: Db<Volume>,
    signer: Signer,
    config: Config,
    url: String,
    _dir: Option<tempfile::TempDir>,
}

/// A reply, read whole.
pub struct Answer {
    pub status: u16,
    pub bytes: Bytes,
}

impl Answer {
    /// Panics with the body unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// As [`Answer::expect`], and the fault's message contains these words.
    #[track_caller]
    pub fn refused(self, status: u16, words: &str) {
        let body = self.expect(status);
        let message = body.as_object().and_then(|all| all.values().next()).map(|fault| fault["message"].clone());
        let message = message.as_ref().and_then(Value::as_str).unwrap_or_default();
        assert!(message.contains(words), "'{message}' lacks '{words}'");
    }
}

impl Cloud {
    pub async fn new() -> Cloud {
        Cloud::with(Engine::Sqlite, Config::default()).await
    }

    pub async fn on(engine: Engine) -> Cloud {
        Cloud::with(engine, Config::default()).await
    }

    pub async fn with(engine: Engine, config: Config) -> Cloud {
        let world = Simulation::new(Mode::default());
        let pools = ["fast", "slow", "images"].map(|name| Arc::new(SimulatedPool::new(&world, name)) as Arc<dyn Pool>);
        Cloud::over(engine, config, world, pools).await
    }

    /// The pools: `fast`, `slow`, and that of images.
    pub async fn over(engine: Engine, config: Config, world: Arc<Simulation>, pools: [Arc<dyn Pool>; 3]) -> Cloud {
        let (url, dir) = fresh(engine).await;
        let db = Db::open(&url, 4).await.unwrap();
        db.migrate().await.unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_795_000_000)));
        let seed = SigningKey::generate(&SeededRng::new(5));
        let signer = Signer::new(SigningKey::from_seed(&seed).unwrap());
        let [pool, second, images] = pools;
        let images = Arc::new(Images { pool: images, all: Mutex::default(), hidden: Mutex::new(false) });
        let servers = Arc::new(Servers::default());
        let both = [&pool, &second];
        let volumes = made(db.clone(), both, &images, &servers, &clock, &config);
        let router = routed(&volumes, &clock, &signer);
        Cloud { volumes, world, pool, second, images, servers, clock, router, db, signer, config, url, _dir: dir }
    }

    /// Another process of the same role on the same database and pools, with connections of its own.
    pub async fn another(&self) -> (Arc<Volumes>, Router) {
        let db = Db::open(&self.url, 4).await.unwrap();
        let both = [&self.pool, &self.second];
        let volumes = made(db, both, &self.images, &self.servers, &self.clock, &self.config);
        let router = routed(&volumes, &self.clock, &self.signer);
        (volumes, router)
    }

    pub fn tick(&self) {
        self.clock.advance(Duration::from_secs(1));
    }

    /// A token with these roles in this project.
    pub fn token(&self, project: &str, roles: &[&str]) -> String {
        let scope = Scope::Project {
            id: project.to_owned(),
            name: project.to_owned(),
            domain_id: "default".to_owned(),
            domain_name: "Default".to_owned(),
        };
        let principal = Principal {
            user_id: format!("user-of-{project}"),
            user_name: "user".to_owned(),
            user_domain_id: "default".to_owned(),
            user_domain_name: "Default".to_owned(),
            scope,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            audit_ids: vec!["audit".to_owned()],
            methods: vec!["password".to_owned()],
            issued_at: self.clock.now(),
            expires_at: self.clock.now().plus(Duration::from_secs(864_000)),
            application_credential: None,
        };
        self.signer.sign(&principal).unwrap()
    }

    pub fn member(&self, project: &str) -> String {
        self.token(project, &["member", "reader"])
    }

    pub fn admin(&self) -> String {
        self.token("ops", &["admin", "member", "reader"])
    }

    /// As identity's bootstrap makes it.
    pub fn service(&self) -> String {
        self.token("service", &["service", "member", "reader"])
    }

    /// In the newest version. The path is below `/volume/v3`; no body for null.
    pub async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.call_at("3.71", token, method, path, body).await
    }

    pub async fn call_at(&self, version: &str, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let (kind, body) = match body {
            Value::Null => ("", Body::empty()),
            body => ("application/json", Body::from(body.to_string())),
        };
        let version = format!("volume {version}");
        let headers = [("x-auth-token", token), ("content-type", kind), ("openstack-api-version", version.as_str())];
        send(&self.router, method, &format!("/volume/v3{path}"), &headers, body).await
    }

    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, "GET", path, Value::Null).await
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(token, "POST", path, body).await
    }

    pub async fn put(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(token, "PUT", path, body).await
    }

    pub async fn delete(&self, token: &str, path: &str) -> Answer {
        self.call(token, "DELETE", path, Value::Null).await
    }

    /// Asks for a volume; its id.
    pub async fn begin(&self, token: &str, volume: Value) -> String {
        let answer = self.post(token, "/volumes", json!({ "volume": volume })).await;
        answer.expect(202)["volume"]["id"].as_str().unwrap().to_owned()
    }

    /// As [`Cloud::begin`], and it is made.
    pub async fn volume(&self, token: &str, volume: Value) -> String {
        let id = self.begin(token, volume).await;
        self.work().await;
        assert_eq!(self.show(&id).await["status"], "available", "{:?}", self.show(&id).await);
        id
    }

    /// A snapshot of this volume that is made; its id.
    pub async fn snapshot(&self, token: &str, volume: &str) -> String {
        let body = json!({"snapshot": {"volume_id": volume, "name": "s"}});
        let id = self.post(token, "/snapshots", body).await.expect(202)["snapshot"]["id"].as_str().unwrap().to_owned();
        self.work().await;
        assert_eq!(self.show_snapshot(&id).await["status"], "available");
        id
    }

    pub async fn act(&self, token: &str, volume: &str, action: Value) -> Answer {
        self.post(token, &format!("/volumes/{volume}/action"), action).await
    }

    /// As an administrator sees it.
    pub async fn show(&self, volume: &str) -> Value {
        self.get(&self.admin(), &format!("/volumes/{volume}")).await.expect(200)["volume"].clone()
    }

    pub async fn show_snapshot(&self, snapshot: &str) -> Value {
        self.get(&self.admin(), &format!("/snapshots/{snapshot}")).await.expect(200)["snapshot"].clone()
    }

    /// Writes into a volume's disk, as its guest would.
    pub async fn write(&self, volume: &str, bytes: &[u8]) {
        let change = umbel_driver::Change::Data { offset: 0, bytes: Bytes::copy_from_slice(bytes) };
        let changes = Box::pin(futures_util::stream::iter([Ok(change)]));
        let disk = format!("volume-{volume}");
        self.pool.patch(&disk, changes, umbel_driver::no_progress()).await.unwrap();
    }

    /// The beginning of a volume's disk in the default backend.
    pub async fn read(&self, volume: &str, length: usize) -> Vec<u8> {
        read(&*self.pool, &format!("volume-{volume}"), length).await
    }

    /// Does all the work that there is, in this process.
    pub async fn work(&self) {
        self.work_with(&self.volumes, Crash::never()).await;
    }

    /// As [`Cloud::work`], in the process of this state, and until it crashes. What waits need not wait: the clock
    /// goes on as fast as needed, which is why leases are long.
    pub async fn work_with(&self, volumes: &Arc<Volumes>, crash: Crash) {
        let config = RunnerConfig { lease: Duration::from_secs(86_400), crash, ..RunnerConfig::default() };
        let runner = volumes.runner(config);
        runner.take_over().await.unwrap();
        let ticking = async {
            eventually("the clock never ends", async || {
                self.clock.advance(Duration::from_millis(200));
                false
            })
            .await;
        };
        tokio::select! {
            done = runner.run_until_idle(Duration::from_secs(60)) => done.unwrap(),
            () = ticking => {}
        }
    }

    /// As [`Cloud::work`], in a process that dies as it is about to make its `nth` change to a pool, counted from 0; the
    /// change at which it died. None: there was not so much to do.
    pub async fn work_until_change(&self, volumes: &Arc<Volumes>, nth: usize) -> Option<Waiting> {
        self.world.set_mode(Mode::Stepped);
        let dies = async {
            for _ in 0..nth {
                self.world.step().await;
            }
            self.world.next_waiting().await
        };
        let died = tokio::select! {
            () = self.work_with(volumes, Crash::never()) => None,
            at = dies => Some(at),
        };
        self.world.set_mode(Mode::default());
        died
    }

    /// Everything that the backends' pools show.
    pub async fn disks(&self) -> Vec<String> {
        let mut all = self.pool.list().await.unwrap();
        all.extend(self.second.list().await.unwrap());
        all.sort();
        all
    }
}

fn made(
    db: Db<Volume>,
    pools: [&Arc<dyn Pool>; 2],
    images: &Arc<Images>,
    servers: &Arc<Servers>,
    clock: &Arc<ManualClock>,
    config: &Config,
) -> Arc<Volumes> {
    let backend = |pool: &Arc<dyn Pool>, name: &str, default| Backend {
        name: name.to_owned(),
        pool: pool.clone(),
        driver: "simulated".to_owned(),
        default,
        connection: Connection::default(),
    };
    let parts = VolumesParts {
        db,
        backends: vec![backend(pools[0], "fast", true), backend(pools[1], "slow", false)],
        images: images.clone(),
        servers: servers.clone(),
        clock: clock.clone(),
        rng: Arc::new(SystemRng::new()),
        config: config.clone(),
        process: None,
    };
    Volumes::new(parts).unwrap()
}

fn routed(volumes: &Arc<Volumes>, clock: &Arc<ManualClock>, signer: &Signer) -> Router {
    let verifier = Arc::new(Verifier::new(vec![signer.public()], Arc::default(), clock.clone()));
    App { verifier, rng: Arc::new(SystemRng::new()) }.router(vec![service(volumes.clone())])
}

pub async fn send(router: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
    let mut request = http::Request::builder().method(method).uri(path).header("host", "cloud:1");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    let response = oneshot(router, request.body(body).unwrap()).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), bytes }
}

/// The beginning of a disk.
pub async fn read(pool: &dyn Pool, disk: &str, length: usize) -> Vec<u8> {
    let mut stream = pool.read(disk, None, 0, length as u64).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    bytes
}

/// Bytes that repeat nowhere.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SeededRng::new(seed).fill(&mut bytes);
    bytes
}

/// Ids of a list's things, in order.
pub fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// Asks `what` again until it says yes.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub fn stream_of(bytes: Vec<u8>) -> ByteStream {
    Box::pin(futures_util::stream::iter([Ok(Bytes::from(bytes))]))
}

/// An image service: records in memory, bytes in a pool.
pub struct Images {
    pub pool: Arc<dyn Pool>,
    all: Mutex<BTreeMap<String, Kept>>,
    /// Whether it tells nobody where its data are.
    hidden: Mutex<bool>,
}

struct Kept {
    view: ImageView,
    bytes: Vec<u8>,
    /// Of the bytes.
    format: String,
    urls: Vec<String>,
}

impl Images {
    pub fn hide_locations(&self) {
        *self.hidden.lock() = true;
    }

    pub fn tell_locations(&self) {
        *self.hidden.lock() = false;
    }

    /// An active image of these bytes; its id.
    pub async fn add(&self, format: &str, bytes: &[u8], more: Value) -> String {
        let id = SystemRng::new().uuid().to_string();
        let options = WriteOptions { size: Some(bytes.len() as u64), ..WriteOptions::default() };
        self.pool.write(&id, stream_of(bytes.to_vec()), options).await.unwrap();
        self.pool.snapshot(&id, "snap").await.unwrap();
        let mut body = json!({
            "id": id, "name": "i", "status": "active", "visibility": "public", "owner": "p", "disk_format": format,
            "container_format": "bare", "size": bytes.len(), "virtual_size": null, "min_disk": 0, "min_ram": 0,
            "checksum": "abc", "os_distro": "small", "tags": [],
        });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let view = serde_json::from_value(body).unwrap();
        let urls = vec![self.pool.location(&id, "snap").to_string()];
        self.all.lock().insert(id.clone(), Kept { view, bytes: bytes.to_vec(), format: format.to_owned(), urls });
        id
    }

    /// Gives an image other data, behind the back of whoever has looked at it.
    pub fn replace(&self, id: &str, format: &str, bytes: &[u8]) {
        let replaced = |kept: &mut Kept| (kept.format, kept.bytes) = (format.to_owned(), bytes.to_vec());
        self.with(id, replaced).unwrap();
    }

    /// The bytes and the locations of an image.
    pub fn data(&self, id: &str) -> Option<(Vec<u8>, Vec<String>)> {
        self.all.lock().get(id).map(|kept| (kept.bytes.clone(), kept.urls.clone()))
    }

    fn with<T>(&self, id: &str, read: impl FnOnce(&mut Kept) -> T) -> Result<T> {
        let mut all = self.all.lock();
        all.get_mut(id).map(read).ok_or_else(|| Error::not_found(format!("No image found with ID {id}")))
    }
}

#[async_trait]
impl ImageAccess for Images {
    async fn show(&self, _: Option<&str>, id: &str) -> Result<ImageView> {
        self.with(id, |kept| kept.view.clone())
    }

    async fn locations(&self, id: &str) -> Result<Vec<ImageLocation>> {
        if *self.hidden.lock() {
            return Ok(Vec::new());
        }
        let location = |url: &String| ImageLocation { url: url.clone(), metadata: LocationMetadata::default() };
        self.with(id, |kept| kept.urls.iter().map(location).collect())
    }

    async fn download(&self, id: &str) -> Result<ImageData> {
        self.with(id, |kept| {
            let (disk_format, bytes) = (Some(kept.format.clone()), stream_of(kept.bytes.clone()));
            ImageData { disk_format, bytes }
        })
    }

    async fn create(&self, _: Option<&str>, new: &NewImage) -> Result<ImageView> {
        let id = new.id.clone().unwrap_or_else(|| SystemRng::new().uuid().to_string());
        let mut body = serde_json::to_value(new).unwrap();
        body["id"] = json!(id);
        body["status"] = json!("queued");
        let view: ImageView = serde_json::from_value(body).map_err(Error::internal)?;
        self.all
            .lock()
            .insert(id, Kept { view: view.clone(), bytes: Vec::new(), format: String::new(), urls: Vec::new() });
        Ok(view)
    }

    async fn add_location(&self, id: &str, url: &str) -> Result<()> {
        self.with(id, |kept| {
            kept.urls.push(url.to_owned());
            kept.view.status = "active".to_owned();
        })
    }

    async fn upload(&self, id: &str, _: Option<u64>, mut data: ByteStream) -> Result<()> {
        let mut bytes = Vec::new();
        while let Some(chunk) = data.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        self.with(id, |kept| {
            kept.bytes = bytes;
            kept.view.status = "active".to_owned();
        })
    }

    async fn delete(&self, id: &str) -> Result<()> {
        self.all.lock().remove(id);
        Ok(())
    }
}

/// The compute service, as far as it is told something.
#[derive(Default)]
pub struct Servers {
    pub told: Mutex<Vec<(String, String)>>,
    /// Servers that have nothing, whatever attachments say.
    pub gone: Mutex<Vec<String>>,
    /// Servers and volumes of theirs that are to move.
    pub moving: Mutex<Vec<(String, String)>>,
}

#[async_trait]
impl ServerAccess for Servers {
    async fn extended(&self, server_id: &str, volume_id: &str) -> Result<()> {
        self.told.lock().push((server_id.to_owned(), volume_id.to_owned()));
        Ok(())
    }

    async fn moving(&self, server_id: &str, volume_id: &str) -> Result<()> {
        if self.gone.lock().iter().any(|gone| gone == server_id) {
            return Err(Error::not_found("No instances found for any event"));
        }
        self.moving.lock().push((server_id.to_owned(), volume_id.to_owned()));
        Ok(())
    }

    async fn holds(&self, server_id: &str, _: &str, _: &str) -> Result<bool> {
        Ok(!self.gone.lock().iter().any(|gone| gone == server_id))
    }
}

/// Bytes of so many GiB.
pub const fn gib(count: u64) -> u64 {
    count * GIB
}
