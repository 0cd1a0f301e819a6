//! Rows as clients see them.

use std::collections::{BTreeMap, HashMap};

use umbel_api::Link;
use umbel_api::volume::snapshots::Snapshot;
use umbel_api::volume::volumes::{Attachment, Volume as Shown};
use umbel_core::Result;
use umbel_db::Tx;
use umbel_http::Req;

use crate::Volumes;
use crate::model::{SnapshotRow, VolumeId, VolumeRow};
use crate::service::Caller;
use crate::service::volumes::type_names;
use crate::store::Volume;
use crate::store::attachments::{self, AttachStatus, AttachmentRow};

/// What a page of volumes needs beside their rows: two statements whatever its length.
pub(crate) struct Around {
    types: BTreeMap<String, String>,
    attachments: HashMap<VolumeId, Vec<AttachmentRow>>,
}

impl Around {
    pub async fn read(tx: &mut Tx<Volume>, rows: &[VolumeRow]) -> Result<Around> {
        let ids: Vec<VolumeId> = rows.iter().map(|row| row.id).collect();
        Ok(Around { types: type_names(tx).await?, attachments: attachments::of_volumes(tx, &ids).await? })
    }
}

/// How far the work on a thing is, among its metadata for as long as there is any: clients with a schema of what is
/// shown refuse a member that upstream has not. A user's own key of this name is hidden meanwhile.
pub(crate) const PROGRESS: &str = "umbel:progress";

pub(crate) fn links(req: &Req, noun: &str, id: impl std::fmt::Display) -> Vec<Link> {
    vec![
        Link::new("self", req.url(&format!("/v3/{noun}/{id}"))),
        Link::new("bookmark", req.url(&format!("/{noun}/{id}"))),
    ]
}

/// All that the newest version shows the caller.
pub(crate) fn volume(state: &Volumes, req: &Req, caller: &Caller, row: VolumeRow, around: &Around) -> Shown {
    let admin = |value: Option<String>| caller.admin.then_some(value);
    let host = row.backend.as_deref().map(|backend| state.host_string(backend));
    let volume_type = row.volume_type_id.as_ref().and_then(|id| around.types.get(id)).cloned();
    let held = around.attachments.get(&row.id).map(Vec::as_slice).unwrap_or_default();
    let mut metadata = row.metadata;
    // Upstream mixes its own into the user's.
    metadata.extend(row.admin_metadata.into_iter().filter(|(name, _)| name == "readonly"));
    metadata.extend(row.progress.map(|percent| (PROGRESS.to_owned(), format!("{percent}%"))));
    Shown {
        id: row.id.to_string(),
        status: row.status.name(),
        size: row.size_gib,
        availability_zone: row.availability_zone,
        created_at: row.created_at.iso_naive(),
        updated_at: (row.updated_at != row.created_at).then(|| row.updated_at.iso_naive()),
        name: row.name,
        description: row.description,
        volume_type,
        snapshot_id: row.snapshot_id,
        source_volid: row.source_volid,
        metadata,
        links: links(req, "volumes", row.id),
        user_id: row.user_id,
        bootable: if row.bootable { "true" } else { "false" },
        encrypted: row.encrypted,
        replication_status: None,
        consistencygroup_id: None,
        multiattach: row.multiattach,
        attachments: held
            .iter()
            .filter(|one| one.status == AttachStatus::Attached)
            .map(|one| attachment(caller, one))
            .collect(),
        migration_status: admin(row.migration_status.clone()),
        tenant_id: Some(row.project_id),
        host: admin(host),
        migstat: admin(row.migration_status),
        name_id: admin(None),
        volume_image_metadata: row.image_metadata,
        group_id: Some(row.group_id),
        provider_id: admin(None),
        service_uuid: Some(None),
        shared_targets: Some(Some(false)),
        cluster_name: admin(None),
        volume_type_id: Some(row.volume_type_id),
        encryption_key_id: None,
        consumes_quota: Some(row.use_quota),
    }
}

fn attachment(caller: &Caller, row: &AttachmentRow) -> Attachment {
    Attachment {
        id: row.volume_id.to_string(),
        attachment_id: row.id.to_string(),
        volume_id: row.volume_id.to_string(),
        server_id: row.instance_id.clone(),
        host_name: row.host.clone().filter(|_| caller.admin),
        device: row.mountpoint.clone(),
        attached_at: row.attached_at.map(|at| at.iso_naive()),
    }
}

pub(crate) fn snapshot(row: SnapshotRow, details: bool) -> Snapshot {
    Snapshot {
        id: row.id.to_string(),
        name: row.name,
        description: row.description,
        volume_id: row.volume_id.to_string(),
        status: row.status.name(),
        size: row.size_gib,
        created_at: row.created_at.iso_naive(),
        updated_at: (row.updated_at != row.created_at).then(|| row.updated_at.iso_naive()),
        metadata: row.metadata,
        progress: details.then(|| format!("{}%", row.progress)),
        project_id: details.then_some(row.project_id),
        group_snapshot_id: details.then_some(row.group_snapshot_id),
        user_id: Some(row.user_id),
        consumes_quota: Some(row.use_quota),
    }
}
