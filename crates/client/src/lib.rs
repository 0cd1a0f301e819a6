//! A typed client of OpenStack's public APIs: what our services call each other with, what the gateway, the bench and
//! the tests use. The transport is HTTP, or a router of the same process.

mod cloud;
mod clouds;
mod compute;
mod image;
mod transport;

pub use cloud::{Call, Cloud};
pub use clouds::{Auth, CloudConfig, find as find_cloud, find_in as find_cloud_in};
pub use compute::{NewServer, ServerView};
pub use image::{ImageLocation, ImageView, Images};
pub use transport::{Body, ByteStream, HttpTransport, Transport, collect};
