//! The agents' end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use umbel_core::{Error, Kind, Result};
use uuid::Uuid;

use super::codec::{Json, Pair, Raw};
use super::peer::{Security, client};
use super::reading::Reading;
use super::wire::{self, Down, Hello, Told, Up, VERSION, WANTED_HEADER, Wanted};
use super::{ANSWER, PARALLEL, QUEUE, ROOM};
use crate::{ByteStream, Desired, HostReport, ImageBytes, Observed, OnHost, ToConductor};

/// Who an agent is, and whom it dials.
#[derive(Clone)]
pub struct Uplink {
    /// Addresses of all conductors of the cell, `host:port`.
    pub conductors: Vec<String>,
    pub security: Security,
    pub cell: String,
    pub host: String,
    /// How long an image waits for a conductor, while none answers: a restart is no reason to give a server up.
    pub patience: Duration,
}

/// An agent's streams, one to each conductor of its cell. Reports go to all that are there, so that each knows the host
/// and any of them can see a server through; it is enough that one has heard.
pub struct Uplinks {
    hello: Hello,
    links: Vec<Link>,
    pub(super) patience: Duration,
}

struct Link {
    address: String,
    channel: Channel,
    live: Mutex<Option<Arc<Live>>>,
}

/// A stream that stands.
struct Live {
    queue: mpsc::Sender<Up>,
    /// None once it has ended.
    asked: Mutex<Option<HashMap<u64, Asked>>>,
    serial: AtomicU64,
}

struct Asked {
    /// Of a resync, so far.
    desired: Vec<Desired>,
    answer: oneshot::Sender<Result<Vec<Desired>>>,
}

/// Between two attempts, at first and at most.
pub(super) const SOON: Duration = Duration::from_millis(200);
pub(super) const LATE: Duration = Duration::from_secs(5);
/// What a slow conductor gets while another one has heard already.
const MOMENT: Duration = Duration::from_secs(1);

impl Uplinks {
    /// Dials nobody yet: that is [`Uplinks::run`].
    pub fn new(uplink: &Uplink) -> Result<Arc<Uplinks>> {
        let hello = Hello { version: VERSION, cell: uplink.cell.clone(), host: uplink.host.clone() };
        let mut links = Vec::new();
        for address in &uplink.conductors {
            let channel = uplink.security.channel(address)?;
            links.push(Link { address: address.clone(), channel, live: Mutex::new(None) });
        }
        Ok(Arc::new(Uplinks { hello, links, patience: uplink.patience }))
    }

    /// Keeps the streams up until told to stop.
    pub async fn run(self: Arc<Self>, agent: Arc<dyn OnHost>, stop: watch::Receiver<bool>) {
        let kept = self.links.iter().map(|link| link.keep(&self.hello, &agent, stop.clone()));
        join_all(kept).await;
    }

    /// How many conductors are connected.
    pub fn up(&self) -> usize {
        self.live().count()
    }

    fn live(&self) -> impl Iterator<Item = Arc<Live>> {
        self.links.iter().filter_map(|link| link.live.lock().clone())
    }

    /// An image's bytes, through whichever conductor answers. Where it goes away half-way, another one goes on.
    pub async fn read_image(self: &Arc<Self>, image_id: &str) -> Result<ImageBytes> {
        Reading::begin(self.clone(), image_id).await
    }

    /// The bytes from the first one on, and what they are if that is told.
    pub(super) async fn open_image(&self, image_id: &str) -> Result<(Option<String>, Streaming<Bytes>)> {
        let mut failed = nobody();
        for link in self.links_in_order() {
            let (path, codec) = (PathAndQuery::from_static(wire::READ_IMAGE), Pair::<Json<Wanted>, Raw>::default());
            let mut client = client(link.channel.clone());
            let begun = async {
                client.ready().await.map_err(|error| nobody().because(super::chain(&error)))?;
                let wanted = Request::new(self.wanted(image_id, 0));
                client.server_streaming(wanted, path, codec).await.map_err(|status| wire::error(&status))
            };
            match within(ANSWER, begun).await {
                Ok(response) => {
                    let format = response.metadata().get(wire::DISK_FORMAT).and_then(|format| format.to_str().ok());
                    return Ok((format.map(str::to_owned), response.into_inner()));
                }
                Err(error) => failed = error,
            }
            if !failed.is(Kind::Unavailable) {
                break;
            }
        }
        Err(failed)
    }

    /// Fills an image that a task told this agent to fill. The bytes go once: whoever sent the task sends it again where
    /// this fails.
    pub async fn write_image(&self, image_id: &str, size: u64, data: ByteStream) -> Result<()> {
        let link = self.links_in_order().next().ok_or_else(nobody)?;
        let mut client = client(link.channel.clone());
        client.ready().await.map_err(|error| nobody().because(super::chain(&error)))?;
        // A stream that ends is an image that is whole. One that fails must not end: the call is dropped instead.
        let (fails, failed) = oneshot::channel();
        let pieces = stream::unfold((data, Some(fails)), |(mut data, mut fails)| async move {
            match data.next().await? {
                Ok(piece) => Some((piece, (data, fails))),
                Err(error) => {
                    let _ = fails.take().map(|fails| fails.send(error));
                    std::future::pending().await
                }
            }
        });
        let mut request = Request::new(pieces);
        let wanted = serde_json::to_string(&self.wanted(image_id, size)).map_err(Error::internal)?;
        request.metadata_mut().insert(WANTED_HEADER, MetadataValue::try_from(wanted).map_err(Error::internal)?);
        let (path, codec) = (PathAndQuery::from_static(wire::WRITE_IMAGE), Pair::<Raw, Json<Told>>::default());
        let told = tokio::select! {
            told = client.client_streaming(request, path, codec) => told.map_err(|status| wire::error(&status))?,
            Ok(error) = failed => return Err(error),
        };
        match told.into_inner() {
            Told::Fault(fault) => Err(fault.into()),
            _ => Ok(()),
        }
    }

    fn wanted(&self, image_id: &str, size: u64) -> Wanted {
        let (cell, host) = (self.hello.cell.clone(), self.hello.host.clone());
        Wanted { cell, host, image_id: image_id.to_owned(), size }
    }

    /// Those that stand first.
    fn links_in_order(&self) -> impl Iterator<Item = &Link> {
        let (up, down): (Vec<&Link>, Vec<&Link>) = self.links.iter().partition(|link| link.live.lock().is_some());
        up.into_iter().chain(down)
    }

    /// Tells all that are there. `Ok` once one has heard; the others get a moment more, so that the next news of the
    /// same server finds them done with this.
    async fn tell(&self, message: impl Fn(u64) -> Up) -> Result<()> {
        let live: Vec<Arc<Live>> = self.live().collect();
        let mut answers: FuturesUnordered<_> = live.iter().map(|live| live.call(&message)).collect();
        let mut failed = nobody();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) => {
                    let rest = async { while answers.next().await.is_some() {} };
                    let _ = tokio::time::timeout(MOMENT, rest).await;
                    return Ok(());
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

#[async_trait]
impl ToConductor for Uplinks {
    async fn report(&self, report: HostReport) -> Result<()> {
        self.tell(|id| Up::Report { id, report: report.clone() }).await
    }

    async fn observed(&self, host: &str, observed: Observed) -> Result<()> {
        if host != self.hello.host {
            return Err(Error::forbidden("An agent reports its own host only."));
        }
        self.tell(|id| Up::Observed { id, observed: observed.clone() }).await
    }

    /// One conductor knows it all: they read the same database.
    async fn resync(&self, _host: &str, held: Vec<Uuid>) -> Result<Vec<Desired>> {
        let mut failed = nobody();
        for live in self.live().collect::<Vec<_>>() {
            match live.call(|id| Up::Resync { id, held: held.clone() }).await {
                Ok(desired) => return Ok(desired),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl Link {
    async fn keep(&self, hello: &Hello, agent: &Arc<dyn OnHost>, mut stop: watch::Receiver<bool>) {
        let mut wait = SOON;
        let mut lost = true;
        loop {
            let ended = tokio::select! {
                ended = self.talk(hello, agent) => ended,
                _ = stop.wait_for(|stop| *stop) => return self.end(),
            };
            let stood = self.live.lock().is_some();
            self.end();
            match &ended {
                _ if stood => tracing::warn!(conductor = self.address, host = hello.host, "a conductor is gone"),
                Err(error) if lost => {
                    tracing::warn!(
                        conductor = self.address,
                        cause = error.cause(),
                        "a conductor is not reached: {error}"
                    );
                }
                _ => {}
            }
            lost = stood;
            wait = if stood { SOON } else { (wait * 2).min(LATE) };
            // Hosts that lost the same conductor at once do not come back at once.
            let shift =
                hello.host.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 100;
            let pause = wait + wait * shift / 100;
            if tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }

    /// One stream, from its beginning to its end.
    async fn talk(&self, hello: &Hello, agent: &Arc<dyn OnHost>) -> Result<()> {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let _ = queue.try_send(Up::Hello(hello.clone()));
        let up = stream::poll_fn(move |context| waiting.poll_recv(context));
        let mut client = client(self.channel.clone());
        let (path, codec) = (PathAndQuery::from_static(wire::AGENT), Pair::<Json<Up>, Json<Down>>::default());
        let begun = async {
            client.ready().await.map_err(|error| nobody().because(super::chain(&error)))?;
            let response = client.streaming(Request::new(up), path, codec).await;
            let mut down = response.map_err(|status| wire::error(&status))?.into_inner();
            match down.message().await.map_err(|status| wire::error(&status))? {
                Some(Down::Welcome) => Ok(down),
                _ => Err(Error::internal("a conductor did not bid welcome")),
            }
        };
        let down = within(ANSWER, begun).await?;
        let live = Arc::new(Live { queue, asked: Mutex::new(Some(HashMap::new())), serial: AtomicU64::new(0) });
        *self.live.lock() = Some(live.clone());
        tracing::info!(conductor = self.address, host = hello.host, "a conductor is connected");
        agent.connected();
        listen(&live, agent, down).await
    }

    fn end(&self) {
        if let Some(live) = self.live.lock().take() {
            *live.asked.lock() = None;
        }
    }
}

async fn listen(live: &Arc<Live>, agent: &Arc<dyn OnHost>, mut down: Streaming<Down>) -> Result<()> {
    let slots = Arc::new(Semaphore::new(PARALLEL));
    let mut tasks = JoinSet::new();
    while let Some(message) = down.message().await.map_err(|status| wire::error(&status))? {
        match message {
            Down::Welcome => {}
            Down::Desire(desired) => agent.desire(desired).await,
            Down::Part { id, desired } => live.part(id, desired),
            Down::Answer { id, result } => live.answered(id, result.map_err(Error::from)),
            Down::Task { id, task } => {
                let (live, agent, slot) = (live.clone(), agent.clone(), slots.clone().try_acquire_owned());
                tasks.spawn(async move {
                    let reply = match &slot {
                        Ok(_) => agent.task(task).await,
                        Err(_) => Err(Error::new(Kind::Busy, "The host has too much to do.")),
                    };
                    // Whoever asked notices the end of the stream by itself.
                    let _ = live.say(Up::Reply { id, reply: reply.map_err(Into::into) }).await;
                });
            }
        }
        while tasks.try_join_next().is_some() {}
    }
    Ok(())
}

impl Live {
    async fn say(&self, message: Up) -> Result<()> {
        self.queue.send_timeout(message, ROOM).await.map_err(|error| nobody().because(error))
    }

    async fn call(&self, message: impl Fn(u64) -> Up) -> Result<Vec<Desired>> {
        let id = self.serial.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match &mut *self.asked.lock() {
            Some(asked) => asked.insert(id, Asked { desired: Vec::new(), answer }),
            None => return Err(nobody()),
        };
        let _forget = Forget { live: self, id };
        self.say(message(id)).await?;
        within(ANSWER, async { answered.await.map_err(|_| nobody())? }).await
    }

    fn part(&self, id: u64, desired: Vec<Desired>) {
        if let Some(asked) = self.asked.lock().as_mut().and_then(|asked| asked.get_mut(&id)) {
            asked.desired.extend(desired);
        }
    }

    fn answered(&self, id: u64, result: Result<()>) {
        if let Some(asked) = self.asked.lock().as_mut().and_then(|asked| asked.remove(&id)) {
            let _ = asked.answer.send(result.map(|()| asked.desired));
        }
    }
}

/// Forgets the question with who asked it.
struct Forget<'a> {
    live: &'a Live,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(asked) = &mut *self.live.asked.lock() {
            asked.remove(&self.id);
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(Kind::Timeout, "A conductor did not answer in time.");
    tokio::time::timeout(limit, work).await.map_err(late)?
}

fn nobody() -> Error {
    Error::unavailable("No conductor is connected.")
}
