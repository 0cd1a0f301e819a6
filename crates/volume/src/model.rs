//! Volumes and snapshots as the service knows them.

use std::collections::BTreeMap;

use umbel_core::{Generation, Id, Timestamp};

pub type VolumeId = Id<VolumeRow>;
pub type SnapshotId = Id<SnapshotRow>;

/// What may happen to a volume next. Names are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VolumeStatus {
    Creating,
    Available,
    Reserved,
    Attaching,
    Detaching,
    InUse,
    Maintenance,
    Deleting,
    AwaitingTransfer,
    Error,
    ErrorDeleting,
    BackingUp,
    RestoringBackup,
    ErrorBackingUp,
    ErrorRestoring,
    ErrorExtending,
    Downloading,
    Uploading,
    Retyping,
    Extending,
    Reverting,
    Managing,
    Unmanaging,
    ErrorManaging,
}

impl VolumeStatus {
    pub const ALL: &'static [VolumeStatus] = &[
        VolumeStatus::Creating,
        VolumeStatus::Available,
        VolumeStatus::Reserved,
        VolumeStatus::Attaching,
        VolumeStatus::Detaching,
        VolumeStatus::InUse,
        VolumeStatus::Maintenance,
        VolumeStatus::Deleting,
        VolumeStatus::AwaitingTransfer,
        VolumeStatus::Error,
        VolumeStatus::ErrorDeleting,
        VolumeStatus::BackingUp,
        VolumeStatus::RestoringBackup,
        VolumeStatus::ErrorBackingUp,
        VolumeStatus::ErrorRestoring,
        VolumeStatus::ErrorExtending,
        VolumeStatus::Downloading,
        VolumeStatus::Uploading,
        VolumeStatus::Retyping,
        VolumeStatus::Extending,
        VolumeStatus::Reverting,
        VolumeStatus::Managing,
        VolumeStatus::Unmanaging,
        VolumeStatus::ErrorManaging,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            VolumeStatus::Creating => "creating",
            VolumeStatus::Available => "available",
            VolumeStatus::Reserved => "reserved",
            VolumeStatus::Attaching => "attaching",
            VolumeStatus::Detaching => "detaching",
            VolumeStatus::InUse => "in-use",
            VolumeStatus::Maintenance => "maintenance",
            VolumeStatus::Deleting => "deleting",
            VolumeStatus::AwaitingTransfer => "awaiting-transfer",
            VolumeStatus::Error => "error",
            VolumeStatus::ErrorDeleting => "error_deleting",
            VolumeStatus::BackingUp => "backing-up",
            VolumeStatus::RestoringBackup => "restoring-backup",
            VolumeStatus::ErrorBackingUp => "error_backing-up",
            VolumeStatus::ErrorRestoring => "error_restoring",
            VolumeStatus::ErrorExtending => "error_extending",
            VolumeStatus::Downloading => "downloading",
            VolumeStatus::Uploading => "uploading",
            VolumeStatus::Retyping => "retyping",
            VolumeStatus::Extending => "extending",
            VolumeStatus::Reverting => "reverting",
            VolumeStatus::Managing => "managing",
            VolumeStatus::Unmanaging => "unmanaging",
            VolumeStatus::ErrorManaging => "error_managing",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.name() == name)
    }
}

impl std::fmt::Display for VolumeStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What may happen to a snapshot next. Names are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotStatus {
    Creating,
    Available,
    Deleting,
    Error,
    ErrorDeleting,
    BackingUp,
    Restoring,
    Unmanaging,
}

impl SnapshotStatus {
    pub const ALL: &'static [SnapshotStatus] = &[
        SnapshotStatus::Creating,
        SnapshotStatus::Available,
        SnapshotStatus::Deleting,
        SnapshotStatus::Error,
        SnapshotStatus::ErrorDeleting,
        SnapshotStatus::BackingUp,
        SnapshotStatus::Restoring,
        SnapshotStatus::Unmanaging,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            SnapshotStatus::Creating => "creating",
            SnapshotStatus::Available => "available",
            SnapshotStatus::Deleting => "deleting",
            SnapshotStatus::Error => "error",
            SnapshotStatus::ErrorDeleting => "error_deleting",
            SnapshotStatus::BackingUp => "backing-up",
            SnapshotStatus::Restoring => "restoring",
            SnapshotStatus::Unmanaging => "unmanaging",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.name() == name)
    }

    /// Whether nothing is under way with it, so that it may be deleted without force.
    pub const fn is_deletable(self) -> bool {
        matches!(self, SnapshotStatus::Available | SnapshotStatus::Error | SnapshotStatus::ErrorDeleting)
    }
}

impl std::fmt::Display for SnapshotStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A volume. Metadata come with it; the maps are written by [`crate::store::metadata`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRow {
    pub id: VolumeId,
    pub generation: Generation,
    pub project_id: String,
    pub user_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub size_gib: u64,
    pub status: VolumeStatus,
    pub previous_status: Option<String>,
    pub migration_status: Option<String>,
    pub volume_type_id: Option<String>,
    /// Name of the backend that has its disk; none before one is chosen.
    pub backend: Option<String>,
    /// Name of its disk in the backend's pool.
    pub disk: String,
    pub availability_zone: String,
    pub bootable: bool,
    pub multiattach: bool,
    pub encrypted: bool,
    pub read_only: bool,
    pub snapshot_id: Option<String>,
    pub source_volid: Option<String>,
    pub image_id: Option<String>,
    pub backup_id: Option<String>,
    pub group_id: Option<String>,
    /// Why the last operation failed.
    pub error: Option<String>,
    /// Percent of what goes on, while something does.
    pub progress: Option<u64>,
    /// Whether it counts for its project's quota.
    pub use_quota: bool,
    pub created_at: Timestamp,
    /// That of its creation until something changes it.
    pub updated_at: Timestamp,
    pub launched_at: Option<Timestamp>,
    /// Nobody sees it any more, and its data go away.
    pub deleted: bool,
    pub metadata: BTreeMap<String, String>,
    /// Of the image that it was made from.
    pub image_metadata: BTreeMap<String, String>,
    /// The service's own: `readonly`.
    pub admin_metadata: BTreeMap<String, String>,
}

impl VolumeRow {
    /// A new one in the status `creating`.
    pub fn new(id: VolumeId, project_id: &str, user_id: &str, size_gib: u64, now: Timestamp) -> Self {
        VolumeRow {
            id,
            generation: Generation::default(),
            project_id: project_id.to_owned(),
            user_id: user_id.to_owned(),
            name: None,
            description: None,
            size_gib,
            status: VolumeStatus::Creating,
            previous_status: None,
            migration_status: None,
            volume_type_id: None,
            backend: None,
            disk: disk_name(id),
            availability_zone: String::new(),
            bootable: false,
            multiattach: false,
            encrypted: false,
            read_only: false,
            snapshot_id: None,
            source_volid: None,
            image_id: None,
            backup_id: None,
            group_id: None,
            error: None,
            progress: None,
            use_quota: true,
            created_at: now,
            updated_at: now,
            launched_at: None,
            deleted: false,
            metadata: BTreeMap::new(),
            image_metadata: BTreeMap::new(),
            admin_metadata: BTreeMap::new(),
        }
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_gib.saturating_mul(umbel_core::GIB)
    }
}

/// Upstream's name of a volume's disk.
pub fn disk_name(id: VolumeId) -> String {
    format!("volume-{id}")
}

/// Upstream's name of a snapshot in its pool.
pub fn snapshot_name(id: SnapshotId) -> String {
    format!("snapshot-{id}")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    pub id: SnapshotId,
    pub generation: Generation,
    pub project_id: String,
    pub user_id: String,
    pub volume_id: VolumeId,
    pub name: Option<String>,
    pub description: Option<String>,
    pub status: SnapshotStatus,
    /// Percent.
    pub progress: u64,
    pub size_gib: u64,
    pub volume_type_id: Option<String>,
    pub group_snapshot_id: Option<String>,
    /// Name in the pool.
    pub disk_snapshot: String,
    /// Whether it counts for its project's quota.
    pub use_quota: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub deleted: bool,
    pub metadata: BTreeMap<String, String>,
}

impl SnapshotRow {
    /// A new one of this volume, in the status `creating`.
    pub fn new(id: SnapshotId, volume: &VolumeRow, user_id: &str, now: Timestamp) -> Self {
        SnapshotRow {
            id,
            generation: Generation::default(),
            project_id: volume.project_id.clone(),
            user_id: user_id.to_owned(),
            volume_id: volume.id,
            name: None,
            description: None,
            status: SnapshotStatus::Creating,
            progress: 0,
            size_gib: volume.size_gib,
            volume_type_id: volume.volume_type_id.clone(),
            group_snapshot_id: None,
            disk_snapshot: snapshot_name(id),
            use_quota: true,
            created_at: now,
            updated_at: now,
            deleted: false,
            metadata: BTreeMap::new(),
        }
    }
}
