use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
pub use umbel_api::volume::snapshots::{SnapshotOf, SnapshotTogether};
use umbel_core::{Error, Kind, OnBehalf, Result};

use crate::cloud::accepted;
use crate::transport::{Body, Transport, authenticated, collect, segment};

/// What volumes, snapshots and attachments are asked for with: it has attachments with modes (3.54), and projects need
/// not stand in paths.
const VERSION: &str = "volume 3.60";

const MAX_ANSWER: usize = 16 << 20;

/// A volume as its service shows it to whoever asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct VolumeView {
    pub id: String,
    #[serde(default)]
    pub name: Option<String>,
    pub status: String,
    /// GiB.
    pub size: u64,
    #[serde(default)]
    pub multiattach: bool,
    /// `true` or `false`, as texts.
    #[serde(default)]
    pub bootable: Option<String>,
    #[serde(default)]
    pub volume_type: Option<String>,
    #[serde(default)]
    pub availability_zone: Option<String>,
    /// Of the image that it was made from, if it was.
    #[serde(default)]
    pub volume_image_metadata: BTreeMap<String, Value>,
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
    /// `host@pool#pool`; only for administrators and services.
    #[serde(rename = "os-vol-host-attr:host", default)]
    pub host: Option<String>,
}

impl VolumeView {
    pub fn is_bootable(&self) -> bool {
        self.bootable.as_deref().is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct VolumeSnapshotView {
    pub id: String,
    pub status: String,
    /// GiB.
    pub size: u64,
    pub volume_id: String,
}

/// One volume for one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct AttachmentView {
    pub id: String,
    /// `reserved`, `attaching`, `attached`, `detaching`.
    pub status: String,
    #[serde(default)]
    pub volume_id: String,
    /// The server.
    #[serde(default)]
    pub instance: Option<String>,
    /// How a host reaches it; empty before a host is named, and in lists.
    #[serde(default)]
    pub connection_info: Option<ConnectionInfo>,
}

/// What a host needs to open a volume. The service writes it in one layer or in two (`data` beside the type, or around
/// it); both are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ConnectionInfo {
    #[serde(default)]
    pub driver_volume_type: String,
    #[serde(default)]
    pub data: Option<ConnectionData>,
    #[serde(flatten)]
    pub flat: ConnectionData,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ConnectionData {
    /// Our pool and the disk in it.
    #[serde(default)]
    pub umbel_pool: Option<String>,
    #[serde(default)]
    pub umbel_disk: Option<String>,
    /// Where the volume is to go, while it is moved to another pool under its server.
    #[serde(default)]
    pub umbel_to_pool: Option<String>,
    #[serde(default)]
    pub umbel_to_disk: Option<String>,
    /// `rw` or `ro`.
    #[serde(default)]
    pub access_mode: Option<String>,
    /// What the hypervisor is to bound.
    #[serde(default)]
    pub qos_specs: Option<BTreeMap<String, Value>>,
}

impl ConnectionInfo {
    pub fn data(&self) -> &ConnectionData {
        self.data.as_ref().unwrap_or(&self.flat)
    }
}

/// A volume to be made. What is `None` is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewVolume {
    pub name: String,
    /// GiB.
    pub size: u64,
    #[serde(rename = "imageRef", skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// The volume service, as other services call it: with the caller's token, or with one of the service's own.
#[derive(Clone)]
pub struct Volumes {
    transport: Arc<dyn Transport>,
    /// The service's root, with `/v3`.
    endpoint: Arc<str>,
    on_behalf: Option<OnBehalf>,
}

#[derive(Deserialize)]
struct OneVolume {
    volume: VolumeView,
}

#[derive(Deserialize)]
struct ManyVolumes {
    volumes: Vec<VolumeView>,
}

#[derive(Deserialize)]
struct OneSnapshot {
    snapshot: VolumeSnapshotView,
}

#[derive(Deserialize)]
struct ManySnapshots {
    snapshots: Vec<VolumeSnapshotView>,
}

#[derive(Deserialize)]
struct OneAttachment {
    attachment: AttachmentView,
}

#[derive(Deserialize)]
struct ManyAttachments {
    attachments: Vec<AttachmentView>,
}

impl Volumes {
    /// `endpoint`: `<base>/volume/v3`.
    pub fn new(transport: Arc<dyn Transport>, endpoint: &str) -> Self {
        Volumes { transport, endpoint: endpoint.trim_end_matches('/').into(), on_behalf: None }
    }

    /// From now on tokens are a service's, which works for this user.
    #[must_use]
    pub fn on_behalf(mut self, of: OnBehalf) -> Self {
        self.on_behalf = Some(of);
        self
    }

    pub async fn show(&self, token: &str, id: &str) -> Result<VolumeView> {
        let path = format!("/volumes/{}", segment("Volume", id)?);
        Ok(self.json::<OneVolume>(token, Method::GET, &path, None).await?.volume)
    }

    pub async fn show_snapshot(&self, token: &str, id: &str) -> Result<VolumeSnapshotView> {
        let path = format!("/snapshots/{}", segment("Snapshot", id)?);
        Ok(self.json::<OneSnapshot>(token, Method::GET, &path, None).await?.snapshot)
    }

    /// Snapshots of several volumes, of one point in time in each pool, in use or not. They may be `creating` still.
    /// Those of an earlier call with the same ids are told again. An extension, for services only.
    pub async fn snapshot_together(
        &self,
        service_token: &str,
        request: &SnapshotTogether,
    ) -> Result<Vec<VolumeSnapshotView>> {
        let body = serde_json::to_value(request).map_err(Error::internal)?;
        Ok(self.json::<ManySnapshots>(service_token, Method::POST, "/snapshots/together", Some(body)).await?.snapshots)
    }

    pub async fn delete_snapshot(&self, token: &str, id: &str) -> Result<()> {
        self.call(token, Method::DELETE, &format!("/snapshots/{id}"), None).await.map(drop)
    }

    pub async fn create(&self, token: &str, new: &NewVolume) -> Result<VolumeView> {
        let body = json!({ "volume": new });
        Ok(self.json::<OneVolume>(token, Method::POST, "/volumes", Some(body)).await?.volume)
    }

    /// Volumes of all projects whose metadata has this item. The text of the item must need no quoting.
    pub async fn with_metadata(&self, service_token: &str, name: &str, value: &str) -> Result<Vec<VolumeView>> {
        // The filter is written as Python writes a dictionary.
        let path = format!("/volumes/detail?all_tenants=1&metadata=%7B%27{name}%27%3A%27{value}%27%7D");
        let found = self.json::<ManyVolumes>(service_token, Method::GET, &path, None).await?.volumes;
        let matches = |volume: &VolumeView| volume.metadata.get(name).and_then(Value::as_str) == Some(value);
        Ok(found.into_iter().filter(matches).collect())
    }

    pub async fn delete(&self, token: &str, id: &str) -> Result<()> {
        self.call(token, Method::DELETE, &format!("/volumes/{id}"), None).await.map(drop)
    }

    /// An action without arguments and without an answer: `os-begin_detaching`, `os-roll_detaching`.
    pub async fn act(&self, token: &str, id: &str, action: &str) -> Result<()> {
        let body = json!({ action: {} });
        self.call(token, Method::POST, &format!("/volumes/{id}/action"), Some(body)).await.map(drop)
    }

    /// Ends the migration of a volume under a server. Upstream's action names two volumes, of which the first keeps the
    /// bytes of the second; ours is one volume with two disks.
    pub async fn complete_migration(&self, service_token: &str, id: &str, failed: bool) -> Result<()> {
        let body = json!({"os-migrate_volume_completion": {"new_volume": id, "error": failed}});
        self.call(service_token, Method::POST, &format!("/volumes/{id}/action"), Some(body)).await.map(drop)
    }

    /// Reserves the volume for a server.
    pub async fn reserve(&self, token: &str, volume_id: &str, server_id: &str) -> Result<AttachmentView> {
        let body = json!({"attachment": {"volume_uuid": volume_id, "instance_uuid": server_id}});
        Ok(self.json::<OneAttachment>(token, Method::POST, "/attachments", Some(body)).await?.attachment)
    }

    /// The attachments of a server, of all projects.
    pub async fn attachments_of(&self, service_token: &str, server_id: &str) -> Result<Vec<AttachmentView>> {
        let path = format!("/attachments/detail?all_tenants=1&instance_id={server_id}");
        let found = self.json::<ManyAttachments>(service_token, Method::GET, &path, None).await?.attachments;
        Ok(found.into_iter().filter(|one| one.instance.as_deref() == Some(server_id)).collect())
    }

    /// Names the host that will open the volume; the answer has the way to it.
    pub async fn connect(&self, service_token: &str, id: &str, connector: &Value) -> Result<AttachmentView> {
        let body = json!({"attachment": { "connector": connector }});
        let path = format!("/attachments/{id}");
        Ok(self.json::<OneAttachment>(service_token, Method::PUT, &path, Some(body)).await?.attachment)
    }

    pub async fn attachment(&self, service_token: &str, id: &str) -> Result<AttachmentView> {
        let path = format!("/attachments/{id}");
        Ok(self.json::<OneAttachment>(service_token, Method::GET, &path, None).await?.attachment)
    }

    /// The host has opened the volume.
    pub async fn complete(&self, service_token: &str, id: &str) -> Result<()> {
        let body = json!({"os-complete": {}});
        self.call(service_token, Method::POST, &format!("/attachments/{id}/action"), Some(body)).await.map(drop)
    }

    /// The host has let go of the volume, or never had it.
    pub async fn release(&self, service_token: &str, id: &str) -> Result<()> {
        self.call(service_token, Method::DELETE, &format!("/attachments/{id}"), None).await.map(drop)
    }

    /// A call as it is: for compute's old proxies. An empty answer is `Null`.
    pub async fn raw(&self, token: &str, method: umbel_api::Method, path: &str, body: Option<Value>) -> Result<Value> {
        let method = Method::from_bytes(method.name().as_bytes()).map_err(Error::internal)?;
        let bytes = self.call(token, method, path, body).await?;
        match bytes.is_empty() {
            true => Ok(Value::Null),
            false => read(&bytes),
        }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T> {
        read(&self.call(token, method, path, body).await?)
    }

    async fn call(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Result<bytes::Bytes> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header("openstack-api-version", VERSION);
        let mut request = authenticated(request, token, self.on_behalf.as_ref());
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::Bytes(body.to_string().into())
            }
            None => Body::Empty,
        };
        let request = request.body(body);
        let request = request.map_err(|error| Error::internal(error).because("a call of the volume service"))?;
        let response = self.transport.send(request).await?;
        let status = response.status();
        let bytes = collect(response.into_body(), MAX_ANSWER).await?;
        accepted(status, &bytes).map_err(|error| match status.as_u16() {
            // The volume service answers so when a quota is used up; 413 is also what old versions of it said.
            413 => Error::new(Kind::OverQuota, error.message().to_owned()).because(error.for_log()),
            _ => error,
        })?;
        Ok(bytes)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::internal(error).because("reading the volume service's answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read_in_one_layer_and_in_two() {
        let check = |text: &str| {
            let info: ConnectionInfo = serde_json::from_str(text).unwrap();
            let data = info.data();
            assert_eq!((data.umbel_pool.as_deref(), data.umbel_disk.as_deref()), (Some("volumes"), Some("volume-1")));
        };
        check(r#"{"driver_volume_type":"rbd","data":{"umbel_pool":"volumes","umbel_disk":"volume-1","hosts":["a"]}}"#);
        check(r#"{"driver_volume_type":"rbd","umbel_pool":"volumes","umbel_disk":"volume-1","access_mode":"rw"}"#);
    }

    #[test]
    fn what_is_not_asked_for_is_not_sent() {
        let new = NewVolume { size: 2, snapshot_id: Some("s".into()), ..Default::default() };
        assert_eq!(json!(new), json!({"name": "", "size": 2, "snapshot_id": "s"}));
    }
}
