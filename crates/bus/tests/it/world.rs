//! A host and a conductor, and the ways between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use umbel_bus::{
    Authority, Blob, ByteStream, Control, Credentials, Desired, Facts, Gate, HostReport, Hub, ImageBytes, Images,
    Observed, OnHost, Security, Task, TaskReply, ToConductor, Uplink, Uplinks, Want, local,
};
use umbel_core::{Error, Generation, Result, Timestamp};
use uuid::Uuid;

pub const CELL: &str = "cell1";
pub const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Host {
    pub desired: Mutex<Vec<i64>>,
    pub greeted: AtomicUsize,
}

#[async_trait]
impl OnHost for Host {
    async fn desire(&self, desired: Desired) {
        self.desired.lock().push(desired.generation.0);
    }

    async fn task(&self, task: Task) -> Result<TaskReply> {
        match task {
            Task::Console { limit: 0, .. } => std::future::pending().await,
            Task::Console { limit, .. } if limit > 100 => Err(Error::conflict("Too much.").because("a test")),
            Task::Console { limit, .. } => Ok(TaskReply::Console(Blob(vec![b'x'; limit]))),
            _ => std::future::pending().await,
        }
    }

    fn connected(&self) {
        self.greeted.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
pub struct Conductor {
    pub observed: Mutex<Vec<i64>>,
    pub reports: Mutex<Vec<String>>,
    pub flows: AtomicUsize,
    pub written: Mutex<Vec<Vec<u8>>>,
    /// Images stop half-way.
    pub stuck: AtomicBool,
    /// Whether the twin of `mine` has become its data.
    pub replaced: AtomicBool,
}

#[async_trait]
impl ToConductor for Conductor {
    async fn report(&self, report: HostReport) -> Result<()> {
        self.reports.lock().push(report.host);
        Ok(())
    }

    async fn observed(&self, _host: &str, observed: Observed) -> Result<()> {
        self.observed.lock().push(observed.generation.0);
        Ok(())
    }

    async fn resync(&self, _host: &str, held: Vec<Uuid>) -> Result<Vec<Desired>> {
        Ok(held.into_iter().map(|id| desired(id, 7)).collect())
    }
}

impl Control for Conductor {
    fn flow(&self) {
        self.flows.fetch_add(1, Ordering::SeqCst);
    }

    fn server(&self, cell: Uuid, _server: Uuid) -> bool {
        cell.is_nil()
    }
}

/// The image `mine` belongs to host h1; others to nobody.
#[async_trait]
impl Images for Conductor {
    async fn read(&self, _cell: &str, host: &str, image_id: &str) -> Result<ImageBytes> {
        let bytes: ByteStream = match (host, image_id) {
            ("h1", "mine") => {
                let pieces = |range: std::ops::Range<u8>| {
                    futures_util::stream::iter(range.map(|number| Ok(vec![number; 100_000].into())))
                };
                match self.stuck.load(Ordering::SeqCst) {
                    true => Box::pin(pieces(0..10).chain(futures_util::stream::pending())),
                    false => Box::pin(pieces(0..50)),
                }
            }
            ("h1", "short") => {
                let pieces = [Ok(vec![1; 10].into()), Err(Error::unavailable("The pool is away."))];
                Box::pin(futures_util::stream::iter(pieces))
            }
            _ => return Err(Error::forbidden("No server here is made from it.")),
        };
        let disk_format = Some(if self.replaced.load(Ordering::SeqCst) { "raw" } else { "vdi" }.to_owned());
        Ok(ImageBytes { disk_format, bytes })
    }

    async fn write(&self, _image_id: &str, _size: u64, mut data: ByteStream) -> Result<()> {
        let mut all = Vec::new();
        while let Some(piece) = data.next().await {
            all.extend_from_slice(&piece?);
        }
        self.written.lock().push(all);
        Ok(())
    }
}

pub fn desired(server_id: Uuid, generation: i64) -> Desired {
    Desired {
        server_id,
        generation: Generation(generation),
        reached: Generation(0),
        request_id: "req-test".into(),
        want: Want::Absent { disks: Vec::new() },
    }
}

pub fn observed(generation: i64) -> Observed {
    Observed {
        server_id: Uuid::nil(),
        generation: Generation(generation),
        present: false,
        power: None,
        volumes: Vec::new(),
        fault: None,
        steps: Vec::new(),
    }
}

pub fn report(host: &str) -> HostReport {
    HostReport {
        host: host.to_owned(),
        availability_zone: "nova".to_owned(),
        facts: Facts::default(),
        pools: Vec::new(),
        guests: Vec::new(),
    }
}

pub fn console(limit: usize) -> Task {
    Task::Console { server_id: Uuid::nil(), limit }
}

/// A conductor's process.
pub struct Post {
    pub hub: Arc<Hub>,
    pub conductor: Arc<Conductor>,
    _end: Arc<dyn ToConductor>,
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl Post {
    pub async fn start(security: Security) -> Post {
        let (hub, conductor) = (local(), Arc::new(Conductor::default()));
        let end: Arc<dyn ToConductor> = conductor.clone();
        hub.conduct(&end);
        let cells = vec![(CELL.to_owned(), hub.clone())];
        let gate = Gate::bind(([127, 0, 0, 1], 0).into(), security, cells, conductor.clone(), conductor.clone());
        let gate = gate.await.unwrap();
        let address = gate.address;
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(gate.run(stopped));
        Post { hub, conductor, _end: end, address, stop, served }
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(10), self.served).await.expect("the gate closes").unwrap();
    }
}

/// An agent's process. Dropped, it is gone.
pub struct Outpost {
    pub host: Arc<Host>,
    pub uplinks: Arc<Uplinks>,
    _stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Drop for Outpost {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Outpost {
    pub fn start(name: &str, security: Security, conductors: &[SocketAddr]) -> Outpost {
        let conductors = conductors.iter().map(SocketAddr::to_string).collect();
        let uplink = Uplink { conductors, security, cell: CELL.to_owned(), host: name.to_owned(), patience: PATIENCE };
        let uplinks = Uplinks::new(&uplink).unwrap();
        let host = Arc::new(Host::default());
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(uplinks.clone().run(host.clone(), stopped));
        Outpost { host, uplinks, _stop: stop, running }
    }

    pub async fn up(&self, conductors: usize) {
        eventually("the agent is connected", || self.uplinks.up() == conductors).await;
    }
}

/// Certificates of one authority.
pub struct Papers(pub Authority);

const NOW: Timestamp = Timestamp::from_secs(1_795_224_000);

impl Papers {
    pub fn new() -> Papers {
        let (key, certificate) = Authority::create(now()).unwrap().to_pem();
        // Written down and read again, as the command does.
        Papers(Authority::from_pem(&key, &certificate).unwrap())
    }

    pub fn control(&self) -> Security {
        security(self.0.control(now()).unwrap())
    }

    pub fn agent(&self, hosts: &[&str]) -> Security {
        self.agent_of(CELL, hosts)
    }

    pub fn agent_of(&self, cell: &str, hosts: &[&str]) -> Security {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        security(self.0.agent(now(), cell, &hosts).unwrap())
    }

    pub fn expired(&self, host: &str) -> Security {
        security(self.0.agent(Timestamp::from_secs(NOW.as_secs() - 86_400 * 3_000), CELL, &[host.to_owned()]).unwrap())
    }
}

pub fn now() -> Timestamp {
    umbel_core::Clock::now(&umbel_core::SystemClock)
}

fn security(issued: umbel_bus::Issued) -> Security {
    Security::Mutual(Credentials::from_pem(issued.ca, issued.certificate, issued.key).unwrap())
}

/// Waits for a condition.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
