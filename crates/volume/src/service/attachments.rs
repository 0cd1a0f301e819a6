//! Volumes for servers: the rules of reserving, connecting and letting go.
//!
//! The rows of attachments are the truth, and the volume's status follows from them wherever nothing else goes on with
//! the volume ([`rest_status`]). What goes on with it (an upload, a backup) keeps the status of its own, and returns to
//! what the attachments say by then, whatever they said when it began.
//!
//! A volume that is still being filled is not reserved, unlike upstream: its end would write over the reservation.

use serde_json::{Map, Value};
use umbel_auth::Visible;
use umbel_core::{Ctx, Error, Id, Result};
use umbel_db::{Tx, read, tx};

use super::connections::Way;
use super::{Caller, invalid_volume};
use crate::Volumes;
use crate::model::{VolumeId, VolumeRow, VolumeStatus};
use crate::store::attachments::{self, AttachStatus, AttachmentFilter, AttachmentId, AttachmentRow};
use crate::store::{Volume, volumes};

/// What a caller wants to attach where.
pub(crate) struct Wanted {
    pub volume: VolumeId,
    pub instance: Option<String>,
    pub connector: Option<Map<String, Value>>,
    pub mode: Option<String>,
}

/// An attachment, and the way to its volume if a host was named.
pub(crate) struct Seen {
    pub row: AttachmentRow,
    pub way: Option<Way>,
}

impl Volumes {
    /// Reserves the volume; with a connector, gives the way to it too.
    pub(crate) async fn create_attachment(&self, ctx: &Ctx, wanted: &Wanted) -> Result<Seen> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        let id: AttachmentId = Id::random(&*self.rng);
        tx!(self.db, "reserve volume", |tx| {
            let volume = caller.lock_volume(tx, wanted.volume).await?;
            let others = attachments::of_volume(tx, volume.id).await?;
            let status = reserved_status(&volume, &others, wanted.instance.as_deref())?;
            let mut row = AttachmentRow {
                id,
                volume_id: volume.id,
                status: AttachStatus::Reserved,
                instance_id: wanted.instance.clone(),
                host: None,
                mountpoint: None,
                mode: mode_of(&volume, wanted.mode.as_deref())?,
                connector: None,
                created_at: now,
                attached_at: None,
            };
            let mut volume = volumes::set_status(tx, &volume, status, now).await?;
            if let Some(connector) = &wanted.connector {
                connect(&volume, &mut row, &others, connector)?;
                if status == VolumeStatus::Reserved {
                    volume = volumes::set_status(tx, &volume, VolumeStatus::Attaching, now).await?;
                }
            }
            attachments::insert(tx, &row).await?;
            self.seen(tx, row, &volume).await
        })
    }

    /// Names the host that will open the volume; once more for another host, which leaves an attachment that is complete
    /// as it is.
    pub(crate) async fn connect_attachment(
        &self,
        ctx: &Ctx,
        id: AttachmentId,
        connector: &Map<String, Value>,
    ) -> Result<Seen> {
        if connector.is_empty() {
            return Err(Error::bad_request("The connector is empty."));
        }
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "connect volume", |tx| {
            let (mut row, volume) = held(tx, &caller.visible, id).await?;
            if is_faulty(volume.status) {
                return Err(Error::conflict(format!(
                    "Volume attachments can not be updated if the volume is in an error state. The Volume {} \
                     currently has a status of: {}",
                    volume.id, volume.status
                )));
            }
            let others = attachments::of_volume(tx, volume.id).await?;
            connect(&volume, &mut row, &others, connector)?;
            attachments::update(tx, &row).await?;
            let attaching = row.status == AttachStatus::Attaching && volume.status == VolumeStatus::Reserved;
            let volume = match attaching {
                true => volumes::set_status(tx, &volume, VolumeStatus::Attaching, now).await?,
                false => volume,
            };
            self.seen(tx, row, &volume).await
        })
    }

    /// The host has opened the volume.
    pub(crate) async fn complete_attachment(&self, ctx: &Ctx, id: AttachmentId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "complete attachment", |tx| {
            let (row, volume) = held(tx, &caller.visible, id).await?;
            let attached_at = row.attached_at.or(Some(now));
            let row = AttachmentRow { status: AttachStatus::Attached, attached_at, ..row.clone() };
            attachments::update(tx, &row).await?;
            settle(tx, &volume, now).await
        })
    }

    /// Lets go of the volume; the attachments that are left of it.
    ///
    /// # Errors
    /// `Conflict` if a server may have it open, and the caller is not the service that takes it from the server.
    pub(crate) async fn delete_attachment(&self, ctx: &Ctx, id: AttachmentId) -> Result<Vec<AttachmentRow>> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        let find = read!(self.db, "find attachment", |tx| attachments::get(tx, &caller.visible, id).await)?;
        self.check_let_go(ctx, &find.ok_or_else(|| not_found(id))?).await?;
        tx!(self.db, "delete attachment", |tx| {
            let (row, volume) = held(tx, &caller.visible, id).await?;
            attachments::delete(tx, row.id).await?;
            settle(tx, &volume, now).await?;
            attachments::of_volume(tx, volume.id).await
        })
    }

    pub(crate) async fn show_attachment(&self, ctx: &Ctx, id: AttachmentId) -> Result<Seen> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "show attachment", |tx| {
            let row = attachments::get(tx, &caller.visible, id).await?.ok_or_else(|| not_found(id))?;
            let volume = volumes::get_any(tx, row.volume_id).await?.ok_or_else(|| not_found(id))?;
            self.seen(tx, row, &volume).await
        })
    }

    /// Of the caller's project; of all if an administrator or a service says so. With `detail` the ways come along.
    pub(crate) async fn list_attachments(
        &self,
        ctx: &Ctx,
        filter: &AttachmentFilter,
        all_projects: bool,
        detail: bool,
    ) -> Result<Vec<Seen>> {
        let caller = Caller::of(ctx)?;
        let visible = caller.listed(all_projects);
        read!(self.db, "list attachments", |tx| {
            let mut found = Vec::new();
            for row in attachments::list(tx, &visible, filter).await? {
                let volume = match detail {
                    true => volumes::get_any(tx, row.volume_id).await?,
                    false => None,
                };
                found.push(match volume {
                    Some(volume) => self.seen(tx, row, &volume).await?,
                    None => Seen { row, way: None },
                });
            }
            Ok(found)
        })
    }

    async fn seen(&self, tx: &mut Tx<Volume>, row: AttachmentRow, volume: &VolumeRow) -> Result<Seen> {
        let way = match row.is_connected() {
            true => Some(self.way(tx, volume, row.mode.as_deref()).await?),
            false => None,
        };
        Ok(Seen { row, way })
    }

    /// Whether the caller may end this attachment. A user who ended one behind a running server's back would give its
    /// bytes to the next who attaches the volume; upstream refuses for the same reason (its bug 2004555).
    pub(crate) async fn check_let_go(&self, ctx: &Ctx, row: &AttachmentRow) -> Result<()> {
        let Some(server) = row.instance_id.as_deref().filter(|_| row.is_connected()) else {
            return Ok(());
        };
        let (volume, attachment) = (row.volume_id.to_string(), row.id.to_string());
        if ctx.is_service() || !self.servers.holds(server, &volume, &attachment).await? {
            return Ok(());
        }
        Err(Error::conflict(format!("Detach volume from instance {server} using the Compute API")))
    }
}

pub(crate) fn not_found(id: AttachmentId) -> Error {
    Error::not_found(format!("Volume attachment could not be found with filter: attachment_id = {id}."))
}

/// The attachment, with its volume locked: all who change attachments wait for each other there.
async fn held(tx: &mut Tx<Volume>, visible: &Visible, id: AttachmentId) -> Result<(AttachmentRow, VolumeRow)> {
    let missing = || not_found(id);
    let row = attachments::get(tx, visible, id).await?.ok_or_else(missing)?;
    let volume = volumes::lock_any(tx, row.volume_id).await?.ok_or_else(missing)?;
    // What was read before the lock may have changed since.
    let row = attachments::get(tx, visible, id).await?.ok_or_else(missing)?;
    Ok((row, volume))
}

fn is_faulty(status: VolumeStatus) -> bool {
    status.name().contains("error")
}

/// What the volume's status becomes by a reservation for this server.
fn reserved_status(volume: &VolumeRow, others: &[AttachmentRow], instance: Option<&str>) -> Result<VolumeStatus> {
    let (id, status) = (volume.id, volume.status);
    if is_faulty(status) {
        return Err(invalid_volume(format!(
            "Volume attachments can not be created if the volume is in an error state. The Volume {id} currently has \
             a status of: {status}"
        )));
    }
    if is_migrating(volume) && status == VolumeStatus::Available {
        return Err(invalid_volume(format!(
            "Volume {id} is migrating to another pool and cannot be reserved until then."
        )));
    }
    let free = match volume.multiattach {
        true => &[VolumeStatus::Available, VolumeStatus::InUse][..],
        false => &[VolumeStatus::Available][..],
    };
    if free.contains(&status) {
        return Ok(VolumeStatus::Reserved);
    }
    // A server that moves to another host has it twice for a while.
    let same_server = instance.is_some() && others.iter().any(|other| other.instance_id.as_deref() == instance);
    if same_server && matches!(status, VolumeStatus::InUse | VolumeStatus::Reserved) {
        return Ok(status);
    }
    let names: Vec<&str> = free.iter().map(|status| status.name()).collect();
    Err(invalid_volume(format!(
        "Volume {id} status must be {} to reserve, but the current status is {status}.",
        names.join(" or ")
    )))
}

/// Notes the host. `BadRequest` for a mode that the volume does not allow, `Conflict` if another server has it.
fn connect(
    volume: &VolumeRow,
    row: &mut AttachmentRow,
    others: &[AttachmentRow],
    connector: &Map<String, Value>,
) -> Result<()> {
    let elsewhere = |other: &&AttachmentRow| {
        let same_server = other.instance_id.is_some() && other.instance_id == row.instance_id;
        other.id != row.id && other.is_connected() && !same_server
    };
    if !volume.multiattach && others.iter().any(|other| elsewhere(&other)) {
        return Err(Error::conflict(format!("duplicate connectors detected on volume {}", volume.id)));
    }
    let text = |name: &str| connector.get(name).and_then(Value::as_str).map(str::to_owned);
    if row.mode.is_none() {
        row.mode = mode_of(volume, text("mode").as_deref())?.or(Some("rw".to_owned()));
    }
    row.host = text("host").or(row.host.take());
    row.mountpoint = text("mountpoint").or(row.mountpoint.take());
    row.connector = Some(connector.clone());
    if row.status == AttachStatus::Reserved {
        row.status = AttachStatus::Attaching;
    }
    Ok(())
}

/// The mode of an attachment that asks for this one: a volume that is read-only gives nothing else.
pub(crate) fn mode_of(volume: &VolumeRow, asked: Option<&str>) -> Result<Option<String>> {
    match asked {
        Some("rw") if volume.read_only => {
            Err(Error::bad_request(format!("Invalid attaching mode 'rw' for volume {}.", volume.id)))
        }
        Some(mode @ ("rw" | "ro")) => Ok(Some(mode.to_owned())),
        Some("null") | None => Ok(volume.read_only.then(|| "ro".to_owned())),
        Some(other) => Err(Error::bad_request(format!("'{other}' is no mode of an attachment: rw or ro."))),
    }
}

pub(crate) fn is_migrating(volume: &VolumeRow) -> bool {
    matches!(volume.migration_status.as_deref(), Some("starting" | "migrating" | "completing"))
}

/// 400 for a volume whose guest is going over to another disk: what is asked of the old one is not asked of the volume.
pub(crate) fn check_still(volume: &VolumeRow) -> Result<()> {
    match is_migrating(volume) && volume.status == VolumeStatus::InUse {
        true => Err(invalid_volume(format!("Volume {} is migrating to another pool.", volume.id))),
        false => Ok(()),
    }
}

/// What a volume's status is by its attachments alone.
pub(crate) async fn rest_status(tx: &mut Tx<Volume>, id: VolumeId) -> Result<VolumeStatus> {
    let rows = attachments::of_volume(tx, id).await?;
    Ok(status_by(&rows))
}

fn status_by(rows: &[AttachmentRow]) -> VolumeStatus {
    let any = |status: AttachStatus| rows.iter().any(|row| row.status == status);
    if any(AttachStatus::Attached) {
        VolumeStatus::InUse
    } else if any(AttachStatus::Attaching) {
        VolumeStatus::Attaching
    } else if any(AttachStatus::Reserved) {
        VolumeStatus::Reserved
    } else {
        VolumeStatus::Available
    }
}

/// Brings the volume's status in line with its attachments, after one of them has changed.
pub(crate) async fn settle(tx: &mut Tx<Volume>, volume: &VolumeRow, now: umbel_core::Timestamp) -> Result<()> {
    let rest = rest_status(tx, volume.id).await?;
    let mut after = volume.clone();
    match volume.status {
        VolumeStatus::Available
        | VolumeStatus::Reserved
        | VolumeStatus::Attaching
        | VolumeStatus::Detaching
        | VolumeStatus::InUse => after.status = rest,
        // Nobody has it any more: that ends what went wrong with its attachment.
        VolumeStatus::Error if rest == VolumeStatus::Available && volume.error.is_none() => after.status = rest,
        _ if volume.previous_status.is_some() => after.previous_status = Some(rest.name().to_owned()),
        _ => {}
    }
    match after == *volume {
        true => Ok(()),
        false => volumes::update(tx, volume, &after, now).await.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use umbel_core::{SeededRng, Timestamp};

    use super::*;

    fn volume(status: VolumeStatus) -> VolumeRow {
        let id = Id::random(&SeededRng::new(7));
        VolumeRow { status, ..VolumeRow::new(id, "p", "u", 1, Timestamp(0)) }
    }

    fn attachment(volume: &VolumeRow, server: &str, status: AttachStatus) -> AttachmentRow {
        AttachmentRow {
            id: Id::random(&SeededRng::new(8)),
            volume_id: volume.id,
            status,
            instance_id: Some(server.to_owned()),
            host: None,
            mountpoint: None,
            mode: None,
            connector: None,
            created_at: Timestamp(0),
            attached_at: None,
        }
    }

    #[test]
    fn one_server_at_a_time_unless_the_volume_allows_more() {
        let check = |status: VolumeStatus, multiattach: bool, server: &str, expected: Option<VolumeStatus>| {
            let volume = VolumeRow { multiattach, ..volume(status) };
            let others = [attachment(&volume, "one", AttachStatus::Attached)];
            let found = reserved_status(&volume, &others, Some(server)).ok();
            assert_eq!(found, expected, "{status} {multiattach} {server}");
        };
        check(VolumeStatus::Available, false, "two", Some(VolumeStatus::Reserved));
        check(VolumeStatus::InUse, false, "two", None);
        check(VolumeStatus::InUse, true, "two", Some(VolumeStatus::Reserved));
        check(VolumeStatus::Reserved, true, "two", None);
        check(VolumeStatus::InUse, false, "one", Some(VolumeStatus::InUse));
        check(VolumeStatus::Reserved, false, "one", Some(VolumeStatus::Reserved));
        check(VolumeStatus::Uploading, false, "one", None);
        check(VolumeStatus::Downloading, true, "two", None);
        check(VolumeStatus::Error, true, "two", None);
    }

    #[test]
    fn what_a_volume_is_follows_from_who_has_it() {
        let volume = volume(VolumeStatus::InUse);
        let check = |statuses: &[AttachStatus], expected: VolumeStatus| {
            let rows: Vec<_> = statuses.iter().map(|status| attachment(&volume, "s", *status)).collect();
            assert_eq!(status_by(&rows), expected);
        };
        check(&[], VolumeStatus::Available);
        check(&[AttachStatus::Reserved], VolumeStatus::Reserved);
        check(&[AttachStatus::Reserved, AttachStatus::Attaching], VolumeStatus::Attaching);
        check(&[AttachStatus::Reserved, AttachStatus::Attached], VolumeStatus::InUse);
    }

    #[test]
    fn a_volume_that_is_read_only_is_never_written() {
        let volume = VolumeRow { read_only: true, ..volume(VolumeStatus::Available) };
        assert!(mode_of(&volume, Some("rw")).is_err());
        assert_eq!(mode_of(&volume, None).unwrap().as_deref(), Some("ro"));
        assert_eq!(mode_of(&volume, Some("ro")).unwrap().as_deref(), Some("ro"));
        assert!(mode_of(&volume, Some("rx")).is_err());
    }
}
