use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use umbel_core::{Error, Kind, OnBehalf, Result};

use crate::CloudConfig;

pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A body on its way out or in.
pub enum Body {
    Empty,
    Bytes(Bytes),
    Stream(ByteStream),
}

impl Body {
    pub fn into_stream(self) -> ByteStream {
        match self {
            Body::Empty => Box::pin(stream::empty()),
            Body::Bytes(bytes) => Box::pin(stream::once(async move { Ok(bytes) })),
            Body::Stream(stream) => stream,
        }
    }
}

/// A user's word as one segment of a path: 404 for what can be the id of nothing. Words from a body reach us as they
/// were sent; `a/../b` or `a?b` would be another request than the one that is meant, with a service's rights at times.
pub(crate) fn segment<'a>(what: &str, id: &'a str) -> Result<&'a str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match !id.is_empty() && id.len() <= 255 && id.bytes().all(plain) {
        true => Ok(id),
        false => {
            Err(Error::not_found(format!("{what} {} could not be found.", id.chars().take(255).collect::<String>())))
        }
    }
}

/// A request with a token: the caller's, or a service's which works for somebody.
pub(crate) fn authenticated(
    request: http::request::Builder,
    token: &str,
    on_behalf: Option<&OnBehalf>,
) -> http::request::Builder {
    match on_behalf {
        None => request.header("x-auth-token", token),
        Some(of) => request
            .header("x-service-token", token)
            .header(OnBehalf::PROJECT, &of.project_id)
            .header(OnBehalf::USER, &of.user_id),
    }
}

/// The whole of a body, up to `limit` bytes.
pub async fn collect(body: Body, limit: usize) -> Result<Bytes> {
    if let Body::Bytes(bytes) = body {
        return Ok(bytes);
    }
    let mut stream = body.into_stream();
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
        if all.len() > limit {
            return Err(Error::internal("an answer is larger than it may be"));
        }
    }
    Ok(all.into())
}

/// Carries requests to services. A request's URL is absolute.
#[async_trait]
pub trait Transport: Send + Sync {
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>>;
}

/// Over sockets, with connections kept open.
pub struct HttpTransport {
    client: reqwest::Client,
}

impl HttpTransport {
    /// `insecure` takes any certificate.
    pub fn new(insecure: bool) -> Result<Self> {
        Self::build(insecure, None)
    }

    /// As a cloud's `verify` and `cacert` in clouds.yaml ask.
    pub fn of(config: &CloudConfig) -> Result<Self> {
        Self::build(!config.verify, config.cacert.as_deref())
    }

    /// Believes the authorities in this file of PEM beside the system's.
    pub fn trusting(authorities: &Path) -> Result<Self> {
        Self::build(false, Some(authorities))
    }

    fn build(insecure: bool, authorities: Option<&Path>) -> Result<Self> {
        // Another part of the process may have chosen a provider already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .tls_danger_accept_invalid_certs(insecure);
        if let Some(path) = authorities {
            let unread = |error: &dyn std::fmt::Display| {
                Error::bad_request(format!("{} cannot be read as certificates: {error}.", path.display()))
            };
            let pem = std::fs::read(path).map_err(|error| unread(&error))?;
            let all = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unread(&error))?;
            builder = builder.tls_certs_merge(all);
        }
        let client = builder.build().map_err(|error| Error::internal(error).because("making an HTTP client"))?;
        Ok(HttpTransport { client })
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        let (parts, body) = request.into_parts();
        let mut outgoing = self.client.request(parts.method, parts.uri.to_string()).headers(parts.headers);
        outgoing = match body {
            Body::Empty => outgoing,
            Body::Bytes(bytes) => outgoing.body(bytes),
            Body::Stream(stream) => {
                let stream = stream.map(|chunk| chunk.map_err(|error| std::io::Error::other(error.to_string())));
                outgoing.body(reqwest::Body::wrap_stream(stream))
            }
        };
        let response = outgoing.send().await.map_err(|error| unreachable(&parts.uri, &error))?;
        let mut builder = http::Response::builder().status(response.status());
        if let Some(headers) = builder.headers_mut() {
            *headers = response.headers().clone();
        }
        let stream = response.bytes_stream().map(|chunk| {
            chunk.map_err(|error| Error::unavailable("An answer ended before it was complete.").because(error))
        });
        builder.body(Body::Stream(Box::pin(stream))).map_err(Error::internal)
    }
}

fn unreachable(uri: &http::Uri, error: &reqwest::Error) -> Error {
    let kind = if error.is_timeout() { Kind::Timeout } else { Kind::Unavailable };
    let place = uri.authority().map_or("the service", |authority| authority.as_str());
    // The cause of a connection that failed stands two levels below.
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        cause = format!("{cause}: {inner}");
        source = inner.source();
    }
    Error::new(kind, format!("No answer from {place}.")).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_goes_into_a_path() {
        let check = |id: &str, good: bool| assert_eq!(segment("Image", id).is_ok(), good, "{id:?}");
        check("6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9f0001", true);
        check("a_1", true);
        for id in ["", " ", ".", "..", "../v1", "a/b", "a?b", "a#b", "a%2fb", "ü", "a\0", "' OR 1=1"] {
            check(id, false);
        }
        check(&"a".repeat(256), false);
    }
}
