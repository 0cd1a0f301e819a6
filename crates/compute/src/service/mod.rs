//! The rules: what a request may do, and what is written for it. No HTTP, no microversions.

pub(crate) mod attachments;
pub(crate) mod block_devices;
mod bootstrap;
pub(crate) mod create;
pub(crate) mod external_events;
pub(crate) mod extra_specs;
pub(crate) mod flavors;
pub(crate) mod hosts;
pub(crate) mod image_devices;
pub(crate) mod images;
pub(crate) mod keygen;
pub(crate) mod keypairs;
pub(crate) mod listing;
pub(crate) mod pattern;
pub(crate) mod quotas;
pub(crate) mod server_images;
pub(crate) mod servers;
pub(crate) mod volumes;

use std::sync::Arc;

use umbel_bus::ToCells;
use umbel_core::{Clock, Rng};
use umbel_db::Db;

pub use bootstrap::bootstrap;
pub use images::ImageCatalog;
pub use volumes::{MADE_FOR, VolumeCatalog, Who};

use crate::model::ServerId;
use crate::{Api, CellId, Cells, Config};

/// Tells conductors of this process that there is something to do. Only a hint: what they sweep finds it too.
pub trait Nudge: Send + Sync {
    /// A flow was written to `Db<Api>`.
    fn flow(&self);

    /// What is wanted of a server in a cell has changed.
    fn server(&self, cell: CellId, server: ServerId);
}

/// What [`Compute`] is put together from.
pub struct ComputeParts {
    pub db: Db<Api>,
    pub cells: Arc<Cells>,
    pub images: Arc<dyn ImageCatalog>,
    pub volumes: Arc<dyn VolumeCatalog>,
    pub agents: Arc<dyn ToCells>,
    pub nudge: Arc<dyn Nudge>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub config: Config,
}

/// The state of the compute API: handles, and nothing of its own. Any number may run on the same databases.
pub struct Compute {
    pub(crate) db: Db<Api>,
    pub(crate) cells: Arc<Cells>,
    pub(crate) images: Arc<dyn ImageCatalog>,
    pub(crate) volumes: Arc<dyn VolumeCatalog>,
    pub(crate) agents: Arc<dyn ToCells>,
    pub(crate) nudge: Arc<dyn Nudge>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) config: Config,
}

impl Compute {
    pub fn new(parts: ComputeParts) -> Self {
        let ComputeParts { db, cells, images, volumes, agents, nudge, clock, rng, config } = parts;
        Compute { db, cells, images, volumes, agents, nudge, clock, rng, config }
    }

    pub fn cells(&self) -> &Arc<Cells> {
        &self.cells
    }
}
