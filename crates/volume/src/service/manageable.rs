//! Disks and snapshots that are in a pool and not in our books, and those that leave our books and stay in the pool.
//!
//! Volumes of an upstream service on the same pool come over by this: unmanaged there, or left behind by it, they are
//! managed here, and their clones and snapshots stay what they are.

use std::collections::{BTreeMap, HashMap};

use umbel_api::volume::manageable::{Manageable, ManageableDetail, Reference};
use umbel_auth::Visible;
use umbel_core::{Ctx, Error, Id, Result};
use umbel_db::{Tx, args, read, tx};
use umbel_workflow::Flow;

use super::{Caller, invalid_snapshot, invalid_volume};
use crate::flows::manage::{ManageDisk, ManageSnapshot, ManageSnapshotFlow, ManageStep, ManageVolumeFlow};
use crate::flows::start::{is_busy, start};
use crate::model::{SnapshotId, SnapshotRow, SnapshotStatus, VolumeId, VolumeRow, VolumeStatus, disk_name};
use crate::store::quotas::{self, Delta};
use crate::store::{Volume, attachments, encryption, snapshots, transfers, types, unmanaged, volumes};
use crate::{Backend, Volumes};

/// A disk to be taken over.
pub(crate) struct WantedDisk {
    pub host: String,
    pub reference: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub volume_type: Option<String>,
    pub availability_zone: Option<String>,
    pub bootable: bool,
    pub metadata: BTreeMap<String, String>,
}

/// A snapshot to be taken over.
pub(crate) struct WantedSnapshot {
    pub volume: VolumeId,
    pub reference: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

/// A page of what could be taken over.
pub(crate) struct ManageablePage {
    pub by_size: bool,
    pub descending: bool,
    /// A reference's name.
    pub marker: Option<String>,
    pub offset: usize,
    pub limit: usize,
}

impl Volumes {
    pub(crate) async fn manage_volume(&self, ctx: &Ctx, wanted: &WantedDisk) -> Result<VolumeRow> {
        let caller = Caller::of(ctx)?;
        let project = caller.project()?;
        let backend = self.backend_at(&wanted.host)?;
        let info = backend.pool.stat(&wanted.reference).await?.ok_or_else(|| missing(&wanted.reference))?;
        let size_gib = umbel_core::bytes_to_gib_ceil(info.size).max(1);
        let now = self.clock.now();
        let id: VolumeId = Id::random(&*self.rng);
        let row = tx!(self.db, "manage volume", |tx| {
            let taken = known_disks(tx, backend).await?.contains_key(&wanted.reference);
            if taken || is_wanted(tx, backend, &wanted.reference).await? {
                return Err(invalid_volume("Unable to manage existing volume. The volume is already managed"));
            }
            let kind = match wanted.volume_type.as_deref().filter(|name| !name.is_empty()) {
                Some(name) => types::find(tx, &Visible::All, name).await?,
                None => types::default_for(tx, Some(project), &self.config.default_volume_type).await?,
            };
            types::keep(tx, kind.id).await?;
            if encryption::get(tx, kind.id).await?.is_some() {
                return Err(Error::bad_request("Managing to an encrypted volume type is not supported."));
            }
            quotas::check_size(tx, &self.config, project, size_gib).await?;
            let delta = Delta { volumes: 1, gigabytes: size_gib, ..Delta::default() };
            quotas::charge(tx, &self.config, project, Some(&kind.name), delta).await?;
            let mut row = VolumeRow::new(id, project, &caller.user_id, size_gib, now);
            row.status = VolumeStatus::Managing;
            row.name = wanted.name.clone();
            row.description = wanted.description.clone();
            row.volume_type_id = Some(kind.id.to_string());
            row.multiattach = kind.has("multiattach");
            row.backend = Some(backend.name.clone());
            row.availability_zone =
                wanted.availability_zone.clone().unwrap_or_else(|| self.config.availability_zone.clone());
            row.bootable = wanted.bootable;
            row.metadata = wanted.metadata.clone();
            volumes::insert(tx, &row).await?;
            let state = ManageDisk {
                volume: id,
                backend: backend.name.clone(),
                reference: wanted.reference.clone(),
                disk: disk_name(id),
            };
            start::<ManageVolumeFlow>(tx, id, ManageStep::Rename, &state, &ctx.request_id, now).await?;
            Ok(row)
        })?;
        self.nudge();
        Ok(row)
    }

    pub(crate) async fn manage_snapshot(&self, ctx: &Ctx, wanted: &WantedSnapshot) -> Result<SnapshotRow> {
        let caller = Caller::of(ctx)?;
        let volume = read!(self.db, "look at volume", |tx| caller.volume(tx, wanted.volume).await)?;
        let name = volume.backend.as_deref().ok_or_else(|| invalid_volume("it has no data yet"))?;
        let backend = self.backend(name)?;
        let info = backend.pool.stat(&volume.disk).await?.ok_or_else(|| missing(&volume.disk))?;
        if !info.snapshots.contains(&wanted.reference) {
            return Err(missing(&wanted.reference));
        }
        let now = self.clock.now();
        let id: SnapshotId = Id::random(&*self.rng);
        let row = tx!(self.db, "manage snapshot", |tx| {
            let volume = caller.lock_volume(tx, wanted.volume).await?;
            let mut taken = snapshots::of_volume(tx, volume.id).await?;
            taken.retain(|row| row.disk_snapshot == wanted.reference);
            let under_way = states::<ManageSnapshotFlow>(tx).await?;
            let here = |one: &ManageSnapshot| one.disk == volume.disk && one.reference == wanted.reference;
            if !taken.is_empty() || under_way.iter().any(here) {
                return Err(invalid_snapshot("Unable to manage existing snapshot. The snapshot is already managed"));
            }
            let kind = super::transfers::type_name(tx, &volume).await?;
            let delta = Delta { snapshots: 1, gigabytes: volume.size_gib, ..Delta::default() };
            quotas::charge(tx, &self.config, &volume.project_id, kind.as_deref(), delta).await?;
            let mut row = SnapshotRow::new(id, &volume, &caller.user_id, now);
            row.name = wanted.name.clone();
            row.description = wanted.description.clone();
            row.metadata = wanted.metadata.clone();
            snapshots::insert(tx, &row).await?;
            let state = ManageSnapshot {
                snapshot: id,
                backend: backend.name.clone(),
                disk: volume.disk.clone(),
                reference: wanted.reference.clone(),
                name: row.disk_snapshot.clone(),
            };
            start::<ManageSnapshotFlow>(tx, id, ManageStep::Rename, &state, &ctx.request_id, now).await?;
            Ok(row)
        })?;
        self.nudge();
        Ok(row)
    }

    /// `os-unmanage` of a volume: the row goes, the disk stays under the name that it has.
    pub(crate) async fn unmanage_volume(&self, ctx: &Ctx, id: VolumeId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        caller.must_be_admin("volume_extension:volume_unmanage")?;
        let now = self.clock.now();
        tx!(self.db, "unmanage volume", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            let usable =
                matches!(volume.status, VolumeStatus::Available | VolumeStatus::Error | VolumeStatus::ErrorManaging);
            let held = !attachments::of_volume(tx, id).await?.is_empty();
            let busy = is_busy(tx, id, "").await?;
            if !usable || held || busy || volume.group_id.is_some() || super::attachments::is_migrating(&volume) {
                return Err(invalid_volume(format!(
                    "Volume status must be available or error or error_managing and must not be migrating, attached, \
                     belong to a group, have snapshots or be disassociated from snapshots after volume transfer. \
                     Its status is {}.",
                    volume.status
                )));
            }
            if !snapshots::of_volume(tx, id).await?.is_empty() {
                return Err(invalid_volume(format!("Volume {id} has snapshots: unmanage these first.")));
            }
            transfers::delete_of_volume(tx, id).await?;
            if let Some(backend) = &volume.backend {
                unmanaged::note(tx, backend, &volume.disk, None, now).await?;
            }
            volumes::forget(tx, id).await
        })
    }

    /// `os-unmanage` of a snapshot.
    pub(crate) async fn unmanage_snapshot(&self, ctx: &Ctx, id: SnapshotId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        caller.must_be_admin("snapshot_extension:snapshot_unmanage")?;
        let now = self.clock.now();
        tx!(self.db, "unmanage snapshot", |tx| {
            let snapshot = caller.lock_snapshot(tx, id).await?;
            let usable = matches!(snapshot.status, SnapshotStatus::Available | SnapshotStatus::Error);
            if !usable || snapshot.group_snapshot_id.is_some() || is_busy(tx, id, "").await? {
                let message = format!("Snapshot status must be available or error, and is {}.", snapshot.status);
                return Err(invalid_snapshot(message));
            }
            if let Some(volume) = volumes::get_any(tx, snapshot.volume_id).await?
                && let Some(backend) = &volume.backend
            {
                unmanaged::note(tx, backend, &volume.disk, Some(&snapshot.disk_snapshot), now).await?;
            }
            snapshots::forget(tx, id).await
        })
    }

    pub(crate) async fn manageable_volumes(&self, host: &str, page: &ManageablePage) -> Result<Vec<Manageable>> {
        let backend = self.backend_at(host)?;
        let known = read!(self.db, "list a backend's volumes", |tx| known_disks(tx, backend).await)?;
        let mut found = Vec::new();
        for disk in backend.pool.list().await? {
            let Some(info) = backend.pool.stat(&disk).await? else { continue };
            let owner = known.get(&disk).cloned();
            found.push(manageable(disk, info.size, owner, None));
        }
        Ok(page.of(found))
    }

    pub(crate) async fn manageable_snapshots(&self, host: &str, page: &ManageablePage) -> Result<Vec<Manageable>> {
        let backend = self.backend_at(host)?;
        let known = read!(self.db, "list a backend's snapshots", |tx| known_snapshots(tx, backend).await)?;
        let mut found = Vec::new();
        for disk in backend.pool.list().await? {
            let Some(info) = backend.pool.stat(&disk).await? else { continue };
            for name in info.snapshots {
                let owner = known.get(&(disk.clone(), name.clone())).cloned();
                found.push(manageable(name, info.size, owner, Some(disk.clone())));
            }
        }
        Ok(page.of(found))
    }
}

impl ManageablePage {
    fn of(&self, mut all: Vec<Manageable>) -> Vec<Manageable> {
        all.sort_by(|one, other| {
            let size = one.size.cmp(&other.size);
            let name = (&one.reference, &one.source_reference).cmp(&(&other.reference, &other.source_reference));
            let order = if self.by_size { size.then(name) } else { name };
            if self.descending { order.reverse() } else { order }
        });
        let after = match &self.marker {
            Some(marker) => all.iter().position(|one| one.reference.source_name == *marker).map_or(0, |at| at + 1),
            None => 0,
        };
        all.into_iter().skip(after + self.offset).take(self.limit).collect()
    }
}

fn missing(reference: &str) -> Error {
    Error::bad_request(format!("Invalid input received: The reference '{reference}' does not exist on the backend."))
}

fn manageable(name: String, bytes: u64, owner: Option<String>, source: Option<String>) -> Manageable {
    let reason = match &owner {
        Some(_) => Some("already managed"),
        None if name.ends_with(".deleted") => Some("volume marked as deleted"),
        // What flows of ours work with.
        None if ["import-", "reimage-", "replaced-", "upload-", "migrate-", "clone-", "group-", "backup"]
            .iter()
            .any(|prefix| name.starts_with(prefix)) =>
        {
            Some("used by the service")
        }
        None => None,
    };
    Manageable {
        reference: Reference { source_name: name },
        size: umbel_core::bytes_to_gib_ceil(bytes),
        safe_to_manage: reason.is_none(),
        source_reference: source.map(|source_name| Reference { source_name }),
        detail: Some(ManageableDetail {
            reason_not_safe: reason.map(str::to_owned),
            cinder_id: owner,
            extra_info: None,
        }),
    }
}

/// Volumes of a backend by their disks.
async fn known_disks(tx: &mut Tx<Volume>, backend: &Backend) -> Result<HashMap<String, String>> {
    let rows = tx.fetch_all("SELECT id, disk FROM volumes WHERE backend = ?", args![&backend.name]).await?;
    rows.iter().map(|row| Ok((row.text("disk")?, row.text("id")?))).collect()
}

/// Whether a disk is being taken over already, under the name that it has till then. All who take over disks of the backend
/// wait for each other from here on.
async fn is_wanted(tx: &mut Tx<Volume>, backend: &Backend, reference: &str) -> Result<bool> {
    // Projects have ids of another form.
    quotas::lock(tx, &format!("backend:{}", backend.name)).await?;
    let under_way = states::<ManageVolumeFlow>(tx).await?;
    Ok(under_way.iter().any(|one| one.backend == backend.name && one.reference == reference))
}

/// What all flows of a kind are about.
async fn states<F: Flow<Schema = Volume>>(tx: &mut Tx<Volume>) -> Result<Vec<F::State>> {
    let rows = tx.fetch_all("SELECT state FROM workflows WHERE kind = ?", args![F::KIND]).await?;
    rows.iter().map(|row| serde_json::from_str(&row.text("state")?).map_err(Error::internal)).collect()
}

/// Snapshots of a backend by disk and name.
async fn known_snapshots(tx: &mut Tx<Volume>, backend: &Backend) -> Result<HashMap<(String, String), String>> {
    let sql = "SELECT s.id AS id, s.disk_snapshot AS name, v.disk AS disk FROM snapshots s \
        JOIN volumes v ON v.id = s.volume_id WHERE v.backend = ?";
    let rows = tx.fetch_all(sql, args![&backend.name]).await?;
    rows.iter().map(|row| Ok(((row.text("disk")?, row.text("name")?), row.text("id")?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_cut_where_they_are_asked_for() {
        let all = || ["b", "a", "c"].map(|name| manageable(name.into(), 1 << 30, None, None)).to_vec();
        let check = |marker: Option<&str>, offset: usize, limit: usize, descending: bool, expected: &[&str]| {
            let marker = marker.map(str::to_owned);
            let page = ManageablePage { by_size: false, descending, marker, offset, limit };
            let found: Vec<String> = page.of(all()).into_iter().map(|one| one.reference.source_name).collect();
            assert_eq!(found, expected);
        };
        check(None, 0, 10, false, &["a", "b", "c"]);
        check(None, 0, 2, true, &["c", "b"]);
        check(Some("a"), 0, 1, false, &["b"]);
        check(None, 1, 1, false, &["b"]);
        check(Some("c"), 0, 10, false, &[]);
    }

    #[test]
    fn what_is_ours_is_not_offered() {
        let safe =
            |name: &str, owner: Option<&str>| manageable(name.into(), 1, owner.map(str::to_owned), None).safe_to_manage;
        assert!(safe("volume-1", None));
        assert!(!safe("volume-1", Some("id")));
        assert!(!safe("volume-1.deleted", None));
        assert!(!safe("reimage-1", None));
    }
}
