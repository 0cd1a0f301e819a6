//! Services in memory, for tests of what stands on them. Of volumes there are the rules of states and attachments, and no
//! disks. Tests of whole clouds use the real services.

mod images;

pub use images::MemoryImages;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use umbel_api::Method;
use umbel_client::{
    AttachmentView, ConnectionData, ConnectionInfo, NewVolume, SnapshotTogether, VolumeSnapshotView, VolumeView,
};
use umbel_core::{Error, Kind, OnBehalf, Result};
use uuid::Uuid;

use crate::model::{BlockDeviceId, ServerId};
use crate::{MADE_FOR, VolumeCatalog, Who};

/// Pool of all volumes, as hosts know it.
pub const POOL: &str = "volumes";

/// Makes the disk of a volume: its name and its bytes.
pub type MakeDisk = Arc<dyn Fn(String, u64) -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Default)]
pub struct MemoryVolumes {
    inner: Mutex<Inner>,
    disks: Option<MakeDisk>,
}

#[derive(Default)]
struct Inner {
    volumes: BTreeMap<String, VolumeView>,
    snapshots: BTreeMap<String, VolumeSnapshotView>,
    attachments: BTreeMap<String, AttachmentView>,
    /// Looks at a new volume until it is available.
    slow: usize,
    looks: BTreeMap<String, usize>,
    /// What new volumes end as, if not as available.
    ends_as: Option<String>,
    snapshots_end_as: Option<String>,
    /// Pools that volumes are in, where it is not [`POOL`].
    pools: BTreeMap<String, String>,
    /// Pools that volumes are to go to.
    moving: BTreeMap<String, String>,
    failing: BTreeMap<&'static str, (usize, Kind)>,
    calls: Vec<(&'static str, String)>,
}

impl MemoryVolumes {
    pub fn with_disks(disks: MakeDisk) -> Self {
        MemoryVolumes { inner: Mutex::default(), disks: Some(disks) }
    }

    /// A volume that is there, of so many GiB.
    pub async fn add(&self, size: u64, change: impl FnOnce(&mut VolumeView)) -> Uuid {
        let id = Uuid::new_v4();
        let mut volume = VolumeView {
            id: id.to_string(),
            status: "available".to_owned(),
            size,
            bootable: Some("true".to_owned()),
            ..VolumeView::default()
        };
        change(&mut volume);
        self.make_disk(&volume).await;
        self.inner.lock().volumes.insert(volume.id.clone(), volume);
        id
    }

    pub fn add_snapshot(&self, size: u64) -> String {
        let id = Uuid::new_v4().to_string();
        let snapshot =
            VolumeSnapshotView { id: id.clone(), status: "available".into(), size, volume_id: Uuid::nil().to_string() };
        self.inner.lock().snapshots.insert(id.clone(), snapshot);
        id
    }

    pub fn snapshots(&self) -> Vec<VolumeSnapshotView> {
        self.inner.lock().snapshots.values().cloned().collect()
    }

    pub fn grow(&self, id: Uuid, size: u64) {
        if let Some(volume) = self.inner.lock().volumes.get_mut(&id.to_string()) {
            volume.size = size;
        }
    }

    /// New volumes are ready after so many looks, and then so.
    pub fn new_ones(&self, slow: usize, ends_as: Option<&str>) {
        let mut inner = self.inner.lock();
        (inner.slow, inner.ends_as) = (slow, ends_as.map(str::to_owned));
    }

    /// New snapshots are so, rather than available.
    pub fn snapshots_end_as(&self, status: &str) {
        self.inner.lock().snapshots_end_as = Some(status.to_owned());
    }

    /// The next calls of this name fail.
    pub fn fail_next(&self, call: &'static str, times: usize, kind: Kind) {
        self.inner.lock().failing.insert(call, (times, kind));
    }

    /// The volume is to go to another pool, where a disk of its name is.
    pub fn migrate(&self, id: Uuid, pool: &str) {
        self.inner.lock().moving.insert(id.to_string(), pool.to_owned());
    }

    /// The pool that the volume is in, and whether it is to go to another one.
    pub fn place(&self, id: Uuid) -> (String, bool) {
        let (inner, id) = (self.inner.lock(), id.to_string());
        (inner.pool(&id), inner.moving.contains_key(&id))
    }

    /// Status of a volume; `None` if there is none.
    pub fn status(&self, id: Uuid) -> Option<String> {
        self.inner.lock().volumes.get(&id.to_string()).map(|volume| volume.status.clone())
    }

    pub fn all(&self) -> Vec<VolumeView> {
        self.inner.lock().volumes.values().cloned().collect()
    }

    pub fn attachments(&self) -> Vec<AttachmentView> {
        self.inner.lock().attachments.values().cloned().collect()
    }

    /// Names of the calls that changed something, with what.
    pub fn calls(&self) -> Vec<(&'static str, String)> {
        self.inner.lock().calls.clone()
    }

    async fn make_disk(&self, volume: &VolumeView) {
        if let Some(make) = &self.disks {
            make(format!("volume-{}", volume.id), volume.size * umbel_core::GIB).await;
        }
    }

    fn begin(&self, call: &'static str, of: &str) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.calls.push((call, of.to_owned()));
        match inner.failing.get_mut(call) {
            Some((times, kind)) if *times > 0 => {
                *times -= 1;
                Err(Error::new(*kind, format!("{call} was told to fail")))
            }
            _ => Ok(()),
        }
    }
}

fn missing(what: &str, id: &str) -> Error {
    Error::not_found(format!("{what} {id} could not be found."))
}

impl Inner {
    fn pool(&self, volume: &str) -> String {
        self.pools.get(volume).cloned().unwrap_or_else(|| POOL.to_owned())
    }

    fn volume(&mut self, id: &str) -> Result<&mut VolumeView> {
        self.volumes.get_mut(id).ok_or_else(|| missing("Volume", id))
    }

    fn attachment(&mut self, id: &str) -> Result<&mut AttachmentView> {
        self.attachments.get_mut(id).ok_or_else(|| missing("Attachment", id))
    }

    /// The volume's status by its attachments.
    fn settle(&mut self, volume_id: &str) {
        let held: Vec<&str> =
            self.attachments.values().filter(|one| one.volume_id == volume_id).map(|one| one.status.as_str()).collect();
        let status = match held {
            held if held.is_empty() => "available",
            held if held.contains(&"attached") => "in-use",
            held if held.contains(&"attaching") => "attaching",
            _ => "reserved",
        };
        if let Some(volume) = self.volumes.get_mut(volume_id) {
            volume.status = status.to_owned();
        }
    }
}

#[async_trait]
impl VolumeCatalog for MemoryVolumes {
    async fn show(&self, _: Who<'_>, id: &str) -> Result<VolumeView> {
        let mut inner = self.inner.lock();
        let (slow, ends_as) = (inner.slow, inner.ends_as.clone());
        if inner.volume(id)?.status == "creating" {
            let looks = inner.looks.entry(id.to_owned()).or_default();
            *looks += 1;
            if *looks > slow {
                inner.volume(id)?.status = ends_as.unwrap_or_else(|| "available".to_owned());
            }
        }
        inner.volume(id).cloned()
    }

    async fn show_snapshot(&self, _: Who<'_>, id: &str) -> Result<VolumeSnapshotView> {
        self.inner.lock().snapshots.get(id).cloned().ok_or_else(|| missing("Snapshot", id))
    }

    async fn snapshot_together(&self, request: &SnapshotTogether) -> Result<Vec<VolumeSnapshotView>> {
        self.begin("snapshot_together", &request.name)?;
        let mut inner = self.inner.lock();
        let mut made = Vec::new();
        for of in &request.snapshots {
            let size = inner.volume(&of.volume_id)?.size;
            let status = inner.snapshots_end_as.clone().unwrap_or_else(|| "available".to_owned());
            let new = VolumeSnapshotView { id: of.id.clone(), status, size, volume_id: of.volume_id.clone() };
            made.push(inner.snapshots.entry(of.id.clone()).or_insert(new).clone());
        }
        Ok(made)
    }

    async fn delete_snapshot(&self, _: Who<'_>, id: &str) -> Result<()> {
        self.begin("delete_snapshot", id)?;
        self.inner.lock().snapshots.remove(id).map(drop).ok_or_else(|| missing("Snapshot", id))
    }

    async fn create(&self, of: &OnBehalf, new: &NewVolume) -> Result<VolumeView> {
        if of.project_id.is_empty() || of.user_id.is_empty() {
            return Err(Error::unauthorized("A volume needs an owner."));
        }
        self.begin("create", &new.name)?;
        let volume = VolumeView {
            id: Uuid::new_v4().to_string(),
            name: Some(new.name.clone()),
            status: "creating".to_owned(),
            size: new.size,
            volume_type: new.volume_type.clone(),
            metadata: new.metadata.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
            ..VolumeView::default()
        };
        self.make_disk(&volume).await;
        self.inner.lock().volumes.insert(volume.id.clone(), volume.clone());
        Ok(volume)
    }

    async fn made_for(&self, device: BlockDeviceId) -> Result<Option<VolumeView>> {
        let device = json!(device.to_string());
        let inner = self.inner.lock();
        Ok(inner.volumes.values().find(|volume| volume.metadata.get(MADE_FOR) == Some(&device)).cloned())
    }

    async fn delete(&self, id: &str) -> Result<()> {
        self.begin("delete", id)?;
        let mut inner = self.inner.lock();
        let status = inner.volume(id)?.status.clone();
        match status.as_str() {
            "available" | "creating" => {}
            status if status.starts_with("error") => {}
            status => return Err(Error::bad_request(format!("Volume {id} is {status}."))),
        }
        inner.volumes.remove(id);
        Ok(())
    }

    async fn reserve(&self, _: Who<'_>, volume_id: &str, server: ServerId) -> Result<AttachmentView> {
        self.begin("reserve", volume_id)?;
        let mut inner = self.inner.lock();
        let volume = inner.volume(volume_id)?;
        let free = volume.status == "available" || (volume.multiattach && volume.status == "in-use");
        if !free {
            let status = volume.status.clone();
            return Err(Error::bad_request(format!("volume {volume_id} is '{status}'")));
        }
        let attachment = AttachmentView {
            id: Uuid::new_v4().to_string(),
            status: "reserved".to_owned(),
            volume_id: volume_id.to_owned(),
            instance: Some(server.to_string()),
            connection_info: None,
        };
        inner.attachments.insert(attachment.id.clone(), attachment.clone());
        inner.settle(volume_id);
        Ok(attachment)
    }

    async fn attachments_of(&self, server: ServerId) -> Result<Vec<AttachmentView>> {
        let server = server.to_string();
        let all = self.attachments();
        Ok(all.into_iter().filter(|one| one.instance.as_deref() == Some(server.as_str())).collect())
    }

    async fn attachment(&self, id: &str) -> Result<AttachmentView> {
        self.inner.lock().attachment(id).cloned()
    }

    async fn connect(&self, attachment_id: &str, connector: &Value) -> Result<AttachmentView> {
        self.begin("connect", connector["host"].as_str().unwrap_or_default())?;
        let mut inner = self.inner.lock();
        let volume = inner.attachment(attachment_id)?.volume_id.clone();
        let to = inner.moving.get(&volume).cloned();
        let data = ConnectionData {
            umbel_pool: Some(inner.pool(&volume)),
            umbel_disk: Some(format!("volume-{volume}")),
            umbel_to_disk: to.is_some().then(|| format!("volume-{volume}")),
            umbel_to_pool: to,
            access_mode: Some("rw".to_owned()),
            qos_specs: Some(BTreeMap::from([("total_iops_sec".to_owned(), json!("500"))])),
        };
        let attachment = inner.attachment(attachment_id)?;
        let info =
            ConnectionInfo { driver_volume_type: "simulated".to_owned(), data: Some(data), ..Default::default() };
        attachment.connection_info = Some(info);
        if attachment.status != "attached" {
            attachment.status = "attaching".to_owned();
        }
        let attachment = attachment.clone();
        inner.settle(&attachment.volume_id);
        Ok(attachment)
    }

    async fn complete(&self, attachment_id: &str) -> Result<()> {
        self.begin("complete", attachment_id)?;
        let mut inner = self.inner.lock();
        let attachment = inner.attachment(attachment_id)?;
        attachment.status = "attached".to_owned();
        let volume = attachment.volume_id.clone();
        inner.settle(&volume);
        Ok(())
    }

    async fn release(&self, attachment_id: &str) -> Result<()> {
        self.begin("release", attachment_id)?;
        let mut inner = self.inner.lock();
        let ended = inner.attachments.remove(attachment_id).ok_or_else(|| missing("Attachment", attachment_id))?;
        inner.settle(&ended.volume_id);
        Ok(())
    }

    async fn complete_migration(&self, volume_id: &str, failed: bool) -> Result<()> {
        self.begin("complete_migration", volume_id)?;
        let mut inner = self.inner.lock();
        inner.volume(volume_id)?;
        if let Some(pool) = inner.moving.remove(volume_id).filter(|_| !failed) {
            inner.pools.insert(volume_id.to_owned(), pool);
        }
        Ok(())
    }

    async fn begin_detaching(&self, volume_id: &str) -> Result<()> {
        self.begin("begin_detaching", volume_id)?;
        let mut inner = self.inner.lock();
        let volume = inner.volume(volume_id)?;
        if volume.status != "in-use" {
            return Err(Error::bad_request(format!("Unable to detach volume {volume_id}: it is {}.", volume.status)));
        }
        volume.status = "detaching".to_owned();
        Ok(())
    }

    async fn roll_detaching(&self, volume_id: &str) -> Result<()> {
        self.begin("roll_detaching", volume_id)?;
        let mut inner = self.inner.lock();
        let volume = inner.volume(volume_id)?;
        if volume.status == "detaching" {
            volume.status = "in-use".to_owned();
        }
        Ok(())
    }

    async fn raw(&self, _: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let shown = |volume: &VolumeView| json!({"id": volume.id, "name": volume.name, "status": volume.status, "size": volume.size, "attachments": []});
        match (method, path.split('?').next().unwrap_or_default()) {
            (Method::Get, "/types") => Ok(json!({"volume_types": [{"id": Uuid::nil(), "name": "fast"}]})),
            (Method::Get, "/volumes/detail") => {
                Ok(json!({"volumes": self.all().iter().map(shown).collect::<Vec<_>>()}))
            }
            (Method::Post, "/volumes") => {
                let body = body.unwrap_or_default();
                let size = body["volume"]["size"].as_u64().unwrap_or(0);
                let name = body["volume"]["name"].as_str().unwrap_or_default().to_owned();
                let id = self.add(size, |volume| volume.name = Some(name)).await;
                Ok(json!({"volume": shown(&self.show(Who::Compute, &id.to_string()).await?)}))
            }
            (Method::Get, path) => match path.strip_prefix("/volumes/") {
                Some(id) => Ok(json!({"volume": shown(&self.show(Who::Compute, id).await?)})),
                None => Ok(json!({"snapshots": []})),
            },
            (Method::Delete, path) => match path.strip_prefix("/volumes/") {
                Some(id) => self.delete(id).await.map(|()| Value::Null),
                None => Err(missing("Snapshot", path)),
            },
            _ => Err(missing("Path", path)),
        }
    }
}
