use std::sync::Arc;

use http::Uri;
use http::request::Parts;
use tokio::time::Instant;
use tracing::Span;

use crate::metrics::{CLIENT_LEFT, Meter};

/// A request on its way: its span, which all that is logged for it is inside of, one line at its end, and its count.
/// Dropped without an end where the client went away first.
pub(crate) struct Exchange {
    span: Span,
    meter: Arc<Meter>,
    started: Instant,
    uri: Uri,
    ended: bool,
}

impl Exchange {
    pub(crate) fn begin(meter: &Arc<Meter>, route: &'static str, request_id: &str, parts: &Parts) -> Self {
        let span = tracing::info_span!(
            "request",
            request_id,
            method = parts.method.as_str(),
            route,
            global_request_id = tracing::field::Empty,
        );
        if let Some(id) = global_id(parts) {
            span.record("global_request_id", id);
        }
        Exchange { span, meter: meter.clone(), started: Instant::now(), uri: parts.uri.clone(), ended: false }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn end(mut self, status: u16) {
        self.ended = true;
        self.note(status);
    }

    fn note(&self, status: u16) {
        let took = self.started.elapsed();
        self.meter.count(status, took);
        let ms = took.as_micros() as f64 / 1e3;
        // The path without the query, which can hold what no log should.
        self.span.in_scope(|| tracing::debug!(status, ms, path = self.uri.path(), "answered a request"));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            self.note(CLIENT_LEFT);
        }
    }
}

/// The id that a caller's own caller gave to the whole of what it does: `req-<uuid>`. Logged and nothing else, since
/// anybody can send any.
fn global_id(parts: &Parts) -> Option<&str> {
    let id = parts.headers.get("x-openstack-request-id")?.to_str().ok()?;
    let uuid = id.strip_prefix("req-")?;
    (uuid.len() == 36 && uuid.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-')).then_some(id)
}
