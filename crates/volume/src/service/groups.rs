//! Groups: volumes of one backend that can be snapshotted at one point in time.
//!
//! A group is in a backend from the start, one that can hold every type that its volumes may have; volumes made in it go
//! there. So a group has nothing to be made, and is there at once.

use std::fmt::Display;

use umbel_auth::Visible;
use umbel_core::{Error, Result};
use umbel_db::{Tx, Value, read, tx};

use super::create::Wanted;
use super::place::Room;
use super::{Caller, invalid_volume};
use crate::Volumes;
use crate::flows::delete::{DeleteStep, DeleteVolume};
use crate::flows::start::start;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::store::group_types::{self, GroupType};
use crate::store::groups::{self, Group, GroupFilter, GroupId, GroupStatus, Source};
use crate::store::quotas::{self, Delta};
use crate::store::types::{self, VolumeType, VolumeTypeId};
use crate::store::volumes::{Condition, VolumeFilter};
use crate::store::{Volume, attachments, group_snapshots, snapshots, volumes};

/// 400 with upstream's beginning.
pub(crate) fn invalid_group(reason: impl Display) -> Error {
    Error::bad_request(format!("Invalid Group: {reason}"))
}

pub(crate) fn group_not_found(id: impl Display) -> Error {
    Error::not_found(format!("Group {id} could not be found."))
}

/// A group to be made.
#[derive(Clone, Debug)]
pub(crate) struct WantedGroup {
    pub name: Option<String>,
    pub description: Option<String>,
    /// Id or name.
    pub group_type: String,
    /// Ids or names.
    pub volume_types: Vec<String>,
    pub availability_zone: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct GroupChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub add: Vec<String>,
    pub remove: Vec<String>,
}

/// A group with what hangs on it.
pub(crate) struct Shown {
    pub group: Group,
    pub types: Vec<VolumeTypeId>,
    pub volumes: Vec<VolumeId>,
}

impl Caller {
    pub(crate) async fn lock_group(&self, tx: &mut Tx<Volume>, id: GroupId) -> Result<Group> {
        groups::lock(tx, &self.visible, id).await?.ok_or_else(|| group_not_found(id))
    }
}

/// The volumes of a group, oldest first.
pub(crate) async fn members(tx: &mut Tx<Volume>, id: GroupId) -> Result<Vec<VolumeRow>> {
    let order = vec![("created_at", umbel_db::Direction::Asc), ("id", umbel_db::Direction::Asc)];
    let conditions = vec![Condition::Is("group_id", Value::from(id))];
    let filter = VolumeFilter { conditions, order, ..VolumeFilter::default() };
    Ok(volumes::list(tx, &Visible::All, &filter).await?.0)
}

impl Volumes {
    pub(crate) async fn create_group(&self, caller: &Caller, wanted: &WantedGroup) -> Result<Group> {
        let project = caller.project()?.to_owned();
        self.check_zone(wanted.availability_zone.as_deref())?;
        let (group_type, kinds) = read!(self.db, "find a group's types", |tx| {
            let group_type = group_types::find(tx, &wanted.group_type, caller.admin).await?;
            let mut kinds = Vec::with_capacity(wanted.volume_types.len());
            for name in &wanted.volume_types {
                kinds.push(types::find(tx, &caller.visible, name).await?);
            }
            Ok((group_type, kinds))
        })?;
        if kinds.is_empty() {
            return Err(Error::bad_request(
                "Invalid input for field/attribute volume_types. Value: []. [] is too short",
            ));
        }
        let backend = self.place_group(&kinds).await?;
        let group = self.new_group(caller, &project, &group_type, backend);
        let group = Group { name: wanted.name.clone(), description: wanted.description.clone(), ..group };
        let ids: Vec<_> = kinds.iter().map(|kind| kind.id).collect();
        tx!(self.db, "create a group", |tx| {
            let delta = Delta { groups: 1, ..Delta::default() };
            quotas::charge(tx, &self.config, &project, None, delta).await?;
            groups::insert(tx, &group, &ids).await
        })?;
        Ok(group)
    }

    pub(super) fn new_group(&self, caller: &Caller, project: &str, of: &GroupType, backend: String) -> Group {
        Group {
            id: GroupId::random(&*self.rng),
            generation: Default::default(),
            project_id: project.to_owned(),
            user_id: caller.user_id.clone(),
            name: None,
            description: None,
            status: GroupStatus::Available,
            group_type_id: of.id,
            availability_zone: self.config.availability_zone.clone(),
            backend,
            source_group_id: None,
            group_snapshot_id: None,
            created_at: self.clock.now(),
            updated_at: None,
        }
    }

    /// A backend that does what all these types ask for: the default one, or else the emptiest.
    async fn place_group(&self, kinds: &[VolumeType]) -> Result<String> {
        let closed = self.closed_backends().await?;
        let mut best = None;
        for backend in self.backends.iter().filter(|backend| !closed.contains(&backend.name)) {
            let mut free = Some(Room { answers: true, free: u64::MAX });
            for kind in kinds {
                let room = self.room(backend, Some(kind), 0, 0).await;
                free = free.zip(room).map(|(one, other)| one.min(other));
            }
            let default = backend.name == self.default_backend().name;
            best = best.max(free.map(|room| (room.answers, default, room.free, backend.name.clone())));
        }
        let (.., name) = best.ok_or_else(|| invalid_group("No valid backend was found."))?;
        Ok(name)
    }

    /// Puts a volume that is to be made into the group that its request names.
    pub(super) async fn join_group(
        &self,
        tx: &mut Tx<Volume>,
        caller: &Caller,
        wanted: &Wanted,
        kind: &VolumeType,
        row: &mut VolumeRow,
    ) -> Result<()> {
        let Some(text) = &wanted.group_id else {
            return Ok(());
        };
        let group = caller.lock_group(tx, text.parse().map_err(|_| group_not_found(text))?).await?;
        if group.status == GroupStatus::Deleting {
            return Err(invalid_group(format!("Group {} is being deleted.", group.id)));
        }
        let supported = groups::types(tx, &[group.id]).await?;
        if !supported.iter().any(|(_, of)| *of == kind.id) {
            return Err(Error::bad_request(format!(
                "Invalid input received: Invalid volume_type {} in request (requested type must be supported by this \
                 group).",
                kind.id
            )));
        }
        row.group_id = Some(group.id.to_string());
        row.backend = Some(group.backend);
        Ok(())
    }

    pub(crate) async fn list_groups(
        &self,
        visible: &Visible,
        filter: &GroupFilter,
        with_volumes: bool,
    ) -> Result<(Vec<Shown>, bool)> {
        read!(self.db, "list groups", |tx| {
            let (found, more) = groups::list(tx, visible, filter).await?;
            let ids: Vec<_> = found.iter().map(|group| group.id).collect();
            let pairs = groups::types(tx, &ids).await?;
            let mut shown = Vec::with_capacity(found.len());
            for group in found {
                let types = pairs.iter().filter(|(of, _)| *of == group.id).map(|(_, kind)| *kind).collect();
                let volumes = match with_volumes {
                    true => members(tx, group.id).await?.iter().map(|row| row.id).collect(),
                    false => Vec::new(),
                };
                shown.push(Shown { group, types, volumes });
            }
            Ok((shown, more))
        })
    }

    pub(crate) async fn group(&self, caller: &Caller, id: GroupId) -> Result<Shown> {
        read!(self.db, "show a group", |tx| {
            let group = groups::get(tx, &caller.visible, id).await?.ok_or_else(|| group_not_found(id))?;
            let types = groups::types(tx, &[id]).await?.into_iter().map(|(_, kind)| kind).collect();
            let volumes = members(tx, id).await?.iter().map(|row| row.id).collect();
            Ok(Shown { group, types, volumes })
        })
    }

    pub(crate) async fn update_group(&self, caller: &Caller, id: GroupId, change: &GroupChange) -> Result<()> {
        if let Some(both) = change.add.iter().find(|volume| change.remove.contains(volume)) {
            return Err(invalid_volume(format!("UUIDs ['{both}'] are in both add and remove volume list.")));
        }
        let now = self.clock.now();
        tx!(self.db, "update a group", |tx| {
            let before = caller.lock_group(tx, id).await?;
            let held = members(tx, id).await?;
            let mut moved = 0;
            for volume in change.add.iter().filter(|text| !held.iter().any(|row| row.id.to_string() == **text)) {
                let row = addable(tx, caller, &before, volume).await?;
                let after = VolumeRow { group_id: Some(id.to_string()), ..row.clone() };
                volumes::update(tx, &row, &after, now).await?;
                moved += 1;
            }
            for volume in &change.remove {
                let row = removable(&held, &before, volume)?;
                volumes::update(tx, row, &VolumeRow { group_id: None, ..row.clone() }, now).await?;
                moved += 1;
            }
            let mut after = before.clone();
            after.name = change.name.clone().or(after.name);
            after.description = change.description.clone().or(after.description);
            if after == before && moved == 0 {
                return Err(invalid_group(format!(
                    "Cannot update group {id} because no valid name, description, add_volumes, or remove_volumes were \
                     provided."
                )));
            }
            if moved > 0 && before.status != GroupStatus::Available {
                return Err(invalid_group("Group status must be available."));
            }
            after.status = GroupStatus::Available;
            groups::update(tx, &before, &after, now).await
        })
    }

    /// Gone when this returns, with its volumes if that is wished.
    pub(crate) async fn delete_group(&self, caller: &Caller, id: GroupId, with_volumes: bool) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "delete a group", |tx| {
            let group = caller.lock_group(tx, id).await?;
            if !with_volumes && !matches!(group.status, GroupStatus::Available | GroupStatus::Error) {
                let status = group.status.name();
                return Err(invalid_group(format!(
                    "Group status must be available or error, but current status is: {status}"
                )));
            }
            if group_snapshots::any_of_group(tx, id).await? {
                return Err(invalid_group("Group has existing snapshots."));
            }
            if groups::is_source(tx, Source::Group, &id.to_string()).await? {
                return Err(invalid_group(format!("Cannot delete group {id}. A group is being made from it.")));
            }
            let held = members(tx, id).await?;
            if !held.is_empty() && !with_volumes {
                return Err(invalid_group(format!(
                    "Group {id} still contains volumes. The delete-volumes flag is required to delete it."
                )));
            }
            for row in held {
                delete_member(tx, caller, &group, row, now).await?;
            }
            groups::forget(tx, id).await
        })?;
        self.nudge();
        Ok(())
    }

    pub(crate) async fn reset_group(&self, caller: &Caller, id: GroupId, status: GroupStatus) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "reset a group", |tx| {
            let before = caller.lock_group(tx, id).await?;
            groups::update(tx, &before, &Group { status, ..before.clone() }, now).await
        })
    }

    /// Upstream's answers where no type of volume is replicated.
    pub(crate) async fn refuse_replication(&self, caller: &Caller, id: GroupId) -> Result<()> {
        self.group(caller, id).await?;
        Err(Error::bad_request(format!("Invalid group type: Group {id} is not a replication group type.")))
    }
}

async fn delete_member(
    tx: &mut Tx<Volume>,
    caller: &Caller,
    group: &Group,
    row: VolumeRow,
    now: umbel_core::Timestamp,
) -> Result<()> {
    if !attachments::of_volume(tx, row.id).await?.is_empty() {
        return Err(invalid_group(format!("Volume in group {} is attached. Need to detach first.", group.id)));
    }
    if !snapshots::of_volume(tx, row.id).await?.is_empty() {
        return Err(invalid_group("Volume in group still has dependent snapshots."));
    }
    let after = VolumeRow { deleted: true, status: VolumeStatus::Deleting, ..row.clone() };
    volumes::update(tx, &row, &after, now).await?;
    start::<DeleteVolume>(tx, row.id, DeleteStep::Rest, &row.id, &caller.request_id, now).await
}

const CHANGEABLE: &[VolumeStatus] = &[VolumeStatus::Available, VolumeStatus::InUse];

/// The volume, if it may come into the group.
async fn addable(tx: &mut Tx<Volume>, caller: &Caller, group: &Group, text: &str) -> Result<VolumeRow> {
    let refuse = |why: &str| {
        let id = group.id;
        invalid_volume(format!("Cannot add volume {text} to group {id} because {why}."))
    };
    let id: VolumeId = text.parse().map_err(|_| refuse("volume cannot be found"))?;
    let row = volumes::lock(tx, &caller.visible, id).await?.ok_or_else(|| refuse("volume cannot be found"))?;
    if let Some(other) = &row.group_id {
        return Err(refuse(&format!("it is already in group {other}")));
    }
    if row.project_id != group.project_id {
        return Err(refuse("they belong to different projects"));
    }
    let kind = row.volume_type_id.clone().ok_or_else(|| refuse("it has no volume type"))?;
    if !groups::types(tx, &[group.id]).await?.iter().any(|(_, of)| of.to_string() == kind) {
        return Err(refuse(&format!("volume type {kind} is not supported by the group")));
    }
    if super::attachments::is_migrating(&row) {
        return Err(refuse("it is on its way to another backend"));
    }
    if !CHANGEABLE.contains(&row.status) {
        return Err(refuse(&format!(
            "volume is in an invalid state: {}. Valid states are: ('available', 'in-use')",
            row.status
        )));
    }
    match row.backend.as_deref() == Some(&group.backend) {
        true => Ok(row),
        false => Err(invalid_volume("Volume is not local to this node.")),
    }
}

fn removable<'a>(held: &'a [VolumeRow], group: &Group, text: &str) -> Result<&'a VolumeRow> {
    let refuse = |why: String| {
        let id = group.id;
        invalid_volume(format!("Cannot remove volume {text} from group {id} because {why}."))
    };
    let row = held.iter().find(|row| row.id.to_string() == text);
    let row = row.ok_or_else(|| refuse("it is not in the group".to_owned()))?;
    let removable =
        CHANGEABLE.contains(&row.status) || matches!(row.status, VolumeStatus::Error | VolumeStatus::ErrorDeleting);
    match removable {
        true => Ok(row),
        false => Err(refuse(format!("volume is in an invalid state: {}", row.status))),
    }
}
