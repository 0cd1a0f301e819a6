//! A port with TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use umbel_api::{Method, Route, Rule};
use umbel_bus::Authority;
use umbel_core::{Clock, SystemClock};
use umbel_http::{FaultStyle, Reply, Req, Routes, Service, Tls, serve_tls};

use crate::support::Keys;

static ROOT: Route = Route::new(Method::Get, "/root", "p:root", Rule::Public);

/// As its authority names it.
const NAME: &str = "control.umbel";

/// Writes a certificate and gives its authority's.
fn write(folder: &Path) -> CertificateDer<'static> {
    let now = SystemClock.now();
    let issued = Authority::create(now).unwrap().control(now).unwrap();
    std::fs::write(folder.join("cert.pem"), &issued.certificate).unwrap();
    std::fs::write(folder.join("key.pem"), &issued.key).unwrap();
    CertificateDer::from_pem_slice(issued.ca.as_bytes()).unwrap()
}

/// Asks, and believes this authority alone.
async fn ask(address: SocketAddr, believed: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(believed.clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"GET /identity/root HTTP/1.1\r\nhost: localhost:1\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    // The end of the connection is the end of the answer, with TLS's own good-bye or without.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn a_certificate_is_renewed_while_the_port_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let first = write(folder.path());
    let tls = Tls::read(&path("cert.pem"), &path("key.pem")).unwrap();
    let routes = Routes::new(().into())
        .on(&ROOT, async |_: Arc<()>, req: Req| Ok(Reply::bytes(200, "text/plain", req.root.clone())));
    let router = Keys::new().app.router(vec![Service::new("/identity", FaultStyle::Identity).routes(routes)]);
    let server = serve_tls(([127, 0, 0, 1], 0).into(), router, Some(tls.clone())).await.unwrap();

    let answer = ask(server.address, &first).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("https://localhost:1/identity"), "{answer}");
    assert!(!tls.reload().unwrap(), "nothing has changed");
    let second = write(folder.path());
    assert!(ask(server.address, &second).await.is_err(), "not read yet");
    assert!(tls.reload().unwrap());
    assert!(ask(server.address, &second).await.unwrap().starts_with("HTTP/1.1 200 "));
    assert!(ask(server.address, &first).await.is_err());
    // Half of a renewal is none.
    std::fs::write(path("key.pem"), "no key").unwrap();
    assert!(tls.reload().is_err());
    assert!(ask(server.address, &second).await.is_ok());

    // Who says nothing, or something else, is not waited for.
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET /identity/root HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    server.drain(Duration::from_secs(60)).await;
    drop(silent);
}
