//! Snapshots of groups, and groups made from them or from other groups.

use std::fmt::Display;

use umbel_auth::Visible;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Tx, Value, read, tx};

use super::groups::{group_not_found, invalid_group, members};
use super::{Caller, invalid_volume};
use crate::Volumes;
use crate::flows::create::Source as Data;
use crate::flows::delete::{DeleteSnapshot, DeleteStep};
use crate::flows::group_create::{Copy, GroupCreate, GroupCreateStep, GroupState};
use crate::flows::group_snapshot::{GroupSnapshotFlow, GroupSnapshotStep};
use crate::flows::start::start;
use crate::model::{SnapshotId, SnapshotRow, SnapshotStatus, VolumeId, VolumeRow, VolumeStatus};
use crate::store::group_snapshots::{self, GroupSnapshot, GroupSnapshotFilter, GroupSnapshotId, GroupSnapshotStatus};
use crate::store::groups::{self, Group, GroupId, GroupStatus, Source};
use crate::store::quotas::{self, Delta};
use crate::store::snapshots::{self, SnapshotFilter};
use crate::store::volumes::Condition;
use crate::store::{Volume, group_types, volumes};

pub(crate) fn group_snapshot_not_found(id: impl Display) -> Error {
    Error::not_found(format!("GroupSnapshot {id} could not be found."))
}

fn invalid_group_snapshot(reason: impl Display) -> Error {
    Error::bad_request(format!("Invalid GroupSnapshot: {reason}"))
}

/// What a group is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    Group(GroupId),
    Snapshot(GroupSnapshotId),
}

/// The snapshots of a group's snapshot.
pub(crate) async fn parts(tx: &mut Tx<Volume>, id: GroupSnapshotId) -> Result<Vec<SnapshotRow>> {
    let conditions = vec![Condition::Is("group_snapshot_id", Value::from(id))];
    let order = vec![("created_at", umbel_db::Direction::Asc), ("id", umbel_db::Direction::Asc)];
    let filter = SnapshotFilter { conditions, order, ..SnapshotFilter::default() };
    Ok(snapshots::list(tx, &Visible::All, &filter).await?.0)
}

impl Volumes {
    pub(crate) async fn create_group_snapshot(
        &self,
        caller: &Caller,
        group_id: GroupId,
        (name, description): (Option<String>, Option<String>),
    ) -> Result<GroupSnapshot> {
        let (id, now) = (GroupSnapshotId::random(&*self.rng), self.clock.now());
        let made = tx!(self.db, "create a group snapshot", |tx| {
            let group = caller.lock_group(tx, group_id).await?;
            let row = GroupSnapshot {
                id,
                generation: Default::default(),
                project_id: group.project_id.clone(),
                user_id: caller.user_id.clone(),
                name: name.clone(),
                description: description.clone(),
                status: GroupSnapshotStatus::Creating,
                group_id,
                group_type_id: group.group_type_id,
                created_at: now,
                updated_at: None,
            };
            group_snapshots::insert(tx, &row).await?;
            for volume in members(tx, group_id).await? {
                self.add_part(tx, caller, &row, &volume).await?;
            }
            start::<GroupSnapshotFlow>(tx, id, GroupSnapshotStep::Make, &id, &caller.request_id, now).await?;
            Ok(row)
        })?;
        self.nudge();
        Ok(made)
    }

    async fn add_part(
        &self,
        tx: &mut Tx<Volume>,
        caller: &Caller,
        of: &GroupSnapshot,
        volume: &VolumeRow,
    ) -> Result<()> {
        if !matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse) {
            return Err(invalid_volume(format!(
                "Snapshot cannot be created because volume {} is not in an available state, current volume status: {}.",
                volume.id, volume.status
            )));
        }
        let mut row = SnapshotRow::new(SnapshotId::random(&*self.rng), volume, &caller.user_id, of.created_at);
        row.name = of.name.clone();
        row.description = of.description.clone();
        row.group_snapshot_id = Some(of.id.to_string());
        let kind = super::place::type_of(tx, volume).await?.map(|kind| kind.name);
        let delta = Delta { snapshots: 1, gigabytes: volume.size_gib, ..Delta::default() };
        quotas::charge(tx, &self.config, &row.project_id, kind.as_deref(), delta).await?;
        snapshots::insert(tx, &row).await
    }

    pub(crate) async fn list_group_snapshots(
        &self,
        visible: &Visible,
        filter: &GroupSnapshotFilter,
    ) -> Result<(Vec<GroupSnapshot>, bool)> {
        read!(self.db, "list group snapshots", |tx| group_snapshots::list(tx, visible, filter).await)
    }

    pub(crate) async fn group_snapshot(&self, caller: &Caller, id: GroupSnapshotId) -> Result<GroupSnapshot> {
        let found = read!(self.db, "show a group snapshot", |tx| group_snapshots::get(tx, &caller.visible, id).await)?;
        found.ok_or_else(|| group_snapshot_not_found(id))
    }

    /// Gone when this returns, with its snapshots; clones of them live on.
    pub(crate) async fn delete_group_snapshot(&self, caller: &Caller, id: GroupSnapshotId) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "delete a group snapshot", |tx| {
            let row = lock(tx, caller, id).await?;
            let free = matches!(row.status, GroupSnapshotStatus::Available | GroupSnapshotStatus::Error);
            if !free || groups::is_source(tx, Source::Snapshot, &id.to_string()).await? {
                return Err(invalid_group_snapshot(
                    "GroupSnapshot status must be available or error, and no Group can be currently using it as source \
                     for its creation.",
                ));
            }
            for part in parts(tx, id).await? {
                let after = SnapshotRow { deleted: true, status: SnapshotStatus::Deleting, ..part.clone() };
                snapshots::update(tx, &part, &after, now).await?;
                start::<DeleteSnapshot>(tx, part.id, DeleteStep::Rest, &part.id, &caller.request_id, now).await?;
            }
            group_snapshots::forget(tx, id).await
        })?;
        self.nudge();
        Ok(())
    }

    pub(crate) async fn reset_group_snapshot(
        &self,
        caller: &Caller,
        id: GroupSnapshotId,
        status: GroupSnapshotStatus,
    ) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "reset a group snapshot", |tx| {
            let row = lock(tx, caller, id).await?;
            group_snapshots::set_status(tx, &row, status, now).await
        })
    }

    /// A group with clones of all volumes of another, or of a group's snapshot.
    pub(crate) async fn create_group_from(
        &self,
        caller: &Caller,
        from: From,
        (name, description): (Option<String>, Option<String>),
    ) -> Result<Group> {
        let project = caller.project()?.to_owned();
        let now = self.clock.now();
        let made = tx!(self.db, "create a group from another", |tx| {
            let (source, snapshot) = sources(tx, caller, from).await?;
            let of = group_types::get(tx, source.group_type_id).await?;
            let of = of.ok_or_else(|| group_types::not_found(source.group_type_id))?;
            let group = Group {
                name: name.clone(),
                description: description.clone(),
                status: GroupStatus::Creating,
                source_group_id: snapshot.is_none().then_some(source.id),
                group_snapshot_id: snapshot,
                ..self.new_group(caller, &project, &of, source.backend.clone())
            };
            let delta = Delta { groups: 1, ..Delta::default() };
            quotas::charge(tx, &self.config, &project, None, delta).await?;
            let kinds: Vec<_> = groups::types(tx, &[source.id]).await?.into_iter().map(|(_, kind)| kind).collect();
            groups::insert(tx, &group, &kinds).await?;
            let copies = match snapshot {
                Some(id) => self.copy_parts(tx, caller, &group, id, now).await?,
                None => self.copy_members(tx, caller, &group, source.id, now).await?,
            };
            let first = if snapshot.is_some() { GroupCreateStep::Start } else { GroupCreateStep::Snapshot };
            let state = GroupState { group_id: group.id, backend: group.backend.clone(), copies };
            start::<GroupCreate>(tx, group.id, first, &state, &caller.request_id, now).await?;
            Ok(group)
        })?;
        self.nudge();
        Ok(made)
    }

    async fn copy_parts(
        &self,
        tx: &mut Tx<Volume>,
        caller: &Caller,
        group: &Group,
        id: GroupSnapshotId,
        now: Timestamp,
    ) -> Result<Vec<Copy>> {
        let mut copies = Vec::new();
        for part in parts(tx, id).await? {
            let volume = volumes::get_any(tx, part.volume_id).await?;
            let volume = volume.ok_or_else(|| super::volume_not_found(part.volume_id))?;
            let data = data_of(&volume, &part.disk_snapshot, part.size_gib, false)?;
            let mut row = VolumeRow { size_gib: part.size_gib, ..volume };
            row.snapshot_id = Some(part.id.to_string());
            row.source_volid = None;
            copies.push(self.add_copy(tx, caller, group, (row, data), now).await?);
        }
        match copies.is_empty() {
            true => Err(invalid_group("Group snapshot is empty. No group will be created.")),
            false => Ok(copies),
        }
    }

    async fn copy_members(
        &self,
        tx: &mut Tx<Volume>,
        caller: &Caller,
        group: &Group,
        source: GroupId,
        now: Timestamp,
    ) -> Result<Vec<Copy>> {
        let mut copies = Vec::new();
        for volume in members(tx, source).await? {
            if !matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse) {
                let status = volume.status;
                return Err(invalid_volume(format!("Volume {} of the source group is {status}.", volume.id)));
            }
            // One name for all: the flow makes them together, and each volume's creation removes its own.
            let data = data_of(&volume, &format!("group-{}", group.id), volume.size_gib, true)?;
            let source_volid = Some(volume.id.to_string());
            let row = VolumeRow { source_volid, snapshot_id: None, ..volume };
            copies.push(self.add_copy(tx, caller, group, (row, data), now).await?);
        }
        match copies.is_empty() {
            true => Err(invalid_group("Source Group is empty. No group will be created.")),
            false => Ok(copies),
        }
    }

    /// The row of a volume like this one.
    async fn add_copy(
        &self,
        tx: &mut Tx<Volume>,
        caller: &Caller,
        group: &Group,
        (like, data): (VolumeRow, Data),
        now: Timestamp,
    ) -> Result<Copy> {
        let id = VolumeId::random(&*self.rng);
        let blank = VolumeRow::new(id, &group.project_id, &caller.user_id, like.size_gib, now);
        let kind = super::place::type_of(tx, &like).await?.map(|kind| kind.name);
        let row = VolumeRow {
            volume_type_id: like.volume_type_id,
            availability_zone: group.availability_zone.clone(),
            backend: Some(group.backend.clone()),
            bootable: like.bootable,
            multiattach: like.multiattach,
            snapshot_id: like.snapshot_id,
            source_volid: like.source_volid,
            group_id: Some(group.id.to_string()),
            metadata: like.metadata,
            image_metadata: like.image_metadata,
            ..blank
        };
        let delta = Delta { volumes: 1, gigabytes: row.size_gib, ..Delta::default() };
        quotas::charge(tx, &self.config, &row.project_id, kind.as_deref(), delta).await?;
        volumes::insert(tx, &row).await?;
        Ok(Copy { volume: id, source: data })
    }
}

async fn lock(tx: &mut Tx<Volume>, caller: &Caller, id: GroupSnapshotId) -> Result<GroupSnapshot> {
    group_snapshots::lock(tx, &caller.visible, id).await?.ok_or_else(|| group_snapshot_not_found(id))
}

/// The group, and the snapshot of it if that is the source. Held: neither is deleted before the new group is there.
async fn sources(tx: &mut Tx<Volume>, caller: &Caller, from: From) -> Result<(Group, Option<GroupSnapshotId>)> {
    match from {
        From::Group(id) => Ok((caller.lock_group(tx, id).await?, None)),
        From::Snapshot(id) => {
            let snapshot = lock(tx, caller, id).await?;
            if snapshot.status != GroupSnapshotStatus::Available {
                return Err(invalid_group_snapshot("Originating group snapshot status must be available"));
            }
            let group = groups::lock(tx, &caller.visible, snapshot.group_id).await?;
            Ok((group.ok_or_else(|| group_not_found(snapshot.group_id))?, Some(id)))
        }
    }
}

fn data_of(volume: &VolumeRow, snapshot: &str, size_gib: u64, made: bool) -> Result<Data> {
    let backend = volume.backend.clone().ok_or_else(|| invalid_volume(format!("{} has no data", volume.id)))?;
    Ok(Data::Disk { backend, disk: volume.disk.clone(), snapshot: snapshot.to_owned(), size_gib, made })
}
