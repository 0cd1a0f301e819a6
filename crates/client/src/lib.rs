//! A typed client of OpenStack's public APIs: what our services call each other with, what the gateway, the bench and
//! the tests use. The transport is HTTP, or a router of the same process.

mod catalog;
mod cloud;
mod clouds;
mod compute;
mod fetch;
mod identity;
mod image;
mod transport;
mod volume;

pub use catalog::find_endpoint;
pub use cloud::{Call, Cloud};
pub use clouds::{Auth, CloudConfig, find as find_cloud, find_in as find_cloud_in};
pub use compute::{NewServer, ServerEvents, ServerView};
pub use fetch::{Admission, Fetched, Fetcher};
pub use identity::TokenTrust;
pub use image::{ImageData, ImageLocation, ImageView, Images, LocationMetadata, NewImage};
pub use transport::{Body, ByteStream, HttpTransport, Transport, collect};
pub use volume::{
    AttachmentView, ConnectionData, ConnectionInfo, NewVolume, SnapshotOf, SnapshotTogether, VolumeSnapshotView,
    VolumeView, Volumes,
};
