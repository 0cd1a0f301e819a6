use std::sync::OnceLock;

use async_trait::async_trait;
use futures_util::StreamExt;
use umbel_client::{Body, Transport};
use umbel_core::{Error, Result};

/// Calls between services of one process: into the router, without a socket. The router is set once it is made, which
/// is after the services that hold this.
#[derive(Default)]
pub struct InProcess {
    router: OnceLock<umbel_http::Router>,
}

impl InProcess {
    pub fn set(&self, router: umbel_http::Router) {
        // Set once, at the start; a second router would be another cloud.
        let _ = self.router.set(router);
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        let router = self.router.get().ok_or_else(|| Error::unavailable("The service is still starting."))?;
        let request = request.map(|body| match body {
            Body::Empty => umbel_http::Body::empty(),
            Body::Bytes(bytes) => umbel_http::Body::from(bytes),
            Body::Stream(stream) => umbel_http::Body::from_stream(
                stream.map(|chunk| chunk.map_err(|error| std::io::Error::other(error.to_string()))),
            ),
        });
        let response = umbel_http::oneshot(router, request).await;
        Ok(response.map(|body| {
            let chunks = body
                .into_data_stream()
                .map(|chunk| chunk.map_err(|error| Error::unavailable("An answer broke off.").because(error)));
            Body::Stream(Box::pin(chunks))
        }))
    }
}
