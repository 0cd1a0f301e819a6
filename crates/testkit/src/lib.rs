//! Test support: a whole cloud in the test's own process ([`TestCloud`]) or as the real binary ([`Process`]), and the
//! real programs that look at it from outside. Everything panics with what went wrong; nothing is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cloud;
mod outside;
pub mod process;
pub mod until;

pub use cloud::TestCloud;
pub use outside::{Ceph, Openstack, ceph_conf, guest_image};
pub use process::Process;

/// URL of an empty database on a test server that `make test` has started; it goes with the server.
pub async fn fresh_database(engine: umbel_db::Engine) -> String {
    umbel_db::testing::fresh(engine).await.0
}
