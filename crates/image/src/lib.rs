//! The image service: Glance's API v2 over pools.
//!
//! Layers: `api` turns requests into calls, `service` holds the rules, `store` the rows. Beside them stand the pure
//! parts: [`inspect`] (what an upload really is), `patch` and `fields` (what a client may write), `listing` (what a
//! list request asks for).
//!
//! An image's bytes are a disk in a pool, named by the image's id, with the snapshot `snap`; the location is
//! `<scheme>://<cluster>/<pool>/<id>/snap`, as upstream's RBD store writes it. They are stored as they were uploaded,
//! whatever their format, and what is at a location says [`umbel_api::image::LocationMetadata::format`]. What waits for
//! its import is the disk `staging-<id>` in the default store's pool: no file system of some host holds it, so that any
//! process can go on. An image in another format than raw has a raw twin beside it, the disk `<id>.raw`, which clones
//! are made of: see [`TwinPolicy`]. An image may instead stay on the web ([`Config::web_store`]).
//!
//! What takes longer than a request is a workflow in the same database ([`Images::runner`]): imports, the flattening of
//! clones, the removal of data from one store.

mod api;
mod config;
mod fields;
pub mod inspect;
mod listing;
mod model;
mod patch;
mod service;
pub mod store;
mod web;

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use umbel_client::Transport;
use umbel_core::{Clock, Error, Result, Rng};
use umbel_db::Db;
use umbel_driver::Pool;
use umbel_workflow::{Nudge, Process};

pub use api::service;
pub use config::{Config, TwinPolicy};
pub use model::{ImageId, SNAPSHOT};
pub use service::{Download, Range, Swept, UploadRequest};
pub use store::Image;
pub use web::Filters;

/// A place for images' data.
pub struct Store {
    /// By which clients choose it, at most 64 bytes. It stands in the database: a store that has images keeps it.
    pub name: String,
    pub pool: Arc<dyn Pool>,
    /// Where images go if nobody chooses.
    pub default: bool,
}

/// The service's state.
pub struct Images {
    db: Db<Image>,
    stores: Vec<Store>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    config: Config,
    uploads: service::Uploads,
    twins: Arc<service::Twins>,
    work: Work,
}

/// What goes on behind requests, and what it needs.
struct Work {
    /// Other regions' image services, for `glance-download`.
    regions: Option<Regions>,
    tokens: service::Tokens,
    importing: Semaphore,
    flattening: Semaphore,
    /// One deletion of an image's data at a time.
    deleting: service::Deleting,
    /// Set once a runner is made.
    nudge: Nudge,
    process: Option<Process>,
}

struct Regions {
    transport: Arc<dyn Transport>,
    identity: String,
}

impl Images {
    /// The first store is the default if none says so.
    pub fn new(
        db: Db<Image>,
        stores: Vec<Store>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        config: Config,
    ) -> Result<Self> {
        let distinct: std::collections::BTreeSet<&str> = stores.iter().map(|store| store.name.as_str()).collect();
        let valid = |store: &Store| !store.name.is_empty() && store.name.len() <= 64 && !store.name.contains(',');
        if stores.is_empty() || distinct.len() != stores.len() || !stores.iter().all(valid) {
            return Err(Error::bad_request("The image service needs stores with distinct names of at most 64 bytes."));
        }
        if stores.iter().filter(|store| store.default).count() > 1 {
            return Err(Error::bad_request("Only one image store can be the default."));
        }
        let web = config.web_store.as_ref();
        if web
            .is_some_and(|web| web.is_empty() || web.len() > 64 || web.contains(',') || distinct.contains(web.as_str()))
        {
            return Err(Error::bad_request("The web as a store needs a name of its own, of at most 64 bytes."));
        }
        config.web_download.check()?;
        let work = Work {
            regions: None,
            tokens: service::Tokens::default(),
            importing: Semaphore::new(config.import_concurrency.max(1)),
            flattening: Semaphore::new(config.flatten_concurrency.max(1)),
            deleting: service::Deleting::default(),
            nudge: Nudge::default(),
            process: None,
        };
        Ok(Images { db, stores, clock, rng, config, uploads: service::Uploads::default(), twins: Arc::default(), work })
    }

    /// Offers imports from other regions, whose image services are found in the catalog. `identity` is identity's root,
    /// with or without `/v3`.
    #[must_use]
    pub fn with_regions(mut self, transport: Arc<dyn Transport>, identity: &str) -> Self {
        self.work.regions = Some(Regions { transport, identity: identity.to_owned() });
        self
    }

    /// Has what another process left behind done only after that one is shut out, and lets others do so with this one.
    #[must_use]
    pub fn with_process(mut self, process: Process) -> Self {
        self.work.process = Some(process);
        self
    }

    /// Bytes received so far by an upload that runs in this process.
    pub fn watch_upload(&self, id: ImageId) -> Option<watch::Receiver<u64>> {
        self.uploads.subscribe(id)
    }
}
