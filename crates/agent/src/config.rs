use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_bus::ImageBytes;
use umbel_core::{Error, Kind, Result};
use umbel_driver::{ByteStream, Pool};

#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Unique in the cell.
    pub host: String,
    pub availability_zone: String,
    /// Between two reports of the host; a conductor takes a host for down after several were missed.
    pub heartbeat: Duration,
    /// Between two questions after everything that should be on this host. Only mends what messages lost.
    pub resync: Duration,
    /// Guests and disks that are made or removed at once.
    pub parallel: usize,
    /// Images that are downloaded and converted at once. Each fills the network and the disk by itself.
    pub imports: usize,
    /// How long a guest may take to shut down before it is powered off.
    pub grace: Duration,
    /// For images on their way through conversion; needs room for an image as it is stored.
    pub scratch: PathBuf,
}

impl AgentConfig {
    pub fn new(host: impl Into<String>) -> Self {
        AgentConfig {
            host: host.into(),
            availability_zone: "nova".to_owned(),
            heartbeat: Duration::from_secs(5),
            resync: Duration::from_secs(60),
            parallel: 20,
            imports: 2,
            grace: Duration::from_secs(60),
            scratch: std::env::temp_dir(),
        }
    }
}

/// A pool that this host reaches, and in which system disks may be made.
#[derive(Clone)]
pub struct HostPool {
    pub pool: Arc<dyn Pool>,
    pub tier: String,
    /// `local`, `rbd`, `simulated`.
    pub driver: String,
    /// Whether other hosts reach the same pool.
    pub shared: bool,
}

/// All pools that a host reaches. Those of system disks alone are told of in its reports, because the scheduler makes
/// disks where there is room; in the others there are volumes.
#[derive(Clone, Default)]
pub struct HostPools {
    /// In the order of preference.
    pub system: Vec<HostPool>,
    /// May hold those of `system` as well.
    pub others: Vec<Arc<dyn Pool>>,
}

impl HostPools {
    pub fn new(system: Vec<HostPool>, others: Vec<Arc<dyn Pool>>) -> Self {
        HostPools { system, others }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<dyn Pool>> {
        let mut all = self.system.iter().map(|pool| &pool.pool).chain(&self.others);
        all.find(|pool| pool.name() == name)
    }
}

impl From<Vec<HostPool>> for HostPools {
    fn from(system: Vec<HostPool>) -> Self {
        HostPools { system, others: Vec::new() }
    }
}

/// The image service, for images that cannot be cloned.
#[async_trait]
pub trait ImageStore: Send + Sync {
    async fn open(&self, image_id: &str) -> Result<ImageBytes>;

    /// Makes these `size` bytes the data of an image that is queued. One that has them already is no failure.
    async fn upload(&self, image_id: &str, size: u64, bytes: ByteStream) -> Result<()> {
        drop(bytes);
        let cause = format!("{size} bytes for image {image_id}");
        Err(Error::new(Kind::NotImplemented, "This host cannot send images.").because(cause))
    }
}
