use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use umbel_api::image::IMPORT_METHOD_NAMES;

use crate::web::Filters;

/// The service's part of the configuration file, `[image]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Bytes of data an image may have; more is 413.
    pub max_image_size: u64,
    /// Bytes of a disk that an image's header may promise; more is 400.
    pub max_virtual_size: u64,
    /// Whether content that is not what its image's disk format says, or that could harm a host, is refused. Upstream's
    /// name. Where it is off, such content is stored as it came, and its virtual size is not known.
    pub require_image_format_match: bool,
    /// Bytes that all images of a project may have together. None: no limit.
    pub user_storage_quota: Option<u64>,
    /// Bytes that all images of a project may have staged together, images that it may have, and those of them whose
    /// data may be on their way in at once; more is 413. None: no limit.
    pub stage_quota: Option<u64>,
    pub count_quota: Option<u64>,
    pub uploading_quota: Option<u64>,
    /// Custom properties, tags and members of one image; more is 413.
    pub max_properties: usize,
    pub max_tags: usize,
    pub max_members: usize,
    /// Images on a page if the client does not say, and at most.
    pub default_page: usize,
    pub max_page: usize,
    /// Whether `direct_url` is shown to whoever sees the image. Locations are for services; this is for old ones.
    pub show_direct_url: bool,
    /// Whether images show where their data are, and owners may say that they are somewhere on the web (`web_store`).
    /// Upstream's name, and off as there: who changes the places of a shared image changes what others boot.
    pub show_multiple_locations: bool,
    /// Name of a store that is the web: data of its images stay at their URLs, which `web_download` must let pass, and are
    /// read from there whenever they are needed. Upstream's `http` store. None: no image may have such data.
    pub web_store: Option<String>,
    /// Whether data on the web are read once to hash them, and compared with the hash that came with their URL. Upstream's
    /// name.
    pub do_secure_hash: bool,
    /// Seconds after which an upload that was not heard of is taken for dead and undone.
    pub upload_lease_seconds: u64,
    /// Seconds for which a sender may stay silent in the middle of an upload.
    pub upload_idle_seconds: u64,
    /// Ways to import that are offered, of upstream's four. `glance-download` is left out where nobody said where
    /// identity is ([`crate::Images::with_regions`]).
    pub import_methods: Vec<String>,
    /// What `web-download` may fetch.
    pub web_download: Filters,
    /// What `glance-download` takes over: properties whose names begin so.
    pub download_properties: Vec<String>,
    /// By the names of stores: the heavier is read first. Not named: 0.
    pub store_weights: BTreeMap<String, i64>,
    pub store_descriptions: BTreeMap<String, String>,
    /// Imports, and copies of clones to stand alone, that run at once in this process.
    pub import_concurrency: usize,
    pub flatten_concurrency: usize,
    /// Hours for which a task that has ended is kept.
    pub task_hours: u64,
    /// Seconds between two looks for dead uploads, unfinished deletions and hidden disks to purge.
    pub sweep_seconds: u64,
    /// When raw twins are made, in stores that `store_twins` does not name.
    pub twin: TwinPolicy,
    pub store_twins: BTreeMap<String, TwinPolicy>,
    /// Twins that this process makes at a time.
    pub twin_jobs: usize,
    /// Bytes of data that all twins of this process together may write in a second. None: as fast as the pools are.
    pub twin_bytes_per_second: Option<u64>,
    /// Seconds that an original stays in its pool after its twin has replaced it: downloads under way need it.
    pub twin_original_seconds: u64,
}

/// When an image in another format than raw gets the raw twin that clones are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TwinPolicy {
    /// As soon as the image is active.
    #[default]
    Upload,
    /// When a service first asks where the image's data are.
    FirstUse,
    /// As `Upload`, and then the twin becomes the image: its format, size and checksums are those of the raw disk, as
    /// upstream's conversion plugin leaves them, and what was uploaded is dropped. Images that are in several stores
    /// keep it.
    Replace,
    /// Never: servers import such images.
    Off,
}

impl Default for Config {
    /// Limits as upstream's where it has them.
    fn default() -> Self {
        Config {
            max_image_size: 1 << 40,
            max_virtual_size: 64 << 40,
            require_image_format_match: true,
            user_storage_quota: None,
            stage_quota: None,
            count_quota: None,
            uploading_quota: None,
            max_properties: 128,
            max_tags: 128,
            max_members: 128,
            default_page: 25,
            max_page: 1000,
            show_direct_url: false,
            show_multiple_locations: false,
            web_store: None,
            do_secure_hash: true,
            upload_lease_seconds: 30,
            upload_idle_seconds: 120,
            import_methods: IMPORT_METHOD_NAMES.map(str::to_owned).into(),
            web_download: Filters::default(),
            download_properties: ["hw_", "trait:", "os_distro", "os_secure_boot", "os_type"].map(str::to_owned).into(),
            store_weights: BTreeMap::new(),
            store_descriptions: BTreeMap::new(),
            import_concurrency: 4,
            flatten_concurrency: 1,
            task_hours: 48,
            sweep_seconds: 15,
            twin: TwinPolicy::Upload,
            store_twins: BTreeMap::new(),
            twin_jobs: 1,
            twin_bytes_per_second: None,
            twin_original_seconds: 600,
        }
    }
}

impl Config {
    pub(crate) fn twin_policy(&self, store: &str) -> TwinPolicy {
        self.store_twins.get(store).copied().unwrap_or(self.twin)
    }

    pub(crate) fn upload_lease(&self) -> Duration {
        Duration::from_secs(self.upload_lease_seconds)
    }

    pub(crate) fn upload_idle(&self) -> Duration {
        Duration::from_secs(self.upload_idle_seconds)
    }

    pub(crate) fn task_time(&self) -> Duration {
        Duration::from_secs(self.task_hours.saturating_mul(3600))
    }

    pub(crate) fn sweep_period(&self) -> Duration {
        Duration::from_secs(self.sweep_seconds.max(1))
    }
}
