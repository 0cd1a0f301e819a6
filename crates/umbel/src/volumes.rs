//! The volume service, as compute asks it: in the caller's name, or with the services' own token.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use umbel_api::Method;
use umbel_client::{AttachmentView, NewVolume, SnapshotTogether, VolumeSnapshotView, VolumeView, Volumes};
use umbel_compute::model::{BlockDeviceId, ServerId};
use umbel_compute::{MADE_FOR, VolumeCatalog, Who};
use umbel_core::{OnBehalf, Result};

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

    /// The service as somebody asks it, and the token to do so with.
    async fn of(&self, who: Who<'_>) -> Result<(Volumes, String)> {
        let volumes = self.volumes().await?;
        Ok(match who {
            Who::Caller(token) => (volumes, token.to_owned()),
            Who::For(user) => (volumes.on_behalf(user.clone()), self.login.token().await?),
            Who::Compute => (volumes, self.login.token().await?),
        })
    }

    /// The service and compute's own token.
    async fn as_compute(&self) -> Result<(Volumes, String)> {
        self.of(Who::Compute).await
    }
}

#[async_trait]
impl VolumeCatalog for VolumeService {
    async fn show(&self, who: Who<'_>, id: &str) -> Result<VolumeView> {
        let (volumes, token) = self.of(who).await?;
        volumes.show(&token, id).await
    }

    async fn show_snapshot(&self, who: Who<'_>, id: &str) -> Result<VolumeSnapshotView> {
        let (volumes, token) = self.of(who).await?;
        volumes.show_snapshot(&token, id).await
    }

    async fn snapshot_together(&self, request: &SnapshotTogether) -> Result<Vec<VolumeSnapshotView>> {
        let (volumes, token) = self.as_compute().await?;
        volumes.snapshot_together(&token, request).await
    }

    async fn delete_snapshot(&self, who: Who<'_>, id: &str) -> Result<()> {
        let (volumes, token) = self.of(who).await?;
        volumes.delete_snapshot(&token, id).await
    }

    async fn create(&self, of: &OnBehalf, new: &NewVolume) -> Result<VolumeView> {
        let (volumes, token) = self.of(Who::For(of)).await?;
        volumes.create(&token, new).await
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
        let (volumes, token) = self.of(who).await?;
        volumes.reserve(&token, volume_id, &server.to_string()).await
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

    async fn complete_migration(&self, volume_id: &str, failed: bool) -> Result<()> {
        let (volumes, token) = self.as_compute().await?;
        volumes.complete_migration(&token, volume_id, failed).await
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
