//! The volume service, as compute asks it: in the caller's name, or with the services' own token.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use umbel_api::Method;
use umbel_client::{AttachmentView, NewVolume, VolumeSnapshotView, VolumeView, Volumes};
use umbel_compute::model::{BlockDeviceId, ServerId};
use umbel_compute::{MADE_FOR, VolumeCatalog, Who};
use umbel_core::Result;

use crate::services::ServiceLogin;

pub struct VolumeService {
    login: Arc<ServiceLogin>,
}

impl VolumeService {
    pub fn new(login: Arc<ServiceLogin>) -> Self {
        VolumeService { login }
    }

    async fn volumes(&self) -> Result<Volumes> {
        let mut endpoint = self.login.endpoint("block-storage").await?;
        if !endpoint.ends_with("/v3") {
            endpoint.push_str("/v3");
        }
        Ok(Volumes::new(self.login.clone(), &endpoint))
    }

    async fn token(&self, who: Who<'_>) -> Result<String> {
        match who {
            Who::Caller(token) => Ok(token.to_owned()),
            Who::Compute => self.login.token().await,
        }
    }

    /// The service and compute's own token.
    async fn as_compute(&self) -> Result<(Volumes, String)> {
        Ok((self.volumes().await?, self.login.token().await?))
    }
}

#[async_trait]
impl VolumeCatalog for VolumeService {
    async fn show(&self, who: Who<'_>, id: &str) -> Result<VolumeView> {
        self.volumes().await?.show(&self.token(who).await?, id).await
    }

    async fn show_snapshot(&self, who: Who<'_>, id: &str) -> Result<VolumeSnapshotView> {
        self.volumes().await?.show_snapshot(&self.token(who).await?, id).await
    }

    async fn create_snapshot(&self, token: &str, volume_id: &str, name: &str) -> Result<VolumeSnapshotView> {
        self.volumes().await?.create_snapshot(token, volume_id, name).await
    }

    async fn delete_snapshot(&self, who: Who<'_>, id: &str) -> Result<()> {
        self.volumes().await?.delete_snapshot(&self.token(who).await?, id).await
    }

    async fn create(&self, token: &str, new: &NewVolume) -> Result<VolumeView> {
        self.volumes().await?.create(token, new).await
    }

    async fn made_for(&self, device: BlockDeviceId) -> Result<Option<VolumeView>> {
        let (volumes, token) = self.as_compute().await?;
        Ok(volumes.with_metadata(&token, MADE_FOR, &device.to_string()).await?.pop())
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let (volumes, token) = self.as_compute().await?;
        volumes.delete(&token, id).await
    }

    async fn reserve(&self, who: Who<'_>, volume_id: &str, server: ServerId) -> Result<AttachmentView> {
        self.volumes().await?.reserve(&self.token(who).await?, volume_id, &server.to_string()).await
    }

    async fn attachments_of(&self, server: ServerId) -> Result<Vec<AttachmentView>> {
        let (volumes, token) = self.as_compute().await?;
        volumes.attachments_of(&token, &server.to_string()).await
    }

    async fn attachment(&self, id: &str) -> Result<AttachmentView> {
        let (volumes, token) = self.as_compute().await?;
        volumes.attachment(&token, id).await
    }

    async fn connect(&self, attachment_id: &str, connector: &Value) -> Result<AttachmentView> {
        let (volumes, token) = self.as_compute().await?;
        volumes.connect(&token, attachment_id, connector).await
    }

    async fn complete(&self, attachment_id: &str) -> Result<()> {
        let (volumes, token) = self.as_compute().await?;
        volumes.complete(&token, attachment_id).await
    }

    async fn release(&self, attachment_id: &str) -> Result<()> {
        let (volumes, token) = self.as_compute().await?;
        volumes.release(&token, attachment_id).await
    }

    async fn begin_detaching(&self, volume_id: &str) -> Result<()> {
        let (volumes, token) = self.as_compute().await?;
        volumes.act(&token, volume_id, "os-begin_detaching").await
    }

    async fn roll_detaching(&self, volume_id: &str) -> Result<()> {
        let (volumes, token) = self.as_compute().await?;
        volumes.act(&token, volume_id, "os-roll_detaching").await
    }

    async fn raw(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        self.volumes().await?.raw(token, method, path, body).await
    }
}
