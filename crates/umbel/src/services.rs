//! What services of this cloud ask each other, over the public APIs and with a token of their own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;
use umbel_agent::ImageStore;
use umbel_client::{ByteStream, Cloud, CloudConfig, ImageView, Images, Transport};
use umbel_compute::ImageCatalog;
use umbel_core::{Error, Kind, Result};

/// A token is renewed when this much of its life is over; the shortest life an operator may choose is longer.
const RENEW: Duration = Duration::from_secs(240);

/// The services' own user, logged in.
pub struct ServiceLogin {
    config: CloudConfig,
    transport: Arc<dyn Transport>,
    token: Mutex<Option<(String, Instant)>>,
}

impl ServiceLogin {
    pub fn new(config: CloudConfig, transport: Arc<dyn Transport>) -> Self {
        ServiceLogin { config, transport, token: Mutex::new(None) }
    }

    /// A token with the role `service`. Callers wait for one login rather than each make its own.
    pub async fn token(&self) -> Result<String> {
        let mut held = self.token.lock().await;
        if let Some((token, since)) = &*held
            && since.elapsed() < RENEW
        {
            return Ok(token.clone());
        }
        let token = Cloud::login(&self.config, &*self.transport).await.map_err(|error| {
            Error::new(Kind::Unavailable, "Identity does not let the service in.").because(error.for_log())
        })?;
        *held = Some((token.clone(), Instant::now()));
        Ok(token)
    }
}

/// The image service, for agents that import and for compute, which wants to know what it boots.
pub struct ImageService {
    images: Images,
    login: Arc<ServiceLogin>,
}

impl ImageService {
    pub fn new(images: Images, login: Arc<ServiceLogin>) -> Self {
        ImageService { images, login }
    }
}

#[async_trait]
impl ImageStore for ImageService {
    async fn open(&self, image_id: &str) -> Result<ByteStream> {
        self.images.download(&self.login.token().await?, image_id).await
    }
}

#[async_trait]
impl ImageCatalog for ImageService {
    async fn show(&self, token: &str, id: &str) -> Result<ImageView> {
        self.images.show(token, id).await
    }

    async fn locations(&self, id: &str) -> Result<Vec<String>> {
        let locations = self.images.locations(&self.login.token().await?, id).await?;
        Ok(locations.into_iter().map(|location| location.url).collect())
    }
}
