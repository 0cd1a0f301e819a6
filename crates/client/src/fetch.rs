//! Downloads from addresses that a user named.
//!
//! Whoever may name a URL could reach with our hands what only we reach: an address of this host, a metadata service.
//! So every hop of a download is asked about before it is made, redirects too, and names are resolved here, so that what
//! is connected to is what was asked about. No proxy is used, for it would resolve names again.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, LOCATION};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use umbel_core::{Error, Kind, Result};

use crate::transport::ByteStream;

/// Redirects that are followed before a download is given up.
const HOPS: usize = 10;

/// What may be fetched.
pub trait Admission: Send + Sync + 'static {
    /// Asked for the first URL and each redirect. The host is lower case, without the brackets of an IPv6 address.
    fn url(&self, scheme: &str, host: &str, port: u16) -> Result<()>;

    /// Asked for each address that a host's name stands for; those that may not be connected to are passed over.
    fn address(&self, host: &str, address: IpAddr) -> bool;
}

pub struct Fetched {
    /// Bytes, if the sender told.
    pub length: Option<u64>,
    pub stream: ByteStream,
}

/// Fetches over HTTP and HTTPS.
pub struct Fetcher {
    client: reqwest::Client,
    admission: Arc<dyn Admission>,
}

impl Fetcher {
    /// `idle` is how long the sender may stay silent.
    pub fn new(admission: Arc<dyn Admission>, idle: Duration) -> Result<Self> {
        // Another part of the process may have chosen a provider already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(idle)
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Admitted(admission.clone())))
            .build()
            .map_err(|error| Error::internal(error).because("making an HTTP client"))?;
        Ok(Fetcher { client, admission })
    }

    /// Whether the URL is one that may be fetched, without connecting. What its name stands for is looked at later.
    pub fn check(&self, url: &str) -> Result<()> {
        self.admit(url).map(drop)
    }

    /// The bytes behind a URL, after redirects.
    ///
    /// # Errors
    /// `BadRequest` for what may not be fetched and for every status but 200; `Unavailable` or `Timeout` if nobody
    /// answers.
    pub async fn get(&self, url: &str) -> Result<Fetched> {
        let mut url = self.admit(url)?;
        for _ in 0..HOPS {
            let response = self.client.get(url.clone()).send().await.map_err(|error| failed(&url, &error))?;
            if response.status().is_redirection() {
                let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let next = target.and_then(|target| url.join(target).ok());
                let next = next.ok_or_else(|| Error::bad_request(format!("{} redirects to nowhere.", shown(&url))))?;
                url = self.admit(next.as_str())?;
                continue;
            }
            return body(&url, response);
        }
        Err(Error::bad_request(format!("More than {HOPS} redirects, the last to {}.", shown(&url))))
    }

    fn admit(&self, text: &str) -> Result<Url> {
        let bad = || Error::bad_request(format!("'{text}' is not a URL that can be fetched."));
        let url = Url::parse(text).map_err(|_| bad())?;
        let host = url.host_str().ok_or_else(bad)?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad());
        }
        let port = url.port_or_known_default().ok_or_else(bad)?;
        self.admission.url(url.scheme(), &host, port)?;
        // An address in place of a name is never resolved.
        match host.parse::<IpAddr>() {
            Ok(address) if !self.admission.address(&host, address) => Err(refused(&host)),
            _ => Ok(url),
        }
    }
}

fn body(url: &Url, response: reqwest::Response) -> Result<Fetched> {
    if response.status() != StatusCode::OK {
        return Err(Error::bad_request(format!("{} answered {}.", shown(url), response.status())));
    }
    let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let stream = response.bytes_stream().map(|chunk| {
        chunk.map_err(|error| Error::unavailable("The download ended before it was complete.").because(error))
    });
    Ok(Fetched { length, stream: Box::pin(stream) })
}

/// Resolves names to the addresses that may be connected to.
struct Admitted(Arc<dyn Admission>);

impl Resolve for Admitted {
    fn resolve(&self, name: Name) -> Resolving {
        let admission = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|address| admission.address(&host, address.ip()))
                .collect();
            match found.is_empty() {
                true => Err(refused(&host).message().to_owned().into()),
                false => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

fn refused(host: &str) -> Error {
    Error::bad_request(format!("No address of '{host}' may be connected to."))
}

/// Without what may be secret: a user's name and password, and the query.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or(""), url.path())
}

fn failed(url: &Url, error: &reqwest::Error) -> Error {
    let kind = if error.is_timeout() { Kind::Timeout } else { Kind::Unavailable };
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        cause = format!("{cause}: {inner}");
        source = inner.source();
    }
    Error::new(kind, format!("No answer from {}.", shown(url))).because(cause)
}
