//! Calls into a router without a socket, for tests and for calls between services of one process.

use axum::body::Body;
use tower::ServiceExt;

/// Sends one request into the router.
pub async fn oneshot(router: &axum::Router, request: http::Request<Body>) -> http::Response<Body> {
    match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
