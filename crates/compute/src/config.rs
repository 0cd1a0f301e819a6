use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Compute's part of the configuration. All of it can be left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Largest page of a list.
    pub max_limit: usize,
    /// How long a request waits for a cell before it answers without it, in milliseconds.
    pub cell_deadline_ms: u64,
    /// How long a request waits for an agent's answer (console output), in milliseconds.
    pub agent_deadline_ms: u64,
    /// A host not heard of for longer is down, in seconds.
    pub service_down_seconds: u64,
    /// Limits of projects that have none of their own, by resource (`instances`, `cores`, `ram`); -1 for none. What is
    /// not named has upstream's default.
    pub quota: BTreeMap<String, i64>,
    /// Disks of all kinds that a server may have, its root disk among them.
    pub max_disk_devices: usize,
    /// Disks in pools that a request for a server may name.
    pub max_local_block_devices: usize,
    /// A zone for servers whose request names none; none means any.
    pub default_schedule_zone: Option<String>,
    /// Every server gets a config drive, asked for or not: its only source of keys and hostname while there is no
    /// network to ask a metadata service over.
    pub force_config_drive: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_limit: 1_000,
            cell_deadline_ms: 2_000,
            agent_deadline_ms: 10_000,
            service_down_seconds: 60,
            quota: BTreeMap::new(),
            max_disk_devices: 26,
            max_local_block_devices: 3,
            default_schedule_zone: None,
            force_config_drive: false,
        }
    }
}

impl Config {
    pub(crate) fn cell_deadline(&self) -> Duration {
        Duration::from_millis(self.cell_deadline_ms)
    }

    pub(crate) fn agent_deadline(&self) -> Duration {
        Duration::from_millis(self.agent_deadline_ms)
    }

    pub(crate) fn service_down(&self) -> Duration {
        Duration::from_secs(self.service_down_seconds)
    }
}
