//! One side's certificate, whom it believes, and whom no longer.
//!
//! Read again when the files change, so that a certificate is renewed, and a host shut out, without a restart: each new
//! connection is made with what holds then, and one whose other side's certificate was revoked is ended at once.
//!
//! Revoked certificates are named by fingerprints, a line each in the file `revoked` beside the others. Refused:
//! certificate revocation lists, which are signed and dated so that strangers may pass them on; here the operator writes
//! the file that the process reads, and a list that has run out would stop the cloud.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;
use umbel_core::{Error, Result};

/// Between two looks at the files.
const EVERY: Duration = Duration::from_secs(2);

/// SHA-256 of a certificate.
pub(super) type Fingerprint = [u8; 32];

/// What a process shows at the bus, and whom it believes there.
pub struct Credentials {
    /// None where they were given as text.
    folder: Option<PathBuf>,
    current: watch::Sender<Arc<Loaded>>,
}

/// As of one reading.
pub(super) struct Loaded {
    papers: Papers,
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
    revoked: HashSet<Fingerprint>,
}

/// The files' texts: PEM, and lines of hexadecimal digits.
#[derive(PartialEq, Eq)]
struct Papers {
    ca: String,
    certificate: String,
    key: String,
    revoked: String,
}

impl Credentials {
    /// From a folder with `ca.pem`, `cert.pem`, `key.pem`, and `revoked` where something was.
    pub fn open(folder: &Path) -> Result<Arc<Credentials>> {
        let loaded = Loaded::new(Papers::read(folder)?)?;
        Ok(Arc::new(Credentials { folder: Some(folder.to_owned()), current: watch::Sender::new(Arc::new(loaded)) }))
    }

    /// From PEM.
    pub fn from_pem(ca: String, certificate: String, key: String) -> Result<Arc<Credentials>> {
        let loaded = Loaded::new(Papers { ca, certificate, key, revoked: String::new() })?;
        Ok(Arc::new(Credentials { folder: None, current: watch::Sender::new(Arc::new(loaded)) }))
    }

    /// Reads the files again; whether something had changed. Where they cannot be read, what was read before holds.
    pub fn reload(&self) -> Result<bool> {
        let Some(folder) = &self.folder else { return Ok(false) };
        let papers = Papers::read(folder)?;
        if papers == self.current.borrow().papers {
            return Ok(false);
        }
        self.current.send_replace(Arc::new(Loaded::new(papers)?));
        Ok(true)
    }

    /// Follows the files until told to stop.
    pub async fn follow(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut told = false;
        while tokio::time::timeout(EVERY, stop.wait_for(|stop| *stop)).await.is_err() {
            match self.reload() {
                Ok(true) => tracing::info!("the bus's certificates were read again"),
                Ok(false) => told = false,
                // They may be half replaced. Said once.
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(cause = error.cause(), "the bus's certificates are as they were: {error}");
                }
                Err(_) => {}
            }
        }
    }

    pub(super) fn now(&self) -> Arc<Loaded> {
        self.current.borrow().clone()
    }

    /// Returns once this certificate is revoked; of others never.
    pub(super) async fn until_revoked(&self, certificate: &Fingerprint) {
        // The sender lives as long as the credentials, which outlast this.
        if self.current.subscribe().wait_for(|loaded| loaded.has_revoked(certificate)).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Papers {
    fn read(folder: &Path) -> Result<Papers> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|error| {
                Error::bad_request(format!(
                    "{} cannot be read: {error}. `umbel cert` makes the certificates of the bus.",
                    path.display()
                ))
            })
        };
        let revoked = match folder.join("revoked").exists() {
            true => read("revoked")?,
            false => String::new(),
        };
        Ok(Papers { ca: read("ca.pem")?, certificate: read("cert.pem")?, key: read("key.pem")?, revoked })
    }
}

impl Loaded {
    fn new(papers: Papers) -> Result<Loaded> {
        // Another part of the process may have chosen a provider already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = |error: &dyn std::error::Error| {
            Error::bad_request("The certificates of the bus are not right.").because(super::chain(error))
        };
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(papers.ca.as_bytes()) {
            roots.add(root.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        let roots = Arc::new(roots);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(papers.certificate.as_bytes())
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| wrong(&error))?;
        let key = || PrivateKeyDer::from_pem_slice(papers.key.as_bytes()).map_err(|error| wrong(&error));
        let clients = WebPkiClientVerifier::builder(roots.clone()).build().map_err(|error| wrong(&error))?;
        let mut server = ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key()?)
            .map_err(|error| wrong(&error))?;
        let servers = WebPkiServerVerifier::builder(roots).build().map_err(|error| wrong(&error))?;
        let mut client = ClientConfig::builder()
            .with_webpki_verifier(servers)
            .with_client_auth_cert(chain, key()?)
            .map_err(|error| wrong(&error))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        client.alpn_protocols = vec![b"h2".to_vec()];
        let revoked = fingerprints(&papers.revoked)?;
        Ok(Loaded { server: Arc::new(server), client: Arc::new(client), revoked, papers })
    }

    pub(super) fn has_revoked(&self, fingerprint: &Fingerprint) -> bool {
        self.revoked.contains(fingerprint)
    }
}

/// Those of a list, a line each: 64 hexadecimal digits, with or without colons; what follows a space or `#` is a comment.
fn fingerprints(text: &str) -> Result<HashSet<Fingerprint>> {
    let words = text.lines().filter_map(|line| line.split(['#', ' ', '\t']).next()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            // To pass a line over would be to believe somebody who was shut out.
            let wrong =
                || Error::bad_request(format!("'{word}' in the list of revoked certificates is no fingerprint."));
            let digits: String = word.chars().filter(|c| *c != ':').collect();
            let mut out = [0; 32];
            if digits.len() != 64 || !digits.is_ascii() {
                return Err(wrong());
            }
            for (byte, at) in out.iter_mut().zip((0..64).step_by(2)) {
                *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong())?;
            }
            Ok(out)
        })
        .collect()
}

pub(super) fn fingerprint_of(certificate: &CertificateDer<'_>) -> Fingerprint {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, certificate).as_ref());
    out
}

/// The fingerprint of the first certificate of a PEM, as the list of revoked ones names it: `openssl x509 -fingerprint
/// -sha256` without the colons.
pub fn fingerprint(pem: &str) -> Result<String> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| Error::bad_request("This is no certificate in PEM.").because(error))?;
    Ok(fingerprint_of(&certificate).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_line_by_line() {
        let one = "ab".repeat(32);
        let colons = ["0C"; 32].join(":");
        let text = format!("# shut out\n\n{one} node1 of cell1\n{colons}#x\n");
        assert_eq!(fingerprints(&text).unwrap(), [[0xab; 32], [0x0c; 32]].into());
        for bad in ["ab", "node1", &"g".repeat(64)] {
            assert!(fingerprints(bad).is_err(), "{bad}");
        }
    }
}
