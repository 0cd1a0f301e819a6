//! The conductors' end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tower::service_fn;
use umbel_core::{Error, Kind, Result};
use uuid::Uuid;

use super::codec::{Json, Pair, Raw};
use super::peer::{Peer, Security, known};
use super::remote::{Exports, Remote};
use super::wire::{self, Ask, Down, Hello, PART, Told, Up, VERSION, WANTED_HEADER, Wanted};
use super::{ANSWER, MAX_MESSAGE, PARALLEL, PING, QUEUE};
use crate::{ByteStream, Connection, Hub, ImageBytes, ToAgents, ToConductor};

/// What a conductor does for compute APIs of other processes.
pub trait Control: Send + Sync {
    /// A flow was written.
    fn flow(&self);

    /// What is wanted of a server has changed. False if this conductor does not conduct the cell, and another should hear
    /// of it.
    fn server(&self, cell: Uuid, server: Uuid) -> bool;
}

/// The image service, as a conductor hands it through to agents.
#[async_trait]
pub trait Images: Send + Sync {
    /// The bytes of an image. `Forbidden` unless a server on this host is made from it.
    async fn read(&self, cell: &str, host: &str, image_id: &str) -> Result<ImageBytes>;

    /// Makes these `size` bytes the data of an image, which a task told an agent to fill.
    async fn write(&self, image_id: &str, size: u64, data: ByteStream) -> Result<()>;
}

/// A port where agents and compute APIs find the conductor of this process.
pub struct Gate {
    pub address: SocketAddr,
    listener: TcpListener,
    server: Server,
    desk: Desk,
}

#[derive(Clone)]
struct Desk(Arc<Shared>);

struct Shared {
    /// By the cell's name.
    cells: Vec<(String, Arc<Hub>)>,
    control: Arc<dyn Control>,
    images: Arc<dyn Images>,
    security: Security,
    exports: Arc<Exports>,
    stopped: watch::Sender<bool>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

impl Gate {
    /// Opens the port; 0 takes a free one. `cells` are those that this process conducts, by name.
    pub async fn bind(
        address: SocketAddr,
        security: Security,
        cells: Vec<(String, Arc<Hub>)>,
        control: Arc<dyn Control>,
        images: Arc<dyn Images>,
    ) -> Result<Gate> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Error::new(Kind::Conflict, format!("The bus cannot listen on {address}: {error}.")))?;
        let address = listener.local_addr().map_err(Error::internal)?;
        let server = Server::builder().http2_keepalive_interval(Some(PING)).http2_keepalive_timeout(Some(PING));
        let exports = Arc::default();
        let shared = Shared { cells, control, images, security, exports, stopped: watch::Sender::new(false) };
        Ok(Gate { address, listener, server, desk: Desk(Arc::new(shared)) })
    }

    /// Serves until told to stop; then streams end, and agents go to another conductor.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let shared = self.desk.0.clone();
        let security = shared.security.clone();
        let stopping = async move {
            let _ = stop.wait_for(|stop| *stop).await;
            shared.stopped.send_replace(true);
        };
        let served = match security {
            Security::Plain => {
                let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
                self.server.serve_with_incoming_shutdown(self.desk, incoming, stopping).await
            }
            Security::Mutual(credentials) => {
                let incoming = known(self.listener, credentials);
                self.server.serve_with_incoming_shutdown(self.desk, incoming, stopping).await
            }
        };
        if let Err(error) = served {
            tracing::error!(cause = super::chain(&error), "the bus is not served any more");
        }
    }
}

impl tower::Service<http::Request<Body>> for Desk {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move { Ok(shared.answer(request).await) })
    }
}

fn grpc<E, D>() -> tonic::server::Grpc<Pair<E, D>>
where
    Pair<E, D>: tonic::codec::Codec,
{
    tonic::server::Grpc::new(Pair::default()).max_decoding_message_size(MAX_MESSAGE)
}

impl Shared {
    async fn answer(self: Arc<Self>, request: http::Request<Body>) -> http::Response<Body> {
        let peer = Peer::of(&self.security, &request);
        let shared = self;
        match request.uri().path() {
            wire::AGENT => {
                let service = service_fn(move |up: Request<Streaming<Up>>| shared.clone().agent(peer.clone(), up));
                grpc::<Json<Down>, Json<Up>>().streaming(service, request).await
            }
            wire::ASK => {
                let service = service_fn(move |ask: Request<Ask>| shared.clone().ask(peer.clone(), ask));
                grpc::<Json<Told>, Json<Ask>>().unary(service, request).await
            }
            wire::READ_IMAGE => {
                let service = service_fn(move |wanted: Request<Wanted>| shared.clone().read(peer.clone(), wanted));
                grpc::<Raw, Json<Wanted>>().server_streaming(service, request).await
            }
            wire::WRITE_IMAGE => {
                let service =
                    service_fn(move |data: Request<Streaming<bytes::Bytes>>| shared.clone().write(peer.clone(), data));
                grpc::<Json<Told>, Raw>().client_streaming(service, request).await
            }
            _ => Status::unimplemented("The bus has no such method.").into_http(),
        }
    }

    fn hub(&self, cell: &str) -> std::result::Result<Arc<Hub>, Status> {
        let known = self.cells.iter().find(|(name, _)| name == cell);
        known
            .map(|(_, hub)| hub.clone())
            .ok_or_else(|| Status::failed_precondition(format!("This conductor does not conduct the cell '{cell}'.")))
    }

    async fn agent(
        self: Arc<Self>,
        peer: Peer,
        up: Request<Streaming<Up>>,
    ) -> std::result::Result<Response<Messages<Down>>, Status> {
        let mut up = up.into_inner();
        let first = tokio::time::timeout(ANSWER, up.message()).await;
        let hello = match first.map_err(|_| Status::deadline_exceeded("No word."))?? {
            Some(Up::Hello(hello)) => hello,
            _ => return Err(Status::invalid_argument("An agent says first who it is.")),
        };
        if hello.version != VERSION {
            let message = format!("This conductor speaks version {VERSION} of the bus, not {}.", hello.version);
            return Err(Status::failed_precondition(message));
        }
        if !peer.may_speak_for(&hello.cell, &hello.host) {
            tracing::warn!(
                cell = hello.cell,
                host = hello.host,
                "somebody spoke for a host that its certificate does not name"
            );
            return Err(Status::permission_denied("The certificate does not name this host."));
        }
        let hub = self.hub(&hello.cell)?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        // Before the hub knows of the queue, so that it is the first.
        let _ = queue.try_send(Down::Welcome);
        let remote = Arc::new(Remote::new(&hello.cell, &hello.host, queue, self.exports.clone()));
        let talk = Talk {
            remote: Arc::downgrade(&remote),
            link: Arc::new(hub.connect(&hello.host, remote)),
            hello,
            peer,
            security: self.security.clone(),
            stopped: self.stopped.subscribe(),
        };
        tokio::spawn(talk.listen(up));
        Ok(Response::new(received(waiting)))
    }

    async fn ask(self: Arc<Self>, peer: Peer, ask: Request<Ask>) -> std::result::Result<Response<Told>, Status> {
        if !peer.is_control() {
            return Err(Status::permission_denied("Only a compute API asks this."));
        }
        Ok(Response::new(match ask.into_inner() {
            Ask::Flow => {
                self.control.flow();
                Told::Done
            }
            Ask::Server { cell, server } => match self.control.server(cell, server) {
                true => Told::Done,
                false => Told::Fault(Error::unavailable("This conductor does not conduct that cell.").into()),
            },
            Ask::Task { cell, host, task, deadline } => {
                let reply = match self.hub(&cell) {
                    Ok(hub) => hub.task(&host, task, Duration::from_millis(deadline)).await,
                    // Another conductor may have the cell.
                    Err(_) => Err(Error::unavailable(format!("Host '{host}' is not connected."))),
                };
                reply.map_or_else(|error| Told::Fault(error.into()), Told::Reply)
            }
        }))
    }

    async fn read(
        self: Arc<Self>,
        peer: Peer,
        wanted: Request<Wanted>,
    ) -> std::result::Result<Response<Messages<bytes::Bytes>>, Status> {
        let Wanted { cell, host, image_id, .. } = wanted.into_inner();
        if !peer.may_speak_for(&cell, &host) {
            return Err(Status::permission_denied("The certificate does not name this host."));
        }
        let data = self.images.read(&cell, &host, &image_id).await.map_err(|error| {
            tracing::warn!(cell, host, image_id, cause = error.cause(), "an agent gets no image: {error}");
            wire::status(&error)
        })?;
        let pieces = data.bytes.map(|piece| piece.map_err(|error| wire::status(&error)));
        let mut response: Response<Messages<bytes::Bytes>> = Response::new(Box::pin(pieces));
        if let Some(format) = data.disk_format.and_then(|format| MetadataValue::try_from(format).ok()) {
            response.metadata_mut().insert(wire::DISK_FORMAT, format);
        }
        Ok(response)
    }

    async fn write(
        self: Arc<Self>,
        peer: Peer,
        data: Request<Streaming<bytes::Bytes>>,
    ) -> std::result::Result<Response<Told>, Status> {
        let header = data.metadata().get(WANTED_HEADER).map(|value| value.as_bytes().to_vec()).unwrap_or_default();
        let Ok(Wanted { cell, host, image_id, size }) = serde_json::from_slice(&header) else {
            return Err(Status::invalid_argument("An upload says first what it is for."));
        };
        if !peer.may_speak_for(&cell, &host) || !self.exports.allow(&cell, &host, &image_id) {
            tracing::warn!(cell, host, image_id, "somebody would fill an image that no task told it to");
            return Err(Status::permission_denied("No task tells this host to fill that image."));
        }
        let pieces = data.into_inner().map(|piece| piece.map_err(|status| wire::error(&status)));
        let written = self.images.write(&image_id, size, Box::pin(pieces)).await;
        Ok(Response::new(written.map_or_else(|error| Told::Fault(error.into()), |()| Told::Done)))
    }
}

fn received(mut waiting: mpsc::Receiver<Down>) -> Messages<Down> {
    Box::pin(stream::poll_fn(move |context| waiting.poll_recv(context)).map(Ok))
}

/// One agent's stream.
struct Talk {
    hello: Hello,
    remote: Weak<Remote>,
    link: Arc<Connection>,
    peer: Peer,
    security: Security,
    stopped: watch::Receiver<bool>,
}

impl Talk {
    /// To the stream's end; then the host is disconnected, and what was in work for it is left to the next stream.
    async fn listen(mut self, mut up: Streaming<Up>) {
        tracing::info!(cell = self.hello.cell, host = self.hello.host, "an agent is connected");
        let slots = Arc::new(Semaphore::new(PARALLEL));
        let mut work = JoinSet::new();
        let mut shut_out = pin!(self.peer.shut_out(&self.security));
        loop {
            let message = tokio::select! {
                message = up.message() => message,
                _ = self.stopped.wait_for(|stopped| *stopped) => break,
                () = &mut shut_out => {
                    tracing::warn!(host = self.hello.host, "an agent's certificate was revoked");
                    break;
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(host = self.hello.host, cause = super::chain(&status), "an agent's stream broke");
                    break;
                }
            };
            let Some(remote) = self.remote.upgrade() else { break };
            match message {
                Up::Reply { id, reply } => remote.replied(id, reply),
                message => {
                    // A reader that waits here reads no more, which the other end feels.
                    let slot = slots.clone().acquire_owned().await;
                    let (link, host) = (self.link.clone(), self.hello.host.clone());
                    work.spawn(async move {
                        let _slot = slot;
                        serve(&link, &remote, &host, message).await;
                    });
                }
            }
            while work.try_join_next().is_some() {}
        }
        if let Some(remote) = self.remote.upgrade() {
            remote.end();
        }
        tracing::info!(cell = self.hello.cell, host = self.hello.host, "an agent is gone");
    }
}

/// What the agent told is taken in its host's name, whatever it says.
async fn serve(link: &Connection, remote: &Remote, host: &str, message: Up) {
    let (id, result) = match message {
        Up::Report { id, report } if report.host != host => {
            (id, Err(Error::forbidden("An agent reports its own host only.")))
        }
        Up::Report { id, report } => (id, link.report(report).await),
        Up::Observed { id, observed } => (id, link.observed(host, observed).await),
        Up::Resync { id, held } => (id, resync(link, remote, host, id, held).await),
        Up::Hello(_) | Up::Reply { .. } => return,
    };
    let result = result.map_err(Into::into);
    if let Err(error) = remote.say(Down::Answer { id, result }).await {
        tracing::debug!(host, cause = error.cause(), "an answer was not taken: {error}");
    }
}

async fn resync(link: &Connection, remote: &Remote, host: &str, id: u64, held: Vec<Uuid>) -> Result<()> {
    let mut all = link.resync(host, held).await?;
    while !all.is_empty() {
        let rest = all.split_off(all.len().min(PART));
        remote.say(Down::Part { id, desired: all }).await?;
        all = rest;
    }
    Ok(())
}
