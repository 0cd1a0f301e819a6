use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Value, json};
use umbel_core::{Error, Kind};

use crate::Reply;

/// How a service writes what went wrong. Clients read the message out of exactly this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultStyle {
    /// `{"itemNotFound": {"code": 404, "message": "…"}}`: compute and volume.
    Compute,
    /// `{"error": {"code": 404, "title": "Not Found", "message": "…"}}`.
    Identity,
    /// `{"code": "404 Not Found", "title": "Not Found", "message": "…"}` to who asks for JSON (openstacksdk) or nothing;
    /// to others the form of identity. Upstream sends those an HTML page, and glanceclient, which is one of them and
    /// digs the message out of that, looks for it in the members of a JSON object and fails on the first form.
    Image,
    /// `{"NeutronError": {"type": "…", "message": "…", "detail": ""}}`.
    Network,
    /// `{"errors": [{"status": 404, "title": "Not Found", "detail": "…", "request_id": "…"}]}`.
    Placement,
}

/// Whom a fault is for.
#[derive(Clone)]
pub(crate) struct Reader {
    style: FaultStyle,
    request_id: Arc<str>,
    /// Asks for JSON, or does not say.
    json: bool,
}

impl Reader {
    pub(crate) fn of(style: FaultStyle, headers: &HeaderMap, request_id: Arc<str>) -> Self {
        let accepted = headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
        let json = accepted.is_none_or(|accepted| accepted.is_empty() || accepted.contains("json"));
        Reader { style, request_id, json }
    }

    /// Tells the caller the half that is meant for them, and the log both.
    pub(crate) fn fault(&self, error: &Error) -> Reply {
        match error.kind().status() {
            500.. => tracing::error!(kind = ?error.kind(), cause = error.cause(), "a request failed: {error}"),
            _ => tracing::debug!(cause = error.cause(), "a request was refused: {error}"),
        }
        self.style.reply(error, self)
    }
}

impl FaultStyle {
    fn reply(self, error: &Error, reader: &Reader) -> Reply {
        let status = self.status(error.kind());
        let message = error.message();
        // The token check stands in front of every service and has one form for all of them.
        if status == 401 {
            let reply = Reply::json(401, &common(401, message));
            return reply.header("www-authenticate", "Keystone uri=\"/identity/v3\"");
        }
        let title = title(status);
        let body = match self {
            FaultStyle::Compute => {
                let mut fault = json!({"code": status, "message": message});
                if status == 413 {
                    fault["retryAfter"] = json!("0");
                }
                json!({ compute_name(status): fault })
            }
            FaultStyle::Identity => common(status, message),
            FaultStyle::Image if reader.json => {
                json!({"code": format!("{status} {title}"), "title": title, "message": message})
            }
            FaultStyle::Image => common(status, message),
            FaultStyle::Network => {
                json!({"NeutronError": {"type": title.replace(' ', ""), "message": message, "detail": ""}})
            }
            FaultStyle::Placement => {
                let id = &*reader.request_id;
                json!({"errors": [{"status": status, "title": title, "detail": message, "request_id": id}]})
            }
        };
        let reply = Reply::json(status, &body);
        match error.kind() {
            // It is worth another try at once, and clients that obey this header need to know.
            Kind::Busy => reply.header("retry-after", "1"),
            _ => reply,
        }
    }

    fn status(self, kind: Kind) -> u16 {
        match (self, kind) {
            (FaultStyle::Image, Kind::OverQuota) => 413,
            (FaultStyle::Network, Kind::OverQuota) => 409,
            _ => kind.status(),
        }
    }
}

fn common(status: u16, message: &str) -> Value {
    json!({"error": {"code": status, "title": title(status), "message": message}})
}

fn compute_name(status: u16) -> &'static str {
    match status {
        400 => "badRequest",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 => "overLimit",
        415 => "badMediaType",
        429 => "overLimit",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "computeFault",
    }
}

fn title(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error")
}
