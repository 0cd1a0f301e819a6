use serde_json::json;
use umbel_core::{Error, Kind};

use crate::Reply;

/// How a service writes what went wrong. Clients read the message out of exactly this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultStyle {
    /// `{"itemNotFound": {"code": 404, "message": "…"}}`: compute and volume.
    Compute,
    /// `{"error": {"code": 404, "title": "Not Found", "message": "…"}}`.
    Identity,
    /// `{"code": "404 Not Found", "title": "Not Found", "message": "…"}`; an HTML page to a browser in the original,
    /// whose message clients then dig out of the page.
    Image,
    /// `{"NeutronError": {"type": "…", "message": "…", "detail": ""}}`.
    Network,
    /// `{"errors": [{"status": 404, "title": "Not Found", "detail": "…", "request_id": "…"}]}`.
    Placement,
}

impl FaultStyle {
    pub(crate) fn reply(self, error: &Error, request_id: &str) -> Reply {
        let status = self.status(error.kind());
        let title = title(status);
        let message = error.message();
        // The token check stands in front of every service and has one form for all of them.
        if status == 401 {
            let body = json!({"error": {"code": 401, "title": "Unauthorized", "message": message}});
            return Reply::json(401, &body).header("www-authenticate", "Keystone uri=\"/identity/v3\"");
        }
        let body = match self {
            FaultStyle::Compute => {
                let mut fault = json!({"code": status, "message": message});
                if status == 413 || status == 503 {
                    fault["retryAfter"] = json!("0");
                }
                json!({ compute_name(status): fault })
            }
            FaultStyle::Identity => json!({"error": {"code": status, "title": title, "message": message}}),
            FaultStyle::Image => json!({"code": format!("{status} {title}"), "title": title, "message": message}),
            FaultStyle::Network => {
                json!({"NeutronError": {"type": title.replace(' ', ""), "message": message, "detail": ""}})
            }
            FaultStyle::Placement => {
                json!({"errors": [{"status": status, "title": title, "detail": message, "request_id": request_id}]})
            }
        };
        Reply::json(status, &body)
    }

    fn status(self, kind: Kind) -> u16 {
        match (self, kind) {
            (FaultStyle::Image, Kind::OverQuota) => 413,
            (FaultStyle::Network, Kind::OverQuota) => 409,
            _ => kind.status(),
        }
    }
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
