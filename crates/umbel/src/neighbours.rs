//! What the volume service asks of others: images, in the caller's name or with the services' own token, and compute,
//! which must know when a disk in use has grown.

use std::sync::Arc;

use async_trait::async_trait;
use umbel_client::{ByteStream, ImageData, ImageLocation, ImageView, Images, NewImage, ServerEvents};
use umbel_core::Result;
use umbel_volume::{ImageAccess, ServerAccess};

use crate::services::ServiceLogin;

/// The other services, as the volume service reaches them.
pub struct Neighbours {
    login: Arc<ServiceLogin>,
}

impl Neighbours {
    pub fn new(login: Arc<ServiceLogin>) -> Self {
        Neighbours { login }
    }

    async fn images(&self) -> Result<Images> {
        Ok(Images::new(self.login.clone(), &self.login.endpoint("image").await?))
    }

    async fn compute(&self) -> Result<ServerEvents> {
        let mut endpoint = self.login.endpoint("compute").await?;
        if !endpoint.ends_with("/v2.1") {
            endpoint.push_str("/v2.1");
        }
        Ok(ServerEvents::new(self.login.clone(), &endpoint))
    }

    /// The image service and our own token.
    async fn as_service(&self) -> Result<(Images, String)> {
        Ok((self.images().await?, self.login.token().await?))
    }
}

#[async_trait]
impl ImageAccess for Neighbours {
    async fn show(&self, token: Option<&str>, id: &str) -> Result<ImageView> {
        match token {
            Some(token) => self.images().await?.show(token, id).await,
            None => {
                let (images, token) = self.as_service().await?;
                images.show(&token, id).await
            }
        }
    }

    async fn locations(&self, id: &str) -> Result<Vec<ImageLocation>> {
        let (images, token) = self.as_service().await?;
        images.locations(&token, id).await
    }

    async fn download(&self, id: &str) -> Result<ImageData> {
        let (images, token) = self.as_service().await?;
        images.download(&token, id).await
    }

    async fn create(&self, token: Option<&str>, new: &NewImage) -> Result<ImageView> {
        match token {
            Some(token) => self.images().await?.create(token, new).await,
            None => {
                let (images, token) = self.as_service().await?;
                images.create(&token, new).await
            }
        }
    }

    async fn add_location(&self, id: &str, url: &str) -> Result<()> {
        let (images, token) = self.as_service().await?;
        images.add_location(&token, id, url).await
    }

    async fn upload(&self, id: &str, size: Option<u64>, data: ByteStream) -> Result<()> {
        let (images, token) = self.as_service().await?;
        images.upload(&token, id, size, data).await
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let (images, token) = self.as_service().await?;
        images.delete(&token, id).await
    }
}

#[async_trait]
impl ServerAccess for Neighbours {
    async fn extended(&self, server_id: &str, volume_id: &str) -> Result<()> {
        self.compute().await?.volume_extended(&self.login.token().await?, server_id, volume_id).await
    }

    async fn moving(&self, server_id: &str, volume_id: &str) -> Result<()> {
        self.compute().await?.volume_moving(&self.login.token().await?, server_id, volume_id).await
    }

    async fn holds(&self, server_id: &str, volume_id: &str, attachment_id: &str) -> Result<bool> {
        let asked = async {
            let compute = self.compute().await?;
            compute.attachment(&self.login.token().await?, server_id, volume_id).await
        };
        match asked.await {
            // An attachment that compute does not know of is one that its end there has left over.
            Ok(held) => Ok(held.is_some_and(|held| held.is_none_or(|held| held == attachment_id))),
            Err(error) => {
                tracing::warn!(server_id, cause = error.cause(), "compute does not tell who has a volume: {error}");
                Ok(true)
            }
        }
    }
}
