use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use umbel_core::{Error, Kind, Result};
use umbel_driver::Capacity;

use crate::errno::{ETIMEDOUT, Failed};
use crate::fence::{self, Worker};
use crate::ffi::{self, Client, Connection};
use crate::figures::Figures;
use crate::pool::CephName;
use crate::predecessor;
use crate::usage::Usage;

/// How long figures about a pool's room are good for. The cluster itself gathers them every five seconds.
const USAGE_AGE: Duration = Duration::from_secs(10);

/// Figures this young are believed when they say that a pool is full, or not there.
const USAGE_AGE_IF_FULL: Duration = Duration::from_secs(1);

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub struct CephConfig {
    /// `ceph.conf`; names the monitors and the keyring.
    pub conf: PathBuf,
    /// cephx user without the `client.` in front.
    pub user: String,
    /// How long the first contact may take. Whole seconds, at least one.
    pub connect_timeout: Duration,
    /// How long a single request to a monitor or an OSD may take. An operation makes several of them. Guests are not
    /// concerned: their disks have a client of their own. Whole seconds, at least one.
    pub request_timeout: Duration,
    /// A directory of this process alone in which it notes its clients, so that a later one can shut out what a killed one
    /// left ([`crate::predecessor`]). None: what it left is in use until the cluster forgets it, after 30 s or later.
    pub clients: Option<PathBuf>,
    /// The name under which others know this process who may take its work over ([`crate::fence`]). None: nobody does.
    pub process: Option<String>,
    /// Control operations at a time; more wait. Measured: clones per second grow up to 16 and hardly beyond. What takes as
    /// long as a disk is large has as many turns of its own: sixteen roll-backs of terabytes do not keep a clone waiting.
    pub parallel: usize,
}

impl CephConfig {
    pub fn new(conf: impl Into<PathBuf>, user: impl Into<String>) -> Self {
        CephConfig {
            conf: conf.into(),
            user: user.into(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            clients: None,
            process: None,
            parallel: 16,
        }
    }

    /// How long an operation may take that is not as long as its disk is large: room for several requests. librbd asks for
    /// an exclusive lock again and again, each time in time, so that requests alone bound nothing.
    pub(crate) fn operation_timeout(&self) -> Duration {
        self.request_timeout * 4
    }
}

/// As long as a purge waits for another one: what it leaves undone, the next one finds.
const PURGE_WAIT: Duration = Duration::from_secs(30);

/// Connections that were given up and in which something hangs yet, before nobody gets a turn for it any more.
const HANGING: usize = 8;

/// Operations at a time on one connection.
struct Turns {
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Turns {
    fn new(parallel: usize) -> Turns {
        let turns = || Arc::new(Semaphore::new(parallel.max(1)));
        Turns { short: turns(), long: turns() }
    }

    /// Sends all who wait to look for others.
    fn close(&self) {
        self.short.close();
        self.long.close();
    }
}

/// One cluster, and the one connection that all its pools share.
///
/// It connects when it is first needed and again if that failed, so a host starts while its cluster is down. After that
/// librados keeps the connection up by itself, through restarts of monitors and OSDs. Only a client that was
/// blocklisted, or given up on in the middle of a write, has to be made anew, which happens here as well.
pub struct CephCluster {
    config: CephConfig,
    connection: RwLock<Option<Arc<Connection>>>,
    /// Held during an attempt. Whoever waited for one takes its failure for an answer, rather than trying for another
    /// ten seconds, one after the other.
    connecting: Mutex<Option<Failure>>,
    failures: AtomicU64,
    fsid: OnceLock<String>,
    /// Those of the connection in use: what hangs in one that was given up keeps its turn for good.
    turns: RwLock<Turns>,
    given_up: parking_lot::Mutex<Vec<Weak<Connection>>>,
    purging: Arc<Mutex<()>>,
    figures: Figures,
    itself: Weak<CephCluster>,
}

impl CephCluster {
    /// Sends nothing and reads nothing yet.
    pub fn new(config: CephConfig) -> Arc<Self> {
        Arc::new_cyclic(|itself| CephCluster {
            turns: RwLock::new(Turns::new(config.parallel)),
            given_up: parking_lot::Mutex::default(),
            purging: Arc::default(),
            config,
            connection: RwLock::new(None),
            connecting: Mutex::new(None),
            failures: AtomicU64::new(0),
            fsid: OnceLock::new(),
            figures: Figures::default(),
            itself: itself.clone(),
        })
    }

    /// The turn to free what was removed; none while somebody is at it for long. Two services of one process may look
    /// after one pool, and librbd 16 has ended a process, by an assertion that an image's lock is held, in which one image
    /// was freed while others were at it too.
    pub(crate) async fn turn_to_purge(&self) -> Option<OwnedMutexGuard<()>> {
        tokio::time::timeout(PURGE_WAIT, self.purging.clone().lock_owned()).await.ok()
    }

    /// [`CephCluster::new`] with the usual timeouts, and connected.
    pub async fn connect(conf: &Path, user: &str) -> Result<Arc<Self>> {
        let cluster = Self::new(CephConfig::new(conf, user));
        cluster.connection().await?;
        Ok(cluster)
    }

    pub fn config(&self) -> &CephConfig {
        &self.config
    }

    /// The cluster's fsid, connecting first if need be.
    pub async fn fsid(&self) -> Result<String> {
        Ok(self.connection().await?.fsid().to_owned())
    }

    /// The fsid as far as it is known without asking the cluster: from an earlier connection, or from the file.
    pub fn known_fsid(&self) -> Option<String> {
        if let Some(fsid) = self.fsid.get() {
            return Some(fsid.clone());
        }
        let fsid = Client::configure(ffi::api().ok()?, &self.config.conf, &self.config.user).ok()?.configured_fsid()?;
        Some(self.fsid.get_or_init(|| fsid).clone())
    }

    /// Runs blocking calls on a thread for them, when it is their turn.
    ///
    /// The answer comes within [`CephConfig::operation_timeout`], and the turn within as long. The calls go on until they
    /// end, and turn and thread are theirs until then, also when the future is dropped: librbd cannot be interrupted.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Connection>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // Nobody queues for a cluster that cannot be reached.
        self.connection().await?;
        let limit = self.config.operation_timeout();
        let turn = tokio::time::timeout(limit, self.turn(|turns| &turns.short));
        // Whoever is before us hangs. That says nothing of the connection that is used when it is our turn.
        let turn = turn.await.map_err(|_| silent(format!("no turn within {limit:?}")))?;
        let connection = self.connection().await?;
        let used = connection.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&used)
        });
        match tokio::time::timeout(limit, work).await {
            Ok(outcome) => outcome.map_err(Error::internal)?,
            Err(_) => {
                // Whatever it holds, it holds in this client's name.
                connection.lose();
                Err(silent(format!("no answer of an operation within {limit:?}")))
            }
        }
    }

    /// [`CephCluster::run`] for what takes as long as the disk is large.
    pub(crate) async fn run_long<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Connection>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.connection().await?;
        let turn = self.turn(|turns| &turns.long).await;
        let connection = self.connection().await?;
        let work = move || {
            let _turn = turn;
            work(&connection)
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }

    /// Has the cluster refuse what the process of this name still asks of it, also if that is this process: it gets a new
    /// client then. Takes no turn, since whoever has one may be what hangs.
    pub(crate) async fn shut_out(&self, pool: &CephName, process: &str) -> Result<()> {
        let connection = self.connection().await?;
        let (used, pool, of) = (connection.clone(), pool.clone(), process.to_owned());
        let work = tokio::task::spawn_blocking(move || fence::shut_out(&used, &pool, &of));
        let limit = self.config.operation_timeout();
        let done = tokio::time::timeout(limit, work).await;
        done.map_err(|_| silent(format!("a client was not shut out within {limit:?}")))?.map_err(Error::internal)??;
        if self.config.process.as_deref() == Some(process) {
            connection.condemn();
            self.connection().await?;
        }
        Ok(())
    }

    /// A turn of the connection in use; who waits for one of a connection that is replaced waits on with the others.
    async fn turn(&self, of: impl Fn(&Turns) -> &Arc<Semaphore>) -> OwnedSemaphorePermit {
        loop {
            let turns = of(&self.turns.read()).clone();
            if let Ok(turn) = turns.acquire_owned().await {
                return turn;
            }
        }
    }

    /// Gives out turns anew, unless too much hangs already: it costs a thread each, and a client.
    fn replaced(&self, before: &Arc<Connection>) {
        let mut given_up = self.given_up.lock();
        given_up.retain(|connection| connection.strong_count() > 0);
        given_up.push(Arc::downgrade(before));
        if given_up.len() <= HANGING {
            std::mem::replace(&mut *self.turns.write(), Turns::new(self.config.parallel)).close();
        }
    }

    /// Room in a pool; nothing if the cluster does not know (yet). At most ten seconds old, unless that would be no answer.
    ///
    /// # Errors
    /// `Timeout` within seconds from a cluster that does not answer, whatever else waits for it.
    pub(crate) async fn capacity(&self, pool: &str) -> Result<Option<Capacity>> {
        match self.usage_within(USAGE_AGE).await?.pool(pool) {
            Some(capacity) if capacity.free > 0 => Ok(Some(capacity)),
            // Somebody may have made room since, or the pool.
            _ => self.capacity_now(pool).await,
        }
    }

    /// As new as it can be had. The cluster itself counts some seconds late.
    pub(crate) async fn capacity_now(&self, pool: &str) -> Result<Option<Capacity>> {
        Ok(self.usage_within(USAGE_AGE_IF_FULL).await?.pool(pool))
    }

    async fn usage_within(&self, age: Duration) -> Result<Arc<Usage>> {
        let itself = self.itself.clone();
        self.figures
            .within(age, async move {
                let cluster = itself.upgrade().ok_or_else(|| Error::internal("the cluster is not used any more"))?;
                cluster.usage().await
            })
            .await
    }

    /// Takes no turn: who asks for figures wants to know just then whether the cluster answers.
    async fn usage(&self) -> Result<Arc<Usage>> {
        let connection = self.connection().await?;
        let ask = move || {
            let command = r#"{"prefix": "df", "detail": "detail", "format": "json"}"#;
            connection.mon_command(command).map_err(|failed| failed.about("The capacity of the storage cluster"))
        };
        let answer = tokio::task::spawn_blocking(ask).await.map_err(Error::internal)??;
        Ok(Arc::new(Usage::parse(&answer)?))
    }

    async fn connection(&self) -> Result<Arc<Connection>> {
        if let Some(connection) = self.connected() {
            return Ok(connection);
        }
        let seen = self.failures.load(Ordering::Acquire);
        let mut failure = self.connecting.lock().await;
        if let Some(connection) = self.connected() {
            return Ok(connection);
        }
        if self.failures.load(Ordering::Acquire) > seen
            && let Some(failure) = &*failure
        {
            return Err(failure.to_error());
        }
        let (config, before) = (self.config.clone(), self.connection.read().clone());
        let attempt = tokio::task::spawn_blocking(move || succeed(&config, before.as_deref()));
        let attempt = attempt.await.map_err(Error::internal)?;
        match attempt {
            Ok(connection) => {
                let connection = Arc::new(connection);
                tracing::info!(fsid = connection.fsid(), conf = %self.config.conf.display(), "connected to Ceph");
                let _ = self.fsid.set(connection.fsid().to_owned());
                let before = self.connection.write().replace(connection.clone());
                before.iter().for_each(|before| self.replaced(before));
                // If nobody uses it any more it is shut down, which may block.
                tokio::task::spawn_blocking(move || drop(before));
                Ok(connection)
            }
            Err(error) => {
                *failure = Some(Failure::of(&error));
                self.failures.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }

    /// The connection, if there is one that is of use.
    fn connected(&self) -> Option<Arc<Connection>> {
        self.connection.read().clone().filter(|connection| !connection.is_lost())
    }
}

/// What all are told that do not wait any longer.
pub(crate) fn silent(cause: String) -> Error {
    Error::new(Kind::Timeout, "The storage cluster did not answer in time.").because(cause)
}

/// What an attempt said, for all those who waited for it.
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    cause: String,
}

impl Failure {
    pub fn of(error: &Error) -> Self {
        let cause = error.cause().unwrap_or_default().to_owned();
        Failure { kind: error.kind(), message: error.message().to_owned(), cause }
    }

    pub fn to_error(&self) -> Error {
        Error::new(self.kind, self.message.clone()).because(&self.cause)
    }
}

/// A new connection, and the cluster refuses the one before if that is to be. Blocks.
fn succeed(config: &CephConfig, before: Option<&Connection>) -> Result<Connection> {
    let connection = open(config)?;
    if let Some(before) = before.filter(|before| before.is_condemned()) {
        let shut_out = before.address().and_then(|address| connection.shut_out(&[address]));
        shut_out.map_err(|failed| failed.about("A client of the storage cluster"))?;
    }
    Ok(connection)
}

/// Blocks for as long as `connect_timeout`.
fn open(config: &CephConfig) -> Result<Connection> {
    let because = |failed: Failed| {
        let kind = if failed.is(ETIMEDOUT) { Kind::Timeout } else { Kind::Unavailable };
        Error::new(kind, "The storage cluster cannot be reached.").because(failed).because(format!(
            "client.{} of {}",
            config.user,
            config.conf.display()
        ))
    };
    let mut client = Client::configure(ffi::api()?, &config.conf, &config.user).map_err(because)?;
    let seconds = |limit: Duration| limit.as_secs().max(1).to_string();
    for (option, value) in [
        ("client_mount_timeout", seconds(config.connect_timeout)),
        ("rados_mon_op_timeout", seconds(config.request_timeout)),
        ("rados_osd_op_timeout", seconds(config.request_timeout)),
        // Whole objects are written once and read once here; a cache would cost memory and a copy.
        ("rbd_cache", "false".to_owned()),
        // librbd copies what is written, since a guest may change it meanwhile. What we write is owned and never changes.
        ("rbd_disable_zero_copy_writes", "false".to_owned()),
        // With two, librbd frees an image under its own feet (Ceph 16, `ImageState::complete_action_unlock`; an abort in
        // pthread_mutex_lock in one of ten runs of our tests on a busy machine): one thread reports "open" and then looks at
        // the image's state again, another delivers the report, and whoever gets it closes the image at once.
        (ffi::THREADS, "1".to_owned()),
    ] {
        client.set(option, value).map_err(because)?;
    }
    let connection = client.connect().map_err(because)?;
    let gone = config.clients.as_ref().map(|dir| predecessor::succeed(&connection, dir)).transpose()?;
    Ok(connection.used_by(Worker { process: config.process.clone(), gone: gone.unwrap_or_default() }))
}
