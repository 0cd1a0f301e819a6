use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backup::BackupConfig;

/// The service's part of the configuration file, `[volume]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// What stands before the `@` in the host strings of volumes.
    pub host: String,
    /// The one availability zone that volumes are in.
    pub availability_zone: String,
    /// How many clones of clones may stand upon each other before the lowest is copied to stand alone.
    pub max_clone_depth: u32,
    /// Clones of this process that are made to stand alone at once.
    pub flatten_concurrency: usize,
    /// Images that this process brings into volumes at once by copying.
    pub copy_concurrency: usize,
    /// Things on a page at most, and if the client does not say.
    pub max_page: usize,
    /// GiB that a volume may have.
    pub max_volume_gib: u64,
    /// Seconds between two looks for unfinished deletions and hidden disks to purge.
    pub sweep_seconds: u64,
    /// Name of the type of volumes that name none, in projects without a default of their own. `__DEFAULT__`, which
    /// always exists, where there is no such type.
    pub default_volume_type: String,
    /// Name of the type that `GET /v3/group_types/default` shows.
    pub default_group_type: String,
    /// Seconds without a report after which a service counts as down.
    pub service_down_seconds: u64,
    /// Days for which messages to users are kept.
    pub message_days: u64,
    /// Limits of projects instead of the built-in ones, by the resource's name; -1 for none.
    pub quota: BTreeMap<String, i64>,
    pub backup: BackupConfig,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            host: "umbel".into(),
            availability_zone: "nova".into(),
            max_clone_depth: 5,
            flatten_concurrency: 1,
            copy_concurrency: 4,
            max_page: 1000,
            max_volume_gib: 64 << 10,
            sweep_seconds: 15,
            default_volume_type: "__DEFAULT__".into(),
            default_group_type: String::new(),
            service_down_seconds: 60,
            message_days: 30,
            quota: BTreeMap::new(),
            backup: BackupConfig::default(),
        }
    }
}

impl Config {
    pub(crate) fn sweep_period(&self) -> Duration {
        Duration::from_secs(self.sweep_seconds.max(1))
    }
}
