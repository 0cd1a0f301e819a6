//! Volumes handed from one project to another.
//!
//! The giver gets a key and tells it to the receiver by ways of their own. Of the key only a hash is kept, with a salt,
//! and compared in constant time: whoever reads the database cannot take the volumes on offer.

use ring::hmac;
use umbel_auth::Visible;
use umbel_core::{Ctx, Error, Id, Kind, Result};
use umbel_db::{Tx, read, tx};

use super::{Caller, invalid_snapshot, invalid_volume};
use crate::Volumes;
use crate::model::{SnapshotRow, SnapshotStatus, VolumeId, VolumeRow, VolumeStatus};
use crate::store::quotas::{self, Delta};
use crate::store::transfers::{self, TransferFilter, TransferId, TransferRow};
use crate::store::{Volume, snapshots, types, volumes};

pub(crate) struct NewTransfer {
    pub volume: VolumeId,
    pub name: Option<String>,
    pub no_snapshots: bool,
    /// The caller's version of the API has transfers of encrypted volumes.
    pub encrypted: bool,
}

/// A transfer, and the key that nobody can tell a second time.
pub(crate) struct Offered {
    pub row: TransferRow,
    pub key: String,
}

impl Volumes {
    pub(crate) async fn offer_volume(&self, ctx: &Ctx, new: &NewTransfer) -> Result<Offered> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        let (id, salt, key): (TransferId, _, _) = (Id::random(&*self.rng), self.hex::<8>(), self.hex::<16>());
        let row = tx!(self.db, "offer volume", |tx| {
            let volume = caller.lock_volume(tx, new.volume).await?;
            check_offer(&volume, new)?;
            if !new.no_snapshots {
                for snapshot in snapshots::of_volume(tx, volume.id).await? {
                    check_snapshot(&snapshot)?;
                }
            }
            let row = TransferRow {
                id,
                volume_id: volume.id,
                name: new.name.clone(),
                salt: salt.clone(),
                key_hash: hash(&salt, &key),
                no_snapshots: new.no_snapshots,
                source_project_id: volume.project_id.clone(),
                created_at: now,
            };
            // One that was left behind when an administrator set the volume's status.
            transfers::delete_of_volume(tx, volume.id).await?;
            transfers::insert(tx, &row).await?;
            volumes::set_status(tx, &volume, VolumeStatus::AwaitingTransfer, now).await?;
            Ok(row)
        })?;
        Ok(Offered { row, key })
    }

    /// The volume, and its snapshots unless the giver keeps them, become the caller's and count for its quota.
    pub(crate) async fn accept_volume(&self, ctx: &Ctx, id: TransferId, key: &str) -> Result<TransferRow> {
        let caller = Caller::of(ctx)?;
        let project = caller.project()?;
        let now = self.clock.now();
        tx!(self.db, "accept volume", |tx| {
            let row = transfers::get(tx, &Visible::All, id).await?.ok_or_else(|| not_found(id))?;
            if !fits(&row, key) {
                let message = format!("Invalid auth key: Attempt to transfer {id} with invalid auth key.");
                return Err(Error::bad_request(message));
            }
            let volume = volumes::lock(tx, &Visible::All, row.volume_id).await?.ok_or_else(|| not_found(id))?;
            // The lock may have waited for another who accepted it.
            transfers::get(tx, &Visible::All, id).await?.ok_or_else(|| not_found(id))?;
            if volume.status != VolumeStatus::AwaitingTransfer {
                return Err(invalid_volume(format!("status must be awaiting-transfer, and is {}", volume.status)));
            }
            let kept = match row.no_snapshots {
                true => Vec::new(),
                false => snapshots::of_volume(tx, volume.id).await?,
            };
            if volume.project_id != project {
                self.charge_moved(tx, project, &volume, &kept).await?;
            }
            for snapshot in &kept {
                check_snapshot(snapshot)?;
                let after =
                    SnapshotRow { project_id: project.to_owned(), user_id: caller.user_id.clone(), ..snapshot.clone() };
                snapshots::update(tx, snapshot, &after, now).await?;
            }
            let after = VolumeRow {
                project_id: project.to_owned(),
                user_id: caller.user_id.clone(),
                status: VolumeStatus::Available,
                ..volume.clone()
            };
            volumes::update(tx, &volume, &after, now).await?;
            transfers::delete(tx, id).await?;
            Ok(row)
        })
    }

    async fn charge_moved(
        &self,
        tx: &mut Tx<Volume>,
        project: &str,
        volume: &VolumeRow,
        moved: &[SnapshotRow],
    ) -> Result<()> {
        let of_type = type_name(tx, volume).await?;
        quotas::check_size(tx, &self.config, project, volume.size_gib).await?;
        let delta = Delta {
            volumes: 1,
            gigabytes: volume.size_gib + moved.iter().map(|snapshot| snapshot.size_gib).sum::<u64>(),
            snapshots: moved.len() as u64,
            ..Delta::default()
        };
        quotas::charge(tx, &self.config, project, of_type.as_deref(), delta).await
    }

    /// Withdraws the offer.
    pub(crate) async fn withdraw_volume(&self, ctx: &Ctx, id: TransferId) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "withdraw volume", |tx| {
            let row = transfers::get(tx, &caller.visible, id).await?.ok_or_else(|| not_found(id))?;
            let volume = volumes::lock(tx, &Visible::All, row.volume_id).await?;
            if !transfers::delete(tx, id).await? {
                return Err(not_found(id));
            }
            match volume {
                Some(volume) if volume.status == VolumeStatus::AwaitingTransfer => {
                    volumes::set_status(tx, &volume, VolumeStatus::Available, now).await.map(drop)
                }
                _ => Ok(()),
            }
        })
    }

    pub(crate) async fn show_transfer(&self, ctx: &Ctx, id: TransferId) -> Result<TransferRow> {
        let caller = Caller::of(ctx)?;
        let found = read!(self.db, "show transfer", |tx| transfers::get(tx, &caller.visible, id).await)?;
        found.ok_or_else(|| not_found(id))
    }

    /// Of the caller's project; of all if an administrator says so.
    pub(crate) async fn list_transfers(
        &self,
        ctx: &Ctx,
        filter: &TransferFilter,
        all_projects: bool,
    ) -> Result<Vec<TransferRow>> {
        let visible = Caller::of(ctx)?.listed(all_projects);
        read!(self.db, "list transfers", |tx| transfers::list(tx, &visible, filter).await)
    }

    /// So many random hexadecimal digits.
    fn hex<const DIGITS: usize>(&self) -> String {
        let mut bytes = [0; DIGITS];
        self.rng.fill(&mut bytes);
        bytes.iter().map(|byte| char::from(b"0123456789abcdef"[usize::from(byte % 16)])).collect()
    }
}

/// The name of a volume's type, as quotas know it.
pub(crate) async fn type_name(tx: &mut Tx<Volume>, volume: &VolumeRow) -> Result<Option<String>> {
    let Some(id) = volume.volume_type_id.as_deref().and_then(|id| id.parse().ok()) else {
        return Ok(None);
    };
    Ok(types::get(tx, &Visible::All, id).await?.map(|found| found.name))
}

fn not_found(id: TransferId) -> Error {
    Error::new(Kind::NotFound, format!("Transfer {id} could not be found."))
}

fn check_offer(volume: &VolumeRow, new: &NewTransfer) -> Result<()> {
    if volume.status != VolumeStatus::Available || super::attachments::is_migrating(volume) {
        return Err(invalid_volume("status must be available"));
    }
    if volume.group_id.is_some() {
        return Err(invalid_volume(format!("Volume {} must not be part of a group.", volume.id)));
    }
    match volume.encrypted {
        true if !new.encrypted => Err(invalid_volume("transferring encrypted volume is not supported")),
        true if new.no_snapshots => {
            Err(invalid_volume("transferring an encrypted volume without its snapshots is not supported"))
        }
        _ => Ok(()),
    }
}

fn check_snapshot(snapshot: &SnapshotRow) -> Result<()> {
    match snapshot.status {
        SnapshotStatus::Available => Ok(()),
        _ => Err(invalid_snapshot(format!("snapshot: {} status must be available", snapshot.id))),
    }
}

fn hash(salt: &str, key: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes()), key.as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fits(row: &TransferRow, key: &str) -> bool {
    // Compared byte by byte without stopping at the first that differs.
    let (given, kept) = (hash(&row.salt, key), &row.key_hash);
    let differ = given.bytes().zip(kept.bytes()).fold(0, |differ, (one, other)| differ | (one ^ other));
    given.len() == kept.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use umbel_core::{SeededRng, Timestamp};

    use super::*;

    #[test]
    fn only_the_key_opens_a_transfer() {
        let id = Id::random(&SeededRng::new(1));
        let row = TransferRow {
            id,
            volume_id: Id::random(&SeededRng::new(2)),
            name: None,
            salt: "5a17".into(),
            key_hash: hash("5a17", "0123456789abcdef"),
            no_snapshots: false,
            source_project_id: "p".into(),
            created_at: Timestamp(0),
        };
        assert!(fits(&row, "0123456789abcdef"));
        for wrong in ["", "0123456789abcdee", "0123456789abcdef0", &row.key_hash] {
            assert!(!fits(&row, wrong), "{wrong}");
        }
    }
}
