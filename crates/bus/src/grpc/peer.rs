//! Who is at the other end.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, stream};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use umbel_core::{Error, Result};
use webpki::EndEntityCert;

use super::certificates::{CONTROL, agent_uri};
use super::credentials::{Credentials, Fingerprint, fingerprint_of};
use super::{ANSWER, MAX_MESSAGE, PING};

/// How both ends know each other.
#[derive(Clone)]
pub enum Security {
    /// Not at all: everybody is believed. For tests on the loopback.
    Plain,
    /// By certificates of one authority.
    Mutual(Arc<Credentials>),
}

impl Security {
    /// From a folder, as [`Credentials::open`].
    pub fn read(folder: &Path) -> Result<Security> {
        Credentials::open(folder).map(Security::Mutual)
    }

    /// The way to a conductor, dialled when it is needed and again when it broke.
    pub(super) fn channel(&self, address: &str) -> Result<Channel> {
        let wrong = |error: tonic::transport::Error| {
            Error::bad_request(format!("'{address}' is no address of a conductor.")).because(super::chain(&error))
        };
        // Ours are the ends of TLS, so that each connection is made with the certificate that holds then.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(wrong)?
            .connect_timeout(ANSWER / 3)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        let Security::Mutual(credentials) = self else { return Ok(endpoint.connect_lazy()) };
        let (credentials, address) = (credentials.clone(), address.to_owned());
        Ok(endpoint.connect_with_connector_lazy(service_fn(move |_| dial(credentials.clone(), address.clone()))))
    }
}

async fn dial(credentials: Arc<Credentials>, address: String) -> io::Result<TokioIo<WhileBelieved>> {
    let loaded = credentials.now();
    let stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(CONTROL).map_err(io::Error::other)?;
    let stream = TlsConnector::from(loaded.client.clone()).connect(name, stream).await?;
    let Some(certificate) = first_of(stream.get_ref().1.peer_certificates()) else { return Err(revoked()) };
    if credentials.now().has_revoked(&certificate) {
        return Err(revoked());
    }
    let end = Box::pin(async move { credentials.until_revoked(&certificate).await });
    Ok(TokioIo::new(WhileBelieved { stream, end: Some(end) }))
}

fn revoked() -> io::Error {
    io::Error::other("the conductor's certificate was revoked")
}

/// A connection to a conductor, that breaks when the conductor's certificate is revoked: whatever goes over it then, be it
/// an agent's stream, an image or an order, goes no further. Asked with each read, of which a connection always has one
/// under way.
struct WhileBelieved {
    stream: client::TlsStream<TcpStream>,
    /// None once it has come.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl AsyncRead for WhileBelieved {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.as_mut().is_none_or(|end| end.as_mut().poll(context).is_ready()) {
            self.end = None;
            return Poll::Ready(Err(revoked()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for WhileBelieved {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.end {
            Some(_) => Pin::new(&mut self.stream).poll_write(context, bytes),
            None => Poll::Ready(Err(revoked())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Connections whose other side is known, as they come. Many shake hands at a time, so that who is slow holds up nobody.
pub(super) fn known(
    listener: TcpListener,
    credentials: Arc<Credentials>,
) -> impl Stream<Item = io::Result<server::TlsStream<TcpStream>>> {
    let (ready, mut waiting) = mpsc::channel(1);
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let Ok((stream, address)) = accepted else {
                // Such as no file descriptors left: it would fail again at once.
                tokio::time::sleep(REST).await;
                continue;
            };
            let (acceptor, ready) = (TlsAcceptor::from(credentials.now().server.clone()), ready.clone());
            tokio::spawn(async move {
                let _slot = slot;
                let _ = stream.set_nodelay(true);
                match tokio::time::timeout(ANSWER / 3, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                    Ok(Err(error)) => tracing::debug!(%address, %error, "somebody was not let into the bus"),
                    Err(_) => tracing::debug!(%address, "somebody was too slow for the bus"),
                }
            });
        }
    });
    stream::poll_fn(move |context| waiting.poll_recv(context))
}

/// Handshakes at a time: a thousand hosts come at once when a conductor starts.
const HANDSHAKES: usize = 256;
const REST: Duration = Duration::from_millis(100);

fn first_of(certificates: Option<&[CertificateDer<'_>]>) -> Option<Fingerprint> {
    certificates.and_then(|all| all.first()).map(fingerprint_of)
}

/// What a connection's certificate says, read where it is needed.
#[derive(Clone)]
pub(super) enum Peer {
    Believed,
    /// Nobody's names where the certificate was revoked.
    Named(Vec<String>, Option<Fingerprint>),
}

impl Peer {
    /// Of a request. The authority's signature was checked when the connection was made.
    pub fn of<B>(security: &Security, request: &http::Request<B>) -> Peer {
        let Security::Mutual(credentials) = security else {
            return Peer::Believed;
        };
        let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let certificates = info.and_then(TlsConnectInfo::peer_certs);
        let fingerprint = first_of(certificates.as_ref().map(|all| &all[..]));
        if fingerprint.is_none_or(|fingerprint| credentials.now().has_revoked(&fingerprint)) {
            return Peer::Named(Vec::new(), fingerprint);
        }
        let first = certificates.as_ref().and_then(|all| all.first());
        let names = first.and_then(|der| {
            let read = EndEntityCert::try_from(der).ok()?;
            Some(read.valid_uri_names().chain(read.valid_dns_names()).map(str::to_owned).collect())
        });
        Peer::Named(names.unwrap_or_default(), fingerprint)
    }

    /// Returns once the peer's certificate is revoked; of others never.
    pub async fn shut_out(&self, security: &Security) {
        let (Security::Mutual(credentials), Peer::Named(_, Some(own))) = (security, self) else {
            return std::future::pending().await;
        };
        credentials.until_revoked(own).await;
    }

    pub fn may_speak_for(&self, cell: &str, host: &str) -> bool {
        self.has(&agent_uri(cell, host))
    }

    pub fn is_control(&self) -> bool {
        self.has(CONTROL)
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Peer::Believed => true,
            Peer::Named(names, _) => names.iter().any(|known| known == name),
        }
    }
}

/// A client's end of one connection, with room for our messages.
pub(super) fn client(channel: Channel) -> tonic::client::Grpc<Channel> {
    tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}
