//! An image service in this process, and a client for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use umbel_auth::{Signer, SigningKey, Verifier};
use umbel_client::Transport;
use umbel_core::{Clock, ManualClock, Principal, Rng, Scope, SeededRng, SystemRng, Timestamp};
use umbel_db::testing::fresh;
use umbel_db::{Db, Engine};
use umbel_driver::{Mode, Pool, SimulatedPool, Simulation};
use umbel_http::{App, Body, Router, oneshot};
use umbel_image::{Config, Image, Images, Store, service};
use umbel_workflow::{Crash, Process, RunnerConfig};

pub struct Cloud {
    pub images: Arc<Images>,
    pub world: Arc<Simulation>,
    pub pool: Arc<dyn Pool>,
    pub second: Arc<dyn Pool>,
    pub clock: Arc<ManualClock>,
    pub router: Router,
    signer: Signer,
    config: Config,
    url: String,
    _dir: Option<tempfile::TempDir>,
}

/// A reply, read whole.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
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
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "'{message}' lacks '{words}'");
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
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
        let pools = ["fast", "slow"].map(|name| Arc::new(SimulatedPool::new(&world, name)) as Arc<dyn Pool>);
        Cloud::over(engine, config, world, pools).await
    }

    pub async fn over(engine: Engine, config: Config, world: Arc<Simulation>, pools: [Arc<dyn Pool>; 2]) -> Cloud {
        let (url, dir) = fresh(engine).await;
        let db = Db::open(&url, 4).await.unwrap();
        db.migrate().await.unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_795_000_000)));
        let seed = SigningKey::generate(&SeededRng::new(5));
        let signer = Signer::new(SigningKey::from_seed(&seed).unwrap());
        let [pool, second] = pools;
        let (images, router) = process(db, &pool, &second, &clock, &signer, &config);
        Cloud { images, world, pool, second, clock, router, signer, config, url, _dir: dir }
    }

    /// Another process of the same role on the same database and pools, with connections of its own.
    pub async fn another(&self) -> (Arc<Images>, Router) {
        let db = Db::open(&self.url, 4).await.unwrap();
        process(db, &self.pool, &self.second, &self.clock, &self.signer, &self.config)
    }

    /// The database, by connections of the test's own.
    pub async fn db(&self) -> Db<Image> {
        Db::open(&self.url, 4).await.unwrap()
    }

    /// As [`Cloud::another`], and the process knows other regions by the catalog of an identity service at this URL.
    pub async fn in_regions(&self, transport: Arc<dyn Transport>, identity: &str) -> (Arc<Images>, Router) {
        let db = Db::open(&self.url, 4).await.unwrap();
        let images = images(db, &self.pool, &self.second, &self.clock, &self.config);
        served(images.with_regions(transport, identity), &self.clock, &self.signer)
    }

    /// As [`Cloud::another`], and others who take its work over know it as this.
    pub async fn known_as(&self, process: Process) -> (Arc<Images>, Router) {
        let db = Db::open(&self.url, 4).await.unwrap();
        let images = images(db, &self.pool, &self.second, &self.clock, &self.config);
        served(images.with_process(process), &self.clock, &self.signer)
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
            expires_at: self.clock.now().plus(Duration::from_secs(86_400)),
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

    pub fn service(&self) -> String {
        self.token("service", &["service"])
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        send(&self.router, method, path, headers, body).await
    }

    /// With a JSON body, unless it is null.
    pub async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let (kind, body) = match body {
            Value::Null => ("", Body::empty()),
            body => ("application/json", Body::from(body.to_string())),
        };
        self.send(method, path, &[("x-auth-token", token), ("content-type", kind)], body).await
    }

    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, "GET", path, Value::Null).await
    }

    pub async fn delete(&self, token: &str, path: &str) -> Answer {
        self.call(token, "DELETE", path, Value::Null).await
    }

    pub async fn patch(&self, token: &str, id: &str, changes: Value) -> Answer {
        let kind = "application/openstack-images-v2.1-json-patch";
        let headers = [("x-auth-token", token), ("content-type", kind)];
        self.send("PATCH", &image(id), &headers, Body::from(changes.to_string())).await
    }

    /// Creates an image of these attributes; its id.
    pub async fn create(&self, token: &str, body: Value) -> String {
        let answer = self.call(token, "POST", "/image/v2/images", body).await;
        answer.expect(201)["id"].as_str().unwrap().to_owned()
    }

    /// A bare image of this format, without data.
    pub async fn queued(&self, token: &str, format: &str) -> String {
        self.create(token, json!({"name": "i", "disk_format": format, "container_format": "bare"})).await
    }

    /// A raw image with these bytes.
    pub async fn active(&self, token: &str, bytes: &[u8]) -> String {
        let id = self.queued(token, "raw").await;
        self.upload(token, &id, bytes).await.expect(204);
        id
    }

    pub async fn upload(&self, token: &str, id: &str, bytes: &[u8]) -> Answer {
        self.upload_with(token, id, &[], Body::from(bytes.to_vec())).await
    }

    pub async fn upload_with(&self, token: &str, id: &str, more: &[(&str, &str)], body: Body) -> Answer {
        let mut headers = vec![("x-auth-token", token), ("content-type", "application/octet-stream")];
        headers.extend_from_slice(more);
        self.send("PUT", &file(id), &headers, body).await
    }

    pub async fn show(&self, id: &str) -> Value {
        self.get(&self.admin(), &image(id)).await.expect(200)
    }

    /// Stages bytes for an image.
    pub async fn stage(&self, token: &str, id: &str, bytes: &[u8]) -> Answer {
        let headers = [("x-auth-token", token), ("content-type", "application/octet-stream")];
        self.send("PUT", &format!("{}/stage", image(id)), &headers, Body::from(bytes.to_vec())).await
    }

    pub async fn import(&self, token: &str, id: &str, body: Value) -> Answer {
        self.call(token, "POST", &format!("{}/import", image(id)), body).await
    }

    /// Does all the work that there is, in this process.
    pub async fn work(&self) {
        self.work_with(&self.images, Crash::never()).await;
    }

    /// As [`Cloud::work`], in the process of these images, and until it crashes. What waits need not wait: the clock
    /// goes on as fast as needed, which is why leases are long.
    pub async fn work_with(&self, images: &Arc<Images>, crash: Crash) {
        let config = RunnerConfig { lease: Duration::from_secs(86_400), crash, ..RunnerConfig::default() };
        let runner = images.runner(config);
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

    /// The tasks of an image, as `(status, message)`.
    pub async fn tasks(&self, id: &str) -> Vec<(String, String)> {
        let body = self.get(&self.admin(), &format!("{}/tasks", image(id))).await.expect(200);
        let text = |task: &Value, name: &str| task[name].as_str().unwrap().to_owned();
        body["tasks"].as_array().unwrap().iter().map(|task| (text(task, "status"), text(task, "message"))).collect()
    }

    /// Everything that both pools show.
    pub async fn disks(&self) -> Vec<String> {
        let mut all = self.pool.list().await.unwrap();
        all.extend(self.second.list().await.unwrap());
        all.sort();
        all
    }
}

fn process(
    db: Db<Image>,
    pool: &Arc<dyn Pool>,
    second: &Arc<dyn Pool>,
    clock: &Arc<ManualClock>,
    signer: &Signer,
    config: &Config,
) -> (Arc<Images>, Router) {
    served(images(db, pool, second, clock, config), clock, signer)
}

fn images(
    db: Db<Image>,
    pool: &Arc<dyn Pool>,
    second: &Arc<dyn Pool>,
    clock: &Arc<ManualClock>,
    config: &Config,
) -> Images {
    let stores = vec![
        Store { name: "fast".to_owned(), pool: pool.clone(), default: true },
        Store { name: "slow".to_owned(), pool: second.clone(), default: false },
    ];
    Images::new(db, stores, clock.clone(), Arc::new(SystemRng::new()), config.clone()).unwrap()
}

fn served(images: Images, clock: &Arc<ManualClock>, signer: &Signer) -> (Arc<Images>, Router) {
    let images = Arc::new(images);
    let verifier = Arc::new(Verifier::new(vec![signer.public()], Arc::default(), clock.clone()));
    let router = App { verifier, rng: Arc::new(SystemRng::new()) }.router(vec![service(images.clone())]);
    (images, router)
}

pub async fn send(router: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
    let mut request = http::Request::builder().method(method).uri(path).header("host", "cloud:1");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    let response = oneshot(router, request.body(body).unwrap()).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, bytes }
}

pub fn image(id: &str) -> String {
    format!("/image/v2/images/{id}")
}

pub fn file(id: &str) -> String {
    format!("/image/v2/images/{id}/file")
}

/// Ids of a list's images, in order.
pub fn ids(list: &Value) -> Vec<String> {
    list["images"].as_array().unwrap().iter().map(|image| image["id"].as_str().unwrap().to_owned()).collect()
}

/// Bytes that repeat nowhere.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SeededRng::new(seed).fill(&mut bytes);
    bytes
}

/// A body of these pieces, which then does what the last item says.
pub fn body(pieces: Vec<Result<Bytes, std::io::Error>>) -> Body {
    Body::from_stream(stream::iter(pieces))
}

/// A body whose pieces come when the test sends them.
pub fn fed() -> (tokio::sync::mpsc::UnboundedSender<Bytes>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    (sender, Body::from_stream(received(receiver)))
}

fn received(
    receiver: tokio::sync::mpsc::UnboundedReceiver<Bytes>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).map(Ok)
}

/// Asks `what` again until it says yes.
pub async fn eventually(promise: &str, what: impl AsyncFn() -> bool) {
    let asked = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), asked).await.is_err() {
        panic!("{promise}: not within 60 seconds");
    }
}
