//! TLS on a port, by a certificate that can be renewed while the port is open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use umbel_core::{Error, Result};

/// A certificate with its key, as two files of PEM: first the server's own, then those that lead to its authority.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Loaded>,
}

struct Loaded {
    /// What the files said.
    texts: (String, String),
    acceptor: TlsAcceptor,
}

/// Stands in a request's extensions if it came over TLS.
#[derive(Clone, Copy)]
pub(crate) struct Secure;

impl Tls {
    pub fn read(certificate: &Path, key: &Path) -> Result<Arc<Tls>> {
        let current = RwLock::new(load(texts(certificate, key)?, certificate)?);
        Ok(Arc::new(Tls { certificate: certificate.to_owned(), key: key.to_owned(), current }))
    }

    /// Reads the files again; whether they had changed. Connections made from then on see the new certificate; those that
    /// stand go on. What cannot be used leaves the old one in place.
    pub fn reload(&self) -> Result<bool> {
        let texts = texts(&self.certificate, &self.key)?;
        if texts == self.current.read().texts {
            return Ok(false);
        }
        *self.current.write() = load(texts, &self.certificate)?;
        Ok(true)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().acceptor.clone()
    }
}

fn texts(certificate: &Path, key: &Path) -> Result<(String, String)> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Error::bad_request(format!("{} cannot be read: {error}.", path.display())))
    };
    Ok((read(certificate)?, read(key)?))
}

fn load(texts: (String, String), certificate: &Path) -> Result<Loaded> {
    // Another part of the process may have chosen a provider already; any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wrong = |error: &dyn std::fmt::Display| {
        Error::bad_request(format!("{} and its key cannot be used: {error}.", certificate.display()))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(texts.0.as_bytes())
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(texts.1.as_bytes()).map_err(|error| wrong(&error))?;
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).map_err(|error| wrong(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { texts, acceptor: TlsAcceptor::from(Arc::new(config)) })
}
