use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use umbel_core::Result;
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
    /// For images on their way through conversion; needs room for an image and its raw form.
    pub scratch: PathBuf,
    /// The program that converts images.
    pub qemu_img: PathBuf,
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
            qemu_img: PathBuf::from("qemu-img"),
        }
    }
}

/// A pool that this host reaches.
#[derive(Clone)]
pub struct HostPool {
    pub pool: Arc<dyn Pool>,
    pub tier: String,
    /// `local`, `rbd`, `simulated`.
    pub driver: String,
    /// Whether other hosts reach the same pool.
    pub shared: bool,
}

/// Where the bytes of an image come from when it cannot be cloned.
#[async_trait]
pub trait ImageStore: Send + Sync {
    async fn open(&self, image_id: &str) -> Result<ByteStream>;
}
