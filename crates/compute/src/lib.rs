//! Servers, flavors, keypairs and quotas: the model, the databases, the API, and the map of cells.
//!
//! * [`model`]: what a server is, and the pure functions by which it changes. No IO.
//! * [`store`]: the tables, as free functions over a transaction.
//! * `service`: the rules; `api`: HTTP on one side, the rules on the other.
//!
//! Two kinds of databases: one [`Api`] with what is global, and one [`Cell`] per cell with what runs there. A server
//! is in exactly one cell, or, until a cell is chosen, a build request in `Api`.

mod api;
mod cells;
mod config;
pub mod flows;
pub mod model;
mod schema;
mod service;
pub mod store;
pub mod testing;

pub use api::service;
pub use cells::{CellHandle, CellId, Cells};
pub use config::Config;
pub use schema::{Api, Cell};
pub use service::image_devices::devices_of;
pub use service::{Compute, ComputeParts, ImageCatalog, MADE_FOR, Nudge, VolumeCatalog, Who, bootstrap};
