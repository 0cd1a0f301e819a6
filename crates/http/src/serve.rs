//! A port. Connections are served by hyper itself rather than by axum's `serve`, which sets no limits: a client that
//! opens connections and sends a header byte by byte, or nothing, would hold them for as long as it likes.

mod paced;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use umbel_core::{Error, Kind, Result};

use crate::metrics::Connection;
use paced::Paced;
pub(crate) use tls::Secure;
pub use tls::Tls;

/// What a client may take from a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For a request's header to arrive, from the connection's start or from the end of the request before it: how
    /// long a connection may be idle, too.
    pub header: Duration,
    /// Without a byte of a body that is on its way in, or out: half-open and stalled connections end.
    pub stall: Duration,
    /// A header's bytes; beyond them 431. A token has 16 KiB at most.
    pub header_bytes: usize,
    /// Open at a time, and with it requests; more wait in the kernel's queue.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header: Duration::from_secs(60),
            stall: Duration::from_secs(300),
            header_bytes: 64 * 1024,
            connections: 8192,
        }
    }
}

/// A listening server; dropped or told to, it stops taking connections and finishes what runs.
pub struct Server {
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// Handlers that finish what they began though their client is gone.
    handlers: TaskTracker,
}

/// Serves a router on an address; port 0 takes a free one, told in [`Server::address`].
pub async fn serve(address: SocketAddr, router: axum::Router) -> Result<Server> {
    serve_with(address, router, Limits::default()).await
}

/// As [`serve`], over TLS where there is a certificate.
pub async fn serve_tls(address: SocketAddr, router: axum::Router, tls: Option<Arc<Tls>>) -> Result<Server> {
    open(address, router, Limits::default(), tls).await
}

/// As [`serve`], with limits of one's own.
pub async fn serve_with(address: SocketAddr, router: axum::Router, limits: Limits) -> Result<Server> {
    open(address, router, limits, None).await
}

async fn open(address: SocketAddr, router: axum::Router, limits: Limits, tls: Option<Arc<Tls>>) -> Result<Server> {
    let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            Error::new(Kind::Conflict, format!("Another program listens on {address}.")).because(error)
        }
        _ => Error::internal(error).because(format!("listening on {address}")),
    })?;
    let address = listener.local_addr().map_err(Error::internal)?;
    let (stop, stopped) = watch::channel(false);
    let handlers = TaskTracker::new();
    let port = Port { router, handlers: handlers.clone(), limits: Arc::new(limits), tls, stopped: Stopped(stopped) };
    Ok(Server { address, stop, task: tokio::spawn(port.listen(listener)), handlers })
}

impl Server {
    /// Takes no more connections, closes idle ones, and waits for the running requests, at most `grace`; then it cuts
    /// them off.
    pub async fn drain(mut self, grace: Duration) {
        let _ = self.stop.send(true);
        self.handlers.close();
        let done = async {
            let _ = (&mut self.task).await;
            self.handlers.wait().await;
        };
        if tokio::time::timeout(grace, done).await.is_err() {
            tracing::warn!("requests still ran at the end of the grace period");
            self.task.abort();
        }
    }
}

#[derive(Clone)]
struct Port {
    router: axum::Router,
    handlers: TaskTracker,
    limits: Arc<Limits>,
    tls: Option<Arc<Tls>>,
    stopped: Stopped,
}

/// Tells when the server is to stop, or was dropped.
#[derive(Clone)]
struct Stopped(watch::Receiver<bool>);

impl Stopped {
    async fn wait(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

impl Port {
    async fn listen(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut stopped = self.stopped.clone();
        let mut open = JoinSet::new();
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = stopped.wait() => break,
                next = next => next,
            };
            while open.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    let port = self.clone();
                    open.spawn(async move {
                        let _held = (place, Connection::opened());
                        port.take(stream).await;
                    });
                }
                Err(error) => rest_after(&error).await,
            }
        }
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    async fn take(self, stream: TcpStream) {
        if let Err(error) = prepare(&stream, self.limits.stall) {
            tracing::debug!(%error, "a connection's options could not be set");
        }
        let Some(tls) = &self.tls else {
            return self.converse(stream).await;
        };
        let mut stopped = self.stopped.clone();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(self.limits.header, tls.acceptor().accept(stream)) => shaken,
            () = stopped.wait() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.converse(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a client did not come to terms"),
            Err(_) => tracing::debug!("a client was too slow to come to terms"),
        }
    }

    /// One connection, to its end.
    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let secure = self.tls.as_ref().map(|_| Secure);
        let (router, handlers, stall) = (self.router, self.handlers, self.limits.stall);
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(|body| Body::new(Paced::new(body, stall)));
            request.extensions_mut().insert(handlers.clone());
            if let Some(secure) = secure {
                request.extensions_mut().insert(secure);
            }
            answer(router.clone(), request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .max_header_size(self.limits.header_bytes)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut stopped = self.stopped;
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = &error as &dyn std::error::Error, "a connection broke");
        }
    }
}

async fn answer(
    router: axum::Router,
    request: http::Request<Body>,
) -> std::result::Result<http::Response<Body>, Infallible> {
    router.oneshot(request).await
}

fn prepare(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    // Without it each small answer waits for the client's delayed acknowledgement.
    stream.set_nodelay(true)?;
    // Ends a connection whose other side is gone, or does not take what is sent to it.
    let millis = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?;
    Ok(())
}

/// A client that left before it was accepted costs nothing; anything else, such as no file descriptors left, would fail
/// again at once and without end.
async fn rest_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::error!(%error, "no connection could be accepted");
    tokio::time::sleep(Duration::from_millis(500)).await;
}
