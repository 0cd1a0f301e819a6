//! HTTP: routers built from the route tables of `umbel-api`, so that every operation has a policy, a version range and
//! one place where a request becomes a call. The only crate that knows axum; services see [`Req`] and [`Reply`].

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
pub use serve::{Limits, Server, serve, serve_with};
pub use service::{App, Routes, Service};
pub use version::Versions;

pub use axum::Router;
pub use axum::body::Body;
pub use bytes::Bytes;
pub use http::{HeaderMap, StatusCode, header};

/// A body on its way in or out.
pub type ByteStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = umbel_core::Result<Bytes>> + Send>>;
