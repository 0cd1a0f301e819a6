//! HTTP: routers built from the route tables of `umbel-api`, so that every operation has a policy, a version range and
//! one place where a request becomes a call. The only crate that knows axum; services see [`Req`] and [`Reply`].
//!
//! * **What writes finishes.** A connection that breaks drops the future that serves it. Handlers of POST, PUT, PATCH
//!   and DELETE therefore run in tasks of their own, which a draining server waits for; those of GET and HEAD are
//!   dropped, since nobody reads what they would find.
//! * **A failure has one form.** Refused tokens, unknown paths, wrong versions, errors and panics of handlers all end
//!   in the service's own kind of fault with a request id, and their internal half in the log alone.
//! * **Observed in one place.** A request is a span (`request_id`, `method`, `route`), one line in it at debug level,
//!   and three additions to counters that [`App::metrics`] writes out.
//! * **A client gets only so much**: [`Limits`].

mod exchange;
mod fault;
mod inprocess;
mod links;
mod metrics;
mod mount;
mod origin;
mod reply;
mod req;
mod serve;
mod service;
mod version;

pub use fault::FaultStyle;
pub use inprocess::oneshot;
pub use links::{Page, next_link};
pub use reply::Reply;
pub use req::Req;
pub use serve::{Limits, Server, Tls, serve, serve_tls, serve_with};
pub use service::{App, Routes, Service};
pub use version::Versions;

pub use axum::Router;
pub use axum::body::Body;
pub use bytes::Bytes;
pub use http::{HeaderMap, StatusCode, header};

/// A body on its way in or out.
pub type ByteStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = umbel_core::Result<Bytes>> + Send>>;
