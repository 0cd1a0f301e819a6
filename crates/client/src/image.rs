use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use umbel_core::{Error, OnBehalf, Result};

use crate::cloud::accepted;
use crate::transport::{Body, ByteStream, Transport, authenticated, collect, segment};

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

/// An image to be named; data come later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewImage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub name: String,
    pub disk_format: String,
    pub container_format: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<String>,
    /// Nobody may delete it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// GiB.
    pub min_disk: u64,
    /// MiB.
    pub min_ram: u64,
    /// Custom properties, which stand beside the attributes above.
    #[serde(flatten)]
    pub properties: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ImageLocation {
    pub url: String,
    #[serde(default)]
    pub metadata: LocationMetadata,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct LocationMetadata {
    /// Of the bytes there; services that do not tell have the image's disk format there.
    #[serde(default)]
    pub format: Option<String>,
}

impl ImageLocation {
    /// Whether a disk can be a clone of what is there, given the image's disk format.
    pub fn is_raw(&self, disk_format: &str) -> bool {
        self.metadata.format.as_deref().unwrap_or(disk_format) == "raw"
    }
}

/// An image's data on their way.
pub struct ImageData {
    /// What these bytes are. An image may be given its raw twin for its data ("replace") after it was shown. `None` from a
    /// service that does not tell: they are in the format that it shows.
    pub disk_format: Option<String>,
    pub bytes: ByteStream,
}

/// The image service, as other services call it: with the caller's token, or with one of the service's own.
#[derive(Clone)]
pub struct Images {
    transport: Arc<dyn Transport>,
    /// The service's root, without `/v2`.
    endpoint: Arc<str>,
    on_behalf: Option<OnBehalf>,
}

const MAX_ANSWER: usize = 4 << 20;

/// An extension.
const DISK_FORMAT: &str = "x-umbel-disk-format";

const JSON: (&str, &str) = ("content-type", "application/json");
const PATCH: (&str, &str) = ("content-type", "application/openstack-images-v2.1-json-patch");

#[derive(Deserialize)]
struct ManyImages {
    images: Vec<ImageView>,
}

/// The path of an image, and what comes after it.
fn at(id: &str, rest: &str) -> Result<String> {
    Ok(format!("/v2/images/{}{rest}", segment("Image", id)?))
}

impl Images {
    pub fn new(transport: Arc<dyn Transport>, endpoint: &str) -> Self {
        let endpoint = endpoint.trim_end_matches('/');
        let endpoint = endpoint.strip_suffix("/v2").unwrap_or(endpoint);
        Images { transport, endpoint: endpoint.into(), on_behalf: None }
    }

    /// From now on tokens are a service's, which works for this user.
    #[must_use]
    pub fn on_behalf(mut self, of: OnBehalf) -> Self {
        self.on_behalf = Some(of);
        self
    }

    pub async fn show(&self, token: &str, id: &str) -> Result<ImageView> {
        self.json(token, &at(id, "")?).await
    }

    /// Where the image's bytes are. Only services may know.
    pub async fn locations(&self, service_token: &str, id: &str) -> Result<Vec<ImageLocation>> {
        self.json(service_token, &at(id, "/locations")?).await
    }

    /// As [`Images::locations`], and where a raw twin of the image is being made, the answer waits for it as long as
    /// that, at most a minute. An extension, which other image services take no notice of.
    pub async fn locations_within(&self, service_token: &str, id: &str, wait: Duration) -> Result<Vec<ImageLocation>> {
        self.json(service_token, &at(id, &format!("/locations?wait={}", wait.as_secs()))?).await
    }

    pub async fn download(&self, token: &str, id: &str) -> Result<ImageData> {
        let response = self.get(token, &at(id, "/file")?).await?;
        let status = response.status();
        if status.as_u16() == 204 {
            return Err(Error::conflict(format!("Image {id} has no data.")));
        }
        let told = response.headers().get(DISK_FORMAT).and_then(|format| format.to_str().ok());
        let disk_format = told.map(str::to_owned);
        let body = response.into_body();
        if status.as_u16() < 400 {
            return Ok(ImageData { disk_format, bytes: body.into_stream() });
        }
        let bytes = collect(body, MAX_ANSWER).await?;
        accepted(status, &bytes)?;
        Err(Error::internal("a refusal that is none"))
    }

    /// A queued image.
    pub async fn create(&self, token: &str, new: &NewImage) -> Result<ImageView> {
        let body = serde_json::to_vec(new).map_err(Error::internal)?;
        read(self.call(token, Method::POST, "/v2/images", &[JSON], Body::Bytes(body.into())).await?)
    }

    /// The bytes of a queued image, which is active afterwards. `size` if it is known: a stream that ends short of it
    /// is refused.
    pub async fn upload(&self, token: &str, id: &str, size: Option<u64>, data: ByteStream) -> Result<()> {
        let size = size.map(|size| size.to_string());
        let mut headers = vec![("content-type", "application/octet-stream")];
        headers.extend(size.as_deref().map(|size| ("x-openstack-image-size", size)));
        let path = at(id, "/file")?;
        self.call(token, Method::PUT, &path, &headers, Body::Stream(data)).await.map(drop)
    }

    /// Data that a store can take as they are: a snapshot's location. Only services may. The image is active afterwards,
    /// and what is at the location can go.
    pub async fn add_location(&self, service_token: &str, id: &str, url: &str) -> Result<()> {
        let body = serde_json::to_vec(&serde_json::json!({"url": url})).map_err(Error::internal)?;
        let path = at(id, "/locations")?;
        self.call(service_token, Method::POST, &path, &[JSON], Body::Bytes(body.into())).await.map(drop)
    }

    /// Begins an import; `GET /v2/images/{id}/tasks` says how far it is. `request` is the body as the image service has it.
    pub async fn import(&self, token: &str, id: &str, request: &umbel_api::image::ImportRequest) -> Result<()> {
        let body = serde_json::to_vec(request).map_err(Error::internal)?;
        let path = at(id, "/import")?;
        self.call(token, Method::POST, &path, &[JSON], Body::Bytes(body.into())).await.map(drop)
    }

    /// The first page of images with these attributes and properties, the newest first.
    pub async fn find(&self, token: &str, having: &[(&str, &str)]) -> Result<Vec<ImageView>> {
        let newest = [("sort", "created_at:desc"), ("limit", "100")];
        let query: Vec<_> = having.iter().copied().chain(newest).collect();
        let query = serde_urlencoded::to_string(query).map_err(Error::internal)?;
        Ok(self.json::<ManyImages>(token, &format!("/v2/images?{query}")).await?.images)
    }

    /// A call as it is: for compute's old proxies. An empty answer is `Null`.
    pub async fn raw(&self, token: &str, method: umbel_api::Method, path: &str, body: Option<Value>) -> Result<Value> {
        let kind = if method == umbel_api::Method::Patch { PATCH } else { JSON };
        let method = Method::from_bytes(method.name().as_bytes()).map_err(Error::internal)?;
        let body = body.map_or(Body::Empty, |body| Body::Bytes(body.to_string().into()));
        let bytes = self.call(token, method, path, &[kind], body).await?;
        if bytes.is_empty() { Ok(Value::Null) } else { read(bytes) }
    }

    /// Gives an image more properties, or others.
    pub async fn set_properties(&self, token: &str, id: &str, properties: &BTreeMap<String, String>) -> Result<()> {
        let add = |(name, value): (&String, &String)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            serde_json::json!({"op": "add", "path": format!("/{name}"), "value": value})
        };
        let body = Value::Array(properties.iter().map(add).collect());
        self.raw(token, umbel_api::Method::Patch, &at(id, "")?, Some(body)).await.map(drop)
    }

    pub async fn delete(&self, token: &str, id: &str) -> Result<()> {
        self.call(token, Method::DELETE, &at(id, "")?, &[], Body::Empty).await.map(drop)
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, token: &str, path: &str) -> Result<T> {
        read(self.call(token, Method::GET, path, &[], Body::Empty).await?)
    }

    async fn get(&self, token: &str, path: &str) -> Result<http::Response<Body>> {
        self.send(token, Method::GET, path, &[], Body::Empty).await
    }

    /// The whole answer, unless it is a refusal.
    async fn call(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<bytes::Bytes> {
        let response = self.send(token, method, path, headers, body).await?;
        let status = response.status();
        let bytes = collect(response.into_body(), MAX_ANSWER).await?;
        accepted(status, &bytes)?;
        Ok(bytes)
    }

    async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<http::Response<Body>> {
        let uri = format!("{}{path}", self.endpoint);
        let request = http::Request::builder().method(method).uri(uri);
        let mut request = authenticated(request, token, self.on_behalf.as_ref());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(body).map_err(|error| Error::internal(error).because("a call of the image service"))?;
        self.transport.send(request).await
    }
}

fn read<T: serde::de::DeserializeOwned>(bytes: bytes::Bytes) -> Result<T> {
    serde_json::from_slice(&bytes).map_err(|error| Error::internal(error).because("reading the image service's answer"))
}
