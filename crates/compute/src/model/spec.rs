use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use umbel_core::Timestamp;

use super::Networks;

/// What was asked for when the server was made. Everything it refers to is copied in: a flavor or image that changes
/// or goes later does not change the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    pub project_id: String,
    pub user_id: String,
    /// For the metadata that the guest reads; the display is by id.
    pub project_name: String,
    pub created_at: Timestamp,
    /// `r-` and eight characters: one per request, shared by the servers of a multiple create.
    pub reservation_id: String,
    /// Position among the servers of the request, from 0.
    pub launch_index: u32,
    pub request_id: String,
    pub flavor: FlavorSnapshot,
    /// Absent for a server booted from a volume.
    pub image: Option<ImageSnapshot>,
    pub key: Option<KeySnapshot>,
    /// Base64, as the client sent it.
    pub user_data: Option<String>,
    pub config_drive: bool,
    /// The zone that was asked for; the server's own is its host's.
    pub availability_zone: Option<String>,
    /// Host that an administrator asked for, by its name. The scheduler may take no other.
    pub requested_host: Option<String>,
    pub scheduler_hints: serde_json::Map<String, serde_json::Value>,
    pub networks: Networks,
    pub security_groups: Vec<String>,
    pub disk_config: DiskConfig,
    /// All disks to be made, the bootable one first; the config drive, if there is one, last.
    pub disks: Vec<DiskPlan>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlavorSnapshot {
    pub id: String,
    pub name: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub root_gib: u64,
    pub ephemeral_gib: u64,
    pub swap_mib: u64,
    pub extra_specs: BTreeMap<String, String>,
}

impl FlavorSnapshot {
    /// Bounds on the use of disks that are made with a server, by the names of QoS specs: `quota:disk_total_iops_sec` is
    /// `total_iops_sec`. Volumes have those of their types.
    pub fn disk_limits(&self) -> BTreeMap<String, u64> {
        let limit = |(name, value): (&String, &String)| {
            let name = name.strip_prefix("quota:disk_")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        self.extra_specs.iter().filter_map(limit).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSnapshot {
    pub id: String,
    pub name: Option<String>,
    pub disk_format: String,
    pub container_format: String,
    /// Bytes as stored.
    pub size: Option<u64>,
    /// Bytes of the disk in it, where the image service knows.
    pub virtual_size: Option<u64>,
    pub min_disk_gib: u64,
    pub min_ram_mib: u64,
    pub properties: BTreeMap<String, String>,
    /// Where the bytes lie, as the image service told a service; never shown to a user.
    pub locations: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySnapshot {
    pub name: String,
    /// `ssh` or `x509`.
    pub kind: String,
    pub public_key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DiskConfig {
    Auto,
    Manual,
}

/// A disk to be made with the server. Which pool it comes to is the scheduler's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// Name in its pool: `<server>_disk`, `_disk.eph0`, `_disk.swap`, `_disk.config`, as the field knows them.
    pub name: String,
    pub size_bytes: u64,
    pub source: DiskSource,
    /// `Some(0)` is booted from first.
    pub boot_index: Option<u32>,
    /// Only a pool of this tier will do.
    pub tier: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskSource {
    /// The server's image: cloned where that can be, imported where not.
    Image,
    Blank,
    ConfigDrive,
}

impl DiskSource {
    pub fn name(self) -> &'static str {
        match self {
            DiskSource::Image => "image",
            DiskSource::Blank => "blank",
            DiskSource::ConfigDrive => "config_drive",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [DiskSource::Image, DiskSource::Blank, DiskSource::ConfigDrive].into_iter().find(|one| one.name() == name)
    }
}

/// Room for a config drive: 64 KiB of user data, metadata and keys, many times over.
pub const CONFIG_DRIVE_BYTES: u64 = 4 * umbel_core::MIB;

/// A server that is in no cell yet.
pub struct BuildRequest {
    pub server: super::Server,
    /// The user deleted it before a cell was chosen.
    pub deleted: bool,
}
