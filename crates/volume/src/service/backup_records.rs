//! Records of backups: what another cloud, or this one after the loss of its database, needs to use the data again.
//!
//! A record is JSON in base64, with upstream's names; `service_metadata` says where the data is in the place that
//! `backup_service` names. Importing one takes no data over: both backups use the same, and the last one that is deleted
//! takes it away. A record whose data is not there is refused; upstream accepts it and fails later.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use umbel_auth::Visible;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{read, tx};

use super::Caller;
use super::backup_restore::unreadable;
use super::backups::{backup_not_found, invalid_backup};
use crate::Volumes;
use crate::backup::Data;
use crate::store::backups::{self, Backup, BackupId, BackupStatus, Origin};
use crate::store::quotas::{self, Delta};

/// Upstream's members that say something here. What else a record has is passed over.
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    /// GiB.
    size: u64,
    volume_id: String,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    display_description: Option<String>,
    #[serde(default)]
    container: Option<String>,
    #[serde(default)]
    availability_zone: Option<String>,
    #[serde(default)]
    object_count: u64,
    #[serde(default)]
    parent_id: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Microseconds since 1970.
    #[serde(default)]
    umbel_timestamp: i64,
    service_metadata: Place,
}

#[derive(Serialize, Deserialize)]
struct Place {
    data: String,
    volume: String,
    base: String,
    parent: Option<String>,
    #[serde(default)]
    origin: Origin,
}

impl Volumes {
    /// The service's name and the record.
    pub(crate) async fn export_backup(&self, caller: &Caller, id: BackupId) -> Result<(String, String)> {
        let backup = read!(self.db, "export backup", |tx| {
            backups::get(tx, &caller.visible, id).await?.ok_or_else(|| backup_not_found(id))
        })?;
        if backup.status != BackupStatus::Available {
            let status = backup.status.name();
            return Err(invalid_backup(format!("Backup status must be available and not {status}.")));
        }
        let service = self.backups.get(&backup.target)?.service();
        let record = Record {
            id: id.to_string(),
            size: backup.size_gib,
            volume_id: backup.volume_id.to_string(),
            display_name: backup.name,
            display_description: backup.description,
            container: backup.container,
            availability_zone: backup.availability_zone,
            object_count: backup.object_count,
            parent_id: backup.parent_id.map(|id| id.to_string()),
            metadata: backup.metadata,
            umbel_timestamp: backup.data_timestamp.0,
            service_metadata: Place {
                data: backup.data.id,
                volume: backup.data.volume,
                base: backup.data.base,
                parent: backup.data.parent,
                origin: backup.origin,
            },
        };
        let json = serde_json::to_vec(&record).map_err(Error::internal)?;
        Ok((service, STANDARD.encode(json)))
    }

    /// The backup keeps the id that the record has: increments are chained by them.
    pub(crate) async fn import_backup(&self, caller: &Caller, service: &str, record: &str) -> Result<Backup> {
        let project = caller.project()?.to_owned();
        let backup = self.read_record(&project, &caller.user_id, service, record)?;
        if !self.backups.get(&backup.target)?.holds(&backup.data).await? {
            return Err(invalid_backup("The data that the record speaks of is not there."));
        }
        tx!(self.db, "import backup", |tx| {
            if backups::get(tx, &Visible::All, backup.id).await?.is_some() {
                return Err(invalid_backup("Backup already exists in database."));
            }
            if backups::is_leaving(tx, &backup).await? {
                return Err(invalid_backup("The data that the record speaks of are being deleted."));
            }
            let delta = Delta { backups: 1, backup_gigabytes: backup.size_gib, ..Delta::default() };
            quotas::charge(tx, &self.config, &project, None, delta).await?;
            backups::insert(tx, &backup).await
        })?;
        Ok(backup)
    }

    fn read_record(&self, project: &str, user: &str, service: &str, text: &str) -> Result<Backup> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| unreadable())?;
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| unreadable().because(error))?;
        let bad = |error: Error| unreadable().because(error.message());
        let target = self
            .backups
            .by_service(service)
            .ok_or_else(|| Error::unavailable(format!("Service {service} could not be found.")))?;
        let now = self.clock.now();
        let place = record.service_metadata;
        for id in [&place.data, &place.volume, &place.base].into_iter().chain(&place.parent) {
            // They become names of files and disks.
            id.parse::<BackupId>().map_err(bad)?;
        }
        Ok(Backup {
            id: record.id.parse().map_err(bad)?,
            generation: Default::default(),
            project_id: project.to_owned(),
            user_id: user.to_owned(),
            name: record.display_name,
            description: record.display_description,
            status: BackupStatus::Available,
            fail_reason: None,
            volume_id: record.volume_id.parse().map_err(bad)?,
            size_gib: record.size,
            snapshot_id: None,
            parent_id: record.parent_id.map(|id| id.parse()).transpose().map_err(bad)?,
            container: record.container,
            availability_zone: record.availability_zone,
            metadata: record.metadata,
            origin: place.origin,
            object_count: record.object_count,
            progress: None,
            target: target.name().to_owned(),
            data: Data {
                id: place.data,
                volume: place.volume,
                base: place.base,
                parent: place.parent,
                size: record.size.saturating_mul(umbel_core::GIB),
            },
            source_snapshot: None,
            own_snapshot: false,
            restore_volume_id: None,
            data_timestamp: Timestamp(record.umbel_timestamp),
            created_at: now,
            updated_at: None,
        })
    }
}
