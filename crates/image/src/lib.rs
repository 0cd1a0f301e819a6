//! The image service.
mod config;
mod fields;
pub mod inspect;
mod listing;
mod model;
mod patch;
pub use config::Config;
