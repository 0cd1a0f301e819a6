use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use umbel_core::{Error, Result};

use crate::cloud::accepted;
use crate::transport::{Body, ByteStream, Transport, collect};

/// An image as its service shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ImageView {
    pub id: String,
    pub name: Option<String>,
    pub status: String,
    pub visibility: Option<String>,
    pub owner: Option<String>,
    pub disk_format: Option<String>,
    pub container_format: Option<String>,
    pub size: Option<u64>,
    pub virtual_size: Option<u64>,
    #[serde(default)]
    pub min_disk: u64,
    #[serde(default)]
    pub min_ram: u64,
    /// Properties of the image's own (`hw_disk_bus`, `os_distro`), and what else the service tells.
    #[serde(flatten)]
    pub properties: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ImageLocation {
    pub url: String,
}

/// The image service, as other services call it: with the caller's token, or with one of the service's own.
#[derive(Clone)]
pub struct Images {
    transport: Arc<dyn Transport>,
    /// The service's root, without `/v2`.
    endpoint: Arc<str>,
}

const MAX_ANSWER: usize = 4 << 20;

impl Images {
    pub fn new(transport: Arc<dyn Transport>, endpoint: &str) -> Self {
        let endpoint = endpoint.trim_end_matches('/');
        let endpoint = endpoint.strip_suffix("/v2").unwrap_or(endpoint);
        Images { transport, endpoint: endpoint.into() }
    }

    pub async fn show(&self, token: &str, id: &str) -> Result<ImageView> {
        self.json(token, &format!("/v2/images/{id}")).await
    }

    /// Where the image's bytes are. Only services may know.
    pub async fn locations(&self, service_token: &str, id: &str) -> Result<Vec<ImageLocation>> {
        self.json(service_token, &format!("/v2/images/{id}/locations")).await
    }

    pub async fn download(&self, token: &str, id: &str) -> Result<ByteStream> {
        let response = self.get(token, &format!("/v2/images/{id}/file")).await?;
        let status = response.status();
        if status.as_u16() == 204 {
            return Err(Error::conflict(format!("Image {id} has no data.")));
        }
        let body = response.into_body();
        if status.as_u16() < 400 {
            return Ok(body.into_stream());
        }
        let bytes = collect(body, MAX_ANSWER).await?;
        accepted(status, &bytes)?;
        Err(Error::internal("a refusal that is none"))
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, token: &str, path: &str) -> Result<T> {
        let response = self.get(token, path).await?;
        let status = response.status();
        let bytes = collect(response.into_body(), MAX_ANSWER).await?;
        accepted(status, &bytes)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::internal(error).because("reading the image service's answer"))
    }

    async fn get(&self, token: &str, path: &str) -> Result<http::Response<Body>> {
        let request = http::Request::builder()
            .method(Method::GET)
            .uri(format!("{}{path}", self.endpoint))
            .header("x-auth-token", token)
            .body(Body::Empty)
            .map_err(|error| Error::internal(error).because("a call of the image service"))?;
        self.transport.send(request).await
    }
}
