//! What flows ask of the volume service, so that it may be asked twice: what is done already is done.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use umbel_client::ConnectionData;
use umbel_compute::VolumeCatalog;
use umbel_compute::model::{BlockDevice, BlockDeviceId, Connection, ServerId};
use umbel_core::{Error, Kind, Result};

/// How often the deletion of a volume is tried that its service refuses for its state: while an image is written to it,
/// which can take as long.
const PATIENCE: u32 = 60;

/// `device`: what the API calls the disk in the server (`/dev/vdb`), so that the volume shows it too.
fn connector(host: &str, device: &str) -> serde_json::Value {
    let arch = std::env::consts::ARCH;
    json!({"host": host, "mountpoint": device, "platform": arch, "os_type": "linux", "multipath": false})
}

/// Names the host that will open the volume, and what it is there; where that host finds it.
pub(crate) async fn connect(
    volumes: &dyn VolumeCatalog,
    attachment_id: &str,
    host: &str,
    device: &BlockDevice,
) -> Result<Connection> {
    let answer = volumes.connect(attachment_id, &connector(host, &device.device_name)).await?;
    let info = answer.connection_info.unwrap_or_default();
    let data = info.data();
    let (Some(pool), Some(disk)) = (data.umbel_pool.clone(), data.umbel_disk.clone()) else {
        let message = "The volume service does not say in which pool the volume is.";
        return Err(Error::new(Kind::Internal, message).because(format!("attachment {attachment_id}")));
    };
    Ok(Connection { pool, disk, read_only: data.access_mode.as_deref() == Some("ro"), limits: limits(data) })
}

/// What the hypervisor is to bound.
fn limits(data: &ConnectionData) -> BTreeMap<String, u64> {
    let limit = |(name, value): (&String, &Value)| {
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        Some((name.clone(), number?))
    };
    data.qos_specs.iter().flatten().filter_map(limit).collect()
}

/// Where a volume is to go that its service moves to another pool; `None` if it does not, or not any more.
pub(crate) async fn goes_to(
    volumes: &dyn VolumeCatalog,
    attachment_id: &str,
    host: &str,
    device: &BlockDevice,
) -> Result<Option<Connection>> {
    let answer = volumes.connect(attachment_id, &connector(host, &device.device_name)).await?;
    let info = answer.connection_info.unwrap_or_default();
    let data = info.data();
    let read_only = data.access_mode.as_deref() == Some("ro");
    let (pool, disk) = (data.umbel_to_pool.clone(), data.umbel_to_disk.clone());
    Ok(pool.zip(disk).map(|(pool, disk)| Connection { pool, disk, read_only, limits: limits(data) }))
}

/// The host has the volume.
pub(crate) async fn complete(volumes: &dyn VolumeCatalog, attachment_id: &str) -> Result<()> {
    match volumes.complete(attachment_id).await {
        Err(error) if is_refusal(&error) => match volumes.attachment(attachment_id).await?.status.as_str() {
            "attached" => Ok(()),
            _ => Err(error),
        },
        done => done,
    }
}

/// Ends an attachment; one that is gone has ended.
pub(crate) async fn release(volumes: &dyn VolumeCatalog, attachment_id: &str) -> Result<()> {
    gone_is_good(volumes.release(attachment_id).await)
}

/// Ends all attachments of a server, also those that no row of ours names.
pub(crate) async fn release_all(volumes: &dyn VolumeCatalog, server: ServerId) -> Result<()> {
    for attachment in volumes.attachments_of(server).await? {
        release(volumes, &attachment.id).await?;
    }
    Ok(())
}

/// The server's attachment to a volume that was made for it: the one there is, or a new one.
pub(crate) async fn reserve(volumes: &dyn VolumeCatalog, volume_id: &str, server: ServerId) -> Result<String> {
    let known = volumes.attachments_of(server).await?;
    match known.into_iter().find(|attachment| attachment.volume_id == volume_id) {
        Some(known) => Ok(known.id),
        None => Ok(volumes.reserve(umbel_compute::Who::Compute, volume_id, server).await?.id),
    }
}

/// Deletes a volume. What its service refuses is tried for a while and then left, as upstream leaves it: a volume with
/// snapshots is its owner's to decide on.
pub(crate) async fn delete(volumes: &dyn VolumeCatalog, volume_id: &str, attempt: u32) -> Result<()> {
    match gone_is_good(volumes.delete(volume_id).await) {
        Err(error) if is_refusal(&error) && attempt >= PATIENCE => {
            tracing::warn!(volume_id, cause = error.cause(), "a volume was to go with its server and stays: {error}");
            Ok(())
        }
        Err(error) if is_refusal(&error) => {
            Err(Error::unavailable("A volume cannot be deleted yet.").because(error.for_log()))
        }
        done => done,
    }
}

/// Deletes what was made for a block device, if anything was.
pub(crate) async fn delete_made(volumes: &dyn VolumeCatalog, device: BlockDeviceId, attempt: u32) -> Result<()> {
    match volumes.made_for(device).await? {
        Some(volume) if volume.status != "deleting" => delete(volumes, &volume.id, attempt).await,
        _ => Ok(()),
    }
}

/// Refused for the state that the thing is in.
pub(crate) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), Kind::BadRequest | Kind::Conflict)
}

pub(crate) fn gone_is_good(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is(Kind::NotFound) => Ok(()),
        other => other,
    }
}
