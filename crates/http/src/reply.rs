use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use umbel_api::{Microversion, Versioned};

use crate::ByteStream;

/// An answer. Made by handlers; the router adds request id, version headers and, of HEAD, takes the body away.
pub struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ReplyBody,
}

/// Media type, length, two of the request id and three of the version.
const USUAL_HEADERS: usize = 8;

pub(crate) enum ReplyBody {
    Empty,
    Bytes(Bytes),
    Stream(ByteStream),
}

impl Reply {
    pub fn empty(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Reply { status, headers: HeaderMap::with_capacity(USUAL_HEADERS), body: ReplyBody::Empty }
    }

    /// Serialised at once, so that a failure to is still a 500 and not half a body.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => Reply::bytes(status, "application/json", bytes),
            Err(error) => {
                tracing::error!(%error, "a reply could not be written as JSON");
                Reply::empty(500)
            }
        }
    }

    /// As the request's version knows it.
    pub fn versioned(status: u16, version: Microversion, mut body: impl Serialize + Versioned) -> Self {
        body.patch(version);
        Reply::json(status, &body)
    }

    pub fn bytes(status: u16, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut reply = Reply::empty(status);
        reply.body = ReplyBody::Bytes(body.into());
        reply.header(header::CONTENT_TYPE.as_str(), media_type)
    }

    pub fn stream(status: u16, media_type: &'static str, length: Option<u64>, body: ByteStream) -> Self {
        let mut reply = Reply::empty(status).header(header::CONTENT_TYPE.as_str(), media_type);
        if let Some(length) = length {
            reply = reply.header(header::CONTENT_LENGTH.as_str(), length.to_string());
        }
        reply.body = ReplyBody::Stream(body);
        reply
    }

    /// Sets a header, in place of one of the same name. A value that no header can hold is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        match (name_of(name), HeaderValue::from_str(value.as_ref())) {
            (Some(name), Ok(value)) => {
                self.headers.insert(name, value);
            }
            _ => tracing::warn!(name, "a reply's header has a value that cannot be sent"),
        }
        self
    }

    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The answer to HEAD: all but the body, whose length stays known where it is.
    pub(crate) fn without_body(mut self) -> Self {
        match std::mem::replace(&mut self.body, ReplyBody::Empty) {
            ReplyBody::Bytes(bytes) => self.header(header::CONTENT_LENGTH.as_str(), bytes.len().to_string()),
            _ => self,
        }
    }
}

/// A name that is written as it is sent is used where it stands, without a copy.
pub(crate) fn name_of(name: &'static str) -> Option<HeaderName> {
    let sent = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    match !name.is_empty() && name.bytes().all(sent) {
        true => Some(HeaderName::from_static(name)),
        false => HeaderName::from_bytes(name.as_bytes()).ok(),
    }
}

/// A stream that breaks ends the connection, which is all HTTP can say then; the reason goes to the log.
pub(crate) struct CauseLogged {
    pub stream: ByteStream,
    pub span: tracing::Span,
}

impl futures_util::Stream for CauseLogged {
    type Item = std::result::Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let _inside = this.span.enter();
        this.stream.as_mut().poll_next(cx).map(|item| {
            item.map(|chunk| {
                chunk.map_err(|error| {
                    tracing::error!(cause = error.cause(), "a download broke off: {error}");
                    std::io::Error::other(error.to_string())
                })
            })
        })
    }
}
