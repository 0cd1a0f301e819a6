use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The service's part of the configuration file, `[image]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Bytes of data an image may have; more is 413.
    pub max_image_size: u64,
    /// Bytes of a disk that an image's header may promise; more is 400.
    pub max_virtual_size: u64,
    /// Bytes that all images of a project may have together. None: no limit.
    pub user_storage_quota: Option<u64>,
    /// Custom properties, tags and members of one image; more is 413.
    pub max_properties: usize,
    pub max_tags: usize,
    pub max_members: usize,
    /// Images on a page if the client does not say, and at most.
    pub default_page: usize,
    pub max_page: usize,
    /// Whether `direct_url` is shown to whoever sees the image. Locations are for services; this is for old ones.
    pub show_direct_url: bool,
    /// Seconds after which an upload that was not heard of is taken for dead and undone.
    pub upload_lease_seconds: u64,
    /// Seconds for which a sender may stay silent in the middle of an upload.
    pub upload_idle_seconds: u64,
    /// Seconds between two looks for dead uploads, unfinished deletions and hidden disks to purge.
    pub sweep_seconds: u64,
}

impl Default for Config {
    /// Limits as upstream's where it has them.
    fn default() -> Self {
        Config {
            max_image_size: 1 << 40,
            max_virtual_size: 64 << 40,
            user_storage_quota: None,
            max_properties: 128,
            max_tags: 128,
            max_members: 128,
            default_page: 25,
            max_page: 1000,
            show_direct_url: false,
            upload_lease_seconds: 30,
            upload_idle_seconds: 120,
            sweep_seconds: 15,
        }
    }
}

impl Config {
    pub(crate) fn upload_lease(&self) -> Duration {
        Duration::from_secs(self.upload_lease_seconds)
    }

    pub(crate) fn upload_idle(&self) -> Duration {
        Duration::from_secs(self.upload_idle_seconds)
    }

    pub(crate) fn sweep_period(&self) -> Duration {
        Duration::from_secs(self.sweep_seconds.max(1))
    }
}
