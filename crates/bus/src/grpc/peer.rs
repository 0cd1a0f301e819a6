//! Who is at the other end.

use std::path::Path;

use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};
use umbel_core::{Error, Result};
use webpki::EndEntityCert;

use super::certificates::{CONTROL, agent_uri};
use super::{ANSWER, MAX_MESSAGE, PING};

/// How both ends know each other.
#[derive(Clone)]
pub enum Security {
    /// Not at all: everybody is believed. For tests on the loopback.
    Plain,
    /// PEM: the authority, one's own certificate, and its key.
    Mutual { ca: String, certificate: String, key: String },
}

impl Security {
    /// From a folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub fn read(folder: &Path) -> Result<Security> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|error| {
                Error::bad_request(format!(
                    "{} cannot be read: {error}. `umbel cert` makes the certificates of the bus.",
                    path.display()
                ))
            })
        };
        Ok(Security::Mutual { ca: read("ca.pem")?, certificate: read("cert.pem")?, key: read("key.pem")? })
    }

    pub(super) fn server(&self) -> Option<ServerTlsConfig> {
        let Security::Mutual { ca, certificate, key } = self else { return None };
        choose_provider();
        let identity = Identity::from_pem(certificate, key);
        Some(ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(ca)).timeout(ANSWER / 3))
    }

    /// The way to a conductor, not dialled yet.
    pub(super) fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let wrong = |error: tonic::transport::Error| {
            Error::bad_request(format!("'{address}' is no address of a conductor, or the certificates are not right."))
                .because(crate::grpc::chain(&error))
        };
        let scheme = if matches!(self, Security::Plain) { "http" } else { "https" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(wrong)?
            .connect_timeout(ANSWER / 3)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        let Security::Mutual { ca, certificate, key } = self else { return Ok(endpoint) };
        choose_provider();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .identity(Identity::from_pem(certificate, key))
            .domain_name(CONTROL)
            .timeout(ANSWER / 3);
        endpoint.tls_config(tls).map_err(wrong)
    }
}

/// Another part of the process may have chosen one already; any will do.
fn choose_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What a connection's certificate says, read where it is needed.
#[derive(Clone)]
pub(super) enum Peer {
    Believed,
    Named(Vec<String>),
}

impl Peer {
    /// Of a request. The authority's signature was checked when the connection was made.
    pub fn of<B>(security: &Security, request: &http::Request<B>) -> Peer {
        if matches!(security, Security::Plain) {
            return Peer::Believed;
        }
        let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let certificates = info.and_then(TlsConnectInfo::peer_certs);
        let first = certificates.as_ref().and_then(|all| all.first());
        let names = first.and_then(|der| {
            let read = EndEntityCert::try_from(der).ok()?;
            Some(read.valid_uri_names().chain(read.valid_dns_names()).map(str::to_owned).collect())
        });
        Peer::Named(names.unwrap_or_default())
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
            Peer::Named(names) => names.iter().any(|known| known == name),
        }
    }
}

/// A client's end of one connection, with room for our messages.
pub(super) fn client(channel: tonic::transport::Channel) -> tonic::client::Grpc<tonic::transport::Channel> {
    tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}
