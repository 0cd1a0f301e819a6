//! Volumes change their type and their pool.

use umbel_core::{Ctx, Error, Kind, Result, Timestamp};
use umbel_db::{Tx, read, tx};
use umbel_workflow::Flow;

use super::attachments::is_migrating;
use super::connections::front_end_specs;
use super::place::type_of;
use super::{Caller, capabilities, invalid_volume};
use crate::flows::live_move::{self, LiveMove, LiveMoveFlow, LiveStep, server_of};
use crate::flows::relocate::{Move, MoveFlow, MoveStep, NewType};
use crate::flows::start::begin;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::store::types::{self, VolumeType};
use crate::store::{Volume, attachments, encryption, quotas, snapshots, volumes};
use crate::{Backend, Volumes};

const NOT_FOR_RETYPE: &str = "Retype needs volume to be in available or in-use state, not be part of an active \
    migration or a consistency group, requested type has to be different that the one from the volume, and for in-use \
    volumes front-end qos specs cannot change.";

impl Volumes {
    /// Gives the volume another type: at once where its pool does what the type asks for, by moving it to one that does
    /// otherwise, if the caller allows that.
    ///
    /// That it cannot be done is said at once, where upstream accepts and does nothing.
    pub(crate) async fn retype_volume(&self, ctx: &Ctx, id: VolumeId, new_type: &str, on_demand: bool) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let (volume, kind) = read!(self.db, "look at retype", |tx| {
            let volume = caller.volume(tx, id).await?;
            Ok((volume, types::find(tx, &caller.visible, new_type).await?))
        })?;
        let from = self.backend_of(&volume)?;
        let to = match self.suits(from, &kind).await? {
            true => None,
            false if !on_demand => {
                return Err(Error::bad_request("Retype requires migration but is not allowed."));
            }
            false => Some(self.backend_for(from, &kind, volume.size_gib).await?),
        };
        let now = self.clock.now();
        let retyped = tx!(self.db, "retype volume", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            types::keep(tx, kind.id).await?;
            self.check_retype(tx, &volume, &kind).await?;
            // What was found out of a pool says nothing of another.
            if volume.backend.as_deref() != Some(from.name.as_str()) {
                return Err(Error::conflict(format!("Volume {id} has just moved to another pool; try again.")));
            }
            let new = NewType { id: kind.id.to_string(), multiattach: kind.has("multiattach") };
            let Some(to) = to else {
                let after = VolumeRow { volume_type_id: Some(new.id), multiattach: new.multiattach, ..volume.clone() };
                return volumes::update(tx, &volume, &after, now).await;
            };
            let after = VolumeRow {
                status: VolumeStatus::Retyping,
                previous_status: Some(volume.status.name().to_owned()),
                migration_status: Some("starting".to_owned()),
                ..volume.clone()
            };
            begin_move(tx, &volume, (from, to), Some(new), (&ctx.request_id, now)).await?;
            volumes::update(tx, &volume, &after, now).await
        })?;
        match to {
            Some(_) => self.nudge(),
            None => self.limit_retyped(&retyped).await?,
        }
        Ok(())
    }

    /// Limits of the old type go where the new one has none.
    async fn limit_retyped(&self, volume: &VolumeRow) -> Result<()> {
        let limits = read!(self.db, "find a volume's limits", |tx| {
            let kind = type_of(tx, volume).await?;
            self.limits_of(tx, kind.as_ref(), volume.size_gib).await
        })?;
        self.backend_of(volume)?.pool.limit(&volume.disk, &limits).await
    }

    /// Moves the volume to another pool, with the server that has it. With `lock` nobody else uses it meanwhile; without,
    /// who attaches one that is free ends the move.
    pub(crate) async fn migrate_volume(&self, ctx: &Ctx, id: VolumeId, host: &str, lock: bool) -> Result<()> {
        let caller = Caller::of(ctx)?;
        caller.must_be_admin("volume_extension:volume_admin_actions:migrate_volume")?;
        let to = self.backend_at(host)?;
        let kind = read!(self.db, "look at migration", |tx| {
            let volume = caller.volume(tx, id).await?;
            type_of(tx, &volume).await
        })?;
        if let Some(kind) = &kind
            && !self.suits(to, kind).await?
        {
            return Err(Error::bad_request(format!(
                "Host '{host}' does not do what the volume's type {} asks for: retype it instead.",
                kind.name
            )));
        }
        let now = self.clock.now();
        tx!(self.db, "migrate volume", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            let from = self.backend_of(&volume)?;
            let usable = matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse);
            let free = !is_migrating(&volume) && volume.group_id.is_none();
            if !usable || !free || from.name == to.name || !snapshots::of_volume(tx, id).await?.is_empty() {
                return Err(invalid_volume(format!(
                    "Volume {id} status must be available or in-use, must not be migrating, have snapshots, be \
                     replicated, be part of a group and destination host/cluster must be different than the current \
                     one"
                )));
            }
            let mut after = volume.clone();
            after.migration_status = Some("starting".to_owned());
            if lock {
                after.previous_status = Some(volume.status.name().to_owned());
                after.status = VolumeStatus::Maintenance;
            }
            begin_move(tx, &volume, (from, to), None, (&ctx.request_id, now)).await?;
            volumes::update(tx, &volume, &after, now).await.map(drop)
        })?;
        self.nudge();
        Ok(())
    }

    /// Compute calls this once it has moved a volume of a server to another disk, or has `failed` to: of ours both are the
    /// same volume. Upstream's has swapped two; the answer is the one that stays.
    pub(crate) async fn complete_migration(
        &self,
        ctx: &Ctx,
        id: VolumeId,
        new: VolumeId,
        failed: bool,
    ) -> Result<VolumeId> {
        let caller = Caller::of(ctx)?;
        caller.must_be_admin("volume_extension:volume_admin_actions:migrate_volume_completion")?;
        let now = self.clock.now();
        let kept = tx!(self.db, "complete migration", |tx| {
            let volume = caller.lock_volume(tx, id).await?;
            if id == new {
                let known = live_move::complete(tx, &volume, failed, now).await?;
                return match known || failed || !is_migrating(&volume) {
                    true => Ok(id),
                    false => Err(invalid_volume("Source volume not mid-migration.")),
                };
            }
            let new = caller.volume(tx, new).await?;
            // Our migrations have one volume, never two: none of these can be the halves of one.
            match (is_migrating(&volume), is_migrating(&new)) {
                (false, false) => Ok(new.id),
                (false, true) => Err(invalid_volume("Source volume not mid-migration.")),
                (true, _) => Err(invalid_volume("Destination volume not mid-migration.")),
            }
        })?;
        self.nudge();
        Ok(kept)
    }

    /// The backend that a host string names, with its pool or without.
    pub(crate) fn backend_at(&self, host: &str) -> Result<&Backend> {
        let named = |backend: &&Backend| {
            let full = self.host_string(&backend.name);
            full == host || full.split('#').next() == Some(host)
        };
        let unknown = || Error::bad_request(format!("Invalid host: No available service named '{host}'"));
        self.backends.iter().find(named).ok_or_else(unknown)
    }

    fn backend_of(&self, volume: &VolumeRow) -> Result<&Backend> {
        let name = volume.backend.as_deref();
        self.backend(name.ok_or_else(|| invalid_volume(format!("Volume {} has no data yet.", volume.id)))?)
    }

    /// Whether the backend does what the type asks for.
    async fn suits(&self, backend: &Backend, kind: &VolumeType) -> Result<bool> {
        let capacity = backend.pool.capacity().await?;
        let allocated = read!(self.db, "sum a backend", |tx| volumes::allocated(tx, &backend.name).await)?;
        let abilities = capabilities::of(backend, Some(capacity), allocated, self.clock.now());
        Ok(capabilities::satisfy(&abilities, &kind.extra_specs))
    }

    /// The emptiest of the others that suits.
    async fn backend_for(&self, from: &Backend, kind: &VolumeType, size_gib: u64) -> Result<&Backend> {
        let mut best: Option<(u64, &Backend)> = None;
        for backend in self.backends.iter().filter(|backend| backend.name != from.name) {
            let free = backend.pool.capacity().await?.free;
            let larger = best.is_none_or(|(most, _)| free > most);
            if larger && free >= size_gib.saturating_mul(umbel_core::GIB) && self.suits(backend, kind).await? {
                best = Some((free, backend));
            }
        }
        let none = || Error::bad_request(format!("No valid backend was found for the volume type {}.", kind.name));
        best.map(|(_, backend)| backend).ok_or_else(none)
    }

    async fn check_retype(&self, tx: &mut Tx<Volume>, volume: &VolumeRow, kind: &VolumeType) -> Result<()> {
        let multiattach = kind.has("multiattach");
        if multiattach != volume.multiattach && volume.status != VolumeStatus::Available {
            return Err(Error::bad_request(format!(
                "Invalid input received: Invalid volume_type passed, retypes affecting multiattach are only allowed on \
                 available volumes, the specified volume however currently has a status of: {}.",
                volume.status
            )));
        }
        if encryption::get(tx, kind.id).await?.is_some() || volume.encrypted {
            return Err(Error::bad_request("A volume cannot be retyped to or from a type with encryption."));
        }
        let other = volume.volume_type_id.as_deref() != Some(kind.id.to_string().as_str());
        let usable = matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse);
        if !other || !usable || is_migrating(volume) || volume.group_id.is_some() {
            return Err(invalid_volume(NOT_FOR_RETYPE));
        }
        if volume.status == VolumeStatus::InUse {
            let old = type_of(tx, volume).await?;
            let old = front_end_specs(tx, old.as_ref()).await?;
            if old != front_end_specs(tx, Some(kind)).await? {
                return Err(invalid_volume(NOT_FOR_RETYPE));
            }
        }
        self.charge_type(tx, volume, kind).await
    }

    /// The limits of the new type alone: what all types share does not change.
    async fn charge_type(&self, tx: &mut Tx<Volume>, volume: &VolumeRow, kind: &VolumeType) -> Result<()> {
        quotas::lock(tx, &volume.project_id).await?;
        let limits = quotas::limits(tx, &self.config, &volume.project_id).await?;
        let used = quotas::usage(tx, &volume.project_id).await?;
        for (resource, more) in [("volumes", 1), ("gigabytes", volume.size_gib)] {
            let name = format!("{resource}_{}", kind.name);
            let Ok(limit) = u64::try_from(limits.get(&name).copied().unwrap_or(-1)) else {
                continue;
            };
            let used = used.get(&name).copied().unwrap_or(0);
            if used.saturating_add(more) > limit {
                let message = format!("Quota exceeded for '{name}': {more} asked for, {used} of {limit} used.");
                return Err(Error::new(Kind::TooLarge, message));
            }
        }
        Ok(())
    }
}

/// The flow that takes the volume's bytes elsewhere: with the server that has it, or alone. 400 with the reason if they
/// cannot go.
async fn begin_move(
    tx: &mut Tx<Volume>,
    volume: &VolumeRow,
    (from, to): (&Backend, &Backend),
    retype: Option<NewType>,
    (request_id, now): (&str, Timestamp),
) -> Result<()> {
    let id = volume.id;
    if !snapshots::of_volume(tx, id).await?.is_empty() {
        return Err(invalid_volume(format!("Volume {id} has snapshots, which cannot move to another pool.")));
    }
    // What an earlier one has left to do is to remove the disk that this one would make.
    for kind in [MoveFlow::KIND, LiveMoveFlow::KIND] {
        if umbel_workflow::pending(tx, kind, &id.to_string()).await? {
            return Err(Error::conflict(format!("An earlier move of volume {id} is not quite over; try again.")));
        }
    }
    let (from, to, disk) = (from.name.clone(), to.name.clone(), volume.disk.clone());
    if volume.status == VolumeStatus::Available {
        let state = Move { volume: id, from, to, disk, retype };
        return begin::<MoveFlow>(tx, id, MoveStep::Freeze, &state, request_id, now).await;
    }
    match attachments::of_volume(tx, id).await?.as_slice() {
        [one] if server_of(one).is_some() => {}
        [_] => return Err(invalid_volume(format!("Volume {id} is attached to a host that cannot move with it."))),
        _ => return Err(invalid_volume(format!("Volume {id} is attached to several servers."))),
    }
    let state = LiveMove { volume: id, from, to, disk, retype, told_at: None };
    begin::<LiveMoveFlow>(tx, id, LiveStep::Prepare, &state, request_id, now).await
}
