//! The way to a volume, and the actions that hosts took before there were attachments.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use umbel_core::{Ctx, Error, Id, Result};
use umbel_db::{Tx, read, tx};

use super::attachments::{is_migrating, mode_of, settle};
use super::limits::of_size;
use super::place::type_of;
use super::{Caller, invalid_volume};
use crate::Volumes;
use crate::flows::live_move;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::store::attachments::{self, AttachStatus, AttachmentId, AttachmentRow};
use crate::store::types::VolumeType;
use crate::store::{Volume, qos_specs, volumes};

/// How a host reaches a volume.
pub(crate) struct Way {
    /// `rbd`, `local` or `simulated`.
    pub driver: String,
    pub data: Map<String, Value>,
}

/// Who has it, for `os-attach`.
pub(crate) struct OldAttach {
    pub instance: Option<String>,
    pub host: Option<String>,
    pub mountpoint: String,
    pub mode: Option<String>,
}

impl Volumes {
    /// `umbel_pool` and `umbel_disk` are for our own hosts, which know pools by name; the rest is what upstream's tell.
    pub(crate) async fn way(&self, tx: &mut Tx<Volume>, volume: &VolumeRow, mode: Option<&str>) -> Result<Way> {
        let name = volume.backend.as_deref();
        let backend =
            self.backend(name.ok_or_else(|| invalid_volume(format!("Volume {} has no data yet.", volume.id)))?)?;
        let mode = match mode {
            Some(mode) => mode,
            None if volume.read_only => "ro",
            None => "rw",
        };
        let kind = type_of(tx, volume).await?;
        let mut data = json!({
            "volume_id": volume.id,
            "access_mode": mode,
            "discard": true,
            "encrypted": volume.encrypted,
            "cacheable": false,
            "qos_specs": front_end_specs(tx, kind.as_ref()).await?.map(|specs| of_size(&specs, volume.size_gib)),
            "umbel_pool": backend.name,
            "umbel_disk": volume.disk,
        });
        if is_migrating(volume)
            && let Some(to) = live_move::of(tx, volume.id).await?.filter(|to| to.to != backend.name)
        {
            data["umbel_to_pool"] = json!(to.to);
            data["umbel_to_disk"] = json!(to.disk);
        }
        if backend.driver == "rbd" {
            let to = &backend.connection;
            let pool = backend.pool.location(&volume.disk, "-").pool;
            data["name"] = json!(format!("{pool}/{}", volume.disk));
            data["hosts"] = json!(to.hosts);
            data["ports"] = json!(to.ports);
            data["cluster_name"] = json!(to.cluster_name);
            data["auth_enabled"] = json!(true);
            data["auth_username"] = json!(to.auth_username);
            data["secret_type"] = json!("ceph");
            data["secret_uuid"] = json!(to.fsid);
        }
        let data = match data {
            Value::Object(data) => data,
            _ => Map::new(),
        };
        Ok(Way { driver: backend.driver.clone(), data })
    }

    /// `os-attach`: notes a server or a host. Who does so twice for the same one gets the same.
    pub(crate) async fn attach_volume(&self, ctx: &Ctx, id: VolumeId, wanted: &OldAttach) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        let attachment: AttachmentId = Id::random(&*self.rng);
        tx!(self.db, "attach volume", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            let rows = attachments::of_volume(tx, id).await?;
            let mode = mode_of(&volume, Some(wanted.mode.as_deref().unwrap_or("rw")))?;
            let same = |row: &&AttachmentRow| match &wanted.instance {
                Some(_) => row.instance_id == wanted.instance,
                None => row.host.is_some() && row.host == wanted.host,
            };
            if rows.iter().any(|row| same(&row)) {
                return match volume.status {
                    VolumeStatus::Attaching | VolumeStatus::Reserved => settle(tx, &volume, now).await,
                    _ => Ok(()),
                };
            }
            check_old_attach(&volume)?;
            let row = AttachmentRow {
                id: attachment,
                volume_id: id,
                status: AttachStatus::Attached,
                instance_id: wanted.instance.clone(),
                host: wanted.host.clone(),
                mountpoint: Some(wanted.mountpoint.clone()),
                mode,
                connector: None,
                created_at: now,
                attached_at: Some(now),
            };
            attachments::insert(tx, &row).await?;
            settle(tx, &volume, now).await
        })
    }

    /// `os-detach`. Without an attachment's id it is the only one; without any, the volume is free afterwards.
    pub(crate) async fn detach_volume(&self, ctx: &Ctx, id: VolumeId, attachment: Option<AttachmentId>) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        let (volume, rows) = self.with_attachments(&caller, id).await?;
        if volume.status == VolumeStatus::Maintenance {
            return Err(invalid_volume("The volume cannot be detached in maintenance mode."));
        }
        if let Some(row) = one_of(&rows, attachment)? {
            self.check_let_go(ctx, row).await?;
        }
        tx!(self.db, "detach volume", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            let rows = attachments::of_volume(tx, id).await?;
            if let Some(row) = one_of(&rows, attachment)? {
                attachments::delete(tx, row.id).await?;
            }
            settle(tx, &volume, now).await
        })
    }

    /// `os-reserve`.
    pub(crate) async fn reserve_volume(&self, ctx: &Ctx, id: VolumeId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "reserve volume", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            let free = volume.status == VolumeStatus::Available && !is_migrating(&volume);
            let shared = volume.multiattach && volume.status == VolumeStatus::InUse;
            if !free && !shared {
                let needed = if volume.multiattach { "available or in-use" } else { "available" };
                return Err(invalid_volume(format!(
                    "Volume status must be {needed} to reserve, but the status is {}.",
                    volume.status
                )));
            }
            volumes::set_status(tx, &volume, VolumeStatus::Attaching, now).await.map(drop)
        })
    }

    /// `os-unreserve`. Nothing happens to a volume that is not reserved.
    pub(crate) async fn unreserve_volume(&self, ctx: &Ctx, id: VolumeId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "unreserve volume", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            match volume.status {
                VolumeStatus::Attaching => settle(tx, &volume, now).await,
                _ => Ok(()),
            }
        })
    }

    /// `os-begin_detaching`.
    pub(crate) async fn begin_detaching(&self, ctx: &Ctx, id: VolumeId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "begin detaching", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            let rows = attachments::of_volume(tx, id).await?;
            let attached = rows.iter().any(|row| row.status == AttachStatus::Attached);
            if volume.status != VolumeStatus::InUse || !attached {
                return Err(invalid_volume(
                    "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to \
                     detach.",
                ));
            }
            volumes::set_status(tx, &volume, VolumeStatus::Detaching, now).await.map(drop)
        })
    }

    /// `os-roll_detaching`. Nothing happens to a volume that is not on its way out.
    pub(crate) async fn roll_detaching(&self, ctx: &Ctx, id: VolumeId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "roll detaching", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            match volume.status {
                VolumeStatus::Detaching => settle(tx, &volume, now).await,
                _ => Ok(()),
            }
        })
    }

    /// `os-initialize_connection`.
    pub(crate) async fn initialize_connection(&self, ctx: &Ctx, id: VolumeId) -> Result<Way> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "initialize connection", |tx| {
            let volume = caller.volume(tx, id).await?;
            if volume.status == VolumeStatus::Maintenance {
                return Err(invalid_volume("The volume connection cannot be initialized in maintenance mode."));
            }
            let mode = attachments::of_volume(tx, id).await?.into_iter().find_map(|row| row.mode);
            self.way(tx, &volume, mode.as_deref()).await
        })
    }

    /// `os-terminate_connection`: hosts open disks by themselves, so there is nothing to close but the reservation.
    pub(crate) async fn terminate_connection(&self, ctx: &Ctx, id: VolumeId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let (_, rows) = self.with_attachments(&caller, id).await?;
        match rows.as_slice() {
            [] => {}
            [row] => self.check_let_go(ctx, row).await?,
            _ if ctx.is_service() => {}
            _ => return Err(Error::conflict("Detach volume from its instances using the Compute API")),
        }
        self.unreserve_volume(ctx, id).await
    }

    /// `os-force_detach`, for administrators: an attachment that nobody uses goes, whatever the volume's status.
    pub(crate) async fn force_detach(&self, ctx: &Ctx, id: VolumeId, attachment: Option<AttachmentId>) -> Result<()> {
        Caller::of(ctx)?.must_be_admin("volume_extension:volume_admin_actions:force_detach")?;
        self.terminate_connection(ctx, id).await?;
        self.detach_volume(ctx, id, attachment).await
    }

    async fn with_attachments(&self, caller: &Caller, id: VolumeId) -> Result<(VolumeRow, Vec<AttachmentRow>)> {
        read!(self.db, "read volume", |tx| {
            let volume = caller.volume(tx, id).await?;
            Ok((volume, attachments::of_volume(tx, id).await?))
        })
    }
}

fn check_old_attach(volume: &VolumeRow) -> Result<()> {
    match volume.status {
        VolumeStatus::Maintenance => Err(invalid_volume("The volume cannot be attached in maintenance mode.")),
        VolumeStatus::Available if is_migrating(volume) => {
            Err(invalid_volume("The volume is migrating to another pool."))
        }
        VolumeStatus::Available | VolumeStatus::Attaching | VolumeStatus::Reserved => Ok(()),
        VolumeStatus::InUse if volume.multiattach => Ok(()),
        VolumeStatus::InUse => {
            Err(invalid_volume("volume is already attached and multiple attachments are not enabled"))
        }
        other => Err(invalid_volume(format!("status must be available or attaching, and is {other}"))),
    }
}

/// The attachment that is meant. None if there is none, or the one named is gone already.
fn one_of(rows: &[AttachmentRow], id: Option<AttachmentId>) -> Result<Option<&AttachmentRow>> {
    match (id, rows) {
        (Some(id), _) => Ok(rows.iter().find(|row| row.id == id)),
        (None, []) => Ok(None),
        (None, [row]) => Ok(Some(row)),
        (None, _) => {
            Err(invalid_volume("Detach volume failed: More than one attachment, but no attachment_id provided."))
        }
    }
}

/// What the hypervisor is to limit, by the volume's type.
pub(crate) async fn front_end_specs(
    tx: &mut Tx<Volume>,
    kind: Option<&VolumeType>,
) -> Result<Option<BTreeMap<String, String>>> {
    let Some(id) = kind.and_then(|kind| kind.qos_specs_id) else {
        return Ok(None);
    };
    let qos = qos_specs::get(tx, id).await?;
    Ok(qos.filter(|qos| matches!(qos.consumer.as_str(), "front-end" | "both")).map(|qos| qos.specs))
}
