use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;
use serde::de::DeserializeOwned;
use sync_wrapper::SyncWrapper;
use umbel_api::{Microversion, Route};
use umbel_core::{Ctx, Error, Id, Kind, Result};

use crate::ByteStream;

/// How long a body of JSON may take. It has 100 KiB at most: who takes longer wants to hold a handler, not to say something.
const SMALL_BODY: Duration = Duration::from_secs(60);

/// A request that was routed, whose token was verified and whose route allows the caller.
pub struct Req {
    pub ctx: Ctx,
    /// Asked for, or the service's oldest where nothing was; 0.0 where the service has none.
    pub version: Microversion,
    pub route: &'static Route,
    /// URL of the service's root as the client reached it, without a slash at the end: `http://host:port/compute`.
    pub root: String,
    /// Path as the client wrote it, with the service's prefix.
    pub path: String,
    /// Undecoded.
    pub query: String,
    pub headers: HeaderMap,
    pub(crate) params: Vec<(&'static str, String)>,
    /// Wrapped, so that a handler can hold a `&Req` while it waits: a body alone is not `Sync`.
    pub(crate) body: SyncWrapper<axum::body::Body>,
    pub(crate) max_json: usize,
}

impl Req {
    /// A segment of the path, decoded. A missing one is a route table that does not fit its handler.
    pub fn param(&self, name: &str) -> Result<&str> {
        self.params
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| Error::internal(format!("route {} has no parameter {name}", self.route.path)))
    }

    /// An id in the path. What is no id cannot be found; `what` names it for the message.
    pub fn id<T>(&self, name: &str, what: &str) -> Result<Id<T>> {
        let text = self.param(name)?;
        text.parse().map_err(|_| Error::not_found(format!("{what} {text} could not be found.")))
    }

    /// Parameters of the query, decoded, in order; a name can come more than once.
    pub fn query_pairs(&self) -> Vec<(String, String)> {
        serde_urlencoded::from_str(&self.query).unwrap_or_default()
    }

    /// Parameters of the query as a struct: unknown ones are ignored unless the type denies them.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T> {
        serde_urlencoded::from_str(&self.query)
            .map_err(|error| Error::bad_request(format!("Invalid query parameters: {error}.")))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Length the sender announced.
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Media type of the body, without parameters, lower case.
    pub fn content_type(&self) -> Option<String> {
        let value = self.header("content-type")?;
        Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
    }

    /// The whole body, up to the service's limit for JSON: beyond it 413, before the rest is read. 400 where it does
    /// not arrive within a minute.
    pub async fn bytes(&mut self) -> Result<Bytes> {
        let late = |_| Error::bad_request("The request body took too long to arrive.");
        tokio::time::timeout(SMALL_BODY, self.bytes_at_leisure()).await.map_err(late)?
    }

    async fn bytes_at_leisure(&mut self) -> Result<Bytes> {
        let limit = self.max_json;
        let too_large = || Error::new(Kind::TooLarge, "Request is too large.");
        if self.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut stream = std::mem::take(self.body.get_mut()).into_data_stream();
        let mut first = Bytes::new();
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(cut_short)?;
            if first.len() + all.len() + chunk.len() > limit {
                return Err(too_large());
            }
            // Most bodies are one chunk, which then need not be copied.
            if first.is_empty() && all.is_empty() {
                first = chunk;
                continue;
            }
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
        match all.is_empty() {
            true => Ok(first),
            false => Ok(all.into()),
        }
    }

    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Error::bad_request(format!("Invalid input: {error}.")),
            _ => Error::bad_request(format!("Malformed request body: {error}.")),
        })
    }

    /// The body as it comes; nothing is buffered. Taken once: a second call gives an empty stream.
    pub fn stream(&mut self) -> ByteStream {
        let body = std::mem::take(self.body.get_mut());
        Box::pin(body.into_data_stream().map(|chunk| chunk.map_err(cut_short)))
    }

    /// A URL below the service's root: `req.url("/v2.1/servers")`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }
}

fn cut_short(error: axum::Error) -> Error {
    Error::bad_request("The request body ended before it was complete.").because(error)
}
